//! `mae plan --scale`: the speed of a recipe on different numbers of hosts, from a model of computing and network.

use super::price::Price;
use crate::cli::CliError;
use crate::recipe::Plan;
use crate::run::CheckedPoint;
use crate::shape::StageKind;
use serde::Serialize;
use std::fmt::Write as _;

/// Speed of one stage on a given number of hosts.
#[derive(Debug, Serialize)]
pub(super) struct Scaled {
    pub stage: String,
    pub hosts: usize,
    pub devices: usize,
    /// Images per device in one micro-step; `null` if the devices cannot share an update equally.
    pub batch_size: Option<usize>,
    /// Micro-steps in one update; `null` if the devices cannot share an update equally.
    pub accum_iter: Option<usize>,
    pub images_per_s: Option<f64>,
    /// Speed divided by `hosts` times the speed of one host.
    pub efficiency: Option<f64>,
    /// Bytes that one host sends in one update.
    pub wire_bytes_per_update: f64,
    /// Fraction of an update's time for the exchange of gradients.
    pub communication: Option<f64>,
    /// Hours of the whole stage; `null` if unknown.
    pub hours: Option<f64>,
}

/// Computes the speed of each stage for each number of hosts, with the same effective batch size.
pub(super) fn scaled(
    plan: &Plan,
    checked: &CheckedPoint,
    price: &Price,
    hosts: &[usize],
) -> Vec<Scaled> {
    let mut rows = Vec::new();
    for stage in StageKind::ALL {
        if plan.training(stage).is_some() {
            rows.extend(hosts.iter().map(|hosts| row(plan, checked, price, stage, *hosts)));
        }
    }
    rows
}

fn row(
    plan: &Plan,
    checked: &CheckedPoint,
    price: &Price,
    stage: StageKind,
    hosts: usize,
) -> Scaled {
    let missing = "the stage is part of the plan";
    let training = plan.training(stage).expect(missing);
    let cost = plan.cost(stage, checked.counts.num_classes).expect(missing);
    let devices = hosts * plan.runtime.devices;
    let images = training.effective_batch_size;
    let batches = batches(images, devices, training.batch_size);
    let bytes = cost.memory.gradients;
    let network = |hosts| plan.runtime.network(hosts);
    let update_s = |hosts: usize| {
        let devices = hosts * plan.runtime.devices;
        Some(price.wall_s(stage, &cost, (images, 0), devices)? + network(hosts).update_s(bytes))
    };
    let own_s = batches.and_then(|_| update_s(hosts));
    let steps = checked.counts.train_images.and_then(|of| training.steps(stage, of).ok());
    let evaluation_s = match stage {
        StageKind::Pretrain => Some(0.0),
        _ => checked
            .counts
            .val_images
            .and_then(|of| price.wall_s(stage, &cost, (0, of * training.epochs), devices)),
    };
    let efficiency = own_s.and_then(|own| Some(update_s(1)? / (own * hosts as f64)));
    let hours = own_s.zip(steps).zip(evaluation_s);
    Scaled {
        stage: stage.to_string(),
        hosts,
        devices,
        batch_size: batches.map(|(batch_size, _)| batch_size),
        accum_iter: batches.map(|(_, accum_iter)| accum_iter),
        images_per_s: own_s.map(|own| images as f64 / own),
        efficiency,
        wire_bytes_per_update: network(hosts).wire_bytes(bytes),
        communication: own_s.map(|own| network(hosts).update_s(bytes) / own),
        hours: hours
            .map(|((own, steps), evaluation)| (own * steps.total as f64 + evaluation) / 3600.0),
    }
}

/// Splits an update of `images` images into equal micro-steps on each device.
///
/// Returns `batch_size` (at most `largest`) and `accum_iter`; `None` if an equal split is impossible.
fn batches(images: usize, devices: usize, largest: usize) -> Option<(usize, usize)> {
    let own = images.is_multiple_of(devices).then(|| images / devices)?;
    let batch_size = (1..=largest.min(own)).rev().find(|size| own.is_multiple_of(*size))?;
    Some((batch_size, own / batch_size))
}

/// Formats the table of `mae plan --scale`.
pub(super) fn text(plan: &Plan, rows: &[Scaled], price: &Price) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<9} {:>6} {:>8} {:>11} {:>11} {:>9} {:>11} {:>12} {:>14} {:>7}",
        "stage",
        "hosts",
        "devices",
        "batch_size",
        "accum_iter",
        "images/s",
        "efficiency",
        "sent/update",
        "communication",
        "hours"
    );
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    for row in rows {
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let _ = writeln!(
            text,
            "{:<9} {:>6} {:>8} {:>11} {:>11} {:>9} {:>11} {:>12} {:>14} {:>7}",
            row.stage,
            row.hosts,
            row.devices,
            or_dash(row.batch_size.map(|batch_size| batch_size.to_string())),
            or_dash(row.accum_iter.map(|accum_iter| accum_iter.to_string())),
            or_dash(row.images_per_s.map(|speed| format!("{speed:.0}"))),
            or_dash(row.efficiency.map(percent)),
            format!("{:.1} MB", row.wire_bytes_per_update / 1e6),
            or_dash(row.communication.map(percent)),
            or_dash(row.hours.map(|hours| format!("{hours:.2}"))),
        );
    }
    let network = plan.runtime.network(1);
    let _ = writeln!(
        text,
        "The effective batch size stays the same. `-` means that the devices cannot share the images of an update equally.\n\
         The plan assumes that each host is a separate machine. Processes on one machine share its cores and are slower.\n\
         network: {} Gbit/s per host (`runtime.link_gbit`), {:.0} us per message. The plan assumes that a host \
         does not compute while it exchanges gradients.\nspeed: {}",
        network.gbit,
        1e6 * network.latency_s,
        price.words()
    );
    text.trim_end().to_owned()
}

/// Parses the value of `--scale`, such as `1,8,64`.
pub(super) fn parse(text: &str) -> Result<Vec<usize>, CliError> {
    let number = |part: &str| part.trim().parse().ok().filter(|hosts| (1..=65_536).contains(hosts));
    let hosts: Option<Vec<usize>> = text.split(',').map(number).collect();
    hosts.ok_or_else(|| {
        CliError::Usage(format!(
            "cannot read `--scale {text}`: expected numbers of hosts from 1 to 65536\nhint: separate the numbers with commas, as in \
             `--scale 1,8,64`"
        ))
    })
}
