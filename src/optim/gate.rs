//! Skips updates with a NaN or infinite loss or gradient. The device decides, so the host does not wait.
//!
//! AdamW's bias correction needs the number of updates. The host learns this number only when it reads the losses. So
//! the host computes the correction for every possible number, and the device chooses one.

use burn::tensor::{Bool, Int, Tensor, TensorData};

/// Counts the updates that the device has skipped since the host last read the losses.
#[derive(Clone)]
pub(super) struct SkipCount {
    /// Number of updates since the host last read the losses, including skipped updates.
    pub attempts: usize,
    /// Number of skipped updates among `attempts`, `[1]`.
    skipped: Tensor<1, Int>,
}

/// Skips the current update on the device if its loss or gradient is NaN or infinite.
///
/// Also holds AdamW's bias corrections for this update.
pub struct Gate {
    /// Whether to skip the update, `[1]`.
    skip: Tensor<1, Bool>,
    /// AdamW's bias corrections `1 - beta^t` for both betas, `[1]` each.
    corrections: [Tensor<1>; 2],
}

impl SkipCount {
    /// Prepares the next update, which is skipped if `finite` is false.
    ///
    /// `updates` is the number of updates before the last read of the losses, without skipped updates.
    pub(super) fn gate(
        count: &mut Option<Self>,
        finite: Tensor<1, Bool>,
        updates: usize,
        betas: [f32; 2],
    ) -> Gate {
        let device = finite.device();
        let skip = finite.bool_not();
        let Self { attempts, skipped } = count
            .take()
            .unwrap_or_else(|| Self { attempts: 0, skipped: Tensor::zeros([1], &device) });
        let corrections = betas.map(|beta| {
            // `t` is the number of this update if `k` updates were skipped.
            let steps = (0..=attempts).map(|k| (updates + attempts - k + 1) as i32);
            let values: Vec<f32> = steps.map(|t| 1f32 - beta.powi(t)).collect();
            let table = Tensor::<1>::from_data(TensorData::new(values, [attempts + 1]), &device);
            table.select(0, skipped.clone())
        });
        let skipped = skipped + skip.clone().int();
        *count = Some(Self { attempts: attempts + 1, skipped });
        Gate { skip, corrections }
    }

    /// Reads from the device how many updates were not skipped.
    pub(super) fn made(&self) -> usize {
        let skipped: i64 = self.skipped.clone().into_scalar();
        self.attempts - usize::try_from(skipped).expect("a count is not negative")
    }
}

impl Gate {
    /// Returns `new`, or `old` if this update is skipped.
    pub fn choose(&self, new: Tensor<1>, old: Tensor<1>) -> Tensor<1> {
        let skip = self.skip.clone().expand(new.dims());
        new.mask_where(skip, old)
    }

    /// Returns the bias corrections and whether the update is skipped (1 or 0), `[3]`.
    #[cfg(feature = "gpu")]
    pub(super) fn control(&self) -> Tensor<1> {
        let [first, second] = self.corrections.clone();
        Tensor::cat(vec![first, second, self.skip.clone().float()], 0)
    }

    /// Returns AdamW's change of a parameter for the learning rate 1, and the new moments.
    pub(super) fn adamw(
        &self,
        [beta_1, beta_2]: [f32; 2],
        grad: &Tensor<1>,
        [old_1, old_2]: [Tensor<1>; 2],
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let own_1 = grad.clone().mul_scalar(1.0 - beta_1);
        let own_2 = grad.clone().square().mul_scalar(1.0 - beta_2);
        let new_1 = old_1.clone().mul_scalar(beta_1).add(own_1);
        let new_2 = old_2.clone().mul_scalar(beta_2).add(own_2);
        let [correction_1, correction_2] = self.corrections.clone();
        let delta = new_1.clone().div(correction_1)
            / new_2.clone().div(correction_2).sqrt().add_scalar(super::optimizer::EPSILON);
        (delta, [self.choose(new_1, old_1), self.choose(new_2, old_2)])
    }
}
