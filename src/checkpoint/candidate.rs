//! Converts one network of a checkpoint file to the official tensor names, and checks whether this program supports it.

use super::content::{Attribute, Entry};
use super::dialects::{Dialect, Named};
use super::facts::{Head, Settings};
use super::networks::Network;
use super::{Facts, HostTensor, TensorFile, parts, pickled};
use pickled::Weight;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Candidate {
    pub prefix: String,
    pub dialect: Dialect,
    /// The network's tensors with the official names.
    pub file: TensorFile,
    /// Official name, Paddle's name and shape of each weight, in the order of the checkpoint file.
    pub order: Vec<Weight>,
    /// Whether the checkpoint file stores linear weights as `[in, out]`, as Paddle does.
    ///
    /// The weights in the field `file` are always `[out, in]`.
    pub transposed: bool,
    /// The facts about the network, or the reason why this program does not support the network.
    pub facts: Result<Facts, String>,
    /// Notes for the user about ignored and added tensors.
    pub notes: Vec<String>,
}

/// Converts a network to the official tensor names.
///
/// The result has an error in `facts` if this program does not support the network.
pub(super) fn evaluate(
    network: Network,
    attributes: &BTreeMap<String, Attribute>,
    settings: Settings,
) -> Candidate {
    let Network { prefix, dialect, members, others, .. } = network;
    let settings = with_dialect(settings, dialect, &prefix, attributes);
    let mut candidate = Candidate {
        prefix,
        dialect,
        file: TensorFile::default(),
        order: Vec::new(),
        transposed: false,
        facts: Err(String::new()),
        notes: Vec::new(),
    };
    candidate.facts = candidate.fill(members, &others, attributes, settings);
    candidate
}

impl Candidate {
    fn fill(
        &mut self,
        members: Vec<(String, Entry)>,
        others: &[(String, String)],
        attributes: &BTreeMap<String, Attribute>,
        settings: Settings,
    ) -> Result<Facts, String> {
        let left_out = foreign_modules(self.dialect, members.iter().map(|(name, _)| name.as_str()));
        let is_left_out = |name: &str| left_out.contains(first(name));
        let names = members.iter().map(|(name, _)| name.as_str());
        let shown = names.filter(|name| !is_left_out(name) || name.contains("pre_logits"));
        let unsupported = parts::list(shown);
        if !unsupported.is_empty() {
            return Err(format!("mae does not support {unsupported}"));
        }
        if let Some(problem) = wrong_activation(&self.prefix, attributes) {
            return Err(problem);
        }
        let mut names = Names::default();
        for (name, entry) in members {
            if !is_left_out(&name) {
                names.add(self.dialect, name, entry, &mut self.order)?;
            }
        }
        let mut tensors = names.finish(&mut self.notes)?;
        if !left_out.is_empty() {
            let modules: Vec<String> = left_out.iter().map(|m| format!("`{m}.`")).collect();
            self.notes.push(format!(
                "mae does not support this head or decoder and ignores its tensors: {}",
                modules.join(", ")
            ));
        }
        for (name, what) in others {
            if self.dialect.knows(name) {
                return Err(format!("`{name}` is not a float tensor. Type in the file: {what}"));
            }
        }
        self.transposed = transpose(&mut tensors);
        if !tensors.contains_key("decoder_embed.weight") {
            tensors.remove("mask_token"); // iBOT and DINOv2 use the mask token only in training
        }
        self.file = TensorFile { tensors, note: String::new() };
        self.check_shapes(&settings)?;
        let mut facts = Facts::of(&self.file, settings)?;
        facts.num_heads = facts.num_heads.or(unusual_heads(self.dialect, &self.prefix, &facts));
        facts.settings.num_heads = facts.num_heads;
        check_pooling(&facts)?;
        Ok(facts)
    }

    /// Fails if tensor shapes show an unsupported network, such as a network with a gated MLP.
    fn check_shapes(&self, settings: &Settings) -> Result<(), String> {
        let shape = |name: &str| self.file.tensors.get(name).map(|tensor| &tensor.shape[..]);
        let empty = self.file.tensors.iter().find(|(_, tensor)| tensor.shape == [0]);
        if let Some((name, _)) = empty {
            return Err(format!(
                "`{name}` is empty, because DeepSpeed (ZeRO stage 3) keeps the weights in other files. Join these \
                 files with DeepSpeed's `zero_to_fp32.py`"
            ));
        }
        if let (Some([hidden, _]), Some([_, half])) =
            (shape("blocks.0.mlp.fc1.weight"), shape("blocks.0.mlp.fc2.weight"))
            && *hidden == half.saturating_mul(2)
        {
            return Err(format!(
                "mae does not support a gated MLP (`blocks.0.mlp.fc1` has {hidden} outputs, but `fc2` has {half} inputs)"
            ));
        }
        if shape("cls_token").is_none() {
            return Err("the class token (`cls_token`) is missing".to_owned());
        }
        let patch = shape("patch_embed.proj.weight");
        let patch_area = patch.and_then(<[usize]>::last).map_or(0, |side| side * side);
        if let Some([1, tokens, _]) = shape("pos_embed")
            && tokens.isqrt().pow(2) == *tokens
            && *tokens > 1
            && settings.input_size.is_none_or(|size| size.area() != (tokens - 1) * patch_area)
        {
            return Err("`pos_embed` has no entry for the class token".to_owned());
        }
        Ok(())
    }
}

/// Returns the number of attention heads for two unusual networks; `None` for all other networks.
///
/// The two networks are the ViT-S of mmpretrain and the ViT-S of `MoCo` v3.
fn unusual_heads(dialect: Dialect, prefix: &str, facts: &Facts) -> Option<usize> {
    let is_moco = ["base_encoder", "momentum_encoder"].iter().any(|name| prefix.contains(name));
    match (dialect, facts.embed_dim, facts.depth, facts.mlp_dim) {
        // `arch="small"` of mmpretrain.
        (Dialect::MmPretrain, 768, 8, 2304) => Some(8),
        // `vit_small` of MoCo v3.
        (Dialect::Official, 384, 12, 1536) if is_moco => Some(12),
        _ => None,
    }
}

fn first(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Returns the names of head and decoder modules with unknown tensors, such as `head`.
///
/// The caller ignores these modules.
fn foreign_modules<'a>(dialect: Dialect, names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let modules: &[&str] = match dialect {
        Dialect::Official => &["head", "masked_embed"],
        Dialect::Torchvision => &[],
        other => other.siblings(),
    };
    names
        .filter(|name| modules.contains(&first(name)))
        .filter(|name| matches!(dialect.rename(name), Named::Unknown))
        .map(|name| first(name).to_owned())
        .collect()
}

/// Tensors by official name. `parts` holds separate query, key and value tensors.
#[derive(Default)]
struct Names {
    tensors: BTreeMap<String, HostTensor>,
    parts: BTreeMap<String, [Option<HostTensor>; 3]>,
}

impl Names {
    fn add(
        &mut self,
        dialect: Dialect,
        name: String,
        entry: Entry,
        order: &mut Vec<Weight>,
    ) -> Result<(), String> {
        let named = match dialect.rename(&name) {
            Named::LeftOut => return Ok(()),
            Named::Part(name, i) => {
                self.parts.entry(name).or_default()[i] = Some(entry.tensor);
                return Ok(());
            }
            Named::As(named) => named,
            Named::Unknown => name, // `inventory` reports an error
        };
        let shape = entry.tensor.shape.clone();
        order.push(Weight { name: named.clone(), internal: entry.internal, shape });
        match self.tensors.insert(named, entry.tensor) {
            Some(earlier) if self.tensors.get(&order[order.len() - 1].name) != Some(&earlier) => {
                Err(format!(
                    "the file has two different tensors for `{}`",
                    order[order.len() - 1].name
                ))
            }
            _ => Ok(()),
        }
    }

    /// Joins query, key and value to `qkv`. Adds zeros for missing biases, and a note to `notes`.
    fn finish(mut self, notes: &mut Vec<String>) -> Result<BTreeMap<String, HostTensor>, String> {
        let without_keys = |(name, parts): (&String, &[Option<HostTensor>; 3])| {
            is_bias(name) && matches!(parts, [Some(_), None, Some(_)])
        };
        let biases = self.parts.keys().filter(|name| is_bias(name)).count();
        if biases > 0 && self.parts.iter().filter(|part| without_keys(*part)).count() == biases {
            notes.push(
                "the attention keys have no bias, so mae uses zeros as their bias".to_owned(),
            );
            for (_, parts) in self.parts.iter_mut().filter(|(name, _)| is_bias(name)) {
                parts[1] = parts[0].as_ref().map(zeros_like);
            }
        }
        for (name, parts) in self.parts {
            self.tensors.insert(name.clone(), joined(&name, parts)?);
        }
        if !self.tensors.keys().any(|name| name.ends_with(".attn.qkv.bias")) {
            let weights =
                self.tensors.iter().filter(|(name, _)| name.ends_with(".attn.qkv.weight"));
            let zeros: Vec<(String, HostTensor)> = weights
                .filter_map(|(name, weight)| {
                    let shape = vec![*weight.shape.iter().max()?];
                    let bias = HostTensor { values: vec![0.0; shape[0]], shape };
                    Some((name.replace(".weight", ".bias"), bias))
                })
                .collect();
            if !zeros.is_empty() {
                notes.push("`attn.qkv` has no bias, so mae uses zeros as its bias".to_owned());
            }
            self.tensors.extend(zeros);
        }
        Ok(self.tensors)
    }
}

fn is_bias(name: &str) -> bool {
    name.rsplit('.').next() == Some("bias")
}

fn zeros_like(tensor: &HostTensor) -> HostTensor {
    HostTensor { shape: tensor.shape.clone(), values: vec![0.0; tensor.values.len()] }
}

/// Concatenates query, key and value. Fails if one of them is missing, or if their shapes differ.
fn joined(name: &str, parts: [Option<HostTensor>; 3]) -> Result<HostTensor, String> {
    let [Some(query), Some(key), Some(value)] = parts else {
        return Err(format!("`{name}` is incomplete: its query, key or value tensor is missing"));
    };
    if query.shape != key.shape || query.shape != value.shape || query.shape.is_empty() {
        return Err(format!("the query, key and value tensors of `{name}` have different shapes"));
    }
    let mut shape = query.shape.clone();
    shape[0] *= 3;
    Ok(HostTensor { shape, values: [query.values, key.values, value.values].concat() })
}

/// Transposes all linear weights if they are stored as `[in, out]`.
///
/// Returns whether it transposed the weights.
fn transpose(tensors: &mut BTreeMap<String, HostTensor>) -> bool {
    let qkv = tensors.get("blocks.0.attn.qkv.weight").map(|tensor| &tensor.shape[..]);
    let transposed = matches!(qkv, Some([a, b]) if *b == a.saturating_mul(3));
    if transposed {
        tensors.values_mut().filter(|t| t.shape.len() == 2).for_each(pickled::transpose);
    }
    transposed
}

/// Adds missing settings from the attributes of a pickled module.
///
/// Without attributes, uses the defaults of the library that wrote the checkpoint.
fn with_dialect(
    settings: Settings,
    dialect: Dialect,
    prefix: &str,
    attributes: &BTreeMap<String, Attribute>,
) -> Settings {
    let of = |ending: &str, has: &dyn Fn(&str) -> bool| {
        let mut own =
            attributes.range(prefix.to_owned()..).take_while(|(n, _)| n.starts_with(prefix));
        own.find(|(name, _)| {
            name.rsplit('.').next().is_some_and(|last| last.ends_with(ending)) && has(name)
        })
        .map(|(_, value)| value)
    };
    let count = |value: Option<&Attribute>| match value {
        Some(Attribute::Count(count)) => Some(*count),
        _ => None,
    };
    let is_decoder = |name: &str| name.contains("decoder");
    let heads = ["num_heads", "num_attention_heads"]
        .map(|ending| count(of(ending, &|name| !is_decoder(name))));
    let decoder_heads =
        ["num_heads", "num_attention_heads"].map(|ending| count(of(ending, &is_decoder)));
    let eps = of("eps", &|name| name.contains("norm") || name.contains("ln"));
    let pool = of("global_pool", &|_| true);
    Settings {
        num_heads: settings.num_heads.or(heads[0]).or(heads[1]),
        decoder_num_heads: settings.decoder_num_heads.or(decoder_heads[0]).or(decoder_heads[1]),
        norm_eps: settings.norm_eps.or(match eps {
            Some(Attribute::Number(eps)) => Some(*eps),
            // The default of transformers. The other libraries have the same default as a recipe.
            _ => (dialect == Dialect::HuggingFace).then_some(1e-12),
        }),
        average_pool: settings.average_pool.or(match (dialect, pool) {
            (Dialect::HuggingFace | Dialect::Torchvision, _) => Some(false),
            (_, Some(Attribute::Word(pool))) => Some(pool == "avg"),
            _ => None,
        }),
        ..settings
    }
}

/// Returns an error text if an MLP does not use exact GELU.
fn wrong_activation(prefix: &str, attributes: &BTreeMap<String, Attribute>) -> Option<String> {
    let mut own = attributes.range(prefix.to_owned()..).take_while(|(n, _)| n.starts_with(prefix));
    own.find_map(|(name, value)| match (name.rsplit('.').next()?, value) {
        ("activation", Attribute::Word(act)) if !name.contains("pooler") => {
            Some(format!("the activation function is {act} (`{name}`), but mae supports only GELU"))
        }
        ("approximate", Attribute::Word(how)) if how != "none" => Some(format!(
            "the GELU is approximate (`{name}` is {how}), but mae supports only the exact GELU"
        )),
        _ => None,
    })
}

pub(super) const MEAN_AFTER_NORM: &str = "the head averages the patch tokens after the last norm (`global_pool=\"avg\"` \
                                          without `fc_norm`), but mae supports only averaging before the norm (with \
                                          `fc_norm`)";

/// Fails if the head averages the patch tokens after the last norm. This program does not support such a head.
fn check_pooling(facts: &Facts) -> Result<(), String> {
    match (facts.head, facts.settings.average_pool) {
        (Head::Linear { global_pool: false, .. }, Some(true)) => Err(MEAN_AFTER_NORM.to_owned()),
        _ => Ok(()),
    }
}
