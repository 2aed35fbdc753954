//! Inference: what a trained network answers. Evaluation, prediction and reconstruction.
//!
//! Training uses it for its evaluations; it knows nothing of training, ranks or run folders. What both share lives here: shards on
//! worker threads, images on the device, numbers read back, the wish to stop.

mod classifier;
mod error;
mod evaluate;
mod faults;
mod host;
mod images;
mod reconstruct;
mod replicas;
mod same_encoder;
mod stop;

pub use classifier::Classifier;
pub use error::{DeviceError, InferError};
pub use evaluate::{Evaluated, Evaluation, Metrics, ShareCounts, look_through, score};
pub use faults::{check_faults, forget_faults, report_fault};
pub use host::host;
pub use images::images;
pub use reconstruct::{Autoencoder, MaskSettings, ReconstructionInput, reconstructions};
pub use replicas::{Replicas, SHARD_IMAGES};
pub use same_encoder::same_encoder;
pub(crate) use same_encoder::{same_heads, setting};
pub use stop::StopFlag;
