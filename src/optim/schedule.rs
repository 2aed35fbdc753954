//! The learning rate schedule: linear warm-up, then half a cosine (official `lr_sched`).

/// The learning rate schedule of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct LrSchedule {
    pub lr: f64,
    pub min_lr: f64,
    pub warmup_epochs: f64,
    pub epochs: f64,
}

impl LrSchedule {
    /// Returns the learning rate at a fractional epoch. 0.5 is the middle of the first epoch.
    pub fn at(&self, epoch: f64) -> f64 {
        if epoch < self.warmup_epochs {
            return self.lr * epoch / self.warmup_epochs;
        }
        let progress = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.min_lr + (self.lr - self.min_lr) * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::LrSchedule;
    use proptest::prelude::*;

    #[test]
    fn half_way_through_the_warm_up_is_half_the_rate() {
        let lr = LrSchedule { lr: 2.0, min_lr: 0.0, warmup_epochs: 40.0, epochs: 400.0 };
        assert!((lr.at(20.0) - 1.0).abs() < 1e-12);
        assert!((lr.at(40.0) - 2.0).abs() < 1e-12);
        assert!((lr.at(220.0) - 1.0).abs() < 1e-12);
        assert!(lr.at(400.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_rate_stays_between_zero_and_lr(epoch in 0.0f64..100.0, warmup in 0.0f64..50.0) {
            let lr = LrSchedule { lr: 1.5, min_lr: 1e-6, warmup_epochs: warmup, epochs: 100.0 };
            prop_assert!((0.0..=1.5).contains(&lr.at(epoch)));
        }
    }
}
