//! Checks the checkpoint files that jobs start from, before the run.

use super::inspector::{Inspector, setting};
use super::preflight::{CheckedJob, CheckedPoint, JobState, Preflight, Problem};
use super::start_files::{needs_file, resumes};
use crate::recipe::{Job, RecipeErrors, Source};
use crate::shape::StageKind;
use crate::train;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of checking the checkpoint that a job starts from.
#[derive(Clone)]
pub(super) struct CheckedSource {
    pub(super) problem: Option<Problem>,
    pub(super) notes: Vec<String>,
    /// Number of finished epochs of the `pretrain.resume` checkpoint.
    pub(super) seen: Option<usize>,
}

impl Inspector<'_> {
    /// Checks the checkpoint file that a job starts from; `None` if there is no file to check.
    pub(super) fn source(
        &mut self,
        index: usize,
        run: &Path,
        CheckedJob { job, state, is_asked }: &CheckedJob,
        num_classes: usize,
    ) -> Option<CheckedSource> {
        let point = &self.resolved.points[index];
        let plan = &point.plan;
        let is_needed = *is_asked || matches!(state, JobState::Shared { .. });
        let file = plan.named_file(job).filter(|_| is_needed)?;
        let mut source = CheckedSource { problem: None, notes: vec![], seen: None };
        if !file.exists() {
            let is_start = matches!(job.from, Some(Source::Start(_)));
            let stage = if is_start { StageKind::Pretrain } else { job.stage }.to_string();
            let is_of_stage = |key: &str| key.split('.').next() == Some(&stage);
            let mut missing = point.missing.iter();
            let missing = missing.find(|m| m.path == file && is_of_stage(&m.error.key));
            let error = missing.filter(|_| needs_file(job, state))?.error.clone();
            source.problem = Some(Arc::new(RecipeErrors(vec![error]).into()));
            return Some(source);
        }
        if let Some(problem) = self.would_be_moved(run, file) {
            return Some(CheckedSource { problem: Some(problem), ..source });
        }
        if let Some(known) = self.known_source(index, job) {
            return Some(known);
        }
        let checked = if resumes(plan, job) {
            train::check_resume(file, plan)
                .map(|(seen, notes)| (source.seen, source.notes) = (Some(seen), notes))
        } else {
            train::check_source(job, plan, num_classes).map(|notes| source.notes = notes)
        };
        source.problem = checked.err().map(Arc::new);
        self.sources.push((plan.name.clone(), job.dir.clone(), source.clone()));
        Some(source)
    }

    /// Returns the result if an earlier run of the sweep has the same job.
    fn known_source(&self, index: usize, job: &Job) -> Option<CheckedSource> {
        let of = |other: &CheckedPoint| {
            let mut known = self.sources.iter();
            known.find(|(point, dir, _)| *point == other.name && *dir == job.dir)
        };
        Preflight::with_same_job(&self.points, self.resolved, index, job)
            .find_map(of)
            .map(|(_, _, source)| source.clone())
    }

    /// Returns a problem if `--fresh` would move the checkpoint `file` to the trash.
    fn would_be_moved(&self, run: &Path, file: &Path) -> Option<Problem> {
        let inside = |(run, file): (PathBuf, PathBuf)| file.starts_with(run);
        let is_moved = self.options.fresh
            && run.canonicalize().ok().zip(file.canonicalize().ok()).is_some_and(inside);
        is_moved.then(|| {
            setting(
                format!(
                    "cannot start over: `--fresh` would move {} to the trash, but the recipe starts from that checkpoint",
                    file.display()
                ),
                "give this run another name (`--set name=...`)",
            )
        })
    }
}
