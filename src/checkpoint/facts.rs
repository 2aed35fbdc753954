//! Facts about the network in a checkpoint. They come from the tensor shapes and from the stored settings.

use super::{HostTensor, TensorFile, inventory};
use crate::shape::{ImageSize, LossPatches, MaskKind};
use std::collections::BTreeMap;

/// Facts about the network in a checkpoint. Unknown facts are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Height and width of the images in pixels; `None` if unknown.
    ///
    /// If the number of patches is not a square number, the size is known only if the file stores a size that fits.
    pub input_size: Option<ImageSize>,
    pub patch_size: usize,
    pub in_chans: usize,
    pub embed_dim: usize,
    pub depth: usize,
    /// Hidden width of the MLP in each encoder block.
    pub mlp_dim: usize,
    /// Number of attention heads; `None` if unknown. Tensor shapes do not determine this number.
    pub num_heads: Option<usize>,
    pub decoder: Option<DecoderFacts>,
    pub head: Head,
    pub settings: Settings,
}

/// The decoder of a masked autoencoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderFacts {
    pub embed_dim: usize,
    pub depth: usize,
    pub mlp_dim: usize,
    pub num_heads: Option<usize>,
    /// Whether the encoder gets the mask tokens, instead of the decoder.
    pub encoder_mask_token: bool,
}

/// The classification head of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Absent,
    Linear {
        classes: usize,
        global_pool: bool,
    },
    /// The head of a linear probe: a `BatchNorm` and a linear layer.
    Probe {
        classes: usize,
        global_pool: bool,
    },
}

/// The settings that a checkpoint stores in addition to the tensors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    pub num_heads: Option<usize>,
    pub decoder_num_heads: Option<usize>,
    pub norm_pix_loss: Option<bool>,
    pub loss_on: Option<LossPatches>,
    pub mask: Option<MaskKind>,
    pub mask_ratio: Option<f64>,
    pub mask_granularity: Option<usize>,
    /// Height and width of the images, in pixels.
    pub input_size: Option<ImageSize>,
    /// Epsilon of every `LayerNorm`.
    pub norm_eps: Option<f64>,
    pub mean: Option<Vec<f64>>,
    pub std: Option<Vec<f64>>,
    /// Readable class names in label order; empty if unknown.
    pub class_names: Vec<String>,
    /// Whether the head gets the mean of the patch tokens instead of the class token.
    pub average_pool: Option<bool>,
    /// Number of epochs trained so far.
    pub epoch: Option<usize>,
}

impl Facts {
    /// Determines the network from tensors with official names.
    ///
    /// Error texts do not include the file path.
    pub(super) fn of(file: &TensorFile, settings: Settings) -> Result<Self, String> {
        let tensors = &file.tensors;
        let projection = "patch_embed.proj.weight";
        let [embed_dim, in_chans, patch_size, side] = shape(tensors, projection)?;
        if patch_size != side || patch_size == 0 {
            return Err(format!(
                "`{projection}` has patches of {patch_size}x{side} pixels, but mae supports only square patches"
            ));
        }
        let depth = blocks(tensors, "blocks.");
        let mlp_dim = match depth {
            0 => return Err("`blocks.0` is missing".to_owned()),
            _ => shape::<2>(tensors, "blocks.0.mlp.fc1.weight")?[0],
        };
        let facts = Self {
            input_size: grid(tensors.get("pos_embed"), &settings, patch_size)
                .map(|grid| grid.times(patch_size)),
            patch_size,
            in_chans,
            embed_dim,
            depth,
            mlp_dim,
            num_heads: settings.num_heads,
            decoder: decoder(tensors, &settings)?,
            head: head(tensors)?,
            settings,
        };
        inventory::check(&facts, tensors)?;
        Ok(facts)
    }

    /// Returns the training stage of the network, such as `pretrain`; `encoder` if there is no decoder and no head.
    pub fn stage(&self) -> &'static str {
        match (&self.decoder, self.head) {
            (Some(_), _) => "pretrain",
            (None, Head::Linear { .. }) => "finetune",
            (None, Head::Probe { .. }) => "linprobe",
            (None, Head::Absent) => "encoder",
        }
    }

    /// Returns the number of classes; 0 if there is no head.
    pub fn num_classes(&self) -> usize {
        match self.head {
            Head::Absent => 0,
            Head::Linear { classes, .. } | Head::Probe { classes, .. } => classes,
        }
    }

    /// Returns a short description with the network type, the width, the number of blocks and the patch size.
    pub fn summary(&self) -> String {
        let what = match (&self.decoder, self.head) {
            (Some(_), _) => "a masked autoencoder".to_owned(),
            (None, Head::Linear { classes, .. }) => format!("a classifier with {classes} classes"),
            (None, Head::Probe { classes, .. }) => format!("a linear probe with {classes} classes"),
            (None, Head::Absent) => "an encoder".to_owned(),
        };
        let Self { embed_dim, depth, patch_size, .. } = self;
        format!("{what}, width {embed_dim}, {depth} blocks, patch size {patch_size}")
    }

    /// Returns the number of patch rows and columns for the position embeddings; `None` if the image size is unknown.
    pub fn grid(&self) -> Option<ImageSize> {
        self.input_size.map(|size| size.in_squares_of(self.patch_size))
    }

    pub fn mlp_ratio(&self) -> f64 {
        self.mlp_dim as f64 / self.embed_dim as f64
    }

    /// Returns (recipe key, value) pairs that describe the network, such as `("model.depth", "12")`.
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![
            ("model.patch_size", self.patch_size.to_string()),
            ("model.embed_dim", self.embed_dim.to_string()),
            ("model.depth", self.depth.to_string()),
            ("model.mlp_ratio", self.mlp_ratio().to_string()),
            ("data.in_chans", self.in_chans.to_string()),
        ];
        keys.extend(self.input_size.map(|size| ("data.input_size", size.to_string())));
        keys.extend(self.num_heads.map(|heads| ("model.num_heads", heads.to_string())));
        if let Some(decoder) = &self.decoder {
            keys.push(("model.decoder_embed_dim", decoder.embed_dim.to_string()));
            keys.push(("model.decoder_depth", decoder.depth.to_string()));
            let heads = decoder.num_heads;
            keys.extend(heads.map(|heads| ("model.decoder_num_heads", heads.to_string())));
            let has_token = decoder.encoder_mask_token;
            keys.extend(has_token.then(|| ("model.encoder_mask_token", "true".to_owned())));
        }
        keys
    }
}

fn shape<const N: usize>(
    tensors: &BTreeMap<String, HostTensor>,
    name: &str,
) -> Result<[usize; N], String> {
    let tensor = tensors
        .get(name)
        .ok_or_else(|| format!("the network is not a Vision Transformer: `{name}` is missing"))?;
    <[usize; N]>::try_from(&tensor.shape[..])
        .map_err(|_| format!("`{name}` has the shape {:?}, expected {N} dimensions", tensor.shape))
}

/// Returns the number of blocks. Their tensor names start with `prefix`, such as `blocks.`.
fn blocks(tensors: &BTreeMap<String, HostTensor>, prefix: &str) -> usize {
    let index = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    tensors.keys().filter_map(index).max().map_or(0, |last| last.saturating_add(1))
}

/// Returns the number of patch rows and columns.
///
/// Uses the image size in `settings` if it fits the number of patches. Otherwise, the grid must be square. Returns
/// `None` if neither fits.
fn grid(
    pos_embed: Option<&HostTensor>,
    settings: &Settings,
    patch_size: usize,
) -> Option<ImageSize> {
    let patches = match pos_embed?.shape[..] {
        [1, tokens, _] if tokens > 1 => tokens - 1,
        _ => return None,
    };
    let stated = settings.input_size.map(|size| size.in_squares_of(patch_size));
    let square = ImageSize::square(patches.isqrt());
    stated.into_iter().chain([square]).find(|grid| grid.area() == patches)
}

fn decoder(
    tensors: &BTreeMap<String, HostTensor>,
    settings: &Settings,
) -> Result<Option<DecoderFacts>, String> {
    if !tensors.contains_key("decoder_embed.weight") {
        return Ok(None);
    }
    let (embed_dim, depth) =
        (shape::<2>(tensors, "decoder_embed.weight")?[0], blocks(tensors, "decoder_blocks."));
    let mlp_dim = match depth {
        0 => return Err("`decoder_blocks.0` is missing".to_owned()),
        _ => shape::<2>(tensors, "decoder_blocks.0.mlp.fc1.weight")?[0],
    };

    Ok(Some(DecoderFacts {
        embed_dim,
        depth,
        mlp_dim,
        num_heads: settings.decoder_num_heads,
        encoder_mask_token: tensors.contains_key("encoder_mask_token"),
    }))
}

fn head(tensors: &BTreeMap<String, HostTensor>) -> Result<Head, String> {
    let global_pool = tensors.contains_key("fc_norm.weight");
    Ok(if tensors.contains_key("head.weight") {
        Head::Linear { classes: shape::<2>(tensors, "head.weight")?[0], global_pool }
    } else if tensors.contains_key("head.1.weight") {
        Head::Probe { classes: shape::<2>(tensors, "head.1.weight")?[0], global_pool }
    } else {
        Head::Absent
    })
}

/// Returns the number of attention heads of the standard ViT with this width; `None` for other widths.
pub fn usual_heads(embed_dim: usize) -> Option<usize> {
    let usual = [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16)];
    usual.iter().find(|(width, _)| *width == embed_dim).map(|(_, heads)| *heads)
}

/// Returns 16, the number of attention heads of the official decoder; `None` if the width is not 512.
pub(super) fn usual_decoder_heads(embed_dim: usize) -> Option<usize> {
    (embed_dim == 512).then_some(16)
}
