//! Writes checkpoints for other programs: safetensors with the names of timm, and Hugging Face folders.
//!
//! Files with the official names need no conversion. [`TensorFile::write`] and `torch_file` write such files.

use super::facts::Head;
use super::{CheckpointError, Facts, HostTensor, MaePart, TensorFile, huggingface};
use crate::durable;
use crate::shape::ImageSize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The settings that a converted checkpoint needs in addition to the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportSettings {
    pub num_heads: usize,
    pub decoder_num_heads: usize,
    pub input_size: ImageSize,
    /// Length of the shorter image side after resizing for evaluation, in pixels.
    pub eval_short_side: usize,
    pub norm_eps: f64,
    pub mask_ratio: f64,
    pub norm_pix_loss: bool,
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Readable class names in label order; empty if unknown.
    pub class_names: Vec<String>,
}

/// Writes a safetensors file with timm's tensor names. Leaves out the decoder.
///
/// Returns the number of decoder tensors. Fails for linear probes, because timm does not support their `BatchNorm`.
pub fn write_timm(file: &TensorFile, facts: &Facts, out: &Path) -> Result<usize, CheckpointError> {
    if let Head::Probe { .. } = facts.head {
        return Err(no_form(
            out,
            "timm does not support the BatchNorm before the head of a linear probe",
        ));
    }
    let tensors: BTreeMap<String, HostTensor> = file
        .tensors
        .iter()
        .filter(|(name, _)| !MaePart::Decoder.has(name))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let left_out = file.tensors.len() - tensors.len();
    TensorFile { tensors, note: String::new() }.write(out)?;
    Ok(left_out)
}

/// Writes a Hugging Face folder for `ViTMAEForPreTraining` or `ViTForImageClassification`.
///
/// Fails for networks that these classes do not support: average pooling, linear probes, mask tokens in the encoder, or
/// neither decoder nor head.
pub fn write_huggingface(
    file: &TensorFile,
    facts: &Facts,
    settings: &ExportSettings,
    out: &Path,
) -> Result<(), CheckpointError> {
    let config = match (&facts.decoder, facts.head) {
        (Some(decoder), _) if decoder.encoder_mask_token => {
            return Err(no_form(
                out,
                "the encoder of this network reads mask tokens, but Hugging Face's ViTMAE has mask tokens only in the decoder",
            ));
        }
        (Some(_), _) => mae_config(facts, settings),
        (None, Head::Linear { global_pool: false, classes }) => {
            classifier_config(facts, settings, classes)
        }
        (None, Head::Linear { global_pool: true, .. }) => {
            return Err(no_form(
                out,
                "the Hugging Face ViT does not support a classification head that reads the mean of the patch tokens (`global_pool`)",
            ));
        }
        (None, Head::Probe { .. }) => {
            return Err(no_form(
                out,
                "the Hugging Face ViT does not support the BatchNorm before the head of a linear probe",
            ));
        }
        (None, Head::Absent) => {
            return Err(no_form(
                out,
                "the checkpoint contains only an encoder, but this format needs a decoder or a classification head",
            ));
        }
    };
    let weights =
        TensorFile { tensors: huggingface::from_official(&file.tensors), note: String::new() };
    let text = |value: &Value| serde_json::to_vec_pretty(value).expect("strings and numbers");
    durable::publish_folder(out, |folder| {
        // transformers requires `format: pt` in the header.
        durable::write(&folder.join("model.safetensors"), &weights.to_bytes_as("format", "pt"))?;
        durable::write(&folder.join("config.json"), &text(&config))?;
        durable::write(&folder.join("preprocessor_config.json"), &text(&preprocessor(settings)))
    })
    .map_err(|source| CheckpointError::Write { path: out.into(), source })
}

fn no_form(out: &Path, problem: &str) -> CheckpointError {
    CheckpointError::NoSuchForm {
        path: out.to_owned(),
        problem: problem.to_owned(),
        hint: "use `--to official` or `--to mae`: both formats can store every checkpoint"
            .to_owned(),
    }
}

fn shared_config(facts: &Facts, settings: &ExportSettings) -> Value {
    json!({
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": facts.embed_dim,
        "image_size": settings.input_size,
        "initializer_range": 0.02,
        "intermediate_size": facts.mlp_dim,
        "layer_norm_eps": settings.norm_eps,
        "num_attention_heads": settings.num_heads,
        "num_channels": facts.in_chans,
        "num_hidden_layers": facts.depth,
        "patch_size": facts.patch_size,
        "qkv_bias": true,
    })
}

fn mae_config(facts: &Facts, settings: &ExportSettings) -> Value {
    let mut config = shared_config(facts, settings);
    if let Some(decoder) = &facts.decoder {
        config["decoder_hidden_size"] = json!(decoder.embed_dim);
        config["decoder_intermediate_size"] = json!(decoder.mlp_dim);
        config["decoder_num_attention_heads"] = json!(settings.decoder_num_heads);
        config["decoder_num_hidden_layers"] = json!(decoder.depth);
    }
    config["architectures"] = json!(["ViTMAEForPreTraining"]);
    config["model_type"] = json!("vit_mae");
    config["mask_ratio"] = json!(settings.mask_ratio);
    config["norm_pix_loss"] = json!(settings.norm_pix_loss);
    config
}

fn classifier_config(facts: &Facts, settings: &ExportSettings, classes: usize) -> Value {
    let mut config = shared_config(facts, settings);
    let name = |i: usize| match settings.class_names.get(i) {
        Some(name) => name.clone(),
        None => format!("LABEL_{i}"),
    };
    let labels = (0..classes).map(|i| (i.to_string(), json!(name(i))));
    config["id2label"] = Value::Object(labels.collect());
    // If two classes have the same name, `label2id` has the label of the first class.
    let mut ids = serde_json::Map::new();
    for i in 0..classes {
        ids.entry(name(i)).or_insert(json!(i));
    }
    config["label2id"] = Value::Object(ids);
    config["architectures"] = json!(["ViTForImageClassification"]);
    config["model_type"] = json!("vit");
    config["encoder_stride"] = json!(facts.patch_size);
    config
}

/// Converts float32 to float64 through the shortest decimal text, so that 0.485 stays 0.485.
fn shortest(values: &[f32]) -> Vec<f64> {
    values.iter().filter_map(|value| value.to_string().parse().ok()).collect()
}

/// Returns the `preprocessor_config.json` that corresponds to the evaluation transform.
fn preprocessor(settings: &ExportSettings) -> Value {
    let ImageSize { height, width } = settings.input_size;
    json!({
        "crop_size": { "height": height, "width": width },
        "do_center_crop": true,
        "do_convert_rgb": settings.mean.len() == 3,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": shortest(&settings.mean),
        "image_processor_type": "BitImageProcessor",
        "image_std": shortest(&settings.std),
        "resample": 3, // bicubic
        "rescale_factor": 1.0 / 255.0,
        "size": { "shortest_edge": settings.eval_short_side },
    })
}
