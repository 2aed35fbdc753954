//! Forward and backward passes: as a whole, in sections, or with gradient checkpointing.
//!
//! A section is a series of transformer blocks with its own autodiff graph. The backward pass starts with the last
//! section. So the gradients of the last blocks are ready early.
//!
//! On the CPU, all modes give the same bits.

use super::block::Block;
use super::mae::{Mae, MaskRows, without_class_token};
use super::masking::Masks;
use super::params::{PartialGrads, found_grads};
use super::vit::Vit;
use crate::ops;
use crate::shape::{LossPatches, MaeLoss};
use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

/// How to run a backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackwardMode {
    /// One backward pass returns all gradients at its end.
    Whole,
    /// The backward pass runs section by section, and returns the gradients after each section.
    ///
    /// The last section comes first. A section is a series of blocks with at least this many parameter values; the
    /// section next to the input may have fewer.
    Sections(usize),
    /// Gradient checkpointing, to save memory.
    ///
    /// The backward pass recomputes the activations of one block at a time.
    Recomputed,
}

type Link<M> = Box<dyn Fn(&M, Tensor<3>) -> Tensor<3>>;
type Head<M> = Box<dyn Fn(&M, Tensor<3>) -> Tensor<1>>;

/// A forward pass from images to the loss, as a series of steps.
///
/// Most steps are transformer blocks. The backward pass can run one step at a time.
pub struct Chain<M> {
    /// Computes the input of the first step.
    stem: Box<dyn Fn(&M) -> Tensor<3>>,
    links: Vec<Link<M>>,
    /// Number of parameter values in each step.
    values: Vec<usize>,
    /// Number of frozen steps at the start. If it is above 0, `stem` is frozen, too.
    frozen: usize,
    /// Computes the loss `[1]` from the output of the last step.
    head: Head<M>,
}

/// Splits [`Mae::forward`] up to its loss into steps. Images are `[N, C, H, W]`.
///
/// If the loss counts only removed patches, the last decoder block stops at its attention for the other tokens on the
/// CPU. The loss does not depend on their outputs. On a GPU, selecting rows costs more than it saves.
pub fn mae_chain(mae: &Mae, imgs: Tensor<4>, masks: &Masks, loss: MaeLoss) -> Chain<Mae> {
    let rows = MaskRows::new(masks, &imgs.device());
    let (stem_rows, bridge_rows, stem_imgs) = (rows.clone(), rows.clone(), imgs.clone());
    let (mut links, mut values): (Vec<Link<Mae>>, _) = (Vec::new(), Vec::new());
    for (i, block) in mae.blocks.iter().enumerate() {
        links.push(Box::new(move |mae, x| mae.blocks[i].forward(x)));
        values.push(block.num_params());
    }
    links.push(Box::new(move |mae, x| mae.decoder_tokens(mae.norm.forward(x), &bridge_rows)));
    values.push(mae.norm.num_params() + mae.decoder_embed.num_params());
    let depth = mae.decoder_blocks.len();
    let only_removed = loss.patches == LossPatches::Masked && depth > 0 && !ops::is_gpu(&imgs);
    for (i, block) in mae.decoder_blocks.iter().enumerate() {
        let removed = (only_removed && i + 1 == depth).then(|| rows.removed_tokens.clone());
        links.push(match removed {
            Some(rows) => Box::new(move |mae, x| mae.decoder_blocks[i].forward_rows(x, &rows)),
            None => Box::new(move |mae, x| mae.decoder_blocks[i].forward(x)),
        });
        values.push(block.num_params());
    }
    Chain {
        stem: Box::new(move |mae| mae.encoder_tokens(stem_imgs.clone(), &stem_rows)),
        links,
        values,
        frozen: 0,
        head: Box::new(move |mae, x| {
            let (pred, imgs) = (mae.predict(x), imgs.clone());
            if only_removed {
                return mae.score_removed(pred, imgs, &rows, loss.norm_pix_loss);
            }
            mae.score(without_class_token(pred), imgs, &rows, loss)
        }),
    }
}

/// Splits [`Vit::forward`] and `loss` into steps. Images are `[N, C, H, W]`.
///
/// `loss` computes the loss from logits. With `factors`, splits [`Vit::forward_drop_path`] instead.
pub fn vit_chain(
    vit: &Vit,
    imgs: Tensor<4>,
    factors: Option<&Tensor<2>>,
    loss: impl Fn(Tensor<2>) -> Tensor<1> + 'static,
) -> Chain<Vit> {
    let link = |i: usize| -> Link<Vit> {
        let factors = factors.cloned();
        Box::new(move |vit, x| match &factors {
            Some(factors) => vit.blocks[i].forward_drop_path(x, factors, i),
            None => vit.blocks[i].forward(x),
        })
    };
    Chain {
        stem: Box::new(move |vit| vit.tokens(imgs.clone())),
        links: (0..vit.blocks.len()).map(link).collect(),
        values: vit.blocks.iter().map(Block::num_params).collect(),
        frozen: vit.frozen_blocks(),
        head: Box::new(move |vit, x| loss(vit.classify(x))),
    }
}

/// A finished forward pass, ready for [`Forward::backward`].
pub struct Forward<M> {
    replica: M,
    kept: Kept<M>,
}

enum Kept<M> {
    /// The loss, and the autodiff graphs of all sections.
    Recorded { loss: Box<Tensor<1>>, seams: Vec<Seam> },
    /// The input of each step, for gradient checkpointing.
    Inputs { chain: Chain<M>, inputs: Vec<Tensor<3>> },
}

struct Seam {
    output: Tensor<3>,
    /// The same values as `output`, as a leaf of the next section's graph.
    input: Tensor<3>,
}

impl<M: Module + 'static> Chain<M> {
    /// Multiplies the loss by `weight`.
    #[must_use]
    pub fn weighted(self, weight: f64) -> Self {
        let head = self.head;
        Self { head: Box::new(move |module, x| head(module, x) * weight), ..self }
    }

    /// Runs the forward pass. `module` has no autodiff; this function adds autodiff to a copy.
    pub fn forward(self, module: &M, mode: BackwardMode) -> Forward<M> {
        let replica = module.clone().train();
        let kept = match mode {
            BackwardMode::Whole => self.record(&replica, usize::MAX),
            BackwardMode::Sections(values) => self.record(&replica, values),
            BackwardMode::Recomputed => Kept::Inputs { inputs: self.inputs(module), chain: self },
        };
        Forward { replica, kept }
    }

    fn record(self, replica: &M, section: usize) -> Kept<M> {
        let seams_before = self.seams_before(section);
        let mut x = (self.stem)(replica);
        drop(self.stem);
        let mut seams = Vec::new();
        for (link, seam_before) in self.links.into_iter().zip(seams_before) {
            if seam_before {
                let input = leaf(x.clone().inner());
                seams.push(Seam { output: x, input: input.clone() });
                x = input;
            }
            x = link(replica, x);
        }
        Kept::Recorded { loss: Box::new((self.head)(replica, x)), seams }
    }

    /// Returns for each step whether a new section starts there.
    ///
    /// A section has at least `section` parameter values.
    fn seams_before(&self, section: usize) -> Vec<bool> {
        let mut values = 0;
        let mut seams: Vec<bool> = (0..self.links.len())
            .rev()
            .map(|i| {
                values += self.values[i];
                let seam = values >= section && (i > self.frozen || self.frozen == 0);
                if seam {
                    values = 0;
                }
                seam
            })
            .collect();
        seams.reverse();
        seams
    }

    /// Runs the forward pass. Returns the input of each step and the input of the loss.
    fn inputs(&self, module: &M) -> Vec<Tensor<3>> {
        let detached = module.clone().no_grad().train();
        let mut inputs = vec![(self.stem)(&detached).inner()];
        for link in &self.links {
            let input = inputs[inputs.len() - 1].clone().autodiff();
            inputs.push(link(&detached, input).inner());
        }
        inputs
    }
}

impl<M: Module> Forward<M> {
    /// Runs the backward pass, and returns the loss `[1]` without autodiff.
    ///
    /// Calls `take` with the gradients of each section, the last section first. `take` receives no gradient for a
    /// parameter that does not affect the loss.
    pub fn backward(self, mut take: impl FnMut(PartialGrads)) -> Tensor<1> {
        let Self { replica, kept } = self;
        let mut back = |scalar: Tensor<1>| {
            let mut found = scalar.backward();
            take(found_grads(&replica, &mut found));
            found
        };
        match kept {
            Kept::Recorded { loss, seams } => {
                let mut scalar = *loss;
                let total = scalar.clone().inner();
                for seam in seams.into_iter().rev() {
                    // `upstream` is the gradient of the loss with respect to the output. So this scalar has the same
                    // gradients as the loss.
                    let upstream = grad_of(&seam.input, &mut back(scalar));
                    scalar = (seam.output * upstream).sum();
                }
                back(scalar);
                total
            }
            Kept::Inputs { chain, mut inputs } => {
                let input = leaf(inputs.pop().expect("the head has an input"));
                let loss = (chain.head)(&replica, input.clone());
                let total = loss.clone().inner();
                let mut upstream = grad_of(&input, &mut back(loss));
                while inputs.len() > chain.frozen
                    && let Some(input) = inputs.pop()
                {
                    let (link, input) = (&chain.links[inputs.len()], leaf(input));
                    let scalar = (link(&replica, input.clone()) * upstream).sum();
                    upstream = grad_of(&input, &mut back(scalar));
                }
                if chain.frozen == 0 {
                    back(((chain.stem)(&replica) * upstream).sum());
                }
                total
            }
        }
    }
}

fn leaf(x: Tensor<3>) -> Tensor<3> {
    x.autodiff().require_grad()
}

fn grad_of(input: &Tensor<3>, found: &mut Gradients) -> Tensor<3> {
    input.grad_remove(found).expect("the loss depends on every section's input")
}

#[cfg(test)]
mod tests;
