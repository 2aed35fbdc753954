//! The images that pre-training reconstructs at each epoch of `checkpoint_epochs`.

use crate::data::{self, DataSet, EvalTransform, Split};
use crate::durable;
use crate::figure::FigureRow;
use crate::infer::{Autoencoder, MaskSettings, ReconstructionInput, mask_label, reconstructions};
use crate::recipe::{DataPlan, Plan};
use crate::results::RunError;
use crate::shape::Masking;
use crate::train::error::TrainError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGES: usize = 6;

/// The images for the reconstruction figures of a job.
///
/// All figures show the same images with the same masks. The images are spread evenly over the validation split, or
/// over the training split if there is no validation split.
pub(crate) struct Gallery {
    split: Arc<dyn Split>,
    split_name: &'static str,
    class_names: Vec<String>,
    data: DataPlan,
    seed: u64,
}

impl Gallery {
    pub(crate) fn of(data: &DataSet, plan: &Plan) -> Self {
        let (split, split_name) = match &data.val {
            Some(val) if !val.is_empty() => (val, "validation"),
            _ => (&data.train, "training"),
        };
        Self {
            split: Arc::clone(split),
            split_name,
            class_names: data.class_names.clone(),
            data: plan.data.clone(),
            seed: plan.seed,
        }
    }

    /// Writes the reconstruction figure of an epoch, such as `reconstructions/epoch-0800.png` in the job's folder.
    pub(crate) fn show(
        &self,
        autoencoder: &Autoencoder,
        masking: Masking,
        job_folder: &Path,
        epoch: usize,
    ) -> Result<(), TrainError> {
        let settings = MaskSettings { masking, seed: self.seed };
        let transform = EvalTransform::new(&self.data);
        let mut groups = Vec::new();
        for index in self.indices() {
            let values = transform.apply(&data::picture(&*self.split, index)?);
            let subject = ReconstructionInput { values, place: index as u64 };
            let mut label = vec![format!("{} {index}", self.split_name)];
            let class = self.class_names.get(self.split.label(index) as usize);
            label.extend(class.map(|class| format!("label {class}")));
            label.push(format!("epoch {epoch}"));
            label.extend(mask_label(masking));
            groups.push(vec![FigureRow {
                label,
                tiles: autoencoder.tiles(&subject, settings, &self.data)?,
            }]);
        }
        let path = Self::path(job_folder, epoch);
        let figure = reconstructions(groups, &[autoencoder.loss()]);
        let written = figure.png().and_then(|png| durable::write(&path, &png));
        written.map_err(|source| RunError::Io { path, source })?;
        Ok(())
    }

    /// Returns the path of the reconstruction figure of an epoch.
    pub(crate) fn path(job_folder: &Path, epoch: usize) -> PathBuf {
        job_folder.join("reconstructions").join(format!("epoch-{epoch:04}.png"))
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        let (len, shown) = (self.split.len(), self.split.len().min(IMAGES));
        (0..shown).map(move |i| i * len / shown)
    }
}
