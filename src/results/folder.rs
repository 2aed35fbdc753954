//! Opens a run folder: locks the folder, checks recipe and data, and records the provenance.

use super::contents::{Contents, contents};
use super::error::RunError;
use super::paths::job_path;
use super::provenance::Provenance;
use super::read_back::{read_provenance, resolved_recipe};
use super::trash::{self, Moved};
use crate::durable::{self, Lock, MANIFEST, Manifest};
use crate::recipe::{self, Recipe};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one run, locked by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Lock,
    lacked_checksums: bool,
}

impl RunFolder {
    /// Opens and locks the folder of the run `name` below `runs`.
    ///
    /// Creates a missing folder and writes `recipe` into the folder. If `fresh` is true, first moves the files of an
    /// earlier run into the trash, and returns the trash folder.
    ///
    /// Fails if another process uses the folder, or if the folder's run has a different recipe. Also fails if the run
    /// would overwrite a file that mae did not write. A failure changes nothing.
    pub fn open(
        runs: &Path,
        name: &str,
        recipe: &Recipe,
        fresh: bool,
    ) -> Result<(Self, Option<Moved>), RunError> {
        let path = &job_path(runs, name);
        let in_recipe = recipe.name.as_deref().unwrap_or(name);
        check_folder(path, recipe, fresh)?;
        fs::create_dir_all(path)
            .map_err(|source| RunError::NoFolder { path: path.to_owned(), source })?;
        let lock = Lock::take(path).map_err(RunError::io(path))?;
        let lock = lock.ok_or_else(|| RunError::Busy(path.to_owned()))?;
        // Another process may have changed the folder before this one had the lock.
        let found = contents(path, in_recipe)?;
        let unfinished = found.moving_to().is_some();
        let lacked_checksums = matches!(found, Contents::Older(_));
        let mut manifest = found.into_manifest(path, name).map_err(RunError::io(path))?;
        let mut moved = None;
        if unfinished || fresh && manifest.files().next().is_some() {
            moved = Some(trash::move_away(runs, name, path, &mut manifest)?);
            manifest = Manifest::create(path, name).map_err(RunError::io(path))?;
        }
        manifest.compact().map_err(RunError::io(path))?;
        Contents::Run(manifest.clone()).refuse_foreign(path)?;
        let is_ours = |target: &str| target == MANIFEST || manifest.lists(target);
        durable::remove_temporaries(path, &is_ours).map_err(RunError::io(path))?;
        let file = path.join("recipe.toml");
        let text = recipe::recipe_toml(recipe);
        if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            durable::write(&file, text.as_bytes()).map_err(RunError::io(&file))?;
        }
        Ok((Self { path: path.to_owned(), _lock: lock, lacked_checksums }, moved))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether an older version of mae wrote this run without checksums.
    ///
    /// Opening the folder has added the checksums.
    pub fn lacked_checksums(&self) -> bool {
        self.lacked_checksums
    }

    /// Replaces `provenance.json`.
    pub fn write_provenance(&self, provenance: &Provenance) -> Result<(), RunError> {
        let path = self.path.join("provenance.json");
        let mut text = serde_json::to_vec_pretty(provenance).expect("provenance is valid JSON");
        text.push(b'\n');
        durable::write(&path, &text).map_err(RunError::io(&path))
    }
}

/// Checks whether a run of `recipe` can use the folder `path`. Changes nothing.
///
/// Returns whether the run would continue an earlier run. The result is false if `fresh` is true, or after an
/// interrupted `--fresh`.
///
/// Fails if the folder's run has a different recipe. Also fails if the run would overwrite a file that mae did not
/// write.
pub fn check_folder(path: &Path, recipe: &Recipe, fresh: bool) -> Result<bool, RunError> {
    let found = contents(path, recipe.name.as_deref().unwrap_or_default())?;
    if found.moving_to().is_some() {
        return Ok(false);
    }
    found.refuse_foreign(path)?;
    if fresh {
        return Ok(false);
    }
    refuse_other(path, recipe)?;
    Ok(true)
}

fn refuse_other(path: &Path, recipe: &Recipe) -> Result<(), RunError> {
    let file = path.join("recipe.toml");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
    let old = resolved_recipe(&file, &text)?;
    let mut differences = recipe::differences(&old, recipe);
    // Allowed differences: a new stage, since it changes no earlier result; a key that an older version did not know,
    // if it has its default value; a moved data set, if the provenance has a fingerprint that identifies the data.
    let kept = path.join("provenance.json").is_file();
    differences.retain(|(key, old, new)| {
        let added = recipe::is_stage(key) || recipe::is_default(key, new);
        !(old == recipe::NOT_SET && added || key == "data.path" && kept)
    });
    if differences.is_empty() {
        return Ok(());
    }
    let mut listed = String::new();
    for (key, old, new) in differences {
        let _ = writeln!(listed, "  {key}: was {old}, now {new}");
    }
    Err(RunError::OtherRecipe { path: path.to_owned(), differences: listed })
}

/// Fails if the run in `path` used data with a different fingerprint.
///
/// Returns the run's provenance; `None` if the run has no provenance.
pub fn refuse_other_data(path: &Path, fingerprint: &str) -> Result<Option<Provenance>, RunError> {
    let before = read_provenance(path)?;
    match &before {
        Some(run) if run.data_fingerprint != fingerprint => Err(RunError::OtherData {
            path: path.to_owned(),
            began: run.data_fingerprint.clone(),
            now: fingerprint.to_owned(),
        }),
        _ => Ok(before),
    }
}
