//! Converts the facts about a checkpoint to recipe settings.
//!
//! For a checkpoint of another program, four functions return settings, from lowest to highest priority: [`assumed`],
//! [`from_recipe`], [`preferred`], [`stated`]. `--set` may change the settings of the first three functions. `--set`
//! may repeat a value of [`stated`], but not change the value.

use super::facts::{Settings, usual_decoder_heads, usual_heads};
use super::{Facts, Head};
use crate::recipe::{
    Data, Finetune, Format, FromEntry, Linprobe, Model, OneOrMany, Plan, Pretrain, Recipe,
};

/// Returns the settings that the checkpoint determines, for example by tensor shapes or in `config.json`.
///
/// `--set` cannot change these settings.
pub(super) fn stated(facts: &Facts) -> Recipe {
    let decoder = facts.decoder.as_ref();
    let mut recipe = Recipe {
        data: Data {
            input_size: facts.input_size,
            in_chans: Some(facts.in_chans),
            ..Data::default()
        },
        model: Model {
            patch_size: Some(facts.patch_size),
            embed_dim: Some(facts.embed_dim),
            depth: Some(facts.depth),
            num_heads: facts.num_heads,
            mlp_ratio: Some(facts.mlp_ratio()),
            decoder_embed_dim: decoder.map(|decoder| decoder.embed_dim),
            decoder_depth: decoder.map(|decoder| decoder.depth),
            decoder_num_heads: decoder.and_then(|decoder| decoder.num_heads),
            encoder_mask_token: decoder.map(|decoder| decoder.encoder_mask_token),
            ..Model::default()
        },
        ..Recipe::default()
    };
    if decoder.is_some() {
        let norm_pix_loss = facts.settings.norm_pix_loss;
        recipe.pretrain = Some(Pretrain { norm_pix_loss, ..Pretrain::default() });
        return recipe;
    }
    match facts.head {
        Head::Linear { global_pool, .. } => {
            let global_pool = Some(global_pool);
            recipe.finetune = Some(Finetune { global_pool, ..Finetune::default() });
        }
        Head::Probe { global_pool, .. } => {
            let global_pool = Some(global_pool);
            recipe.linprobe = Some(Linprobe { global_pool, ..Linprobe::default() });
        }
        Head::Absent => {}
    }
    recipe
}

/// Returns the settings in the checkpoint that `--set` may change.
///
/// These are `mean`, `std`, `norm_eps`, `loss_on` and the mask settings.
pub(super) fn preferred(facts: &Facts) -> Recipe {
    let settings = &facts.settings;
    let per_channel =
        |values: &Option<Vec<f64>>| values.clone().filter(|values| values.len() == facts.in_chans);
    let mut recipe = Recipe::default();
    recipe.data.mean = per_channel(&settings.mean);
    recipe.data.std = per_channel(&settings.std);
    recipe.model.norm_eps = settings.norm_eps;
    if facts.decoder.is_some() {
        let Settings { loss_on, mask, mask_ratio, mask_granularity, .. } = *settings;
        recipe.pretrain =
            Some(Pretrain { mask, mask_ratio, mask_granularity, loss_on, ..Pretrain::default() });
    }
    recipe
}

/// Returns the settings of `--recipe` that may be missing in the checkpoint.
///
/// - The number of attention heads, if recipe and checkpoint have the same width.
/// - For a checkpoint with a decoder: `norm_pix_loss`, `loss_on` and the mask settings.
pub(super) fn from_recipe(facts: &Facts, plan: &Plan) -> Recipe {
    let mut recipe = Recipe::default();
    let model = &plan.model;
    if model.embed_dim == facts.embed_dim {
        recipe.model.num_heads = Some(model.num_heads);
    }
    let Some(decoder) = &facts.decoder else { return recipe };
    if model.decoder_embed_dim == decoder.embed_dim {
        recipe.model.decoder_num_heads = Some(model.decoder_num_heads);
    }
    recipe.pretrain = plan.pretrain.as_ref().map(|table| Pretrain {
        norm_pix_loss: Some(table.loss.norm_pix_loss),
        loss_on: Some(table.loss.patches),
        mask: Some(table.masking.kind),
        mask_ratio: Some(table.masking.ratio),
        mask_granularity: Some(table.masking.granularity),
        ..Pretrain::default()
    });
    recipe
}

/// Returns default values for settings that may be missing in a checkpoint.
///
/// `pretrain.norm_pix_loss` has no default. The number of attention heads has a default only for standard widths.
pub(super) fn assumed(facts: &Facts) -> Recipe {
    let mut recipe = Recipe { name: Some("imported".to_owned()), ..Recipe::default() };
    recipe.data.format = Some(Format::Synthetic);
    recipe.model.num_heads = usual_heads(facts.embed_dim);
    if let Some(decoder) = &facts.decoder {
        recipe.model.decoder_num_heads = usual_decoder_heads(decoder.embed_dim);
        return recipe;
    }
    let from = Some(OneOrMany::One(FromEntry::Text("scratch".to_owned())));
    match facts.head {
        Head::Linear { .. } => {
            let aa = Some(String::new());
            recipe.finetune = Some(Finetune { from, aa, ..Finetune::default() });
        }
        Head::Probe { .. } => recipe.linprobe = Some(Linprobe { from, ..Linprobe::default() }),
        Head::Absent => {}
    }
    recipe
}
