//! What every command that takes a checkpoint shares: anyone's checkpoint, and the plan it is used by.

use super::recipe_args::resolve;
use super::{CliError, output};
use crate::checkpoint::{self, DecoderFacts, Facts, Head, Meta, Opened};
use crate::recipe::{self, DataPlan, Missing, Options, Plan, ResolvedPoint};
use crate::{data, shape};
use std::fmt::Write as _;
use std::path::Path;

/// What a command asks of a checkpoint that its file may not say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Ask {
    /// The tensors will do.
    Nothing,
    /// Heads: to compute with it.
    Heads,
    /// Heads, and what a masked autoencoder was trained for: to hand it on whole.
    Everything,
    /// The same, of a masked autoencoder that has its decoder: to paint with it.
    Decoder,
}

/// A checkpoint that is ready for use.
pub(super) struct Ready {
    pub(super) opened: Opened,
    pub(super) meta: Meta,
    pub(super) plan: Plan,
}

/// Opens a checkpoint and makes the plan it is used by.
///
/// Our own carry their recipe. Another's is made of what its tensors and `config.json` say, of `--set`, and of `recipe`
/// where that has a model of the same width; what is still missing and asked for is an error that names the key. `recipe`
/// also gives `[data]` and `[runtime]`; the input size stays the model's.
pub(super) fn ready(
    path: &Path,
    recipe: Option<&Path>,
    set: &[String],
    ask: Ask,
) -> Result<Ready, CliError> {
    let opened = checkpoint::open(path)?;
    if let Some(note) = &opened.note {
        output::warning(&format!("{}: {note}", path.display()));
    }
    if ask == Ask::Decoder {
        refuse_without_decoder(path, &opened.facts)?;
    }
    // With a recipe, settings of the data are its own, the others the model's.
    let of_model = ["data.input_size", "data.in_chans"];
    let of_data = |set: &str| {
        let key = key_of(set);
        (key.starts_with("data.") || key.starts_with("runtime.")) && !of_model.contains(&key)
    };
    let (for_data, for_model): (Vec<String>, Vec<String>) =
        set.iter().cloned().partition(|set| recipe.is_some() && of_data(set));
    let other = recipe.map(|recipe| resolve(recipe, &for_data, Missing::Warn)).transpose()?;
    let other = other.map(|resolved| only_point(resolved).plan);
    let facts = &opened.facts;
    let (set, unused): (Vec<String>, Vec<String>) =
        for_model.into_iter().partition(|set| is_of_its_parts(set, facts));
    recipe::check_keys(&unused)?;
    let text = if let Some(meta) = &opened.meta {
        meta.recipe.clone()
    } else {
        refuse_size(path, facts, &set)?;
        Described { path, facts, other: other.as_ref(), set: &set, ask }.recipe()?
    };
    let options = Options { missing_data: Missing::Warn, gpus: |_| 0 };
    let ResolvedPoint { mut plan, recipe, .. } =
        only_point(recipe::resolve_text(path, &text, &[], &set, &options)?);
    agrees(path, &opened.facts, &plan)?;
    if opened.meta.is_some() && !set.is_empty() {
        let own = only_point(recipe::resolve_text(path, &text, &[], &[], &options)?).plan;
        refuse_other_network(path, &own, &plan)?;
    }
    if let Some(other) = other {
        plan.runtime = other.runtime;
        let (mean, std) = normalization(&opened, &plan.data, &other.data, &for_data);
        plan.data = DataPlan { input_size: plan.data.input_size, mean, std, ..other.data };
    }
    let meta = opened.meta.clone().unwrap_or_else(|| Meta {
        stage: opened.facts.stage().to_owned(),
        epoch: opened.facts.settings.epoch.unwrap_or(0),
        from: path.display().to_string(),
        num_classes: opened.facts.num_classes(),
        class_names: class_names(&opened.facts),
        recipe: recipe::recipe_toml(&recipe),
    });
    Ok(Ready { opened, meta, plan })
}

/// Fails where `--set` changed the network that a checkpoint's own recipe describes.
fn refuse_other_network(path: &Path, own: &Plan, set: &Plan) -> Result<(), CliError> {
    let refuse = |what: &str, key: &str| {
        Err(CliError::Usage(format!(
            "{} was trained by its own recipe, whose {what} is another than --set makes\nhint: leave `--set {key}` out",
            path.display()
        )))
    };
    if own.model != set.model {
        return refuse("[model]", "model.…");
    }
    let norm_pix_loss = |plan: &Plan| plan.pretrain.as_ref().map(|table| table.norm_pix_loss);
    if norm_pix_loss(own) != norm_pix_loss(set) {
        return refuse("norm_pix_loss", "pretrain.norm_pix_loss=…");
    }
    Ok(())
}

/// What images are normalized by: as the network was trained where that is known, unless `--set` says otherwise.
fn normalization(
    opened: &Opened,
    own: &DataPlan,
    other: &DataPlan,
    set: &[String],
) -> (Vec<f32>, Vec<f32>) {
    let known = opened.meta.is_some() || opened.facts.settings.mean.is_some();
    let asked = set.iter().any(|set| ["data.mean", "data.std"].contains(&key_of(set)));
    if known && !asked && own.in_chans == other.in_chans {
        if (&own.mean, &own.std) != (&other.mean, &other.std) {
            output::warning(&format!(
                "images are normalized as the checkpoint says, by mean {:?} and std {:?}, not as the recipe does; \
                 --set data.mean=... decides otherwise",
                own.mean, own.std
            ));
        }
        return (own.mean.clone(), own.std.clone());
    }
    (other.mean.clone(), other.std.clone())
}

/// The key of a `--set` argument.
pub(super) fn key_of(set: &str) -> &str {
    set.split('=').next().unwrap_or_default().trim()
}

fn only_point(resolved: recipe::Resolved) -> ResolvedPoint {
    resolved.points.into_iter().next().expect("a recipe has a point")
}

/// The file's names; ImageNet-1k's for a thousand classes without names.
fn class_names(facts: &Facts) -> Vec<String> {
    let stated = &facts.settings.class_names;
    if stated.is_empty() && facts.num_classes() == 1000 {
        return data::imagenet1k_names();
    }
    stated.clone()
}

/// Fails where `--set model.size=…` names another encoder than the file's.
fn refuse_size(path: &Path, facts: &Facts, set: &[String]) -> Result<(), CliError> {
    let sizes: Vec<String> =
        set.iter().filter(|set| key_of(set) == "model.size").cloned().collect();
    if sizes.is_empty() {
        return Ok(());
    }
    let text = "name = \"size\"\n[data]\nformat = \"synthetic\"\n";
    let options = Options { missing_data: Missing::Warn, gpus: |_| 0 };
    let named = only_point(recipe::resolve_text(path, text, &[], &sizes, &options)?).plan.model;
    if (named.patch_size, named.embed_dim, named.depth)
        == (facts.patch_size, facts.embed_dim, facts.depth)
    {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{} contradicts {}: width {}, {} blocks, patches of {}\nhint: leave it out",
        sizes[0],
        path.display(),
        facts.embed_dim,
        facts.depth,
        facts.patch_size
    )))
}

/// Fails where there is nothing to paint with.
fn refuse_without_decoder(path: &Path, facts: &Facts) -> Result<(), CliError> {
    if facts.decoder.is_some() {
        return Ok(());
    }
    let what = match facts.head {
        Head::Absent => "an encoder alone",
        Head::Linear { .. } => "a fine-tuned classifier",
        Head::Probe { .. } => "a linear probe",
    };
    Err(CliError::Usage(format!(
        "{}: {what} cannot reconstruct, it has no decoder\n\
         hint: give the checkpoint of a pre-training, as runs/NAME/pretrain/checkpoints/epoch-0800; of the official files those \
         called mae_visualize_… and mae_pretrain_…_full have a decoder",
        path.display()
    )))
}

/// Whether a `--set` is about a part that the checkpoint has; others are accepted and have no effect.
fn is_of_its_parts(set: &str, facts: &Facts) -> bool {
    let of = |table: &str| key_of(set).starts_with(table);
    let decoder = of("pretrain.") || of("model.decoder_");
    let linear = matches!(facts.head, Head::Linear { .. });
    let probe = matches!(facts.head, Head::Probe { .. });
    !(decoder && facts.decoder.is_none() || of("finetune.") && !linear || of("linprobe.") && !probe)
}

/// What there is to write the recipe of somebody's checkpoint from.
struct Described<'a> {
    path: &'a Path,
    facts: &'a Facts,
    /// A recipe that may say what the file does not.
    other: Option<&'a Plan>,
    set: &'a [String],
    ask: Ask,
}

impl Described<'_> {
    /// Writes the recipe.
    fn recipe(&self) -> Result<String, CliError> {
        let mut text = self.data();
        text += &self.encoder()?;
        if let Some(decoder) = &self.facts.decoder {
            text += &self.decoder(decoder)?;
        }
        let stage = match (self.facts.stage(), self.facts.head) {
            ("pretrain", _) => self.pretrain()?,
            (stage, Head::Linear { global_pool, .. } | Head::Probe { global_pool, .. }) => {
                let aa = if stage == "finetune" { "aa = \"\"\n" } else { "" };
                format!("[{stage}]\nfrom = \"scratch\"\nglobal_pool = {global_pool}\n{aa}")
            }
            _ => String::new(),
        };
        Ok(text + &stage)
    }

    fn data(&self) -> String {
        let (facts, settings) = (self.facts, &self.facts.settings);
        let mut text = format!(
            "name = \"imported\"\n[data]\nformat = \"synthetic\"\nin_chans = {}\n",
            facts.in_chans
        );
        if let Some(size) = facts.input_size {
            let _ = writeln!(text, "input_size = {size}");
        }
        for (key, values) in [("mean", &settings.mean), ("std", &settings.std)] {
            if let Some(values) = values.as_ref().filter(|values| values.len() == facts.in_chans) {
                let _ = writeln!(text, "{key} = {values:?}");
            }
        }
        text
    }

    fn encoder(&self) -> Result<String, CliError> {
        let (facts, settings) = (self.facts, &self.facts.settings);
        let same = self.other.map(|plan| &plan.model).filter(|m| m.embed_dim == facts.embed_dim);
        let heads = settings
            .num_heads
            .or(same.map(|model| model.num_heads))
            .or(checkpoint::usual_heads(facts.embed_dim));
        let what = format!("how many attention heads its encoder of width {} has", facts.embed_dim);
        let asked = self.ask != Ask::Nothing;
        Ok(format!(
            "[model]\npatch_size = {}\nembed_dim = {}\ndepth = {}\nmlp_ratio = {:?}\nnorm_eps = {:?}\n{}",
            facts.patch_size,
            facts.embed_dim,
            facts.depth,
            facts.mlp_ratio(),
            settings.norm_eps.unwrap_or(1e-6),
            self.heads("num_heads", heads, asked, &what)?
        ))
    }

    fn decoder(&self, decoder: &DecoderFacts) -> Result<String, CliError> {
        let width = decoder.embed_dim;
        let same = self.other.map(|plan| &plan.model).filter(|m| m.decoder_embed_dim == width);
        let heads = decoder
            .num_heads
            .or(same.map(|model| model.decoder_num_heads))
            .or(checkpoint::usual_decoder_heads(width));
        let what = format!("how many attention heads its decoder of width {width} has");
        let asked = self.ask >= Ask::Everything;
        Ok(format!(
            "decoder_embed_dim = {width}\ndecoder_depth = {}\n{}",
            decoder.depth,
            self.heads("decoder_num_heads", heads, asked, &what)?
        ))
    }

    /// A line that gives a number of heads. Where it is unknown: an error if it is asked for, else one head, which fits
    /// every width and is used for nothing.
    fn heads(
        &self,
        key: &str,
        heads: Option<usize>,
        asked: bool,
        what: &str,
    ) -> Result<String, CliError> {
        match heads {
            Some(heads) => Ok(format!("{key} = {heads}\n")),
            None if self.is_set(&format!("model.{key}")) => Ok(String::new()),
            None if asked => Err(self.missing(&format!("model.{key}"), what)),
            None => Ok(format!("{key} = 1\n")),
        }
    }

    fn pretrain(&self) -> Result<String, CliError> {
        let settings = &self.facts.settings;
        let other = self.other.and_then(|plan| plan.pretrain.as_ref());
        let norm_pix_loss = settings.norm_pix_loss.or(other.map(|plan| plan.norm_pix_loss));
        let key = "pretrain.norm_pix_loss";
        let mut text = match norm_pix_loss {
            Some(on) => format!("[pretrain]\nnorm_pix_loss = {on}\n"),
            None if self.ask >= Ask::Everything && !self.is_set(key) => {
                return Err(self.missing(key, "whether its decoder paints normalized patches"));
            }
            None => "[pretrain]\n".to_owned(),
        };
        if let Some(ratio) = settings.mask_ratio.or(other.map(|plan| plan.mask_ratio)) {
            let _ = writeln!(text, "mask_ratio = {ratio:?}");
        }
        Ok(text)
    }

    fn is_set(&self, key: &str) -> bool {
        self.set.iter().any(|set| key_of(set) == key)
    }

    fn missing(&self, key: &str, what: &str) -> CliError {
        CliError::Usage(format!(
            "{} does not say {what}\nhint: give `{key}`: --set {key}=..., or --recipe FILE with the model's own recipe",
            self.path.display()
        ))
    }
}

/// Fails where a plan contradicts the checkpoint: what a shape or a `config.json` says cannot be set otherwise.
fn agrees(path: &Path, facts: &Facts, plan: &Plan) -> Result<(), CliError> {
    let (model, settings) = (&plan.model, &facts.settings);
    let count = |key, stated: Option<usize>, given: usize| {
        (key, stated.map(|stated| stated.to_string()), given.to_string())
    };
    let flag = |key, stated: Option<bool>, given: bool| {
        (key, stated.map(|stated| stated.to_string()), given.to_string())
    };
    let mut pairs = vec![
        count("model.patch_size", Some(facts.patch_size), model.patch_size),
        count("model.embed_dim", Some(facts.embed_dim), model.embed_dim),
        count("model.depth", Some(facts.depth), model.depth),
        count("model.num_heads", settings.num_heads, model.num_heads),
        count("data.in_chans", Some(facts.in_chans), plan.data.in_chans),
        count("data.input_size", facts.input_size, plan.data.input_size),
    ];
    if shape::mlp_dim(model.embed_dim, model.mlp_ratio) != facts.mlp_dim {
        let stated = Some(facts.mlp_ratio().to_string());
        pairs.push(("model.mlp_ratio", stated, model.mlp_ratio.to_string()));
    }
    if let Some(decoder) = &facts.decoder {
        let (width, depth) = (decoder.embed_dim, decoder.depth);
        pairs.push(count("model.decoder_embed_dim", Some(width), model.decoder_embed_dim));
        pairs.push(count("model.decoder_depth", Some(depth), model.decoder_depth));
        pairs.push(count("model.decoder_num_heads", decoder.num_heads, model.decoder_num_heads));
        pairs.extend(plan.pretrain.as_ref().map(|pretrain| {
            flag("pretrain.norm_pix_loss", settings.norm_pix_loss, pretrain.norm_pix_loss)
        }));
    }
    match (facts.head, &plan.finetune, &plan.linprobe) {
        (Head::Linear { global_pool, .. }, Some(plan), _) => {
            pairs.push(flag("finetune.global_pool", Some(global_pool), plan.global_pool));
        }
        (Head::Probe { global_pool, .. }, _, Some(plan)) => {
            pairs.push(flag("linprobe.global_pool", Some(global_pool), plan.global_pool));
        }
        _ => {}
    }
    for (key, stated, given) in pairs {
        if let Some(stated) = stated.filter(|stated| *stated != given) {
            return Err(CliError::Usage(format!(
                "{key} = {given} contradicts {}, which says {stated}\nhint: leave it out, or give {key}={stated}",
                path.display()
            )));
        }
    }
    Ok(())
}
