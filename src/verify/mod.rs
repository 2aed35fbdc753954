//! `mae verify`: compares this program with recorded numbers of the official code, on any device.
//!
//! A case is a folder. `case.json` has its kind and hyper-parameters. `tensors.safetensors` has inputs and expected
//! outputs. Some cases also have checkpoint files. Missing tensors, tensors that no comparison reads, and unknown kinds
//! are errors.
//!
//! `case` reads a case, `report` compares tensors, `tolerances` has the limits. Each other module compares one or two
//! kinds of cases.

mod case;
mod checkpoints;
mod draws;
mod forward;
mod mixing;
mod networks;
mod pictures;
mod probe;
mod report;
mod tables;
mod tolerances;
mod updates;

pub use case::VerifyError;
pub use report::{CaseReport, Measure, ReportRow};
pub use tolerances::Tolerances;

use burn::tensor::Device;
use case::Case;
use report::TensorComparison;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Lists all folders with a case: `path` itself, or folders below `path`. The list is sorted.
///
/// Fails if there is no case.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    if path.join(case::DESCRIPTION).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, &mut found)
        .map_err(|e| VerifyError::new(path, format!("cannot read the folder: {e}")))?;
    found.sort();
    if found.is_empty() {
        let problem = format!(
            "neither this folder nor its subfolders contain a file `{}`",
            case::DESCRIPTION
        );
        return Err(VerifyError::new(path, problem));
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.join(case::DESCRIPTION).is_file() {
            found.push(path);
        } else if entry.file_type()?.is_dir() {
            // Do not follow symbolic links: they may form a cycle.
            collect(&path, found)?;
        }
    }
    Ok(())
}

/// Computes the case in `folder` on `device`, and compares the results with the recorded numbers.
pub fn run(
    folder: &Path,
    device: &Device,
    tolerances: &Tolerances,
) -> Result<CaseReport, VerifyError> {
    let case = Case::open(folder)?;
    // Cases are user input. A panic because of inconsistent sizes must not end the whole command.
    catch_unwind(AssertUnwindSafe(|| compare(&case, device, tolerances))).unwrap_or_else(|_| {
        Err(case.error(
            "the computation failed because tensor sizes do not match (see the message above)",
        ))
    })
}

fn compare(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
) -> Result<CaseReport, VerifyError> {
    let mut comparison = TensorComparison::default();
    let out = &mut comparison;
    match case.kind.as_str() {
        "mae_forward" => forward::run(case, device, tolerances, out)?,
        "pretrain_steps" => updates::pretrain(case, device, tolerances, out)?,
        "finetune_steps" => updates::finetune(case, device, tolerances, out)?,
        "linprobe_steps" => probe::run(case, device, tolerances, out)?,
        "schedule" => tables::schedule(case, tolerances, out)?,
        "pos_embed" => tables::pos_embed(case, tolerances, out)?,
        "pos_embed_resize" => tables::pos_embed_resize(case, tolerances, out)?,
        "mixup" => mixing::mixup(case, out)?,
        "metrics" => mixing::metrics(case, out)?,
        "transforms" => pictures::transforms(case, out)?,
        "decode" => pictures::decode(case, out)?,
        "distributions" => draws::distributions(case, out)?,
        "checkpoint_mae" => checkpoints::mae(case, device, tolerances, out)?,
        "checkpoint_vit" => checkpoints::vit(case, device, tolerances, out)?,
        "resume_step" => checkpoints::resume_step(case, device, tolerances, out)?,
        "pretrain_from" => checkpoints::pretrain_from(case, device, tolerances, out)?,
        "augment_ops" => pictures::augment_ops(case, out)?,
        other => return Err(case.error(format!("unknown kind {other:?}"))),
    }
    case.all_read()?;
    if comparison.rows.is_empty() {
        return Err(case.error("the case contains no values to compare"));
    }
    Ok(CaseReport { path: case.folder.clone(), kind: case.kind.clone(), rows: comparison.rows })
}
