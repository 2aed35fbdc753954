//! Builds the networks of a case. The dimensions are in `case.json`, and the weights are tensors of the case.

use super::case::{Case, VerifyError};
use super::report::TensorComparison;
use super::tolerances::Tolerances;
use crate::model;
use crate::shape::{self, DecoderDims, EncoderDims, ImageSize, Precision};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

pub(super) fn encoder(case: &Case, precision: Precision) -> Result<EncoderDims, VerifyError> {
    let m = case.inner("model")?;
    let dims = EncoderDims {
        input_size: m.count("input_size")?.into(),
        patch_size: m.count("patch_size")?,
        in_chans: image_shape(case)?[0],
        embed_dim: m.count("embed_dim")?,
        depth: m.count("depth")?,
        num_heads: m.count("num_heads")?,
        mlp_dim: shape::mlp_dim(m.count("embed_dim")?, m.number("mlp_ratio")?),
        norm_eps: 1e-6,
        precision,
    };
    let whole = |a: usize, b: usize| b > 0 && a > 0 && a.is_multiple_of(b);
    if !whole(dims.input_size.height, dims.patch_size) || !whole(dims.embed_dim, dims.num_heads) {
        return Err(case.error(
            "`model`: `input_size` must be a multiple of `patch_size`, and `embed_dim` must be a multiple of `num_heads`",
        ));
    }
    // Do not build a network much larger than the tensors. Cases whose weights are in checkpoint files are exempt.
    let parameters = 12.0 * dims.depth as f64 * (dims.embed_dim as f64).powi(2);
    if case.has("weights.cls_token") && parameters > 8.0 * case.elements() as f64 {
        return Err(case.error(
            "`model` describes a network that is much larger than the tensors of the case",
        ));
    }
    Ok(dims)
}

pub(super) fn decoder(case: &Case) -> Result<DecoderDims, VerifyError> {
    let m = case.inner("model")?;
    let dims = DecoderDims {
        encoder_mask_token: m.get("encoder_mask_token").is_some()
            && m.flag("encoder_mask_token")?,
        embed_dim: m.count("decoder_embed_dim")?,
        depth: m.count("decoder_depth")?,
        num_heads: m.count("decoder_num_heads")?,
        mlp_dim: shape::mlp_dim(m.count("decoder_embed_dim")?, m.number("mlp_ratio")?),
    };
    if dims.num_heads == 0 || !dims.embed_dim.is_multiple_of(dims.num_heads) {
        return Err(
            case.error("`model`: `decoder_embed_dim` must be a multiple of `decoder_num_heads`")
        );
    }
    Ok(dims)
}

/// Returns the size `[C, H, W]` of the tensor `imgs`.
fn image_shape(case: &Case) -> Result<[usize; 3], VerifyError> {
    match (case.shape::<4>("imgs"), case.shape::<5>("imgs")) {
        (Ok([_, c, h, w]), _) | (_, Ok([_, _, c, h, w])) => Ok([c, h, w]),
        (Err(error), _) => Err(error),
    }
}

/// Returns the tensor name of a parameter in a case, such as `weights.cls_token`.
#[expect(clippy::unnecessary_wraps, reason = "`weighted` takes it as `name_of`")]
pub(super) fn weights(name: &str) -> Option<String> {
    Some(format!("weights.{name}"))
}

/// Loads the weights of the case into `module`.
///
/// `name_of` returns the tensor name of a parameter. If it returns `None`, the parameter keeps its value.
///
/// Fails if a tensor is missing or has the wrong shape. Fixed position embeddings may be missing.
pub(super) fn weighted<M: Module>(
    case: &Case,
    module: M,
    name_of: impl Fn(&str) -> Option<String>,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<M, VerifyError> {
    for param in model::named(&module) {
        let Some(name) = name_of(&param.name) else { continue };
        let fixed = param.name.ends_with("pos_embed") && !param.trained;
        if fixed && !case.has(&name) {
            continue;
        }
        if !case.has_shape(&name, &param.shape) {
            let problem =
                format!("`{name}` is missing, or does not have the shape {:?}", param.shape);
            return Err(case.error(problem));
        }
        let values = case.floats(&name)?;
        if fixed {
            out.absolute(&name, &vector(param.values), &values, tolerances.pos_embed);
        }
    }
    Ok(model::apply(module, |name, _, old| {
        let values = case.floats(&name_of(name)?).ok()?; // an optional fixed table
        let len = values.len();
        Some(Tensor::from_data(TensorData::new(values, [len]), &old.device()))
    }))
}

/// Returns batch `index` of the tensor `imgs`, `[N, C, H, W]`.
///
/// Fails if the image size differs from `dims`.
pub(super) fn images(
    case: &Case,
    dims: &EncoderDims,
    index: usize,
    device: &Device,
) -> Result<Tensor<4>, VerifyError> {
    let (steps, [n, c, h, w]) = match case.shape::<5>("imgs") {
        Ok([steps, n, c, h, w]) => (steps, [n, c, h, w]),
        Err(_) => (1, case.shape::<4>("imgs")?),
    };
    if n == 0 || c == 0 {
        return Err(case.error("`imgs` has no images"));
    }
    if index >= steps || (ImageSize { height: h, width: w }) != dims.input_size {
        return Err(case.error(format!(
            "`imgs` has {steps} batches of {h}x{w} pixels, expected more than {index} batches of {0}x{0} pixels",
            dims.input_size
        )));
    }
    let one = case.floats("imgs")?[index * n * c * h * w..][..n * c * h * w].to_vec();
    Ok(Tensor::from_data(TensorData::new(one, [n, c, h, w]), device))
}

/// Copies the values of a tensor from the device, flattened.
pub(super) fn vector<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("floats are read back as f32")
}

/// Copies a number from the device.
pub(super) fn scalar(tensor: Tensor<1>) -> f64 {
    vector(tensor).first().map_or(f64::NAN, |v| f64::from(*v))
}
