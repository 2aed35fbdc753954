//! The loss of a pre-training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

// Not a doc comment, because it would appear in the JSON schema of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LossPatches {
    Masked,
    All,
}

impl fmt::Display for LossPatches {
    /// Writes the value as in a recipe: `masked` or `all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masked => "masked",
            Self::All => "all",
        })
    }
}

/// Settings of the pre-training loss: normalization of the targets, and the patches to average over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaeLoss {
    /// Whether the target patches are normalized by their own mean and variance.
    pub norm_pix_loss: bool,
    pub patches: LossPatches,
}

impl MaeLoss {
    /// Returns the settings for a loss over the masked patches, as in the official code.
    pub fn masked(norm_pix_loss: bool) -> Self {
        Self { norm_pix_loss, patches: LossPatches::Masked }
    }
}
