//! Opens a run folder: locks the folder, checks recipe and data, and records the provenance.

use super::contents::{Contents, contents};
use super::error::RunError;
use super::paths::job_path;
use super::provenance::{Provenance, StartLayout};
use super::read_back::{read_provenance, resolved_recipe};
use super::trash::{self, Moved};
use crate::durable::{self, Lock, MANIFEST, NotTaken};
use crate::recipe::{self, Layout, Recipe};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one run. Holds the lock on the folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Lock,
    lacked_checksums: bool,
    layouts: Vec<StartLayout>,
    layout_change: Option<String>,
}

/// Options of [`RunFolder::open`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether to move the files of an earlier run to the trash first.
    pub fresh: bool,
    /// Whether to take over the lock of a process on another host.
    pub break_lock: bool,
}

impl RunFolder {
    /// Opens and locks the folder `name` below `runs`.
    ///
    /// Creates the folder if it is missing, and writes `recipe.toml`. Adds a changed layout to `provenance.json`. With
    /// `fresh`, moves the files of an earlier run to the trash, and returns the trash folder.
    ///
    /// Fails if another process works in the folder, if the run in the folder has a different recipe, or if a file that
    /// mae did not write would be overwritten. A failure changes nothing.
    pub fn open(
        runs: &Path,
        name: &str,
        recipe: &Recipe,
        OpenOptions { fresh, break_lock }: OpenOptions,
    ) -> Result<(Self, Option<Moved>), RunError> {
        let path = &job_path(runs, name);
        let in_recipe = recipe.name.as_deref().unwrap_or(name);
        check_folder(path, recipe, fresh)?;
        fs::create_dir_all(path)
            .map_err(|source| RunError::NoFolder { path: path.to_owned(), source })?;
        let lock = take_lock(path, break_lock)?;
        // Another process may have changed the folder before this one had the lock.
        let found = contents(path, in_recipe)?;
        let unfinished = found.moving_to().is_some();
        let lacked_checksums = matches!(found, Contents::Older(_));
        let mut manifest = found.into_manifest(path, name).map_err(RunError::io(path))?;
        let mut moved = None;
        if unfinished || fresh && manifest.files().next().is_some() {
            moved = Some(trash::move_away(runs, name, path, &mut manifest)?);
        }
        manifest.compact().map_err(RunError::io(path))?;
        Contents::Run(manifest.clone()).refuse_foreign(path)?;
        let is_ours = |target: &str| target == MANIFEST || manifest.lists(target);
        durable::remove_temporaries(path, &is_ours).map_err(RunError::io(path))?;
        let (layouts, layout_change) = record_layout(path, recipe)?;
        let file = path.join("recipe.toml");
        let text = recipe::recipe_toml(recipe);
        if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            durable::write(&file, text.as_bytes()).map_err(RunError::io(&file))?;
        }
        let path = path.to_owned();
        Ok((Self { path, _lock: lock, lacked_checksums, layouts, layout_change }, moved))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the run had no checksums before this start.
    ///
    /// Older versions of mae wrote no checksums. [`RunFolder::open`] has added them.
    pub fn lacked_checksums(&self) -> bool {
        self.lacked_checksums
    }

    /// Returns all layouts of the run (devices, `batch_size`, `accum_iter`), oldest first.
    pub fn layouts(&self) -> &[StartLayout] {
        &self.layouts
    }

    /// Returns how this start changes the layout, such as `devices 4 (was 1)`; `None` if unchanged.
    pub fn layout_change(&self) -> Option<&str> {
        self.layout_change.as_deref()
    }

    /// Replaces `provenance.json`.
    pub fn write_provenance(&self, provenance: &Provenance) -> Result<(), RunError> {
        write_provenance(&self.path, provenance)
    }
}

fn take_lock(path: &Path, break_lock: bool) -> Result<Lock, RunError> {
    let taken = Lock::take_named(path, break_lock).map_err(RunError::io(path))?;
    taken.map_err(|why| match why {
        NotTaken::Busy(holder) => RunError::Busy { path: path.to_owned(), holder },
        NotTaken::OnOtherHost(holder) => {
            RunError::LockedElsewhere { path: path.to_owned(), holder }
        }
    })
}

fn write_provenance(run: &Path, provenance: &Provenance) -> Result<(), RunError> {
    let path = run.join("provenance.json");
    let mut text = serde_json::to_vec_pretty(provenance).expect("provenance is valid JSON");
    text.push(b'\n');
    durable::write(&path, &text).map_err(RunError::io(&path))
}

/// Adds the layout of `recipe` to `provenance.json` if the layout has changed.
///
/// Returns all layouts, and a description of the change.
fn record_layout(
    path: &Path,
    recipe: &Recipe,
) -> Result<(Vec<StartLayout>, Option<String>), RunError> {
    let now = StartLayout { started_unix_s: durable::now_unix_s(), layout: Layout::of(recipe) };
    let Some(before) = read_provenance(path)? else { return Ok((vec![now], None)) };
    let mut layouts = before.layouts.clone();
    if let (true, Some(old)) = (layouts.is_empty(), read_recipe(path)?) {
        let started_unix_s = before.started_unix_s;
        layouts.push(StartLayout { started_unix_s, layout: Layout::of(&old) });
    }
    let change = match layouts.last() {
        Some(last) if last.layout == now.layout => return Ok((layouts, None)),
        Some(last) => last.layout.changes(&now.layout),
        None => String::new(),
    };
    layouts.push(now);
    write_provenance(path, &Provenance { layouts: layouts.clone(), ..before })?;
    Ok((layouts, Some(change).filter(|change| !change.is_empty())))
}

/// Reads `recipe.toml`; `None` if the file is missing.
fn read_recipe(path: &Path) -> Result<Option<Recipe>, RunError> {
    let file = path.join("recipe.toml");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
    resolved_recipe(&file, &text).map(Some)
}

/// Checks whether a run of `recipe` can use the folder `path`. Changes nothing.
///
/// Returns whether the run would keep the files in the folder. Returns false with `fresh`, and after an interrupted
/// `--fresh`. Returns true for an empty folder.
///
/// Fails if the run in the folder has a different recipe, or if a file that mae did not write would be overwritten.
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
    let Some(old) = read_recipe(path)? else { return Ok(()) };
    let mut differences = recipe::differences(&old, recipe);
    // Allowed differences: a new stage, a new key with its default value, and a new `data.path`. A new `data.path`
    // needs a recorded fingerprint of the data.
    let kept = path.join("provenance.json").is_file();
    differences.retain(|(key, old, new)| {
        let added = recipe::is_stage(key) || recipe::is_default(key, new);
        !(old == recipe::NOT_SET && added || key == "data.path" && kept)
    });
    // The layout may also change, if each update keeps its number of images.
    let (was, now) = (Layout::of(&old), Layout::of(recipe));
    let misfits = was.misfits(&now);
    if kept && misfits.is_empty() {
        differences.retain(|(key, ..)| !Layout::has_key(key));
    } else if kept && differences.iter().all(|(key, ..)| Layout::has_key(key)) {
        let restoring = was.restoring(&now);
        return Err(RunError::OtherUpdates { path: path.to_owned(), misfits, restoring });
    }
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
/// Older versions of mae computed the fingerprint `former` for the same data, so `former` is accepted, too. Returns the
/// provenance of the run; `None` if the run has none.
pub fn refuse_other_data(
    path: &Path,
    fingerprint: &str,
    former: Option<&str>,
) -> Result<Option<Provenance>, RunError> {
    let before = read_provenance(path)?;
    let is_same = |known: &str| known == fingerprint || Some(known) == former;
    match &before {
        Some(run) if !is_same(&run.data_fingerprint) => Err(RunError::OtherData {
            path: path.to_owned(),
            began: run.data_fingerprint.clone(),
            now: fingerprint.to_owned(),
        }),
        _ => Ok(before),
    }
}
