//! Vision Transformers of other libraries: read where the network is the same, refused with the part that differs.

#![expect(clippy::unwrap_used, reason = "a file that cannot be written is a failed test")]

use super::program::{Bench, TINY};
use mae::checkpoint::{self, HostTensor, TensorFile};
use std::collections::BTreeMap;
use std::path::Path;

type Tensors = BTreeMap<String, HostTensor>;

fn tensors(name: &str) -> Tensors {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints");
    checkpoint::open(&folder.join(name), None).unwrap().file.tensors
}

/// A classifier of timm that reads the class token: width 16, two blocks, five classes.
fn classifier() -> Tensors {
    tensors("timm-token/model.safetensors")
}

fn ones(shape: &[usize]) -> HostTensor {
    HostTensor { shape: shape.to_vec(), values: vec![1.0; shape.iter().product()] }
}

/// Renames by pairs of beginnings; `{}` in a pair is the index of a block.
fn renamed(tensors: &Tensors, pairs: &[(&str, &str)]) -> Tensors {
    let rename = |name: &str| {
        for (old, new) in pairs {
            let (before, after) = old.split_once("{}").unwrap_or((old, ""));
            let Some(rest) = name.strip_prefix(before) else { continue };
            let index = if old.contains("{}") { rest.split('.').next().unwrap() } else { "" };
            if let Some(rest) = rest[index.len()..].strip_prefix(after) {
                return format!("{}{rest}", new.replace("{}", index));
            }
        }
        name.to_owned()
    };
    tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

const TORCHVISION: [(&str, &str); 11] = [
    ("cls_token", "class_token"),
    ("pos_embed", "encoder.pos_embedding"),
    ("patch_embed.proj", "conv_proj"),
    ("norm.", "encoder.ln."),
    ("head.", "heads.head."),
    ("blocks.{}.norm1", "encoder.layers.encoder_layer_{}.ln_1"),
    ("blocks.{}.norm2", "encoder.layers.encoder_layer_{}.ln_2"),
    ("blocks.{}.attn.qkv.", "encoder.layers.encoder_layer_{}.self_attention.in_proj_"),
    ("blocks.{}.attn.proj", "encoder.layers.encoder_layer_{}.self_attention.out_proj"),
    ("blocks.{}.mlp.fc1", "encoder.layers.encoder_layer_{}.mlp.0"),
    ("blocks.{}.mlp.fc2", "encoder.layers.encoder_layer_{}.mlp.3"),
];

const MMPRETRAIN: [(&str, &str); 18] = [
    ("cls_token", "backbone.cls_token"),
    ("pos_embed", "backbone.pos_embed"),
    ("patch_embed.proj", "backbone.patch_embed.projection"),
    ("norm.", "backbone.ln1."),
    ("fc_norm.", "backbone.ln2."),
    ("head.", "head.fc."),
    ("blocks.{}.norm1", "backbone.layers.{}.ln1"),
    ("blocks.{}.norm2", "backbone.layers.{}.ln2"),
    ("blocks.{}.mlp.fc1", "backbone.layers.{}.ffn.layers.0.0"),
    ("blocks.{}.mlp.fc2", "backbone.layers.{}.ffn.layers.1"),
    ("blocks.{}.", "backbone.layers.{}."),
    ("decoder_blocks.{}.norm1", "neck.decoder_blocks.{}.ln1"),
    ("decoder_blocks.{}.norm2", "neck.decoder_blocks.{}.ln2"),
    ("decoder_blocks.{}.mlp.fc1", "neck.decoder_blocks.{}.ffn.layers.0.0"),
    ("decoder_blocks.{}.mlp.fc2", "neck.decoder_blocks.{}.ffn.layers.1"),
    ("decoder_norm", "neck.ln1"),
    ("decoder_", "neck.decoder_"),
    ("mask_token", "neck.mask_token"),
];

struct Files(Bench);

impl Files {
    fn open(&self, tensors: Tensors) -> Result<checkpoint::Opened, String> {
        let path = self.0.path("x.safetensors");
        TensorFile { tensors, note: String::new() }.write(&path).unwrap();
        checkpoint::open(&path, None).map_err(|error| error.to_string())
    }

    /// Reads tensors, which must be `expected` under the official names. Returns the notes.
    fn reads(&self, tensors: Tensors, expected: &Tensors) -> String {
        let opened = self.open(tensors).unwrap_or_else(|error| panic!("{error}"));
        assert!(opened.file.tensors == *expected, "{:?}", opened.file.tensors.keys());
        opened.notes.join("\n")
    }

    fn refuses(&self, tensors: Tensors, expected: &str) {
        let error = self.open(tensors).err().unwrap_or_else(|| panic!("{expected}: it is read"));
        assert!(
            error.starts_with("cannot use ") && error.contains(expected),
            "{expected}: {error}"
        );
    }
}

fn files() -> Files {
    Files(Bench::new(TINY))
}

#[test]
fn the_names_of_torchvision_and_mmpretrain_become_the_official_ones() {
    let files = files();
    let plain = classifier();
    assert_eq!(files.reads(renamed(&plain, &TORCHVISION), &plain), "");
    assert_eq!(files.reads(renamed(&plain, &MMPRETRAIN), &plain), "");
    let average = tensors("timm-avg/model.safetensors");
    assert_eq!(files.reads(renamed(&average, &MMPRETRAIN), &average), "");
    let mae = tensors("torch-mae/legacy.pth");
    let wrapped: Tensors = renamed(&mae, &MMPRETRAIN)
        .into_iter()
        .map(|(name, tensor)| (format!("module.{name}"), tensor))
        .collect();
    assert_eq!(
        files.reads(wrapped, &mae),
        "mae reads the weights from the tensors with the prefix `module.`"
    );
    // The neck of a segmentation network is left out as a whole, and that is said.
    let encoder = encoder();
    let mut segmentation = renamed(&encoder, &MMPRETRAIN);
    segmentation.insert("neck.fpn.weight".to_owned(), ones(&[3]));
    segmentation.insert("neck.mask_token".to_owned(), ones(&[1, 1, 8]));
    let notes = files.reads(segmentation, &encoder);
    assert!(
        notes
            .contains("mae does not support this head or decoder and ignores its tensors: `neck.`"),
        "{notes}"
    );
}

fn encoder() -> Tensors {
    classifier().into_iter().filter(|(name, _)| !name.starts_with("head.")).collect()
}

#[test]
fn a_projection_head_is_left_out() {
    let mut tensors = encoder();
    for (name, shape) in [
        ("head.0.weight", &[8, 16][..]),
        ("head.1.weight", &[8]),
        ("head.1.running_mean", &[8]),
        ("head.last_layer.weight_g", &[4, 1]),
        ("mask_token", &[1, 16]),
    ] {
        tensors.insert(name.to_owned(), ones(shape));
    }
    let notes = files().reads(tensors, &encoder());
    assert!(
        notes
            .contains("mae does not support this head or decoder and ignores its tensors: `head.`"),
        "{notes}"
    );
}

#[test]
fn missing_query_and_key_biases_are_zero() {
    let plain = classifier();
    let mut beit: Tensors =
        plain.clone().into_iter().filter(|(name, _)| !name.ends_with("qkv.bias")).collect();
    let mut expected = plain.clone();
    for block in 0..2 {
        let name = format!("blocks.{block}.attn.qkv.bias");
        let bias = expected.get_mut(&name).unwrap();
        bias.values[16..32].fill(0.0);
        let third = |at: usize| HostTensor {
            shape: vec![16],
            values: bias.values[16 * at..16 * at + 16].to_vec(),
        };
        beit.insert(format!("blocks.{block}.attn.q_bias"), third(0));
        beit.insert(format!("blocks.{block}.attn.v_bias"), third(2));
    }
    let files = files();
    assert_eq!(
        files.reads(beit.clone(), &expected),
        "the attention keys have no bias, so mae uses zeros as their bias"
    );
    beit.retain(|name, _| !name.ends_with("q_bias") && !name.ends_with("v_bias"));
    for block in 0..2 {
        expected.insert(
            format!("blocks.{block}.attn.qkv.bias"),
            HostTensor { shape: vec![48], values: vec![0.0; 48] },
        );
    }
    assert_eq!(
        files.reads(beit, &expected),
        "`attn.qkv` has no bias, so mae uses zeros as its bias"
    );
}

#[test]
fn parts_that_the_model_does_not_have_are_named() {
    let (files, plain) = (files(), classifier());
    for (name, shape, expected) in [
        ("blocks.0.ls1.gamma", &[16][..], "LayerScale (`blocks.0.ls1.gamma`)"),
        ("blocks.0.gamma_1", &[16], "LayerScale"),
        ("register_tokens", &[1, 4, 16], "register tokens (`register_tokens`)"),
        ("reg_token", &[1, 4, 16], "register tokens"),
        ("blocks.0.mlp.w12.weight", &[64, 16], "a gated MLP (SwiGLU) (`blocks.0.mlp.w12.weight`)"),
        ("dist_token", &[1, 1, 16], "a distillation token"),
        ("blocks.0.attn.relative_position_bias_table", &[9, 2], "relative position biases"),
        ("blocks.0.attn.q_norm.weight", &[8], "normalized queries and keys"),
        ("norm_pre.weight", &[16], "a norm before the first block"),
        ("pre_logits.fc.weight", &[16, 16], "a pre_logits layer before the head"),
        ("blocks.0.attn.qkv.lora_A.weight", &[2, 16], "LoRA adapters"),
    ] {
        let mut tensors = plain.clone();
        tensors.insert(name.to_owned(), ones(shape));
        files.refuses(tensors, expected);
    }
    let without = |name: &str| -> Tensors {
        plain.clone().into_iter().filter(|(key, _)| key != name).collect()
    };
    files.refuses(without("cls_token"), "the class token (`cls_token`) is missing");
    let mut tensors = plain.clone();
    tensors.insert("pos_embed".to_owned(), ones(&[1, 4, 16]));
    files.refuses(tensors, "`pos_embed` has no entry for the class token");
    let mut tensors = plain.clone();
    for block in 0..2 {
        tensors.insert(format!("blocks.{block}.mlp.fc2.weight"), ones(&[16, 16]));
    }
    files.refuses(
        tensors,
        "mae does not support a gated MLP (`blocks.0.mlp.fc1` has 32 outputs, but `fc2` has 16 inputs)",
    );
    let mut tensors = renamed(&plain, &MMPRETRAIN);
    tensors.insert("backbone.layers.0.ffn.gamma2.weight".to_owned(), ones(&[16]));
    files.refuses(tensors, "LayerScale");
    let mut tensors = renamed(&plain, &TORCHVISION);
    tensors.insert("heads.pre_logits.weight".to_owned(), ones(&[16, 16]));
    files.refuses(tensors, "pre_logits");
}

#[test]
fn a_bare_classifier_that_does_not_state_its_pooling_is_a_warning() {
    let files = files();
    let bench = &files.0;
    image::RgbImage::from_pixel(9, 9, image::Rgb([9, 99, 199])).save(bench.path("a.png")).unwrap();
    let predict = |more: &[&str]| {
        let args = ["predict", "x.safetensors", "a.png", "--set", "model.num_heads=2"];
        let output = bench.mae(&[&args, more].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    files.open(classifier()).unwrap();
    let (code, stderr) = predict(&[]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains("does not store whether the head reads"), "{stderr}");
    assert_eq!(predict(&["--set", "finetune.global_pool=false"]), (Some(0), String::new()));
    let (code, stderr) = predict(&["--set", "finetune.global_pool=true"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("averages the patch tokens after the last norm"), "{stderr}");
    // Where the names or the tensors say it, there is no warning.
    for tensors in [renamed(&classifier(), &TORCHVISION), tensors("timm-avg/model.safetensors")] {
        files.open(tensors).unwrap();
        assert_eq!(predict(&[]), (Some(0), String::new()));
    }
}
