//! The operations of RandAugment, with their names, arguments and functions.

use super::affine::{self, Interpolation};
use super::rgb::Rgb;
use super::{blend, levels};

/// An operation of timm's RandAugment.
///
/// A variant named `…Increasing` gets stronger with the magnitude. The variant of the same name without `Increasing`
/// does not: for example, `Posterize` gets weaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    PosterizeIncreasing,
    Solarize,
    SolarizeIncreasing,
    SolarizeAdd,
    Color,
    ColorIncreasing,
    Contrast,
    ContrastIncreasing,
    Brightness,
    BrightnessIncreasing,
    Sharpness,
    SharpnessIncreasing,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
}

const NAMES: [(&str, Op); 21] = [
    ("AutoContrast", Op::AutoContrast),
    ("Equalize", Op::Equalize),
    ("Invert", Op::Invert),
    ("Rotate", Op::Rotate),
    ("Posterize", Op::Posterize),
    ("PosterizeIncreasing", Op::PosterizeIncreasing),
    ("Solarize", Op::Solarize),
    ("SolarizeIncreasing", Op::SolarizeIncreasing),
    ("SolarizeAdd", Op::SolarizeAdd),
    ("Color", Op::Color),
    ("ColorIncreasing", Op::ColorIncreasing),
    ("Contrast", Op::Contrast),
    ("ContrastIncreasing", Op::ContrastIncreasing),
    ("Brightness", Op::Brightness),
    ("BrightnessIncreasing", Op::BrightnessIncreasing),
    ("Sharpness", Op::Sharpness),
    ("SharpnessIncreasing", Op::SharpnessIncreasing),
    ("ShearX", Op::ShearX),
    ("ShearY", Op::ShearY),
    ("TranslateXRel", Op::TranslateXRel),
    ("TranslateYRel", Op::TranslateYRel),
];

impl Op {
    /// Returns the operation that timm calls `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, op)| *op)
    }

    /// Returns timm's name of the operation.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, op)| *op == self).expect("every operation has a name").0
    }

    /// Returns timm's arguments of the operation: one number or an empty list.
    ///
    /// `magnitude` is 0 to 10. `negate` reverses operations that have a direction, such as rotation.
    pub fn level_args(self, magnitude: f64, negate: bool) -> Vec<f64> {
        self.argument(magnitude, negate).into_iter().collect()
    }

    /// Applies the operation to `picture`.
    ///
    /// `fill` is the colour outside the picture, for example after a rotation.
    pub fn apply(
        self,
        picture: &Rgb,
        magnitude: f64,
        negate: bool,
        fill: [u8; 3],
        interpolation: Interpolation,
    ) -> Rgb {
        let argument = self.argument(magnitude, negate).unwrap_or_default();
        let moved = |matrix| affine::transform(picture, matrix, fill, interpolation);
        match self {
            Op::AutoContrast => levels::auto_contrast(picture),
            Op::Equalize => levels::equalize(picture),
            Op::Invert => levels::invert(picture),
            Op::Posterize | Op::PosterizeIncreasing => levels::posterize(picture, argument as u32),
            Op::Solarize | Op::SolarizeIncreasing => levels::solarize(picture, argument as u32),
            Op::SolarizeAdd => levels::solarize_add(picture, argument as u32),
            Op::Color | Op::ColorIncreasing => blend::color(picture, argument),
            Op::Contrast | Op::ContrastIncreasing => blend::contrast(picture, argument),
            Op::Brightness | Op::BrightnessIncreasing => blend::brightness(picture, argument),
            Op::Sharpness | Op::SharpnessIncreasing => blend::sharpness(picture, argument),
            Op::Rotate => affine::rotate(picture, argument, fill, interpolation),
            Op::ShearX => moved([1.0, argument, 0.0, 0.0, 1.0, 0.0]),
            Op::ShearY => moved([1.0, 0.0, 0.0, argument, 1.0, 0.0]),
            Op::TranslateXRel => moved([1.0, 0.0, argument * picture.width as f64, 0.0, 1.0, 0.0]),
            Op::TranslateYRel => moved([1.0, 0.0, 0.0, 0.0, 1.0, argument * picture.height as f64]),
        }
    }

    fn argument(self, magnitude: f64, negate: bool) -> Option<f64> {
        let level = magnitude / 10.0;
        let signed = |value: f64| if negate { -value } else { value };
        Some(match self {
            Op::AutoContrast | Op::Equalize | Op::Invert => return None,
            // Angle in degrees, counter-clockwise.
            Op::Rotate => signed(level * 30.0),
            // Number of high bits to keep.
            Op::Posterize => (level * 4.0).trunc(),
            Op::PosterizeIncreasing => 4.0 - (level * 4.0).trunc(),
            // Lowest pixel value to invert.
            Op::Solarize => (level * 256.0).trunc(),
            Op::SolarizeIncreasing => 256.0 - (level * 256.0).trunc(),
            // Number to add to dark pixel values.
            Op::SolarizeAdd => (level * 110.0).trunc(),
            // Weight of the original picture; 1 changes nothing.
            Op::Color | Op::Contrast | Op::Brightness | Op::Sharpness => level * 1.8 + 0.1,
            Op::ColorIncreasing
            | Op::ContrastIncreasing
            | Op::BrightnessIncreasing
            | Op::SharpnessIncreasing => 1.0 + signed(level * 0.9),
            // Shift in pixels per row or column.
            Op::ShearX | Op::ShearY => signed(level * 0.3),
            // Shift as a fraction of the side.
            Op::TranslateXRel | Op::TranslateYRel => signed(level * 0.45),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_timms() {
        for (name, op) in NAMES {
            assert_eq!((Op::of_name(name), op.name()), (Some(op), name));
            assert_eq!(format!("{op:?}"), name);
        }
        assert_eq!(Op::of_name("TranslateX"), None);
    }

    #[test]
    fn increasing_variants_change_nothing_at_magnitude_zero() {
        let picture =
            Rgb { width: 4, height: 3, pixels: (0..36).map(|i| (i * 71 % 256) as u8).collect() };
        for name in [
            "Rotate",
            "SolarizeIncreasing",
            "SolarizeAdd",
            "ColorIncreasing",
            "ContrastIncreasing",
            "BrightnessIncreasing",
            "SharpnessIncreasing",
            "ShearX",
            "ShearY",
            "TranslateXRel",
            "TranslateYRel",
        ] {
            let op = Op::of_name(name).unwrap();
            for negate in [false, true] {
                let out = op.apply(&picture, 0.0, negate, [9; 3], Interpolation::Bicubic);
                assert_eq!(out, picture, "{name}");
            }
        }
    }
}
