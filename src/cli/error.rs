//! The error of a command, and its exit code.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::infer::InferError;
use crate::recipe::RecipeErrors;
use crate::results::{FeatureFileError, RunError};
use crate::run::{PointError, Problems};
use crate::train::TrainError;
use crate::verify::VerifyError;
use std::io;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Recipe(#[from] RecipeErrors),
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The checks before a run found problems.
    #[error(transparent)]
    Refused(#[from] Problems),
    #[error("{0}")]
    Usage(String),
    /// A run, a case or a file failed. The text says which.
    #[error("{0}")]
    Failed(String),
    #[error("interrupted: the state is saved; run the same command again to resume")]
    Interrupted,
    #[error("interrupted before the result was ready; mae wrote nothing")]
    Stopped,
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Recipe(_) | Self::Usage(_) => 2,
            Self::Train(error) if error.is_input() => 2,
            Self::Refused(problems) if problems.is_input() => 2,
            Self::Train(_) | Self::Refused(_) | Self::Failed(_) | Self::Output(_) => 1,
            Self::Interrupted | Self::Stopped => 130,
        }
    }
}

impl From<PointError> for CliError {
    fn from(error: PointError) -> Self {
        match error {
            PointError::Refused(problems) => Self::Refused(problems),
            PointError::Failed(error) => Self::Train(error),
            PointError::Jobs(failed) => Self::Failed(failed.to_string()),
        }
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        Self::Train(error.into())
    }
}

impl From<InferError> for CliError {
    fn from(error: InferError) -> Self {
        Self::Train(error.into())
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        Self::Train(error.into())
    }
}

impl From<FeatureFileError> for CliError {
    fn from(error: FeatureFileError) -> Self {
        match error {
            FeatureFileError::Format { .. } => Self::Usage(error.to_string()),
            FeatureFileError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}

impl From<VerifyError> for CliError {
    fn from(error: VerifyError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<CheckpointError> for CliError {
    fn from(error: CheckpointError) -> Self {
        Self::Train(error.into())
    }
}
