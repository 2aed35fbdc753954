//! Inference: evaluation, prediction, features and reconstruction with a trained network.
//!
//! Training uses this module to evaluate its models. This module does not use training code. Training and inference
//! also share helpers from here: worker threads, copies between host and device, and the stop flag.

mod classifier;
mod error;
mod evaluate;
mod faults;
mod features;
mod host;
mod images;
mod knn;
mod reconstruct;
mod replicas;
mod same_encoder;
mod stop;
mod tally;

pub use classifier::Classifier;
pub use error::{DeviceError, InferError};
pub use evaluate::{Evaluated, Evaluation, Metrics, ShareCounts, read_validation, score};
pub use faults::{check_faults, forget_faults, report_fault};
pub use features::{FeatureExtractor, Features, Pooling};
pub use host::host;
pub use images::images;
pub use knn::{Knn, KnnCounts, KnnMetrics};
pub use reconstruct::{
    Autoencoder, MaskSettings, ReconstructionInput, mask_label, reconstructions,
};
pub use replicas::{Replicas, SHARD_IMAGES, is_large};
pub use same_encoder::same_encoder;
pub(crate) use same_encoder::same_heads;
pub use stop::{LastUpdate, StopFlag};
pub use tally::{ClassTally, Tally};
