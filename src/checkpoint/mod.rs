//! Checkpoints: what a training leaves on the disk, and what it starts or goes on from.
//!
//! A checkpoint is a folder, `epoch-0800/`, with `model.safetensors` (the official PyTorch names, so timm and the
//! official code read it) and `meta.json` (what it is: stage, epoch, classes, the whole recipe). It never changes.
//! What a stopped job needs to go on (weights, optimizer state, place in the epoch) is one file, `resume.safetensors`,
//! replaced after every epoch and removed when the job is done.
//!
//! Reading never trusts a file: names and shapes are compared with the module first, and what does not fit is listed.

mod error;
mod fit;
mod folder;
mod tensors;

pub use error::CheckpointError;
pub use fit::load_encoder;
pub use fit::load_module;
pub use folder::Meta;
pub use folder::epoch_folder;
pub use folder::find;
pub use folder::is_whole;
pub use folder::publish;
pub use tensors::HostTensor;
pub use tensors::TensorFile;
