//! The tensor names of a Vision Transformer in several libraries, and their conversion to the official names.

use super::huggingface;

/// The library that defines the tensor names of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The official MAE code, timm, `DeiT`, DINO and `MoCo` v3.
    Official,
    HuggingFace,
    /// mmpretrain, mmcls and mmselfsup.
    MmPretrain,
    Torchvision,
}

/// The official name of a tensor from another library.
#[derive(Debug, PartialEq)]
pub(super) enum Named {
    As(String),
    /// A query (0), key (1) or value (2) tensor. The string is the official name of the joined `qkv` tensor.
    Part(String, usize),
    /// A tensor that the network does not need.
    LeftOut,
    /// A tensor that a Vision Transformer does not have.
    Unknown,
}

/// Parts of tensor names that wrappers such as DDP, FSDP and `torch.compile` insert.
const WRAPPERS: [&str; 6] = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_fpw_module",
    "_forward_module",
];

pub(super) fn is_wrapper(segment: &str) -> bool {
    WRAPPERS.contains(&segment)
}

impl Dialect {
    pub(super) const ALL: [Self; 4] =
        [Self::Official, Self::HuggingFace, Self::MmPretrain, Self::Torchvision];

    /// Returns the name of the patch projection weight, split at dots. Each network has exactly one such weight.
    pub(super) fn anchor(self) -> &'static [&'static str] {
        match self {
            Self::Official => &["patch_embed", "proj", "weight"],
            Self::HuggingFace => &["embeddings", "patch_embeddings", "projection", "weight"],
            Self::MmPretrain => &["patch_embed", "projection", "weight"],
            Self::Torchvision => &["conv_proj", "weight"],
        }
    }

    /// Returns possible names of the encoder module, such as `vit` or `backbone`.
    ///
    /// Only checkpoints that also have a head or decoder module use these names.
    pub(super) fn encoder_modules(self) -> &'static [&'static str] {
        match self {
            Self::HuggingFace => &huggingface::BASES,
            Self::MmPretrain => &["backbone"],
            _ => &[],
        }
    }

    /// Returns possible names of the head or decoder module, such as `classifier`.
    pub(super) fn siblings(self) -> &'static [&'static str] {
        match self {
            Self::HuggingFace => {
                &["decoder", "classifier", "distillation_classifier", "cls_classifier"]
            }
            Self::MmPretrain => &["neck", "head"],
            _ => &[],
        }
    }

    /// Returns the library's name for messages.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Official => "the official code and timm",
            Self::HuggingFace => "Hugging Face",
            Self::MmPretrain => "mmpretrain",
            Self::Torchvision => "torchvision",
        }
    }

    /// Converts a tensor name to the official name.
    ///
    /// `name` must not contain the prefix of the network or parts like `module`.
    pub(super) fn rename(self, name: &str) -> Named {
        match self {
            Self::Official => official(name),
            Self::HuggingFace => huggingface::official_name(name),
            Self::MmPretrain => mmpretrain(name),
            Self::Torchvision => torchvision(name),
        }
    }

    /// Returns whether a Vision Transformer has a tensor with the name `name` in this library.
    pub(super) fn knows(self, name: &str) -> bool {
        match self.rename(name) {
            Named::As(official) => is_official(&official),
            Named::Part(..) => true,
            Named::LeftOut | Named::Unknown => false,
        }
    }
}

/// Returns whether `name` is an official tensor name that this program supports.
pub(super) fn is_official(name: &str) -> bool {
    const OUTER: [&str; 5] = ["cls_token", "pos_embed", "mask_token", "decoder_pos_embed", ""];
    const LAYERS: [&str; 9] = [
        "patch_embed.proj",
        "norm",
        "fc_norm",
        "head",
        "head.1",
        "decoder_embed",
        "decoder_norm",
        "decoder_pred",
        "head.0",
    ];
    const INNER: [&str; 6] = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"];
    if OUTER.contains(&name) {
        return !name.is_empty();
    }
    let Some((layer, ending)) = name.rsplit_once('.') else { return false };
    if layer == "head.0" {
        return ["running_mean", "running_var"].contains(&ending);
    }
    if !["weight", "bias"].contains(&ending) {
        return false;
    }
    let block = layer.strip_prefix("decoder_").unwrap_or(layer).strip_prefix("blocks.");
    match block.and_then(|rest| rest.split_once('.')) {
        Some((index, inner)) => index.parse::<usize>().is_ok() && INNER.contains(&inner),
        None => LAYERS.contains(&layer),
    }
}

fn official(name: &str) -> Named {
    // Paddle's names of the running statistics of BatchNorm.
    let named = match name.rsplit_once('.') {
        Some((layer, "_mean")) => format!("{layer}.running_mean"),
        Some((layer, "_variance")) => format!("{layer}.running_var"),
        // BEiT and similar networks have no bias for the keys.
        Some((attn, "q_bias")) => return Named::Part(format!("{attn}.qkv.bias"), 0),
        Some((attn, "k_bias")) => return Named::Part(format!("{attn}.qkv.bias"), 1),
        Some((attn, "v_bias")) => return Named::Part(format!("{attn}.qkv.bias"), 2),
        _ => name.to_owned(),
    };
    if is_official(&named) { Named::As(named) } else { Named::Unknown }
}

/// Converts the name of a tensor in a block.
///
/// `list` is the official name of the block list, such as `blocks`. `rest` is the block index and the name inside the
/// block. `inner` has pairs (library's layer name, official layer name).
fn in_block(list: &str, rest: &str, inner: &[(&str, &str)]) -> Named {
    let Some((index, rest)) = rest.split_once('.') else { return Named::Unknown };
    let found = inner.iter().find_map(|(theirs, ours)| {
        let ending = rest.strip_prefix(theirs).filter(|ending| ending.starts_with(['.', '_']))?;
        Some(Named::As(format!("{list}.{index}.{ours}.{}", &ending[1..])))
    });
    found.unwrap_or(Named::Unknown)
}

/// Converts the name of a tensor outside of the blocks. `outer` has pairs (library's name, official name).
fn outside(name: &str, outer: &[(&str, &str)]) -> Named {
    let found = outer.iter().find_map(|(theirs, ours)| {
        let ending = name.strip_prefix(theirs).filter(|e| e.is_empty() || e.starts_with('.'))?;
        Some(Named::As(format!("{ours}{ending}")))
    });
    found.unwrap_or(Named::Unknown)
}

fn mmpretrain(name: &str) -> Named {
    const INNER: [(&str, &str); 6] = [
        ("ln1", "norm1"),
        ("ln2", "norm2"),
        ("attn.qkv", "attn.qkv"),
        ("attn.proj", "attn.proj"),
        ("ffn.layers.0.0", "mlp.fc1"),
        ("ffn.layers.1", "mlp.fc2"),
    ];
    const ENCODER: [(&str, &str); 5] = [
        ("cls_token", "cls_token"),
        ("pos_embed", "pos_embed"),
        ("patch_embed.projection", "patch_embed.proj"),
        ("ln1", "norm"),
        ("ln2", "fc_norm"),
    ];
    const OTHERS: [(&str, &str); 8] = [
        ("neck.mask_token", "mask_token"),
        ("neck.decoder_pos_embed", "decoder_pos_embed"),
        ("neck.decoder_embed", "decoder_embed"),
        ("neck.ln1", "decoder_norm"),
        ("neck.decoder_norm", "decoder_norm"),
        ("neck.decoder_pred", "decoder_pred"),
        ("head.layers.head", "head"),
        ("head.fc", "head"),
    ];
    if let Some(rest) = name.strip_prefix("neck.decoder_blocks.") {
        return in_block("decoder_blocks", rest, &INNER);
    }
    let encoder = name.strip_prefix("backbone.").unwrap_or(name);
    match encoder.strip_prefix("layers.") {
        Some(rest) => in_block("blocks", rest, &INNER),
        None => match outside(encoder, &ENCODER) {
            Named::Unknown => outside(name, &OTHERS),
            known => known,
        },
    }
}

fn torchvision(name: &str) -> Named {
    const INNER: [(&str, &str); 8] = [
        ("ln_1", "norm1"),
        ("ln_2", "norm2"),
        ("self_attention.in_proj", "attn.qkv"),
        ("self_attention.out_proj", "attn.proj"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.3", "mlp.fc2"),
        ("mlp.linear_1", "mlp.fc1"),
        ("mlp.linear_2", "mlp.fc2"),
    ];
    const OUTER: [(&str, &str); 5] = [
        ("class_token", "cls_token"),
        ("conv_proj", "patch_embed.proj"),
        ("encoder.pos_embedding", "pos_embed"),
        ("encoder.ln", "norm"),
        ("heads.head", "head"),
    ];
    match name.strip_prefix("encoder.layers.encoder_layer_") {
        Some(rest) => in_block("blocks", rest, &INNER),
        None => outside(name, &OUTER),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Named};

    #[test]
    fn every_library_has_its_names() {
        for (dialect, theirs, ours) in [
            (
                Dialect::Torchvision,
                "encoder.layers.encoder_layer_3.self_attention.in_proj_bias",
                "blocks.3.attn.qkv.bias",
            ),
            (
                Dialect::Torchvision,
                "encoder.layers.encoder_layer_3.mlp.3.weight",
                "blocks.3.mlp.fc2.weight",
            ),
            (Dialect::Torchvision, "class_token", "cls_token"),
            (
                Dialect::MmPretrain,
                "backbone.layers.0.ffn.layers.0.0.weight",
                "blocks.0.mlp.fc1.weight",
            ),
            (Dialect::MmPretrain, "neck.ln1.bias", "decoder_norm.bias"),
            (Dialect::MmPretrain, "ln1.bias", "norm.bias"),
            (Dialect::HuggingFace, "deit.layernorm.bias", "norm.bias"),
            (Dialect::Official, "head.0._mean", "head.0.running_mean"),
        ] {
            assert_eq!(dialect.rename(theirs), Named::As(ours.to_owned()), "{theirs}");
            assert!(dialect.knows(theirs), "{theirs}");
        }
        assert!(!Dialect::Official.knows("blocks.0.ls1.gamma"));
        assert!(!Dialect::Official.knows("layers.0.blocks.0.norm1.weight"));
    }
}
