//! Checkpoints of this and other programs: reads them, writes them, and plans their use.
//!
//! A checkpoint is a folder, such as `epoch-0800/`. Its `model.safetensors` has the official PyTorch names, so timm and
//! the official code can read it. Its `meta.json` has the stage, the epoch, the classes and the whole recipe. A
//! checkpoint never changes. Beside the weights of a pre-training, `optimizer.safetensors` keeps the state of AdamW. The
//! state of an unfinished job (weights, optimizer, position in the epoch) is one file, `resume.safetensors`. It is replaced
//! after every epoch and during long epochs, and removed at the end of the job. `saved_state` reads both.
//!
//! A command uses a checkpoint in four steps:
//!
//! 1. [`open`] reads any format into a flat list of tensors (`content`): the pickles of PyTorch and Paddle (`pickle`
//!    parses them without running code, `pickled` and `optimizer` interpret them), safetensors (`tensors`), several files
//!    with an index (`sharded`). `networks` finds the Vision Transformers among the tensors, by the names of each library
//!    (`dialects`). A `candidate` gets the official names. `choose` selects the network to use.
//! 2. [`Facts`] describe the network, from the shapes and the settings beside the weights. `inventory` checks that the
//!    file has exactly the tensors of this network.
//! 3. [`Opened::plan`] turns the facts into recipe settings (`to_recipe`). It resolves them with `--recipe` and
//!    `--set`.
//! 4. [`load_module`], [`load_encoder`] and [`load_start`] load the weights into a module (`fit`).
//!
//! `export` and `torch_file` write the formats of other programs.
//!
//! A file may be malicious. So names and shapes are compared before weights are loaded, and the size of the file limits
//! the memory. The functions that read content return errors as text without a path. [`open`] adds the path and returns a
//! [`CheckpointError`].

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
