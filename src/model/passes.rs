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
use crate::shape::MaeLoss;
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
    for (i, block) in mae.decoder_blocks.iter().enumerate() {
        links.push(Box::new(move |mae, x| mae.decoder_blocks[i].forward(x)));
        values.push(block.num_params());
    }
    Chain {
        stem: Box::new(move |mae| mae.encoder_tokens(stem_imgs.clone(), &stem_rows)),
        links,
        values,
        frozen: 0,
        head: Box::new(move |mae, x| {
            let pred = without_class_token(mae.predict(x));
            mae.score(pred, imgs.clone(), &rows, loss)
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
mod tests {
    use super::{BackwardMode, Chain, mae_chain, vit_chain};
    use crate::model::{self, Mae, Masks, Vit};
    use crate::shape::{DecoderDims, EncoderDims, LossPatches, MaeLoss, TrainedBlocks};
    use burn::module::Module;
    use burn::tensor::{Device, Tensor, TensorData};

    const N: usize = 3;
    const CLASSES: usize = 5;
    const WEIGHT: f64 = 0.3;

    fn encoder() -> EncoderDims {
        EncoderDims {
            input_size: crate::shape::ImageSize::square(8),
            patch_size: 2,
            in_chans: 3,
            embed_dim: 16,
            depth: 3,
            num_heads: 2,
            mlp_dim: 24,
            norm_eps: 1e-6,
            precision: crate::shape::Precision::Fp32,
        }
    }

    /// Returns irregular numbers between -1 and 1.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    fn imgs(device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(numbers(N * 3 * 8 * 8), [N, 3, 8, 8]), device)
    }

    /// Returns the number of gradient values in each section, the loss, and the gradients.
    fn results<M: Module + 'static>(
        module: &M,
        chain: Chain<M>,
        mode: BackwardMode,
    ) -> (Vec<usize>, Tensor<1>, Vec<Tensor<1>>) {
        let mut sections = Vec::new();
        let mut grads: Vec<Option<Tensor<1>>> =
            model::trainable_names(module).iter().map(|_| None).collect();
        let loss = chain.forward(module, mode).backward(|section| {
            sections.push(section.iter().map(|(_, grad)| grad.dims()[0]).sum());
            for (place, grad) in section {
                assert!(grads[place].replace(grad).is_none(), "{place} is in two sections");
            }
        });
        (
            sections,
            loss,
            grads.into_iter().map(|grad| grad.expect("every parameter has a gradient")).collect(),
        )
    }

    /// Asserts that every [`BackwardMode`] gives the same bits.
    ///
    /// `sections` is the expected number of sections in `BackwardMode::Sections(1)`.
    fn assert_same<M: Module + 'static>(
        module: &M,
        loss: impl FnOnce(&M) -> Tensor<1>,
        chain: impl Fn() -> Chain<M>,
        sections: usize,
    ) {
        let replica = module.clone().train();
        let loss = loss(&replica);
        let mut found = loss.backward();
        let expected = model::grads(&replica, &mut found);
        let loss = loss.inner().into_data();
        let names = model::trainable_names(module);
        let trained: usize = expected.iter().map(|grad| grad.dims()[0]).sum();
        for mode in [
            BackwardMode::Whole,
            BackwardMode::Sections(1),
            BackwardMode::Sections(trained / 3),
            BackwardMode::Recomputed,
        ] {
            let (sizes, total, grads) = results(module, chain(), mode);
            assert_eq!(sizes.iter().sum::<usize>(), trained);
            match mode {
                BackwardMode::Whole => assert_eq!(sizes.len(), 1),
                BackwardMode::Sections(1) => assert_eq!(sizes.len(), sections),
                BackwardMode::Sections(values) => {
                    let [full @ .., _] = &sizes[..] else { panic!("a pass has a section") };
                    assert!(full.iter().all(|size| *size >= values), "{sizes:?}, not {values}");
                    assert_eq!(full.is_empty(), sections == 1, "{sizes:?}");
                }
                BackwardMode::Recomputed => {
                    assert!((sections..=sections + 1).contains(&sizes.len()));
                }
            }
            assert_eq!(total.into_data(), loss, "{mode:?}");
            for ((name, grad), expected) in names.iter().zip(grads).zip(&expected) {
                let values: Vec<f32> = grad.into_data().try_into_vec().unwrap();
                let expected: Vec<f32> = expected.clone().into_data().try_into_vec().unwrap();
                assert!(values.iter().any(|v| *v != 0.0), "{name} has no gradient");
                assert_eq!(values, expected, "{mode:?}: {name}");
            }
        }
    }

    #[test]
    fn every_mode_of_a_mae_gives_the_same_loss_and_gradients() {
        let device = Device::flex();
        let masks = Masks::from_noise(&numbers(N * 16), 16, 0.75);
        let all = MaeLoss { patches: LossPatches::All, ..MaeLoss::masked(false) };
        let cases = [(MaeLoss::masked(false), false), (MaeLoss::masked(true), false), (all, true)];
        for (loss, encoder_mask_token) in cases {
            let shape = DecoderDims {
                embed_dim: 12,
                depth: 2,
                num_heads: 3,
                mlp_dim: 20,
                encoder_mask_token,
            };
            let mae = model::init_mae(Mae::zeros(&encoder(), &shape, &device), 1);
            let chain = || mae_chain(&mae, imgs(&device), &masks, loss).weighted(WEIGHT);
            let whole = |mae: &Mae| mae.forward(imgs(&device), &masks, loss).loss * WEIGHT;
            assert_same(&mae, whole, chain, 3 + 1 + 2 + 1);
        }
    }

    #[test]
    fn every_mode_of_a_vit_gives_the_same_loss_and_gradients() {
        let device = Device::flex();
        let factors: Vec<f32> = (0..N * 6).map(|i| if i % 4 == 1 { 0.0 } else { 1.25 }).collect();
        let factors = Tensor::<2>::from_data(TensorData::new(factors, [N, 6]), &device);
        let mean = |logits: Tensor<2>| logits.square().mean();
        let loss = |logits| mean(logits) * WEIGHT;
        for global_pool in [false, true] {
            let vit = model::init_vit(Vit::zeros(&encoder(), CLASSES, global_pool, &device), 1);
            let dropped = || vit_chain(&vit, imgs(&device), Some(&factors), mean).weighted(WEIGHT);
            let plain = |vit: &Vit| loss(vit.forward_drop_path(imgs(&device), &factors));
            assert_same(&vit, plain, dropped, 3 + 1);
            let last = |blocks, sections| (TrainedBlocks::Last(blocks), sections);
            let half = (TrainedBlocks::HalfOfLast, 1);
            for (trained, sections) in [last(0, 1), half, last(1, 1), last(2, 2), last(3, 4)] {
                let vit = vit.clone().freeze_below(trained);
                let chain = || vit_chain(&vit, imgs(&device), None, mean).weighted(WEIGHT);
                assert_same(&vit, |vit| loss(vit.forward(imgs(&device))), chain, sections);
            }
        }
    }
}
