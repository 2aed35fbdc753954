//! The floating-point format of matrix products and activations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

// Not a doc comment, because it would appear in the JSON schema of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    Fp32,
    Bf16,
    Fp16,
}

impl fmt::Display for Precision {
    /// Writes `fp32`, `bf16` or `fp16`, as in recipes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        })
    }
}
