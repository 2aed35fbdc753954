//! Checkpoints of this and other programs: reads them, writes them, and plans their use.
//!
//! A checkpoint is a folder, such as `epoch-0800/`. Its `model.safetensors` has the official PyTorch names, so timm and
//! the official code can read it. Its `meta.json` has the stage, the epoch, the classes and the whole recipe. A
//! checkpoint never changes. Beside the weights of a pre-training, `optimizer.safetensors` keeps the state of AdamW.
//! The file `resume.safetensors` stores the state of an unfinished job: weights, optimizer, and position in the epoch.
//! The job replaces this file after every epoch and during long epochs, and removes it at the end. `saved_state` reads
//! `optimizer.safetensors` and `resume.safetensors`.
//!
//! A command uses a checkpoint in four steps:
//!
//! 1. [`open()`] reads any format into a flat list of tensors (`content`). The formats are pickles of PyTorch and Paddle
//!    (`pickle`, `pickled`, `optimizer`), safetensors (`tensors`) and several files with an index (`sharded`).
//!    `networks` finds the Vision Transformers in the list, by the tensor names of each library (`dialects`).
//!    `candidate` converts a network to the official names. `choose` selects the network to use.
//! 2. [`Facts`] describe the network. They come from the tensor shapes and from the stored settings. `inventory` checks
//!    that the file has exactly the tensors of this network.
//! 3. [`Opened::plan`] converts the facts to recipe settings (`to_recipe`), and combines them with `--recipe` and
//!    `--set`.
//! 4. [`load_module`], [`load_encoder`] and [`load_start`] load the weights into a module (`fit`).
//!
//! `export` and `torch_file` write the formats of other programs.
//!
//! A file may be malicious. So names and shapes are compared before weights are loaded, and the size of the file limits
//! the memory. The functions that interpret the content return error texts without the path. [`open()`] adds the path and
//! returns a [`CheckpointError`].

mod candidate;
mod choose;
mod content;
mod dialects;
mod error;
mod export;
mod facts;
mod fit;
mod folder;
mod huggingface;
mod inventory;
mod networks;
mod open;
mod optimizer;
mod parts;
mod pickle;
mod pickled;
mod plan;
mod saved_state;
mod sharded;
mod tensors;
mod timm;
mod to_recipe;
mod torch_file;

pub use error::CheckpointError;
pub use export::{ExportSettings, write_huggingface, write_timm};
pub use facts::{DecoderFacts, Facts, Head, Settings, usual_heads};
pub use fit::{Grids, MaePart, load_encoder, load_frozen, load_module, load_start, missing_parts};
pub use folder::{Meta, epoch_folder, is_whole, publish};
pub use open::{CheckpointFormat, Opened, content_files, open};
pub use optimizer::OptimizerState;
pub use plan::{CheckpointPlan, Needs, PlanArgs};
pub use tensors::{HostTensor, TensorFile};
pub use torch_file::write_torch;
