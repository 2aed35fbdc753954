//! Writes the reconstruction figure and the checkpoint of an epoch.

use super::job::{JobContext, JobDir};
use super::stage::Stage;
use super::state::{TrainingState, tensor_file};
use crate::checkpoint::{self, Meta};
use crate::infer::DeviceError;
use crate::train::error::TrainError;
use crate::train::events::Event;

/// Writes the reconstruction figure and the checkpoint of an epoch, unless the checkpoint already exists.
pub(crate) fn publish<S: Stage>(
    stage: &S,
    state: &TrainingState<S::Model>,
    dir: &JobDir,
    (epoch, keep_optimizer): (usize, bool),
    context: &JobContext,
) -> Result<(), TrainError> {
    let model = state.result();
    let folder = checkpoint::epoch_folder(&dir.path, epoch);
    if checkpoint::is_whole(&folder) {
        return Ok(());
    }
    let file = tensor_file(stage.export(model))?;
    // Write the figure before the checkpoint: the last checkpoint marks the job as done.
    if let Err(error) = show(stage, model, dir, epoch) {
        let text = format!(
            "cannot draw the reconstructions of epoch {epoch}: {error}. Training continues without this figure"
        );
        context.tell(Event::Warning { job: &dir.name, text: &text });
    }
    let meta = Meta { epoch, ..dir.meta.clone() };
    let optimizer = if keep_optimizer { Some(state.optimizer_state()?) } else { None };
    checkpoint::publish(&folder, &file, optimizer.as_ref(), &meta)?;
    Ok(())
}

/// Draws the reconstruction figure of an epoch. A panic becomes an error.
fn show<S: Stage>(
    stage: &S,
    model: &S::Model,
    dir: &JobDir,
    epoch: usize,
) -> Result<(), TrainError> {
    DeviceError::catch(|| stage.show(model, dir, epoch))?
}
