//! Maps the keys of a recipe to the flags of the official PyTorch scripts.

/// (recipe key, official flag) pairs with different names.
const RENAMED: [(&str, &str); 8] = [
    ("data.path", "--data_path"),
    ("data.workers", "--num_workers"),
    ("data.num_classes", "--nb_classes"),
    ("model.size", "--model"),
    ("runtime.devices", "--ngpus"),
    ("finetune.from", "--finetune"),
    ("linprobe.from", "--finetune"),
    ("finetune.augment.color_jitter", "--color_jitter"),
];
/// Keys outside the stage tables whose official flag has the same name.
const TOP: [&str; 3] = ["seed", "data.input_size", "runtime.device"];
/// Keys of the stage tables whose official flag has the same name.
const STAGE: [&str; 26] = [
    "epochs",
    "warmup_epochs",
    "batch_size",
    "accum_iter",
    "blr",
    "lr",
    "min_lr",
    "weight_decay",
    "mask_ratio",
    "norm_pix_loss",
    "resume",
    "layer_decay",
    "drop_path",
    "clip_grad",
    "smoothing",
    "mixup",
    "cutmix",
    "cutmix_minmax",
    "mixup_prob",
    "mixup_switch_prob",
    "mixup_mode",
    "reprob",
    "remode",
    "recount",
    "aa",
    "global_pool",
];

/// Returns the official code's flag for a dotted key, such as `--blr` for `pretrain.blr`.
///
/// Returns `None` if the official code has no such flag.
pub fn official_flag(key: &str) -> Option<String> {
    if let Some((_, flag)) = RENAMED.iter().find(|(renamed, _)| *renamed == key) {
        return Some((*flag).to_owned());
    }
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let same = TOP.contains(&key) || super::is_stage(table) && STAGE.contains(&name);
    same.then(|| format!("--{name}"))
}

#[cfg(test)]
mod tests {
    use super::super::schema::KEYS;
    use super::*;

    #[test]
    fn every_flag_belongs_to_a_key() {
        let is_key = |key: &str| KEYS.iter().any(|known| known == key);
        let renamed = RENAMED.iter().map(|(key, _)| *key);
        for key in renamed.chain(TOP) {
            assert!(is_key(key), "{key}");
        }
        for name in STAGE {
            let stages = ["pretrain", "finetune", "linprobe"];
            assert!(stages.iter().any(|stage| is_key(&format!("{stage}.{name}"))), "{name}");
        }
    }

    #[test]
    fn keys_that_the_official_code_lacks_have_no_flag() {
        assert_eq!(official_flag("pretrain.blr").as_deref(), Some("--blr"));
        assert_eq!(official_flag("finetune.trained_blocks"), None);
        assert_eq!(official_flag("pretrain.augment.color_jitter"), None);
    }
}
