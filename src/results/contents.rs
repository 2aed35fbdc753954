//! Distinguishes the files of a run from other files in the run folder.

use super::error::RunError;
use super::paths::job_path;
use super::read_back::read_provenance;
use super::read_checked::read_manifest;
use crate::durable::{self, Content, MANIFEST, Manifest, SharedLock};
use crate::recipe::Recipe;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a run folder contains before the run starts or resumes.
#[derive(Debug)]
pub(super) enum Contents {
    /// No files, or only the remains of a run that was killed at its start.
    Nothing,
    Run(Manifest),
    /// Files of a run from an older version of mae, without a manifest.
    Older(Vec<String>),
}

/// Finds out what the run folder `path` contains.
///
/// Fails if the folder contains files, but no run of mae.
pub(super) fn contents(path: &Path, name: &str) -> Result<Contents, RunError> {
    if let Some(manifest) = read_manifest(path)? {
        return Ok(Contents::Run(manifest));
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        // If `path` is a file, creating the folder fails later with a better message.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Contents::Nothing);
        }
        Err(source) => return Err(RunError::io(path)(source)),
    };
    let mut is_empty = true;
    for entry in entries {
        let entry = entry.map_err(RunError::io(path))?;
        is_empty &= durable::is_own(&entry.file_name());
    }
    if is_empty {
        Ok(Contents::Nothing)
    } else if is_older_run(path, name) {
        Ok(Contents::Older(known(path)?))
    } else {
        Err(RunError::Foreign(path.to_owned()))
    }
}

/// Returns whether `path` is the folder of a run or a sweep.
pub fn is_run(path: &Path) -> bool {
    path.join(MANIFEST).is_file()
        || path.join("recipe.toml").is_file() && path.join("provenance.json").is_file()
}

fn is_older_run(path: &Path, name: &str) -> bool {
    let text = fs::read_to_string(path.join("recipe.toml")).unwrap_or_default();
    let recipe = toml::from_str::<Recipe>(&text).ok();
    recipe.and_then(|recipe| recipe.name).is_some_and(|own| own == name)
        && read_provenance(path).is_ok_and(|provenance| provenance.is_some())
}

impl Contents {
    /// Returns the name of the trash folder if `--fresh` was interrupted.
    pub(super) fn moving_to(&self) -> Option<&str> {
        match self {
            Self::Run(manifest) => manifest.moving_to(),
            _ => None,
        }
    }

    /// Fails if the run would overwrite a file that the manifest does not list.
    pub(super) fn refuse_foreign(&self, path: &Path) -> Result<(), RunError> {
        let Self::Run(manifest) = self else { return Ok(()) };
        match known(path)?.iter().find(|file| !manifest.lists(file)) {
            Some(file) => Err(RunError::ForeignFile(job_path(path, file))),
            None => Ok(()),
        }
    }

    /// Returns the manifest, or creates a manifest in `path`.
    pub(super) fn into_manifest(self, path: &Path, name: &str) -> io::Result<Manifest> {
        match self {
            Self::Run(manifest) => Ok(manifest),
            Self::Nothing => Manifest::create(path, name),
            Self::Older(files) => list_as_they_are(path, name, files),
        }
    }
}

/// Writes a manifest that lists `files` with their current content.
fn list_as_they_are(folder: &Path, name: &str, files: Vec<String>) -> io::Result<Manifest> {
    let content = |file: &str| {
        let grows = file.contains("/tensorboard/");
        if grows { Ok(None) } else { Content::of_file(&job_path(folder, file)).map(Some) }
    };
    let listed = files.into_iter().map(|file| Ok((content(&file)?, file)));
    let listed = listed.collect::<io::Result<Vec<_>>>()?;
    Manifest::create_with(folder, name, listed.into_iter().map(|(content, file)| (file, content)))
}

/// Returns the files with names that mae uses, such as `epochs.csv`.
pub(super) fn known(folder: &Path) -> Result<Vec<String>, RunError> {
    let mut files = Vec::new();
    if folder.is_dir() {
        known_files(folder, Path::new(""), &mut files)
            .map_err(|error| RunError::unreadable(folder, error))?;
    }
    Ok(files)
}

fn known_files(root: &Path, below: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
        let Some(parts) = parts else { continue };
        if is_known_folder(&parts) && entry.file_type()?.is_dir() {
            known_files(root, &path, files)?;
        } else if is_known_file(&parts) {
            files.push(parts.join("/"));
        }
    }
    Ok(())
}

fn is_known_folder(parts: &[&str]) -> bool {
    match parts {
        ["pretrain" | "finetune" | "linprobe"] => true,
        ["pretrain", rest @ ..] => in_job_folder(rest),
        ["finetune" | "linprobe", job, rest @ ..] => {
            job.starts_with("from-") && (rest.is_empty() || in_job_folder(rest))
        }
        _ => false,
    }
}

fn in_job_folder(parts: &[&str]) -> bool {
    match parts {
        ["checkpoints" | "tensorboard" | "reconstructions"] => true,
        ["checkpoints", epoch] => epoch.starts_with("epoch-"),
        _ => false,
    }
}

fn is_known_file(parts: &[&str]) -> bool {
    match parts {
        ["recipe.toml" | "provenance.json" | "accuracy.csv" | "report.html"] => true,
        ["pretrain", rest @ ..] => is_job_file(rest),
        ["finetune" | "linprobe", job, rest @ ..] => job.starts_with("from-") && is_job_file(rest),
        _ => false,
    }
}

fn is_job_file(parts: &[&str]) -> bool {
    match parts {
        ["epochs.csv" | "resume.safetensors" | "previous-resume.safetensors" | "bad_files.csv"] => {
            true
        }
        ["tensorboard", name] => *name == "log.txt" || name.starts_with("events.out.tfevents."),
        ["reconstructions", name] => {
            name.starts_with("epoch-")
                && Path::new(name).extension().is_some_and(|end| end == "png")
        }
        ["checkpoints", epoch, "model.safetensors" | "optimizer.safetensors" | "meta.json"] => {
            epoch.starts_with("epoch-")
        }
        _ => false,
    }
}

/// Checks that mae wrote `accuracy.csv` and `report.html` in the folder of the sweep `name`.
///
/// Fails if one of these two files is from another program. Returns the files that an older version of mae wrote
/// without a manifest.
pub fn check_sweep(runs: &Path, name: &str, swept: &[String]) -> Result<Vec<String>, RunError> {
    let path = runs.join(name);
    let manifest = read_manifest(&path)?;
    let is_listed = |file: &str| manifest.as_ref().is_some_and(|manifest| manifest.lists(file));
    let (table, report) = (path.join("accuracy.csv"), path.join("report.html"));
    let mut older = Vec::new();
    for (there, file, is_ours) in [
        (&table, "accuracy.csv", super::accuracy::is_table_of(&table, swept)),
        (&report, "report.html", super::report::is_report(&report)),
    ] {
        if there.symlink_metadata().is_err() || is_listed(file) {
            continue;
        }
        if manifest.is_some() || !is_ours {
            return Err(RunError::ForeignFile(there.clone()));
        }
        older.push(file.to_owned());
    }
    Ok(older)
}

/// Creates the folder and the manifest of the sweep `name`, unless they exist.
///
/// Fails if another program wrote `accuracy.csv` or `report.html` in this folder.
pub fn open_sweep(runs: &Path, name: &str, swept: &[String]) -> Result<(), RunError> {
    let older = check_sweep(runs, name, swept)?;
    let path = runs.join(name);
    if read_manifest(&path)?.is_some() {
        return Ok(());
    }
    let made = fs::create_dir_all(&path);
    made.map_err(|source| RunError::NoFolder { path: path.clone(), source })?;
    list_as_they_are(&path, name, older).map(drop).map_err(RunError::io(&path))
}

/// Takes the shared lock on the folder of the sweep `name`.
///
/// If no other process works in the sweep, first removes unfinished files of killed processes.
pub fn join_sweep(runs: &Path, name: &str) -> Result<SharedLock, RunError> {
    let path = runs.join(name);
    let made = fs::create_dir_all(&path);
    made.map_err(|source| RunError::NoFolder { path: path.clone(), source })?;
    let clean = || {
        let manifest = Manifest::read(&path)?;
        let lists = |file: &str| manifest.as_ref().is_some_and(|manifest| manifest.lists(file));
        durable::remove_temporaries(&path, &|file| file == MANIFEST || lists(file))
    };
    SharedLock::join(&path, clean).map_err(RunError::io(&path))
}

/// Returns the paths that the manifest does not list, relative to `folder`.
///
/// A subfolder without listed files is one path. Its content is left out.
pub(super) fn foreign(folder: &Path, manifest: &Manifest) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    foreign_below(folder, Path::new(""), manifest, &mut found)?;
    found.sort();
    Ok(found)
}

fn foreign_below(
    folder: &Path,
    below: &Path,
    manifest: &Manifest,
    found: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let own = durable::is_own(&entry.file_name()) || entry.file_name() == durable::MANIFEST;
        let listed = path.to_str().is_some_and(|path| manifest.lists(&path.replace('\\', "/")));
        match (own || listed, entry.file_type()?.is_dir()) {
            (true, true) => foreign_below(folder, &path, manifest, found)?,
            (true, false) => {}
            (false, _) => found.push(path),
        }
    }
    Ok(())
}
