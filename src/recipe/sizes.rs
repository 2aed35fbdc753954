//! The official model sizes.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema::Model;

/// An official model size, such as `vit_base_patch16`.
///
/// Recipes may also write `mae_vit_base_patch16` or `mae_vit_base_patch16_dec512d8b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelSize {
    /// ViT-Ti/16; not in the paper.
    #[serde(rename = "vit_tiny_patch16", alias = "mae_vit_tiny_patch16")]
    #[serde(alias = "mae_vit_tiny_patch16_dec512d8b")]
    Tiny,
    /// ViT-S/16; not in the paper.
    #[serde(rename = "vit_small_patch16", alias = "mae_vit_small_patch16")]
    #[serde(alias = "mae_vit_small_patch16_dec512d8b")]
    Small,
    /// ViT-B/16.
    #[serde(rename = "vit_base_patch16", alias = "mae_vit_base_patch16")]
    #[serde(alias = "mae_vit_base_patch16_dec512d8b")]
    Base,
    /// ViT-L/16.
    #[serde(rename = "vit_large_patch16", alias = "mae_vit_large_patch16")]
    #[serde(alias = "mae_vit_large_patch16_dec512d8b")]
    Large,
    /// ViT-H/14.
    #[serde(rename = "vit_huge_patch14", alias = "mae_vit_huge_patch14")]
    #[serde(alias = "mae_vit_huge_patch14_dec512d8b")]
    Huge,
}

/// Encoder dimensions of a [`ModelSize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoder {
    pub(super) patch_size: usize,
    pub(super) embed_dim: usize,
    pub(super) depth: usize,
    pub(super) num_heads: usize,
}

impl ModelSize {
    /// Returns the official size with the encoder of `model`, such as `vit_base_patch16`.
    ///
    /// Returns `None` if no size has this encoder.
    pub fn named(model: &Model) -> Option<&'static str> {
        let encoder = Encoder {
            patch_size: model.patch_size?,
            embed_dim: model.embed_dim?,
            depth: model.depth?,
            num_heads: model.num_heads?,
        };
        let named = [
            (Self::Tiny, "vit_tiny_patch16"),
            (Self::Small, "vit_small_patch16"),
            (Self::Base, "vit_base_patch16"),
            (Self::Large, "vit_large_patch16"),
            (Self::Huge, "vit_huge_patch14"),
        ];
        named.into_iter().find(|(size, _)| size.encoder() == encoder).map(|(_, name)| name)
    }

    /// Returns the encoder dimensions of this size (MAE paper §4; `DeiT` for Tiny and Small).
    pub(super) fn encoder(self) -> Encoder {
        let (patch_size, embed_dim, depth, num_heads) = match self {
            Self::Tiny => (16, 192, 12, 3),
            Self::Small => (16, 384, 12, 6),
            Self::Base => (16, 768, 12, 12),
            Self::Large => (16, 1024, 24, 16),
            Self::Huge => (14, 1280, 32, 16),
        };
        Encoder { patch_size, embed_dim, depth, num_heads }
    }
}

impl JsonSchema for ModelSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModelSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let short =
            ["tiny_patch16", "small_patch16", "base_patch16", "large_patch16", "huge_patch14"];
        let names = [("vit_", ""), ("mae_vit_", ""), ("mae_vit_", "_dec512d8b")]
            .iter()
            .flat_map(|(before, after)| short.iter().map(move |s| format!("{before}{s}{after}")))
            .collect::<Vec<_>>();
        json_schema!({ "type": "string", "enum": names })
    }
}
