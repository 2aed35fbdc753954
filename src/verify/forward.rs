//! Case `mae_forward`: masks, latent, prediction, loss, targets, and all gradients.

use super::case::{Case, VerifyError};
use super::networks::{self, vector};
use super::report::TensorComparison;
use super::tolerances::Tolerances;
use crate::model::{self, Mae, Masks};
use crate::shape::{self, EncoderDims, LossPatches, MaeLoss};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub(super) fn run(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let (encoder, decoder) =
        (networks::encoder(case, tolerances.precision)?, networks::decoder(case)?);
    let zeros = Mae::zeros(&encoder, &decoder, device);
    let mae = networks::weighted(case, zeros, networks::weights, tolerances, out)?;
    let (imgs, masks) = inputs(case, &encoder, device)?;
    exact_ids(case, &masks, out)?;
    out.absolute("mask", &masks.mask, &case.floats("mask")?, 0.0);

    let replica = mae.clone().train();
    let output = replica.forward(imgs.clone(), &masks, loss(case)?);
    let pred = output.pred.inner();
    let mut close = |name: &str, got: Vec<f32>| -> Result<(), VerifyError> {
        out.relative(name, &got, &case.floats(name)?, tolerances.forward);
        Ok(())
    };
    close("latent", vector(mae.forward_encoder(imgs.clone(), &masks)))?;
    close("pred", vector(pred.clone()))?;
    close(
        "unpatchified_pred",
        vector(model::unpatchify(pred, encoder.patch_size, encoder.grid())),
    )?;
    let loss = vector(output.loss.clone().inner());
    out.relative("loss", &loss, &case.floats("loss")?, tolerances.loss);
    let patches = vector(model::patchify(imgs, encoder.patch_size));
    out.absolute("target_patches", &patches, &case.floats("target_patches")?, 0.0);
    let mut grads = output.loss.backward();
    let grads = model::grads(&replica, &mut grads);
    for (name, grad) in model::trainable_names(&mae).iter().zip(grads) {
        let name = format!("grads.{name}");
        out.relative(&name, &vector(grad), &case.floats(&name)?, tolerances.gradient);
    }
    Ok(())
}

pub(super) fn loss(case: &Case) -> Result<MaeLoss, VerifyError> {
    let masked = MaeLoss::masked(case.flag("norm_pix_loss")?);
    let patches = match case.get("loss_on").map(|_| case.text("loss_on")).transpose()?.as_deref() {
        None | Some("masked") => LossPatches::Masked,
        Some("all") => LossPatches::All,
        Some(other) => return Err(case.error(format!("unknown `loss_on` {other:?}"))),
    };
    Ok(MaeLoss { patches, ..masked })
}

/// Returns the images `[N, C, H, W]` and the masks of a case with a single step.
pub(super) fn inputs(
    case: &Case,
    encoder: &EncoderDims,
    device: &Device,
) -> Result<(Tensor<4>, Masks), VerifyError> {
    let imgs = networks::images(case, encoder, 0, device)?;
    let masks = masks(case, &case.floats("noise")?, imgs.dims()[0], encoder.num_patches())?;
    Ok((imgs, masks))
}

/// Returns the masks that belong to the recorded `noise`, `[N, L]`.
pub(super) fn masks(
    case: &Case,
    noise: &[f32],
    images: usize,
    patches: usize,
) -> Result<Masks, VerifyError> {
    let mask_ratio = case.number("mask_ratio")?;
    let kept = shape::len_keep(patches, mask_ratio);
    if !(mask_ratio > 0.0 && mask_ratio < 1.0) || kept == 0 || kept >= patches {
        return Err(case.error("`mask_ratio` must keep at least one patch, but not all patches"));
    }
    if noise.len() != images * patches || noise.iter().any(|v| !v.is_finite()) {
        return Err(case.error("`noise` must have one finite number for each patch of `imgs`"));
    }
    Ok(Masks::from_noise(noise, patches, mask_ratio))
}

pub(super) fn exact_ids(
    case: &Case,
    masks: &Masks,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let expected: Vec<f64> = case.ints("ids_restore")?.into_iter().map(|id| id as f64).collect();
    let got: Vec<f64> = masks.ids_restore.iter().map(|id| f64::from(*id)).collect();
    out.absolute("ids_restore", &got, &expected, 0.0);
    Ok(())
}
