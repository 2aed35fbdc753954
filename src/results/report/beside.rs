//! Published results that the plots show beside the run's results.

use crate::recipe::{Format, Recipe};
use crate::results::published::published;
use crate::results::published_names;

/// A published result. Accuracies are in %.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PublishedRow {
    /// Name of the published table.
    pub(super) table: &'static str,
    /// Official name of the model size, such as `vit_base_patch16`.
    pub(super) model: String,
    /// The varied setting, such as `mask_ratio`. Empty if no setting was varied.
    pub(super) variant: String,
    pub(super) value: String,
    pub(super) pretrain_epoch: f64,
    /// Whether the pre-training schedule ended at `pretrain_epoch`.
    pub(super) annealed: bool,
    pub(super) finetune_top1: Option<f64>,
    pub(super) linprobe_top1: Option<f64>,
    pub(super) source: String,
}

impl PublishedRow {
    /// Returns whether no setting except the number of pre-training epochs was varied.
    pub(super) fn is_plain(&self) -> bool {
        self.pretrain_epoch > 0.0 && ["", "mae", "epochs"].contains(&self.variant.as_str())
    }

    /// Returns whether this is a result of training from scratch with default settings.
    pub(super) fn is_scratch(&self) -> bool {
        self.pretrain_epoch == 0.0 && ["", "scratch"].contains(&self.variant.as_str())
    }
}

impl PublishedRow {
    /// Returns whether `key` is the setting that the published table varies.
    pub(super) fn varies(&self, key: &str) -> bool {
        let table = match self.variant.as_str() {
            "decoder_depth" | "decoder_embed_dim" => "model",
            "trained_blocks" | "ema" => "finetune",
            _ => "pretrain",
        };
        key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'))
            == Some(self.variant.as_str())
    }
}

/// Returns the published results of the recipe's model.
///
/// `asked` lists published tables. If `asked` is empty, uses all tables, but only for ImageNet-1k. If a table in
/// `asked` lacks the model, returns all results of this table.
pub(super) fn beside(recipe: &Recipe, asked: &[String]) -> Vec<PublishedRow> {
    let model = model(recipe);
    let same = |row: &PublishedRow| Some(&row.model) == model.as_ref();
    if asked.is_empty() {
        let all = published_names().into_iter().filter(|_| is_imagenet(recipe)).flat_map(rows);
        return all.filter(same).collect();
    }
    let names = published_names().into_iter().filter(|name| asked.iter().any(|a| a == name));
    let of_one = |name| {
        let rows = rows(name);
        if rows.iter().any(same) { rows.into_iter().filter(same).collect() } else { rows }
    };
    names.flat_map(of_one).collect()
}

fn is_imagenet(recipe: &Recipe) -> bool {
    let data = &recipe.data;
    data.num_classes == Some(1000)
        && matches!(data.format, Some(Format::ImageFolder | Format::WebDataset | Format::Parquet))
}

/// Returns the official model size; `None` if the recipe sets its own dimensions.
pub(super) fn model(recipe: &Recipe) -> Option<String> {
    let size = serde_json::to_value(recipe.model.size?).ok()?;
    size.as_str().map(str::to_owned)
}

fn rows(table: &'static str) -> Vec<PublishedRow> {
    let mut reader = csv::Reader::from_reader(published(table).unwrap_or_default().as_bytes());
    let header = reader.headers().cloned().unwrap_or_default();
    let row = |record: csv::StringRecord| {
        let cell = |column: &str| {
            let place = header.iter().position(|name| name == column);
            place.and_then(|place| record.get(place)).unwrap_or_default()
        };
        Some(PublishedRow {
            table,
            model: cell("model").to_owned(),
            variant: cell("variant").to_owned(),
            value: cell("value").to_owned(),
            pretrain_epoch: cell("pretrain_epoch").parse().ok()?,
            annealed: cell("annealed") == "1",
            finetune_top1: cell("finetune_top1").parse().ok(),
            linprobe_top1: cell("linprobe_top1").parse().ok(),
            source: cell("source").to_owned(),
        })
    };
    reader.into_records().filter_map(Result::ok).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{beside, rows};
    use crate::recipe::Recipe;
    use crate::results::published_names;

    fn recipe(format: &str, size: &str) -> Recipe {
        toml::from_str(&format!(
            "[data]\nformat = \"{format}\"\nnum_classes = 1000\n[model]\nsize = \"{size}\"\n"
        ))
        .unwrap()
    }

    #[test]
    fn every_published_row_has_a_source() {
        for name in published_names() {
            let rows = rows(name);
            assert!(!rows.is_empty(), "{name}");
            assert!(rows.iter().all(|row| !row.source.is_empty() && !row.model.is_empty()));
        }
    }

    #[test]
    fn by_default_only_results_of_the_same_model_and_data_are_shown() {
        let base = recipe("imagefolder", "vit_base_patch16");
        let rows = beside(&base, &[]);
        assert!(rows.iter().any(|row| row.table == "mae-paddle" && row.is_plain()));
        assert!(rows.iter().all(|row| row.model == "vit_base_patch16"));
        assert_eq!(beside(&recipe("digits", "vit_base_patch16"), &[]), []);
        assert_eq!(beside(&recipe("imagefolder", "vit_tiny_patch16"), &[]), []);
        let asked = beside(&recipe("digits", "vit_tiny_patch16"), &["mae-paddle".to_owned()]);
        assert!(!asked.is_empty(), "a table that was asked for is shown");
    }
}
