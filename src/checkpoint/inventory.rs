//! The names and shapes of all tensors in a network.
//!
//! Opening a file fails if a tensor is missing, has a wrong shape, or does not belong to the network. So a small
//! file cannot describe a huge network.
//!
//! The modules `inventory` and `facts` use each other: `facts` calls [`check`], and [`check`] takes a [`Facts`].

use super::error::listed;
use super::facts::Head;
use super::{Facts, HostTensor};
use crate::shape;
use std::collections::BTreeMap;

const LISTED: usize = 4;

/// Fails if a tensor that the network needs is missing or has a wrong shape, or if there are other tensors.
///
/// Also fails if a tensor contains NaN or infinity. Error texts do not include the file path.
pub(super) fn check(facts: &Facts, tensors: &BTreeMap<String, HostTensor>) -> Result<(), String> {
    let shapes = Inventory::of(facts, tensors)?.shapes;
    for (name, shape) in &shapes {
        match tensors.get(name) {
            Some(tensor) if tensor.shape == *shape => {}
            Some(tensor) => {
                return Err(format!(
                    "`{name}` has the shape {:?}, expected {shape:?}",
                    tensor.shape
                ));
            }
            None => return Err(format!("`{name}` is missing")),
        }
    }
    let others: Vec<&str> =
        tensors.keys().filter(|name| !shapes.contains_key(*name)).map(String::as_str).collect();
    if !others.is_empty() {
        return Err(format!(
            "mae does not support networks with the tensors {}",
            listed(&others, LISTED)
        ));
    }
    match tensors.iter().find(|(_, tensor)| tensor.values.iter().any(|v| !v.is_finite())) {
        Some((name, _)) => Err(format!("`{name}` contains NaN or infinity")),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Inventory {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Inventory {
    fn of(facts: &Facts, tensors: &BTreeMap<String, HostTensor>) -> Result<Self, String> {
        let (d, p) = (facts.embed_dim, facts.patch_size);
        let grid = facts
            .grid()
            .ok_or("the length of `pos_embed` does not fit a square grid of patches")?;
        let tokens = 1 + grid.area();
        let mut all = Self::default();
        all.add("cls_token", &[1, 1, d]);
        all.add("pos_embed", &[1, tokens, d]);
        all.add("patch_embed.proj.weight", &[d, facts.in_chans, p, p]);
        all.add("patch_embed.proj.bias", &[d]);
        all.blocks("blocks", facts.depth, d, facts.mlp_dim, tensors)?;
        let norms = ["norm", "fc_norm"].map(|norm| tensors.contains_key(&format!("{norm}.weight")));
        if norms == [false, false] {
            return Err("`norm.weight` is missing".to_owned());
        }
        for (norm, there) in ["norm", "fc_norm"].into_iter().zip(norms) {
            if there {
                all.norm(norm, d);
            }
        }
        match facts.head {
            Head::Absent => {}
            Head::Linear { classes, .. } => all.linear("head", d, classes),
            Head::Probe { classes, .. } => {
                all.add("head.0.running_mean", &[d]);
                all.add("head.0.running_var", &[d]);
                all.linear("head.1", d, classes);
            }
        }
        if let Some(decoder) = &facts.decoder {
            let e = decoder.embed_dim;
            if decoder.encoder_mask_token {
                all.add("encoder_mask_token", &[1, 1, d]);
            } else {
                all.add("mask_token", &[1, 1, e]);
            }
            all.add("decoder_pos_embed", &[1, tokens, e]);
            all.linear("decoder_embed", d, e);
            all.blocks("decoder_blocks", decoder.depth, e, decoder.mlp_dim, tensors)?;
            all.norm("decoder_norm", e);
            all.linear("decoder_pred", e, p * p * facts.in_chans);
            if shape::mlp_dim(e, facts.mlp_ratio()) != decoder.mlp_dim {
                return Err("the encoder and the decoder have different `mlp_ratio` values, but mae needs equal values".to_owned());
            }
        }
        Ok(all)
    }

    fn add(&mut self, name: &str, shape: &[usize]) {
        self.shapes.insert(name.to_owned(), shape.to_vec());
    }

    fn linear(&mut self, name: &str, from: usize, to: usize) {
        self.add(&format!("{name}.weight"), &[to, from]);
        self.add(&format!("{name}.bias"), &[to]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width]);
        self.add(&format!("{name}.bias"), &[width]);
    }

    /// Adds the tensors of all blocks to the expected tensors. Fails if `tensors` lack a block.
    ///
    /// `list` is the name of the block list, such as `decoder_blocks`.
    fn blocks(
        &mut self,
        list: &str,
        depth: usize,
        width: usize,
        mlp_dim: usize,
        tensors: &BTreeMap<String, HostTensor>,
    ) -> Result<(), String> {
        for i in 0..depth {
            let block = format!("{list}.{i}");
            let first = format!("{block}.norm1.weight");
            if !tensors.contains_key(&first) {
                return Err(format!("`{first}` is missing"));
            }
            self.norm(&format!("{block}.norm1"), width);
            self.linear(&format!("{block}.attn.qkv"), width, width.saturating_mul(3));
            self.linear(&format!("{block}.attn.proj"), width, width);
            self.norm(&format!("{block}.norm2"), width);
            self.linear(&format!("{block}.mlp.fc1"), width, mlp_dim);
            self.linear(&format!("{block}.mlp.fc2"), mlp_dim, width);
        }
        Ok(())
    }
}
