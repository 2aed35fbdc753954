//! Checkpoints: what a training leaves on the disk, what it starts or goes on from, and everybody else's.
//!
//! A checkpoint is a folder, `epoch-0800/`, with `model.safetensors` (the official PyTorch names, so timm and the
//! official code read it) and `meta.json` (what it is: stage, epoch, classes, the whole recipe). It never changes.
//! What a stopped job needs to go on (weights, optimizer state, place in the epoch) is one file, `resume.safetensors`,
//! replaced after every epoch and removed when the job is done.
//!
//! [`open`] takes anyone's: PyTorch's and Paddle's pickles (`pickle` reads them without running anything, `pickled` and
//! `optimizer` say what is in them), Hugging Face's folders (`huggingface`), safetensors. What comes out has the official
//! names, and [`Facts`]: the network that fits. `export` writes the other formats,
//! `torch_file` what `torch.load` reads.
//!
//! Reading never trusts a file: names and shapes are compared with the module first, and what does not fit is listed.
//! No more memory is taken than the file's size allows.

mod error;
mod export;
mod facts;
mod fit;
mod folder;
mod huggingface;
mod inventory;
mod open;
mod optimizer;
mod pickle;
mod pickled;
mod plan;
mod tensors;
mod timm;
mod to_recipe;
mod torch_file;

pub use error::CheckpointError;
pub use export::{ExportSettings, write_huggingface, write_timm};
pub use facts::{DecoderFacts, Facts, Head, Settings, usual_heads};
pub use fit::{load_encoder, load_frozen, load_module};
pub use folder::{Meta, epoch_folder, is_whole, publish};
pub use open::{CheckpointFormat, Opened, open};
pub use optimizer::OptimizerState;
pub use plan::{CheckpointPlan, Needs, PlanArgs};
pub use tensors::{HostTensor, TensorFile};
pub use torch_file::write_torch;
