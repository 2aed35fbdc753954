//! The provenance of a run.

use super::preflight::CheckedPoint;
use crate::durable::now_unix_s;
use crate::results::Provenance;
use crate::train::RunContext;

pub(super) fn of(point: &CheckedPoint, work: &RunContext, command_line: &[String]) -> Provenance {
    let RunContext { plan, data, device, .. } = work;
    let now = data.val_skipped.as_ref().map(|skipped| (Some(data.facts.val_images), skipped.len()));
    // A start without evaluation keeps the numbers of validation images of an earlier start.
    let before = point.before.as_ref().and_then(|run| Some((run.val_images, run.val_skipped?)));
    let measured = now.or(before);
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("BUILT_FROM_COMMIT").to_owned(),
        command_line: command_line.to_vec(),
        device: device.name.clone(),
        devices: plan.runtime.devices,
        hosts: work.hosts.names(),
        precision: plan.runtime.precision.to_string(),
        threads: device.threads,
        seed: plan.seed,
        data_fingerprint: data.fingerprint.clone(),
        val_images: measured.map_or(data.val.as_ref().map(|val| val.len()), |(images, _)| images),
        val_skipped: measured.map(|(_, skipped)| skipped),
        data_note: data.note.clone().unwrap_or_default(),
        start_files: point.start_files.clone(),
        failed_jobs: point.failed_before(),
        layouts: work.layouts.to_vec(),
        started_unix_s: now_unix_s(),
        finished_unix_s: None,
    }
}
