//! Draws reconstruction figures that an earlier start did not write, for example because the disk was full.

use super::devices::DeviceThreads;
use super::events::{Event, Observer};
use super::jobs::RunContext;
use super::stages::Gallery;
use crate::checkpoint;
use crate::infer::{Autoencoder, DeviceError};
use crate::recipe::{Job, PretrainPlan};
use crate::shape::StageKind;
use crate::train::error::TrainError;
use std::path::Path;

impl RunContext {
    /// Draws the missing reconstruction figures of a pre-training from its checkpoints.
    ///
    /// If drawing fails, reports a warning.
    pub(crate) fn draw_missing_pictures(
        &self,
        job: &Job,
        device_threads: &DeviceThreads,
        observer: &Observer,
    ) {
        let Some(plan) = &self.plan.pretrain else { return };
        if job.stage != StageKind::Pretrain {
            return;
        }
        let dir = self.dir(job);
        for &epoch in &plan.checkpoint_epochs {
            let folder = checkpoint::epoch_folder(&dir.path, epoch);
            let picture = Gallery::path(&dir.path, epoch);
            if picture.is_file() || !checkpoint::is_whole(&folder) {
                continue;
            }
            let (work, plan, job_folder) = (self.clone(), plan.clone(), dir.path.clone());
            let drawn = device_threads.first(move || work.draw(&plan, &folder, &job_folder, epoch));
            let text = match &drawn {
                Ok(()) => format!("wrote the missing picture {}", picture.display()),
                Err(error) => format!("cannot draw the reconstructions of epoch {epoch}: {error}"),
            };
            observer(match drawn {
                Ok(()) => Event::Notice { job: &dir.name, text: &text },
                Err(_) => Event::Warning { job: &dir.name, text: &text },
            });
        }
    }

    fn draw(
        &self,
        plan: &PretrainPlan,
        checkpoint: &Path,
        job_folder: &Path,
        epoch: usize,
    ) -> Result<(), TrainError> {
        let opened = checkpoint::open(checkpoint, None)?;
        let autoencoder = Autoencoder::load(&opened, &self.plan, &self.device.device)?;
        let gallery = Gallery::of(&self.data, &self.plan);
        DeviceError::catch(|| gallery.show(&autoencoder, plan.masking, job_folder, epoch))?
    }
}
