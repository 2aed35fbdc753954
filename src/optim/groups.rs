//! Parameter groups: weight decay and learning rate of each parameter.

use crate::shape;

/// Optimizer settings of one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParamGroup {
    /// The learning rate of the schedule is multiplied by this factor.
    pub lr_scale: f64,
    pub weight_decay: f64,
    /// Whether the parameter has more than one axis. LARS applies its trust ratio only to such parameters.
    pub matrix: bool,
}

/// Returns the optimizer settings of a parameter in pre-training.
///
/// 1-D parameters and biases have no weight decay. `cls_token` and `mask_token` have weight decay, as in the official
/// code.
pub fn pretrain_group(name: &str, shape: &[usize], weight_decay: f64) -> ParamGroup {
    let no_decay = shape::has_no_decay(name, shape);
    ParamGroup {
        lr_scale: 1.0,
        weight_decay: if no_decay { 0.0 } else { weight_decay },
        matrix: shape.len() > 1,
    }
}

/// Returns the optimizer settings of a parameter in fine-tuning.
///
/// The head has the full learning rate. The learning rate of a block is `layer_decay` times that of the next block. 1-D
/// parameters, `cls_token` and `pos_embed` have no weight decay (paper, Table 9).
pub fn finetune_group(
    name: &str,
    shape: &[usize],
    depth: usize,
    layer_decay: f64,
    weight_decay: f64,
) -> ParamGroup {
    let no_decay = shape.len() == 1 || name == "cls_token" || name == "pos_embed";
    let above = depth + 1 - layer_id(name, depth);
    ParamGroup {
        lr_scale: layer_decay.powi(above as i32),
        weight_decay: if no_decay { 0.0 } else { weight_decay },
        matrix: shape.len() > 1,
    }
}

/// Returns the optimizer settings of a parameter in linear probing.
///
/// All parameters have the same learning rate and weight decay.
pub fn probe_group(shape: &[usize], weight_decay: f64) -> ParamGroup {
    ParamGroup { lr_scale: 1.0, weight_decay, matrix: shape.len() > 1 }
}

/// Returns the layer number of a parameter, for layer-wise learning rate decay.
///
/// The embeddings are layer 0. Block `i`, counted from 0, is layer `i + 1`. The head and the last norm are layer
/// `depth + 1`.
pub fn layer_id(name: &str, depth: usize) -> usize {
    if name == "cls_token" || name == "pos_embed" || name.starts_with("patch_embed") {
        return 0;
    }
    name.strip_prefix("blocks.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|index| index.parse::<usize>().ok())
        .map_or(depth + 1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::{finetune_group, layer_id, pretrain_group};

    #[test]
    fn layers_count_from_the_embedding_to_the_head() {
        assert_eq!(layer_id("pos_embed", 3), 0);
        assert_eq!(layer_id("blocks.2.mlp.fc1.weight", 3), 3);
        assert_eq!(layer_id("head.weight", 3), 4);
        let group = finetune_group("cls_token", &[1, 1, 8], 3, 0.5, 0.1);
        assert!((group.lr_scale - 0.0625).abs() < 1e-12);
        assert!(group.weight_decay.abs() < 1e-12);
    }

    #[test]
    fn tokens_decay_in_pre_training_only() {
        let decay = |name, shape| pretrain_group(name, shape, 0.05).weight_decay;
        assert!((decay("cls_token", &[1, 1, 8]) - 0.05).abs() < 1e-12);
        assert!(decay("norm.weight", &[8]).abs() < 1e-12);
    }
}
