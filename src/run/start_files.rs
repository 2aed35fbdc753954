//! Hashes start checkpoints, and compares the hashes with the hashes of an earlier start.

use super::preflight::{CheckedJob, CheckedPoint, JobState};
use crate::checkpoint;
use crate::durable::Content;
use crate::recipe::{Job, Plan};
use crate::results::{RunError, StartFile};
use crate::shape::StageKind;
use crate::train::TrainError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Hashes of files by path.
#[derive(Default)]
pub(super) struct FileHashes(HashMap<PathBuf, Content>);

impl FileHashes {
    fn of(&mut self, path: &Path) -> Result<Content, RunError> {
        if let Some(known) = self.0.get(path) {
            return Ok(known.clone());
        }
        let content = Content::of_file(path)
            .map_err(|source| RunError::Unreadable { path: path.to_owned(), source })?;
        self.0.insert(path.to_owned(), content.clone());
        Ok(content)
    }

    /// Fails if a file in `before` has changed. Ignores missing files.
    pub(super) fn check_unchanged(
        &mut self,
        run: &Path,
        before: &[StartFile],
    ) -> Result<(), RunError> {
        let there = before.iter().filter(|file| file.path.is_file());
        there.into_iter().try_for_each(|file| file.check_unchanged(run, &self.of(&file.path)?))
    }

    /// Returns the checkpoint files that `jobs` start from.
    ///
    /// `seen` is the number of finished epochs of the `pretrain.resume` checkpoint. `before` are the files of an
    /// earlier start.
    pub(super) fn of_jobs(
        &mut self,
        plan: &Plan,
        (jobs, seen): (&[CheckedJob], Option<usize>),
        before: &[StartFile],
        points: &[CheckedPoint],
    ) -> Result<Vec<StartFile>, TrainError> {
        let mut files = Vec::new();
        for CheckedJob { job, state, .. } in jobs {
            let Some(path) = plan.named_file(job) else { continue };
            if path.exists() {
                let resumes = resumes(plan, job);
                for path in checkpoint::content_files(path, resumes)? {
                    let Content { bytes, blake3 } = self.of(&path)?;
                    files.push(StartFile {
                        job: job.dir.clone(),
                        path,
                        bytes,
                        blake3,
                        epoch: seen.filter(|_| resumes),
                    });
                }
                continue;
            }
            let known = match state {
                JobState::Shared { with } => {
                    let other = points.iter().find(|point| point.name == *with);
                    other.map_or(&[][..], |point| &point.start_files)
                }
                _ => before,
            };
            files.extend(known.iter().filter(|file| file.job == job.dir).cloned());
        }
        let others = before.iter().filter(|file| jobs.iter().all(|job| job.job.dir != file.job));
        files.extend(others.cloned());
        Ok(files)
    }
}

/// Returns whether the job continues the checkpoint `pretrain.resume`.
pub(super) fn resumes(plan: &Plan, job: &Job) -> bool {
    job.from.is_none() && plan.pretrain.as_ref().is_some_and(|pretrain| pretrain.start.resumes())
}

/// Returns whether the job still has to read the checkpoint it starts from.
///
/// A linear probe reads the frozen encoder at every start, until the probe is finished.
pub(super) fn needs_file(job: &Job, state: &JobState) -> bool {
    match state {
        JobState::ToDo | JobState::GoesOn { .. } => true,
        JobState::Begun { .. } => job.stage == StageKind::Linprobe,
        JobState::Done | JobState::Shared { .. } => false,
    }
}
