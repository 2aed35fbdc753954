//! A policy ready for pictures: what the recipe says, and the colour and interpolation that follow from elsewhere.

use crate::recipe::RandAugmentPlan;

use super::affine::Interpolation;

/// Draws and applies a policy's operations.
#[derive(Debug, Clone, PartialEq)]
pub struct RandAugment {
    pub(super) plan: RandAugmentPlan,
    /// The colour outside of a picture that was moved.
    pub(super) fill: [u8; 3],
    pub(super) interpolation: Interpolation,
}

impl RandAugment {
    /// Makes a policy ready; `mean`, of the normalization, becomes the fill colour. The interpolation is bicubic, as in
    /// the official fine-tuning.
    pub fn new(plan: RandAugmentPlan, mean: &[f32]) -> Self {
        Self { plan, fill: fill_colour(mean), interpolation: Interpolation::Bicubic }
    }
}

/// The nearest levels of a mean colour, as timm's `img_mean`; a one-channel mean is repeated.
fn fill_colour(mean: &[f32]) -> [u8; 3] {
    std::array::from_fn(|channel| {
        let mean = mean.get(channel).or(mean.first()).copied().unwrap_or_default();
        (255.0 * f64::from(mean)).round_ties_even() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::fill_colour;

    #[test]
    fn the_fill_colour_is_the_mean() {
        assert_eq!(fill_colour(&[0.485, 0.456, 0.406]), [124, 116, 104]);
        assert_eq!(fill_colour(&[0.0, 1.0, 1.5]), [0, 255, 255]);
        assert_eq!(fill_colour(&[0.25]), [64; 3]);
    }
}
