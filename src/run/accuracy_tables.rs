//! Updates the accuracy tables of a run and of its sweep after every epoch.

use crate::recipe::{Plan, Resolved};
use crate::results::{self, RunError};
use crate::train::RunContext;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Writes `accuracy.csv` of a run and of the sweep that contains the run.
pub(super) struct AccuracyTables {
    /// The folder of all runs.
    runs: PathBuf,
    plan: Arc<Plan>,
    run: PathBuf,
    all: Resolved,
    /// Locked while a job writes, because jobs may run in parallel.
    writing: Mutex<()>,
}

impl AccuracyTables {
    pub(super) fn new(runs: &Path, work: &RunContext, all: &Resolved) -> Self {
        Self {
            runs: runs.to_owned(),
            plan: Arc::clone(&work.plan),
            run: work.run.clone(),
            all: all.clone(),
            writing: Mutex::default(),
        }
    }

    /// Writes `accuracy.csv` of the run and of the sweep, if the recipe measures an accuracy.
    pub(super) fn write(&self) -> Result<(), RunError> {
        let Self { plan, all, run, .. } = self;
        if !plan.measures_accuracy() {
            return Ok(());
        }
        let _in_turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let own: Vec<String> = plan.swept.iter().map(|(key, _)| key.clone()).collect();
        let rows = results::accuracy(plan, run, "")?;
        results::write_accuracy(run, &own, &plan.measure_columns(), &rows)?;
        if all.swept.is_empty() {
            return Ok(());
        }
        results::open_sweep(&self.runs, &all.name, &all.swept)?;
        let sweep = self.runs.join(&all.name);
        let (mut rows, mut measures) = (Vec::new(), Vec::new());
        for point in &all.points {
            for column in point.plan.measure_columns() {
                if !measures.contains(&column) {
                    measures.push(column);
                }
            }
            let name = point.plan.name.strip_prefix(&format!("{}/", all.name));
            let name = name.expect("a point's folder is in the sweep's folder");
            rows.extend(results::accuracy(&point.plan, &sweep.join(name), &format!("{name}/"))?);
        }
        results::write_accuracy(&sweep, &all.swept, &measures, &rows)
    }
}
