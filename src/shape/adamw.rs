//! AdamW settings of the official code: betas, and parameters without weight decay.

/// The official `[beta_1, beta_2]` of AdamW in pre-training.
pub const PRETRAIN_BETAS: [f64; 2] = [0.9, 0.95];

/// Returns whether a parameter has no weight decay in pre-training.
///
/// This is true for biases and 1-D parameters, as in the official code.
pub fn has_no_decay(name: &str, shape: &[usize]) -> bool {
    shape.len() == 1 || name.rsplit('.').next() == Some("bias")
}

#[cfg(test)]
mod tests {
    use super::PRETRAIN_BETAS;

    fn bits(betas: [f64; 2]) -> [u32; 2] {
        betas.map(|beta| (beta as f32).to_bits())
    }

    #[test]
    fn betas_round_to_the_nearest_f32() {
        assert_eq!(bits(PRETRAIN_BETAS), [0.9f32, 0.95].map(f32::to_bits));
        assert_eq!(bits([0.9, 0.999]), [0.9f32, 0.999].map(f32::to_bits)); // of fine-tuning
    }
}
