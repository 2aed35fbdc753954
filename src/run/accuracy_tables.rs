//! Updates the accuracy tables of a run and of its sweep after every epoch.

use crate::recipe::{Plan, Resolved};
use crate::results::{self, RunError};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes the accuracy tables of a run and of its sweep.
pub(super) struct AccuracyTables {
    /// The folder of all runs.
    pub runs: PathBuf,
    pub plan: Arc<Plan>,
    pub run: PathBuf,
    pub all: Arc<Resolved>,
    /// Lets only one job at a time write the tables.
    pub writing: Mutex<()>,
}

impl AccuracyTables {
    /// Writes the tables of the run and of its sweep, if the recipe has fine-tuning or linear probing.
    pub(super) fn write(&self) -> Result<(), RunError> {
        let Self { plan, all, run, .. } = self;
        if plan.finetune.is_none() && plan.linprobe.is_none() {
            return Ok(());
        }
        let _in_turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let own: Vec<String> = plan.swept.iter().map(|(key, _)| key.clone()).collect();
        results::write_accuracy(run, &own, &results::accuracy(plan, run, "")?)?;
        if all.swept.is_empty() {
            return Ok(());
        }
        results::open_sweep(&self.runs, &all.name, &all.swept)?;
        let sweep = self.runs.join(&all.name);
        let mut rows = Vec::new();
        for point in &all.points {
            let name = point.plan.name.strip_prefix(&format!("{}/", all.name));
            let name = name.expect("a point's folder is in the sweep's folder");
            rows.extend(results::accuracy(&point.plan, &sweep.join(name), &format!("{name}/"))?);
        }
        results::write_accuracy(&sweep, &all.swept, &rows)
    }
}
