//! Resolves the recipe of an open checkpoint to a `Plan`, with which a command uses the checkpoint.
//!
//! A checkpoint of this program contains its whole recipe. For a checkpoint of another program, `to_recipe` combines
//! four sources of settings, from lowest to highest priority: default values, `--recipe`, the file, `--set`.

use super::{CheckpointError, Facts, Head, Meta, Opened, candidate, to_recipe};
use crate::recipe::{
    self, BaseLayer, DataPlan, DeviceKind, Missing, Options, Plan, Recipe, ResolvedPoint,
};
use std::path::Path;

/// What a command needs from a checkpoint. Each variant also includes the needs of all variants above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Needs {
    /// The command needs only the tensors.
    Tensors,
    /// The command computes features, so it needs the number of attention heads of the encoder.
    Heads,
    /// The command converts the checkpoint, so it needs all settings, including those of a decoder.
    Everything,
    /// The command reconstructs images, so it needs a decoder.
    Decoder,
}

/// The arguments of a command that uses a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct PlanArgs<'a> {
    /// The path of `--recipe`. This recipe has `[data]`, `[runtime]`, and settings that are missing in the checkpoint.
    pub recipe: Option<&'a Path>,
    /// The `--set` arguments, such as `data.input_size=224`.
    pub set: &'a [String],
    /// Environment variables, as (name, value).
    pub env: &'a [(String, String)],
    /// Returns the number of GPUs of a kind.
    pub gpus: fn(DeviceKind) -> usize,
}

/// The settings for using a checkpoint, with metadata and warnings.
#[derive(Debug)]
pub struct CheckpointPlan {
    pub plan: Plan,
    /// The content of `meta.json`, or a description of the network if `meta.json` is missing.
    pub meta: Meta,
    /// Warnings for the user, one sentence each.
    pub warnings: Vec<String>,
}

/// Options for resolving a checkpoint's recipe, which needs no data and no GPUs.
const OPTIONS: Options = Options { missing_data: Missing::Warn, gpus: |_| 0, hosts: 1 };

impl Opened {
    /// Resolves the checkpoint's recipe together with `args`.
    ///
    /// `[data]` and `[runtime]` come from `--recipe`, if given. Fails if a needed setting is unknown, or if `args`
    /// contradict the checkpoint.
    pub fn plan(
        &self,
        needs: Needs,
        args: &PlanArgs<'_>,
    ) -> Result<CheckpointPlan, CheckpointError> {
        if needs == Needs::Decoder {
            require_decoder(self)?;
        }
        let set = SetArgs::new(args, &self.facts);
        recipe::check_keys(&set.unused)?;
        let mut warnings = Vec::new();
        warnings.extend(self.unstated_pooling(&set)?);
        let mut supplied = None;
        if let Some(path) = args.recipe {
            let options = Options { gpus: args.gpus, ..OPTIONS };
            let mut resolved = recipe::resolve(path, args.env, &set.of_data, &options)?;
            warnings.append(&mut resolved.warnings);
            supplied = Some((path, resolved.into_first().plan));
        }
        let point = match &self.meta {
            Some(meta) => own_point(self, meta, &set.of_model)?,
            None => described_point(self, needs, supplied.as_ref(), &set.of_model)?,
        };
        let meta = self.meta.clone().unwrap_or_else(|| described_meta(self, &point.recipe));
        let mut plan = point.plan;
        if let Some((_, supplied)) = supplied {
            plan.runtime = supplied.runtime;
            plan.data = self.data(&plan.data, supplied.data, &set, &mut warnings);
        }
        Ok(CheckpointPlan { plan, meta, warnings })
    }

    /// Returns a warning if the checkpoint does not store the head's pooling (class token or mean of the patches).
    ///
    /// Fails if `--set` chooses the mean, because the checkpoint has no `fc_norm`.
    fn unstated_pooling(&self, set: &SetArgs) -> Result<Option<String>, CheckpointError> {
        let reads_token = matches!(self.facts.head, Head::Linear { global_pool: false, .. });
        if self.meta.is_some() || !reads_token || self.facts.settings.average_pool.is_some() {
            return Ok(None);
        }
        let chosen = set.of_model.iter().find(|set| recipe::set_key(set) == "finetune.global_pool");
        match chosen.and_then(|set| set.split_once('=')).map(|(_, value)| value.trim()) {
            Some("true") => Err(CheckpointError::Unsupported {
                path: self.path.clone(),
                problem: candidate::MEAN_AFTER_NORM.to_owned(),
                hint: "use a checkpoint with `fc_norm`, or a checkpoint whose head reads the class token"
                    .to_owned(),
            }),
            Some(_) => Ok(None),
            None => Ok(Some(format!(
                "{} does not store whether the head reads the class token or the mean of the patches. mae assumes the \
                 class token. If the model has `global_pool=\"avg\"`, the predictions are wrong. Otherwise, use `--set \
                 finetune.global_pool=false` to remove this warning",
                self.path.display()
            ))),
        }
    }

    /// Returns the data settings `supplied` of `--recipe`, with the checkpoint's `input_size`.
    ///
    /// If the checkpoint stores `mean`, `std` and `range`, these values also replace the values in `supplied`, unless
    /// `--set` changes them.
    fn data(
        &self,
        own: &DataPlan,
        supplied: DataPlan,
        set: &SetArgs,
        warnings: &mut Vec<String>,
    ) -> DataPlan {
        let known = self.meta.is_some() || self.facts.settings.mean.is_some();
        let is_set = ["data.mean", "data.std"].iter().any(|key| has_key(&set.of_data, key));
        let mut data = DataPlan { input_size: own.input_size, ..supplied };
        if known && !is_set && own.in_chans == data.in_chans {
            if (&own.mean, &own.std) != (&data.mean, &data.std) {
                warnings.push(format!(
                    "mae normalizes images with the checkpoint's mean {:?} and std {:?}, not with the recipe's values. \
                     To change this, use `--set data.mean=...` and `--set data.std=...`",
                    own.mean, own.std
                ));
            }
            data.mean.clone_from(&own.mean);
            data.std.clone_from(&own.std);
        }
        if self.meta.is_some() && !has_key(&set.of_data, "data.range") && own.range != data.range {
            let shown = |range: Option<[f64; 2]>| {
                range.map_or("no `data.range`".to_owned(), |range| {
                    format!("`data.range = {range:?}`")
                })
            };
            warnings.push(format!(
                "the checkpoint has {}, but the recipe has {}. mae uses the checkpoint's setting. To change this, use `--set \
                 data.range=...`",
                shown(own.range),
                shown(data.range)
            ));
            data.range = own.range;
        }
        data
    }
}

/// The `--set` arguments, divided into three groups.
struct SetArgs {
    /// Arguments for `[data]` and `[runtime]` of `--recipe`.
    of_data: Vec<String>,
    /// Arguments for the checkpoint's recipe.
    of_model: Vec<String>,
    /// Arguments for a decoder or a stage that the checkpoint does not have.
    unused: Vec<String>,
}

impl SetArgs {
    fn new(args: &PlanArgs<'_>, facts: &Facts) -> Self {
        let of_network = ["data.input_size", "data.in_chans"];
        let is_of_data = |set: &String| {
            let key = recipe::set_key(set);
            args.recipe.is_some()
                && (key.starts_with("data.") || key.starts_with("runtime."))
                && !of_network.contains(&key)
        };
        let (of_data, others) = args.set.iter().cloned().partition(is_of_data);
        let others: Vec<String> = others;
        let (unused, of_model) = others.into_iter().partition(|set| is_of_absent_part(set, facts));
        Self { of_data, of_model, unused }
    }
}

fn is_of_absent_part(set: &str, facts: &Facts) -> bool {
    let of = |table: &str| recipe::set_key(set).starts_with(table);
    let linear = matches!(facts.head, Head::Linear { .. });
    let probe = matches!(facts.head, Head::Probe { .. });
    (of("pretrain.") || of("model.decoder_")) && facts.decoder.is_none()
        || of("finetune.") && !linear
        || of("linprobe.") && !probe
}

fn has_key(set: &[String], key: &str) -> bool {
    set.iter().any(|set| recipe::set_key(set) == key)
}

/// Resolves the recipe in a checkpoint of this program. Fails if `set` changes the network.
fn own_point(
    opened: &Opened,
    meta: &Meta,
    set: &[String],
) -> Result<ResolvedPoint, CheckpointError> {
    let layers = [BaseLayer::Text(&opened.path, &meta.recipe)];
    let mut stated = to_recipe::stated(&opened.facts);
    let resolve = |stated: &Recipe, set: &[String]| {
        recipe::resolve_checkpoint(&opened.path, &layers, stated, set, &OPTIONS)
    };
    let own = resolve(&stated, &[])?;
    stated.model = own.recipe.model.clone();
    stated.model.size = None; // `stated.model` has all dimensions
    if let Some(pretrain) = &own.recipe.pretrain {
        stated.pretrain.get_or_insert_default().norm_pix_loss = pretrain.norm_pix_loss;
    }
    Ok(resolve(&stated, set)?)
}

/// Creates and resolves a recipe for a checkpoint of another program.
fn described_point(
    opened: &Opened,
    needs: Needs,
    supplied: Option<&(&Path, Plan)>,
    set: &[String],
) -> Result<ResolvedPoint, CheckpointError> {
    let (facts, path) = (&opened.facts, opened.path.as_path());
    let (stated, preferred) = (to_recipe::stated(facts), to_recipe::preferred(facts));
    let mut assumed = to_recipe::assumed(facts);
    let added = supplied.map(|(path, plan)| (*path, to_recipe::from_recipe(facts, plan)));
    let known = [Some(&assumed), added.as_ref().map(|(_, added)| added), Some(&stated)];
    require(opened, needs, &known.into_iter().flatten().collect::<Vec<_>>(), set)?;
    // If `num_heads` is still unknown, the command does not need it. 1 is valid for every width.
    assumed.model.num_heads.get_or_insert(1);
    if facts.decoder.is_some() {
        assumed.model.decoder_num_heads.get_or_insert(1);
    }
    let mut layers = vec![BaseLayer::Settings(path, &assumed)];
    layers.extend(added.as_ref().map(|(path, added)| BaseLayer::Settings(path, added)));
    layers.extend([&preferred, &stated].map(|layer| BaseLayer::Settings(path, layer)));
    Ok(recipe::resolve_checkpoint(path, &layers, &stated, set, &OPTIONS)?)
}

/// Fails if the command needs a setting that is in neither `known` nor `set`.
fn require(
    opened: &Opened,
    needs: Needs,
    known: &[&Recipe],
    set: &[String],
) -> Result<(), CheckpointError> {
    let facts = &opened.facts;
    let missing = |needed: Needs, key: &'static str, has: fn(&Recipe) -> bool| {
        needs >= needed && !has_key(set, key) && !known.iter().any(|recipe| has(recipe))
    };
    let unstated = |key: &'static str, what: String| {
        Err(CheckpointError::Unstated { path: opened.path.clone(), key, what })
    };
    let key = "model.num_heads";
    if missing(Needs::Heads, key, |recipe| recipe.model.num_heads.is_some()) {
        let width = facts.embed_dim;
        return unstated(
            key,
            format!("the number of attention heads of the encoder (width {width})"),
        );
    }
    let Some(decoder) = &facts.decoder else { return Ok(()) };
    let key = "model.decoder_num_heads";
    if missing(Needs::Everything, key, |recipe| recipe.model.decoder_num_heads.is_some()) {
        let width = decoder.embed_dim;
        return unstated(
            key,
            format!("the number of attention heads of the decoder (width {width})"),
        );
    }
    let key = "pretrain.norm_pix_loss";
    let has = |recipe: &Recipe| recipe.pretrain.as_ref().is_some_and(|p| p.norm_pix_loss.is_some());
    if missing(Needs::Everything, key, has) {
        return unstated(key, "whether the decoder predicts normalized pixels".to_owned());
    }
    Ok(())
}

/// Creates the content of a `meta.json` for a checkpoint of another program.
fn described_meta(opened: &Opened, recipe: &Recipe) -> Meta {
    let facts = &opened.facts;
    Meta {
        stage: facts.stage().to_owned(),
        epoch: facts.settings.epoch.unwrap_or(0),
        from: opened.path.display().to_string(),
        num_classes: facts.num_classes(),
        class_names: facts.settings.class_names.clone(),
        recipe: recipe::recipe_toml(recipe),
    }
}

fn require_decoder(opened: &Opened) -> Result<(), CheckpointError> {
    if opened.facts.decoder.is_some() {
        return Ok(());
    }
    let what = match opened.facts.head {
        Head::Absent => "an encoder",
        Head::Linear { .. } => "a fine-tuned classifier",
        Head::Probe { .. } => "a linear probe",
    };
    Err(CheckpointError::NoDecoder { path: opened.path.clone(), what })
}
