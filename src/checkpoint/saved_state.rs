//! Reads the files with which a pre-training continues: `optimizer.safetensors` of a checkpoint folder, and
//! `resume.safetensors` of an unfinished job.

use super::facts::Settings;
use super::open::own_settings;
use super::{HostTensor, OptimizerState, TensorFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name prefixes of the two AdamW moments, as in PyTorch.
const MOMENTS: [&str; 2] = ["exp_avg.", "exp_avg_sq."];

pub(super) struct SavedState {
    pub tensors: BTreeMap<String, HostTensor>,
    pub settings: Settings,
    pub optimizer: OptimizerState,
}

#[derive(Deserialize)]
struct Position {
    /// The current epoch, counted from 1.
    epoch: usize,
    optimizer_updates: usize,
}

/// The JSON note in `optimizer.safetensors`.
#[derive(Serialize, Deserialize)]
struct OptimizerNote {
    /// Number of epochs trained so far.
    epoch: usize,
    updates: usize,
}

/// Reads the state of an unfinished job; `None` if `file` is not such a state.
///
/// The settings come from the file `recipe.toml` in the run folder.
pub(super) fn of(path: &Path, file: &TensorFile) -> Option<SavedState> {
    let position: Position = serde_json::from_str(&file.note).ok()?;
    let (mut tensors, mut moments, mut averages) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in &file.tensors {
        if let Some(name) = name.strip_prefix("model.") {
            tensors.insert(name.to_owned(), tensor.clone());
        } else if let Some(name) = name.strip_prefix("ema.") {
            averages.insert(name.to_owned(), tensor.clone());
        } else {
            moments.insert(name.strip_prefix("optimizer.")?.to_owned(), tensor.clone());
        }
    }
    tensors.extend(averages); // with EMA, the averaged weights are the final weights
    let recipe = path.ancestors().nth(2).map(|run| run.join("recipe.toml"));
    let recipe = recipe.and_then(|recipe| std::fs::read_to_string(recipe).ok());
    let settings = Settings {
        epoch: position.epoch.checked_sub(1),
        ..own_settings(&recipe.unwrap_or_default())
    };
    let optimizer =
        OptimizerState { updates: position.optimizer_updates, moments: paired(moments) };
    Some(SavedState { tensors, settings, optimizer })
}

/// Pairs the two moments of each parameter. Leaves out parameters with only one moment.
fn paired(mut moments: BTreeMap<String, HostTensor>) -> BTreeMap<String, [HostTensor; 2]> {
    let [first, second] = MOMENTS;
    let names = moments.keys().filter_map(|name| Some(name.strip_prefix(first)?.to_owned()));
    let names: Vec<String> = names.collect();
    let mut both = |name: &String| {
        let (a, b) = (format!("{first}{name}"), format!("{second}{name}"));
        Some([moments.remove(&a)?, moments.remove(&b)?])
    };
    names.into_iter().filter_map(|name| both(&name).map(|both| (name, both))).collect()
}

impl OptimizerState {
    /// Converts the state to a safetensors file. `epoch` is the number of epochs trained so far.
    pub(super) fn to_file(&self, epoch: usize) -> TensorFile {
        let note = OptimizerNote { epoch, updates: self.updates };
        let named = |(name, both): (&String, &[HostTensor; 2])| {
            let named = MOMENTS.iter().zip(both.clone());
            named.map(|(kind, moment)| (format!("{kind}{name}"), moment)).collect::<Vec<_>>()
        };
        TensorFile {
            tensors: self.moments.iter().flat_map(named).collect(),
            note: serde_json::to_string(&note).expect("numbers are valid JSON"),
        }
    }

    /// Reads the optimizer state from `file`. Fails if the state belongs to a different epoch than `epoch`.
    ///
    /// Error texts do not include the file path.
    pub(super) fn of_file(file: TensorFile, epoch: usize) -> Result<Self, String> {
        let note: OptimizerNote = serde_json::from_str(&file.note)
            .map_err(|e| format!("the content is not a valid optimizer state: {e}"))?;
        if note.epoch != epoch {
            let own = note.epoch;
            return Err(format!(
                "the optimizer state is from epoch {own}, but the weights are from epoch {epoch}"
            ));
        }
        Ok(Self { updates: note.updates, moments: paired(file.tensors) })
    }
}

#[cfg(test)]
mod tests {
    use super::{HostTensor, OptimizerState};

    #[test]
    fn an_optimizer_file_is_read_back_and_belongs_to_its_epoch() {
        let moment = |value: f32| HostTensor { shape: vec![1, 2], values: vec![value; 2] };
        let moments = [("exp_avg.odd".to_owned(), [moment(1.0), moment(2.0)])].into();
        let state = OptimizerState { updates: 7, moments };
        let read = |epoch| OptimizerState::of_file(state.to_file(4), epoch);
        assert_eq!(read(4).unwrap(), state);
        assert!(read(5).unwrap_err().contains("the optimizer state is from epoch 4"));
    }
}
