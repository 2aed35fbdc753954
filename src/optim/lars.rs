//! LARS as in the official linear probe: SGD with momentum and a trust ratio.

use super::groups::ParamGroup;
use burn::tensor::Tensor;

/// Trust coefficient of LARS in the official code.
pub const TRUST_COEFFICIENT: f64 = 0.001;

/// Returns values and momentum of a parameter after one LARS update.
///
/// For a matrix, weight decay is added to the gradient, and the sum is multiplied by the trust ratio. The trust ratio
/// is `0.001 |parameter| / |sum|`, or 1 if one of these norms is zero. 1-D parameters have no weight decay and no trust
/// ratio.
pub(super) fn step(
    lr: f64,
    momentum: f64,
    group: ParamGroup,
    param: Tensor<1>,
    grad: Tensor<1>,
    state: Option<Tensor<1>>,
) -> (Tensor<1>, Tensor<1>) {
    let mut update = grad;
    if group.matrix {
        update = update + param.clone() * group.weight_decay;
        let norm = |t: &Tensor<1>| t.clone().square().sum().sqrt();
        let (param_norm, update_norm) = (norm(&param), norm(&update));
        let usable = (param_norm.clone() * update_norm.clone()).greater_scalar(0.0);
        let ratio = param_norm * TRUST_COEFFICIENT / update_norm;
        update = update * ratio.ones_like().mask_where(usable, ratio);
    }
    let velocity = match state {
        Some(velocity) => velocity * momentum + update,
        None => update,
    };
    (param - velocity.clone() * lr, velocity)
}
