//! `mae verify`: compares computations with reference cases.

use super::{CliError, output};
use crate::recipe::{DeviceKind, RuntimePlan, Schedule, Threads};
use crate::results;
use crate::shape::{self, Precision};
use crate::train::{self, DeviceBackend};
use crate::verify::{self, CaseReport, Measure, Tolerances, VerifyError};
use clap::ValueEnum;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Compare computations with numbers recorded from the official code
///
/// A case is a folder with `case.json` and `tensors.safetensors`. Exits with 1 if a number exceeds its tolerance, and
/// with 2 if a case is invalid.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Case folders, or folders that contain case folders, such as `tests/golden`
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Device that computes the reference cases
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu, value_name = "D")]
    device: DeviceArg,
    /// Precision of the computation
    #[arg(long, value_enum, default_value_t = PrecisionArg::Fp32, value_name = "P")]
    precision: PrecisionArg,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceArg {
    Auto,
    Cpu,
    Cuda,
    Vulkan,
    Wgpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Fp32,
    Bf16,
    Fp16,
}

impl Args {
    fn runtime(&self) -> RuntimePlan {
        RuntimePlan {
            device: match self.device {
                DeviceArg::Auto => DeviceKind::Auto,
                DeviceArg::Cpu => DeviceKind::Cpu,
                DeviceArg::Cuda => DeviceKind::Cuda,
                DeviceArg::Vulkan => DeviceKind::Vulkan,
                DeviceArg::Wgpu => DeviceKind::Wgpu,
            },
            devices: 1,
            hosts: 1,
            link_mbit: 100_000,
            precision: match self.precision {
                PrecisionArg::Fp32 => Precision::Fp32,
                PrecisionArg::Bf16 => Precision::Bf16,
                PrecisionArg::Fp16 => Precision::Fp16,
            },
            verify_device: false,
            autotune: false,
            schedule: Schedule::Auto,
            gradient_checkpointing: false,
            threads: Threads::Auto,
        }
    }
}

struct Outcome {
    reports: Vec<CaseReport>,
    errors: Vec<VerifyError>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let device = train::choose(&args.runtime())?;
    let tolerances = match (args.precision, device.backend) {
        (PrecisionArg::Bf16, _) => Tolerances::BF16,
        (PrecisionArg::Fp16, _) => Tolerances::FP16,
        (PrecisionArg::Fp32, DeviceBackend::Cpu) => Tolerances::CPU,
        (PrecisionArg::Fp32, _) => Tolerances::GPU,
    };
    let mut folders = Vec::new();
    for path in &args.paths {
        if results::is_run(path) {
            let run = path.display();
            return Err(CliError::Usage(format!(
                "cannot verify {run}: this is the folder of a run, not of reference cases\n\
                 hint: run `mae check {run}` to check the run"
            )));
        }
        folders.extend(verify::find(path)?);
    }
    let mut outcome = Outcome { reports: Vec::new(), errors: Vec::new() };
    for folder in folders {
        match verify::run(&folder, &device.device, &tolerances) {
            Ok(report) => {
                if !args.json {
                    output::result(&table(&report))?;
                }
                outcome.reports.push(report);
            }
            Err(error) => outcome.errors.push(error),
        }
    }
    if args.json {
        output::json(&outcome.json(&device.name, &tolerances))?;
    } else {
        output::result(&outcome.summary(&device.name, &tolerances))?;
    }
    outcome.verdict()
}

impl Outcome {
    /// Fails if a comparison failed or a case is invalid.
    fn verdict(self) -> Result<(), CliError> {
        let failed: Vec<_> = self.reports.iter().filter(|report| !report.passed()).collect();
        let mut errors = String::new();
        for error in &self.errors {
            let _ = write!(errors, "\n  {error}");
        }
        if !failed.is_empty() {
            let mut list =
                format!("{} of {} cases exceed a tolerance:", failed.len(), self.cases());
            for report in failed {
                for row in report.rows.iter().filter(|row| !row.passed) {
                    let _ = write!(list, "\n  {}: {}", report.path.display(), row.tensor);
                }
            }
            return Err(CliError::Failed(list + &errors));
        }
        match self.errors.len() {
            0 => Ok(()),
            n => {
                Err(CliError::Usage(format!("{n} of {} cases are invalid:{errors}", self.cases())))
            }
        }
    }

    fn cases(&self) -> usize {
        self.reports.len() + self.errors.len()
    }

    fn worst(&self) -> Option<(&CaseReport, &verify::ReportRow)> {
        let worst = self.reports.iter().filter_map(|report| Some((report, report.worst()?)));
        worst.max_by(|a, b| a.1.excess().total_cmp(&b.1.excess()))
    }

    fn summary(&self, device: &str, tolerances: &Tolerances) -> String {
        let tensors: usize = self.reports.iter().map(|report| report.rows.len()).sum();
        let passed = self.reports.iter().filter(|report| report.passed()).count();
        let mut text = format!(
            "{passed} of {} cases pass on {device} ({tensors} comparisons)\n",
            self.cases()
        );
        let (precision, parameters) = match tolerances.precision {
            shape::Precision::Fp32 => (
                "fp32".to_owned(),
                " (for key biases, this tolerance plus the sum of the learning rates)",
            ),
            narrow => (
                narrow.to_string(),
                " times the sum of the learning rates, for the mean difference (for key biases, this tolerance plus the sum)",
            ),
        };
        let _ = writeln!(
            text,
            "tolerances on {device} in {precision}:\n  \
             forward {:e}, loss {:e}, gradients {:e} (relative to the tensor's largest entry)\n  \
             parameters after updates {:e}{parameters}\n  \
             learning rates {:e}, position embeddings {:e}, resized position embeddings {:e} times the patches per side",
            tolerances.forward,
            tolerances.loss,
            tolerances.gradient,
            tolerances.parameter,
            tolerances.schedule,
            tolerances.pos_embed,
            tolerances.pos_embed_resize
        );
        if let Some((report, row)) = self.worst() {
            let _ = write!(
                text,
                "closest to its tolerance: {} in {} (the error is {:.3} times the tolerance)",
                row.tensor,
                report.path.display(),
                row.excess()
            );
        }
        text
    }

    fn json(&self, device: &str, tolerances: &Tolerances) -> serde_json::Value {
        let errors: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
        let cases: Vec<_> = self
            .reports
            .iter()
            .map(|report| {
                serde_json::json!({
                    "path": report.path.display().to_string(),
                    "kind": report.kind,
                    "passed": report.passed(),
                    "rows": report.rows,
                })
            })
            .collect();
        let worst = self.worst().map(|(report, row)| {
            serde_json::json!({ "path": report.path.display().to_string(), "tensor": row.tensor,
                "of_tolerance": row.excess() })
        });
        serde_json::json!({
            "passed": self.errors.is_empty() && self.reports.iter().all(CaseReport::passed),
            "device": device, "precision": tolerances.precision, "tolerances": tolerances,
            "worst": worst, "errors": errors, "cases": cases,
        })
    }
}

fn table(report: &CaseReport) -> String {
    let width = report.rows.iter().map(|row| row.tensor.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{} ({})\n", report.path.display(), report.kind);
    let _ = writeln!(
        text,
        "  {:<width$}  {:>9}  {:>9}  tolerance     verdict",
        "tensor", "abs error", "rel error"
    );
    for row in &report.rows {
        let measure = match row.measure {
            Measure::Relative => "rel",
            Measure::Absolute => "abs",
        };
        let verdict = if row.passed { "ok" } else { "FAILED" };
        let _ = writeln!(
            text,
            "  {:<width$}  {:>9.2e}  {:>9.2e}  {measure} {:<8.1e}  {verdict}",
            row.tensor, row.max_abs, row.max_rel, row.tolerance
        );
    }
    text
}
