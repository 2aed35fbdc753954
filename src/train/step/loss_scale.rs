//! Dynamic loss scaling for fp16, as in `torch.amp.GradScaler`.
//!
//! fp16 has no numbers between 0 and 6e-8. So the loss is multiplied by a large factor before the backward pass, and
//! the gradients are divided by this factor afterwards. The factor is a power of two, so it does not change the digits
//! of an fp32 number. If a scaled gradient exceeds the largest fp16 number, the job skips the update and halves the
//! factor.

use crate::model::PartialGrads;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Loss scale of fp16 training: the loss is multiplied by `factor` before the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    pub factor: f64,
    /// Number of updates without an overflow since the last change of `factor`.
    pub good_updates: usize,
}

/// How the loss scale changed after an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScaleChange {
    Kept,
    Doubled,
    Halved,
}

impl LossScale {
    /// After this many consecutive updates without an overflow, the factor is doubled.
    const GROWTH_INTERVAL: usize = 2000;
    /// Smallest factor. A gradient that overflows with this factor would also overflow without scaling.
    const LEAST: f64 = 1.0;

    /// Returns the loss scale before the first update.
    pub(crate) fn start() -> Self {
        Self { factor: 65_536.0, good_updates: 0 }
    }

    /// Returns whether a smaller factor is possible.
    pub(super) fn can_shrink(self) -> bool {
        self.factor > Self::LEAST
    }

    /// Changes the factor after an update. `overflow` is true if a scaled gradient was NaN or infinite.
    pub(super) fn after_update(&mut self, overflow: bool) -> ScaleChange {
        if overflow {
            *self = Self { factor: self.factor / 2.0, good_updates: 0 };
            return ScaleChange::Halved;
        }
        self.good_updates += 1;
        if self.good_updates < Self::GROWTH_INTERVAL {
            return ScaleChange::Kept;
        }
        *self = Self { factor: self.factor * 2.0, good_updates: 0 };
        ScaleChange::Doubled
    }

    /// Divides a loss and its gradients by the factor.
    pub(super) fn unscaled(
        self,
        loss: Tensor<1>,
        grads: PartialGrads,
    ) -> (Tensor<1>, PartialGrads) {
        let share = 1.0 / self.factor;
        let grads = grads.into_iter().map(|(place, grad)| (place, grad.mul_scalar(share)));
        (loss.mul_scalar(share), grads.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{LossScale, ScaleChange};
    use burn::tensor::{Device, Tensor};

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_2000_good_updates() {
        let mut scale = LossScale::start();
        assert_eq!(scale.after_update(true), ScaleChange::Halved);
        assert_eq!(scale, LossScale { factor: 32_768.0, good_updates: 0 });
        for _ in 0..1999 {
            assert_eq!(scale.after_update(false), ScaleChange::Kept);
        }
        assert_eq!(scale.after_update(false), ScaleChange::Doubled);
        assert_eq!(scale, LossScale { factor: 65_536.0, good_updates: 0 });
        for _ in 0..16 {
            assert!(scale.can_shrink());
            scale.after_update(true);
        }
        assert!(!scale.can_shrink());
    }

    #[test]
    fn scaling_does_not_change_the_digits_of_fp32() {
        let scale = LossScale::start();
        let values = || Tensor::<1>::from_data([0.1f32, -3e-7, 1234.567], &Device::flex());
        let (_, grads) = scale.unscaled(values(), vec![(3, values() * scale.factor)]);
        assert_eq!(grads[0].0, 3);
        assert_eq!(grads[0].1.clone().into_data(), values().into_data());
    }
}
