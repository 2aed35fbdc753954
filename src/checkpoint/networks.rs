//! Finds the Vision Transformers in a flat list of tensors. Determines the prefix of each network, and the library that
//! defines the tensor names of the network.
//!
//! Each network has exactly one patch projection. In `model.patch_embed.proj.weight`, the prefix is `model.`. If the
//! encoder is a submodule, as in `model.vit.embeddings`, the prefix ends before the submodule. If the prefixes of
//! several networks match a tensor name, the tensor belongs to the network with the longest prefix.

use super::content::{self, Entry};
use super::dialects::{self, Dialect};
use std::collections::BTreeMap;

/// The tensors of one network. Tensor names do not include the network's prefix.
#[derive(Debug)]
pub(super) struct Network {
    /// The part before all tensor names of the network, such as `model.`; empty without a prefix.
    pub prefix: String,
    pub dialect: Dialect,
    /// Whether the encoder is a submodule, such as `vit`, beside a head or decoder module.
    is_nested: bool,
    pub members: Vec<(String, Entry)>,
    /// Tensors of the network that are not floats, as (name, description).
    pub others: Vec<(String, String)>,
}

/// The networks in a checkpoint file, and all other tensors.
#[derive(Debug)]
pub(super) struct Networks {
    pub found: Vec<Network>,
    /// Names of tensors that do not belong to any network.
    pub outside: Vec<String>,
}

/// Groups the tensors of a file by network.
pub(super) fn split(entries: Vec<Entry>, others: Vec<(String, String)>) -> Networks {
    let mut found: Vec<Network> = Vec::new();
    for (prefix, dialect, is_nested) in entries.iter().filter_map(|entry| root(&entry.name)) {
        if found.iter().all(|network| network.prefix != prefix) {
            let (members, others) = (Vec::new(), Vec::new());
            found.push(Network { prefix, dialect, is_nested, members, others });
        }
    }
    let mut outside = Vec::new();
    for entry in entries {
        match place(&found, &entry.name) {
            Some((at, name)) => found[at].members.push((name, entry)),
            None if content::is_of_optimizer(&entry.name) => {}
            None => outside.push(entry),
        }
    }
    for network in found.iter_mut().filter(|network| network.is_nested) {
        take_blocks(network, &mut outside);
    }
    for (name, what) in others {
        if let Some((at, name)) = place(&found, &name) {
            found[at].others.push((name, what));
        }
    }
    let outside = outside.into_iter().map(|entry| entry.name).collect();
    Networks { found, outside }
}

/// Moves blocks from `outside` into a network without blocks.
///
/// transformers 5 stores the blocks of `ViTMSNModel` outside of the encoder module.
fn take_blocks(network: &mut Network, outside: &mut Vec<Entry>) {
    let is_block = |name: &str| name.starts_with("encoder.layer.");
    let has_blocks = network.members.iter().any(|(name, _)| {
        name.split_once('.').is_some_and(|(_, rest)| is_block(rest) || rest.starts_with("layers."))
    });
    if network.dialect != Dialect::HuggingFace || has_blocks {
        return;
    }
    for entry in std::mem::take(outside) {
        match entry.name.strip_prefix(&network.prefix).map(without_wrappers) {
            Some(name) if is_block(&name) => network.members.push((name, entry)),
            _ => outside.push(entry),
        }
    }
}

/// Returns (index of the network, tensor name inside the network); `None` if no network has this tensor.
fn place(networks: &[Network], name: &str) -> Option<(usize, String)> {
    if content::is_of_optimizer(name) {
        return None;
    }
    let mut best: Option<(usize, String)> = None;
    for (at, network) in networks.iter().enumerate() {
        let Some(rest) = name.strip_prefix(&network.prefix) else { continue };
        if best.as_ref().is_some_and(|(b, _)| networks[*b].prefix.len() > network.prefix.len()) {
            continue;
        }
        let bare = without_wrappers(rest);
        let first = bare.split('.').next().unwrap_or_default();
        let (encoder, siblings) = (network.dialect.encoder_modules(), network.dialect.siblings());
        if !network.is_nested || encoder.contains(&first) || siblings.contains(&first) {
            best = Some((at, bare));
        }
    }
    best
}

fn without_wrappers(name: &str) -> String {
    let kept: Vec<&str> = name.split('.').filter(|part| !dialects::is_wrapper(part)).collect();
    kept.join(".")
}

/// Returns (prefix, library, whether the encoder is a submodule) of the network with the tensor `name`.
///
/// Returns `None` if `name` is not the name of a patch projection weight.
fn root(name: &str) -> Option<(String, Dialect, bool)> {
    if content::is_of_optimizer(name) {
        return None;
    }
    let parts: Vec<&str> = name.split('.').collect();
    let bare: Vec<usize> =
        (0..parts.len()).filter(|at| !dialects::is_wrapper(parts[*at])).collect();
    let dialect = Dialect::ALL.into_iter().find(|dialect| {
        let anchor = dialect.anchor();
        bare.len() >= anchor.len()
            && bare[bare.len() - anchor.len()..]
                .iter()
                .map(|at| parts[*at])
                .eq(anchor.iter().copied())
    })?;
    let before = bare.len() - dialect.anchor().len();
    let encoder = before.checked_sub(1).map(|last| bare[last]);
    let encoder = encoder.filter(|at| dialect.encoder_modules().contains(&parts[*at]));
    let start = encoder.unwrap_or(bare[before]);
    let prefix: String = parts[..start].iter().flat_map(|part| [*part, "."]).collect();
    Some((prefix, dialect, encoder.is_some()))
}

/// Returns the library with the most matching tensor names, for an error message.
///
/// The result is (library, prefix of the matching names, number of matching names).
pub(super) fn nearest(names: &[String]) -> Option<(Dialect, String, usize)> {
    let mut votes: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for name in names {
        let starts = [0].into_iter().chain(name.match_indices('.').map(|(at, _)| at + 1));
        for start in starts {
            let rest = without_wrappers(&name[start..]);
            for (at, dialect) in Dialect::ALL.into_iter().enumerate() {
                if dialect.knows(&rest) {
                    *votes.entry((at, &name[..start])).or_default() += 1;
                }
            }
        }
    }
    // If several candidates have the same count, prefers the library that is first in `Dialect::ALL`, then the prefix
    // that is first in alphabetical order.
    let most = votes.values().copied().max()?;
    let ((dialect, prefix), _) = votes.into_iter().find(|(_, count)| *count == most)?;
    Some((Dialect::ALL[dialect], prefix.to_owned(), most))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, nearest, root};

    #[test]
    fn the_prefix_is_what_stands_before_the_patch_projection() {
        for (name, prefix, dialect) in [
            ("patch_embed.proj.weight", "", Dialect::Official),
            ("_orig_mod.module.patch_embed.proj.weight", "_orig_mod.module.", Dialect::Official),
            (
                "model._fsdp_wrapped_module.patch_embed._orig_mod.proj.weight",
                "model._fsdp_wrapped_module.",
                Dialect::Official,
            ),
            ("vit.embeddings.patch_embeddings.projection.weight", "", Dialect::HuggingFace),
            (
                "net.module.vit.module.embeddings.patch_embeddings.projection.weight",
                "net.module.",
                Dialect::HuggingFace,
            ),
            (
                "encoder.embeddings.patch_embeddings.projection.weight",
                "encoder.",
                Dialect::HuggingFace,
            ),
            (
                "state_dict.backbone.patch_embed.projection.weight",
                "state_dict.",
                Dialect::MmPretrain,
            ),
            ("model.conv_proj.weight", "model.", Dialect::Torchvision),
        ] {
            let (found, by, _) = root(name).unwrap();
            assert_eq!((found.as_str(), by), (prefix, dialect), "{name}");
        }
        assert!(root("optimizer.exp_avg.patch_embed.proj.weight").is_none());
        assert!(root("patch_embed.proj.0.weight").is_none());
    }

    #[test]
    fn the_nearest_fit_has_most_names() {
        let names = ["a.blocks.0.norm1.weight", "a.blocks.0.norm1.bias", "b.fc.weight"];
        let names = names.map(str::to_owned);
        assert_eq!(nearest(&names), Some((Dialect::Official, "a.".to_owned(), 2)));
        assert_eq!(nearest(&["conv1.weight".to_owned()]), None);
    }
}
