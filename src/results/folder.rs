//! A run's place on the disk: locked, marked with its recipe.

use super::read_back::read_provenance;
use super::{Provenance, Remedy, RunError};
use crate::durable::{self, Lock};
use crate::recipe::{self, Recipe};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one run, held by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Lock,
}

impl RunFolder {
    /// Takes the folder at `path` for `recipe`, making it if there is none; `fresh` first removes what an earlier run left.
    ///
    /// Fails if another process works in it, if it holds a run of another recipe (then it lists the keys that differ), or if it
    /// holds anything but a run; it changes nothing then.
    pub fn open(path: &Path, recipe: &Recipe, fresh: bool) -> Result<Self, RunError> {
        refuse_foreign(path).map_err(RunError::io(path))??;
        if !fresh {
            refuse_other(path, recipe)?;
        }
        fs::create_dir_all(path)
            .map_err(|source| RunError::NoFolder { path: path.to_owned(), source })?;
        let lock = Lock::take(path).map_err(RunError::io(path))?;
        let lock = lock.ok_or_else(|| RunError::Busy(path.to_owned()))?;
        if fresh {
            empty(path).map_err(RunError::io(path))?;
        }
        durable::remove_temporaries(path).map_err(RunError::io(path))?;
        let file = path.join("recipe.toml");
        let text = recipe::recipe_toml(recipe);
        if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            durable::write(&file, text.as_bytes()).map_err(RunError::io(&file))?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `provenance.json`.
    pub fn write_provenance(&self, provenance: &Provenance) -> Result<(), RunError> {
        let path = self.path.join("provenance.json");
        let mut text = serde_json::to_vec_pretty(provenance).expect("strings and numbers");
        text.push(b'\n');
        durable::write(&path, &text).map_err(RunError::io(&path))
    }
}

/// Fails where there are files that no run put there: `--fresh` would remove them.
fn refuse_foreign(path: &Path) -> std::io::Result<Result<(), RunError>> {
    if !path.exists() || path.join("recipe.toml").exists() {
        return Ok(Ok(()));
    }
    for entry in fs::read_dir(path)? {
        // A killed start leaves the lock, or a file that it was writing.
        if !durable::is_own(&entry?.file_name()) {
            return Ok(Err(RunError::Foreign(path.to_owned())));
        }
    }
    Ok(Ok(()))
}

/// Fails where `path` holds a run of another recipe, and lists the keys that differ.
pub fn refuse_other(path: &Path, recipe: &Recipe) -> Result<(), RunError> {
    let file = path.join("recipe.toml");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
    let old = resolved_recipe(&file, &text)?;
    let mut differences = recipe::differences(&old, recipe);
    // A stage that is added leaves what is there as it is. A key that an older version did not have meant its default. Data may
    // move: whether it is the same is told by its fingerprint, where that is kept.
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
        let _ = writeln!(listed, "  {key}: {old} there, {new} now");
    }
    Err(RunError::OtherRecipe { path: path.to_owned(), differences: listed })
}

/// Fails where the run in `path` began with other data than that of `fingerprint`; gives what is known of the run.
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

/// Reads the recipe that a run has in its folder, from the text of `file`.
pub(super) fn resolved_recipe(file: &Path, text: &str) -> Result<Recipe, RunError> {
    toml::from_str(text).map_err(|e| RunError::Damaged {
        path: file.to_owned(),
        problem: format!("not the recipe of a run: {}", e.message()),
        way_on: Remedy::None,
    })
}

/// Removes everything but the lock.
fn empty(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == ".lock" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
