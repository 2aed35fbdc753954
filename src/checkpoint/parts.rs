//! Recognizes parts of networks that this program does not support, such as `LayerScale`.

use super::error::listed;

/// The name of an unsupported network part, and a function that recognizes its tensor names.
type Rule = (&'static str, fn(&str) -> bool);

const RULES: [Rule; 17] = [
    ("LayerScale", |s| {
        ["ls1", "ls2", "gamma", "layer_scale", "layerscale"].contains(&s)
            || ["gamma_", "lambda_", "layer_scale", "lambda1"].iter().any(|w| s.starts_with(w))
            || ["gamma1", "gamma2"].contains(&s)
    }),
    ("register tokens", |s| {
        ["register_token", "reg_token", "storage_token"].iter().any(|w| s.starts_with(w))
    }),
    ("a gated MLP (SwiGLU)", |s| {
        ["w12", "w3", "weights_in", "weights_out", "fc1_g", "gate_proj", "up_proj"].contains(&s)
    }),
    ("a distillation token", |s| {
        ["dist_token", "distillation_token", "head_dist", "distillation_classifier"].contains(&s)
    }),
    ("relative position biases", |s| s.contains("relative_position") || s.contains("rel_pos")),
    ("normalized queries and keys", |s| ["q_norm", "k_norm", "q_ln", "k_ln"].contains(&s)),
    ("a norm before the first block", |s| {
        ["norm_pre", "pre_norm", "ln_pre", "pre_layrnorm", "pre_layernorm"].contains(&s)
    }),
    ("attention pooling", |s| ["attn_pool", "attnpool", "attention_pool"].contains(&s)),
    ("a pre_logits layer before the head", |s| s == "pre_logits"),
    ("rotary position embeddings", |s| {
        s.starts_with("rope") || s.starts_with("rotary") || s.starts_with("freqs")
    }),
    ("unmerged LoRA adapters", |s| s.starts_with("lora_")),
    ("parametrized weights", |s| {
        ["parametrizations", "weight_g", "weight_v", "weight_orig"].contains(&s)
    }),
    ("sharded flat parameters of FSDP", |s| s == "flat_param" || s.starts_with("_flat_param")),
    ("stages of different widths", |s| s == "stages" || s == "downsample"),
    ("a convolutional stem", |s| s.starts_with("conv_bn_relu") || s == "conv_last"),
    ("a mixture of experts", |s| s == "experts"),
    ("quantized weights", |s| {
        ["_packed_params", "qweight", "qzeros", "weight_scale", "absmax"].contains(&s)
    }),
];

/// Maximum number of network parts that a message lists.
const LISTED: usize = 3;

/// Lists unsupported network parts, each with an example tensor name.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for name in names {
        let part = RULES.iter().find(|(_, shows)| name.split('.').any(shows));
        if let Some((part, _)) = part.filter(|(part, _)| found.iter().all(|(f, _)| f != part)) {
            found.push((part, name));
        }
    }
    let parts: Vec<String> =
        found.iter().map(|(part, name)| format!("{part} (`{name}`)")).collect();
    listed(&parts, LISTED)
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn parts_are_named_with_their_first_tensor() {
        let names =
            ["blocks.0.norm1.weight", "blocks.0.ls1.gamma", "blocks.1.ls1.gamma", "reg_token"];
        assert_eq!(
            list(names.into_iter()),
            "LayerScale (`blocks.0.ls1.gamma`), register tokens (`reg_token`)"
        );
        assert_eq!(list(["blocks.0.attn.qkv.weight"].into_iter()), "");
    }
}
