//! The layout of a run: how its updates are spread over devices and micro-steps.
//!
//! The layout may change between two starts of a run if the number of images per update stays the same. Then the results
//! differ only by rounding. `batch_size` may change only in pre-training, because mixup, CutMix and `BatchNorm` depend on
//! the batch size.

use super::schema::Recipe;
use super::values::Or;
use crate::shape::StageKind;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The devices of a run, and the batch size and gradient accumulation of each stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Number of devices per host.
    pub devices: usize,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub hosts: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<Batches>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Batches>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linprobe: Option<Batches>,
}

/// Batch size and gradient accumulation of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    /// Images per device in one micro-step.
    pub batch_size: usize,
    /// Micro-steps per optimizer update.
    pub accum_iter: usize,
}

/// How often the learning rate changes within an epoch: after every `accum_iter` micro-steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Number of images in one micro-step, over all devices.
    pub images_per_micro_step: usize,
    pub accum_iter: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &usize) -> bool {
    *number == 1
}

impl Layout {
    /// Returns the layout of a resolved recipe.
    pub fn of(recipe: &Recipe) -> Self {
        let batches = |batch_size: Option<usize>, accum_iter: Option<usize>| Batches {
            batch_size: batch_size.unwrap_or(1),
            accum_iter: accum_iter.unwrap_or(1),
        };
        let devices = match recipe.runtime.devices {
            Some(Or::Value(devices)) => devices,
            _ => 1,
        };
        let hosts = match recipe.runtime.hosts {
            Some(Or::Value(hosts)) => hosts,
            _ => 1,
        };
        Self {
            devices,
            hosts,
            pretrain: recipe.pretrain.as_ref().map(|t| batches(t.batch_size, t.accum_iter)),
            finetune: recipe.finetune.as_ref().map(|t| batches(t.batch_size, t.accum_iter)),
            linprobe: recipe.linprobe.as_ref().map(|t| batches(t.batch_size, t.accum_iter)),
        }
    }

    /// Returns the batch size and gradient accumulation of a stage; `None` if the run lacks the stage.
    pub fn batches(&self, stage: StageKind) -> Option<Batches> {
        match stage {
            StageKind::Pretrain => self.pretrain,
            StageKind::Finetune => self.finetune,
            StageKind::Linprobe => self.linprobe,
        }
    }

    /// Returns how often a stage's learning rate changes within an epoch; `None` if the run lacks the stage.
    pub fn pace(&self, stage: StageKind) -> Option<Pace> {
        self.batches(stage).map(|Batches { batch_size, accum_iter }| Pace {
            images_per_micro_step: batch_size * self.world_size(),
            accum_iter,
        })
    }

    /// Returns whether the layout contains a recipe key, such as `pretrain.batch_size`.
    pub fn has_key(key: &str) -> bool {
        let (table, name) = key.split_once('.').unwrap_or_default();
        match table {
            "runtime" => matches!(name, "devices" | "hosts"),
            _ => matches!(name, "batch_size" | "accum_iter"),
        }
    }

    /// Describes why a run cannot resume with the layout `new`, one line per stage.
    ///
    /// Empty if the run can resume with `new`.
    pub fn misfits(&self, new: &Self) -> String {
        let mut lines = String::new();
        for (stage, was, now) in self.common_stages(new) {
            if !self.fits(stage, was, new, now) {
                let (was, now) = (self.text(was), new.text(now));
                let _ = writeln!(lines, "  {stage}: was {was}, now {now}");
            }
        }
        lines
    }

    /// Returns `--set` arguments that change `new` so that each update has as many images as in `self`.
    ///
    /// The arguments keep the devices of `new` if those can share the images equally.
    pub fn restoring(&self, new: &Self) -> String {
        let kept = self.with_devices_of(new).unwrap_or_else(|| self.clone());
        let sets =
            kept.differing(new).into_iter().map(|(key, then, _)| format!("--set {key}={then}"));
        sets.collect::<Vec<_>>().join(" ")
    }

    /// Returns the changes from `self` to `new`, such as `devices 4 (was 1), pretrain.accum_iter 1 (was 4)`.
    pub fn changes(&self, new: &Self) -> String {
        let change = |(key, was, now): (String, usize, usize)| {
            let key = key.strip_prefix("runtime.").unwrap_or(&key);
            format!("{key} {now} (was {was})")
        };
        self.differing(new).into_iter().map(change).collect::<Vec<_>>().join(", ")
    }

    /// Returns the recipe keys that differ, as (key, value in `self`, value in `new`).
    fn differing(&self, new: &Self) -> Vec<(String, usize, usize)> {
        let mut values = vec![
            ("runtime.devices".to_owned(), self.devices, new.devices),
            ("runtime.hosts".to_owned(), self.hosts, new.hosts),
        ];
        for (stage, was, now) in self.common_stages(new) {
            values.push((format!("{stage}.batch_size"), was.batch_size, now.batch_size));
            values.push((format!("{stage}.accum_iter"), was.accum_iter, now.accum_iter));
        }
        values.retain(|(_, was, now)| was != now);
        values
    }

    /// Returns this layout for the devices of `new`, with the same images per update.
    ///
    /// Returns `None` if the devices cannot share the images equally.
    fn with_devices_of(&self, new: &Self) -> Option<Self> {
        let mut layout = Self { devices: new.devices, hosts: new.hosts, ..self.clone() };
        let world = layout.world_size();
        for (stage, was, now) in self.common_stages(new) {
            let images = self.images(was);
            let batch_size = match stage {
                StageKind::Pretrain if images.is_multiple_of(now.batch_size * world) => {
                    now.batch_size
                }
                _ => was.batch_size,
            };
            if !images.is_multiple_of(batch_size * world) {
                return None;
            }
            let batches = Batches { batch_size, accum_iter: images / (batch_size * world) };
            *layout.batches_mut(stage) = Some(batches);
        }
        Some(layout)
    }

    fn fits(&self, stage: StageKind, was: Batches, new: &Self, now: Batches) -> bool {
        self.images(was) == new.images(now)
            && (stage == StageKind::Pretrain || was.batch_size == now.batch_size)
    }

    /// Returns (stage, batches in `self`, batches in `new`) for each stage in both layouts.
    fn common_stages(&self, new: &Self) -> Vec<(StageKind, Batches, Batches)> {
        let both = |stage| Some((stage, self.batches(stage)?, new.batches(stage)?));
        StageKind::ALL.into_iter().filter_map(both).collect()
    }

    fn batches_mut(&mut self, stage: StageKind) -> &mut Option<Batches> {
        match stage {
            StageKind::Pretrain => &mut self.pretrain,
            StageKind::Finetune => &mut self.finetune,
            StageKind::Linprobe => &mut self.linprobe,
        }
    }

    /// Returns the number of devices of all hosts together.
    fn world_size(&self) -> usize {
        self.devices * self.hosts
    }

    /// Returns the number of images in one update.
    fn images(&self, Batches { batch_size, accum_iter }: Batches) -> usize {
        batch_size * accum_iter * self.world_size()
    }

    fn text(&self, batches: Batches) -> String {
        images_text(self.images(batches), batches, self.devices, self.hosts)
    }
}

/// Writes the images per update as a product of batch size, accumulation and devices.
pub(super) fn images_text(
    images: usize,
    Batches { batch_size, accum_iter }: Batches,
    devices: usize,
    hosts: usize,
) -> String {
    let hosts = if hosts > 1 { format!(" x hosts {hosts}") } else { String::new() };
    format!(
        "{images} images (`batch_size` {batch_size} x `accum_iter` {accum_iter} x devices {devices}{hosts})"
    )
}

#[cfg(test)]
mod tests {
    use super::{Batches, Layout};

    fn layout(devices: usize, pretrain: [usize; 2], finetune: [usize; 2]) -> Layout {
        let batches =
            |[batch_size, accum_iter]: [usize; 2]| Some(Batches { batch_size, accum_iter });
        Layout {
            devices,
            hosts: 1,
            pretrain: batches(pretrain),
            finetune: batches(finetune),
            linprobe: None,
        }
    }

    #[test]
    fn a_layout_may_change_if_each_update_keeps_its_images() {
        let first = layout(1, [64, 4], [32, 8]);
        for fits in [layout(4, [64, 1], [32, 2]), layout(2, [16, 8], [32, 4])] {
            assert_eq!(first.misfits(&fits), "");
        }
        let misfits = first.misfits(&layout(4, [64, 2], [16, 4]));
        insta::assert_snapshot!(misfits, @r"
          pretrain: was 256 images (`batch_size` 64 x `accum_iter` 4 x devices 1), now 512 images (`batch_size` 64 x `accum_iter` 2 x devices 4)
          finetune: was 256 images (`batch_size` 32 x `accum_iter` 8 x devices 1), now 256 images (`batch_size` 16 x `accum_iter` 4 x devices 4)
        ");
    }

    #[test]
    fn the_restoring_settings_keep_the_new_devices_if_they_can_share_the_images() {
        let first = layout(1, [64, 4], [32, 8]);
        let sets = |new: Layout| first.restoring(&new);
        assert_eq!(
            sets(layout(4, [64, 4], [32, 8])),
            "--set pretrain.accum_iter=1 --set finetune.accum_iter=2"
        );
        assert_eq!(
            sets(layout(4, [32, 4], [16, 8])),
            "--set pretrain.accum_iter=2 --set finetune.batch_size=32 --set finetune.accum_iter=2"
        );
        assert_eq!(sets(layout(3, [64, 4], [32, 8])), "--set runtime.devices=1");
    }
}
