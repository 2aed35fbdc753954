//! The numbers of the official code: masks, losses, gradients, updates, schedules, position embeddings.
//!
//! Cases live in `tests/golden/`; where a larger collection lies beside the repository, it is checked too.

#![expect(clippy::unwrap_used, reason = "a case that cannot be read is a failed test")]

use burn::module::Module;
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::TensorData;
use mae::model;
use mae::model::DecoderDims;
use mae::model::EncoderDims;
use mae::model::Mae;
use mae::model::Masks;
use mae::model::ProbeHead;
use mae::model::Vit;
use mae::optim;
use mae::optim::Group;
use mae::optim::Optimizer;
use mae::optim::Rule;
use mae::optim::Schedule;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;

/// Forward and loss, relative to the tensor's largest entry: the official code in float32 is 1.3e-6 away.
const FORWARD: f64 = 1e-5;
/// Gradients, likewise; the official code in float32 is 1e-6 away, 1.5e-5 where patches are flat.
const GRADIENT: f64 = 5e-5;
/// Parameters after a few updates, absolute; the official code in float32 is 3e-7 away.
const PARAMETER: f64 = 5e-6;

struct Case {
    name: String,
    json: Value,
    bytes: Vec<u8>,
}

impl Case {
    fn all(kind: &str) -> Vec<Self> {
        let mut found = Vec::new();
        for folder in ["tests/golden", "../shared/reference"] {
            let Ok(entries) = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
            else {
                continue;
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                let Ok(text) = std::fs::read_to_string(path.join("case.json")) else { continue };
                let json: Value = serde_json::from_str(&text).unwrap();
                if json["kind"] == kind {
                    let bytes = std::fs::read(path.join("tensors.safetensors")).unwrap();
                    found.push(Self { name: path.display().to_string(), json, bytes });
                }
            }
        }
        assert!(!found.is_empty(), "no case of kind {kind}");
        found
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.file().tensor(name).unwrap().shape().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = self.file();
        let view = file.tensor(name).unwrap_or_else(|_| panic!("{}: no {name}", self.name));
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn ints(&self, name: &str) -> Vec<i64> {
        let file = self.file();
        let view = file.tensor(name).unwrap();
        view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", self.name))
    }

    fn count(&self, key: &str) -> usize {
        self.json[key].as_u64().unwrap() as usize
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.json[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn encoder(&self) -> EncoderDims {
        let m = |key: &str| self.json["model"][key].as_f64().unwrap();
        EncoderDims {
            input_size: m("input_size") as usize,
            patch_size: m("patch_size") as usize,
            in_chans: 3,
            embed_dim: m("embed_dim") as usize,
            depth: m("depth") as usize,
            num_heads: m("num_heads") as usize,
            mlp_dim: (m("embed_dim") * m("mlp_ratio")) as usize,
            norm_eps: 1e-6,
        }
    }

    fn decoder(&self) -> DecoderDims {
        let m = |key: &str| self.json["model"][key].as_f64().unwrap();
        DecoderDims {
            embed_dim: m("decoder_embed_dim") as usize,
            depth: m("decoder_depth") as usize,
            num_heads: m("decoder_num_heads") as usize,
            mlp_dim: (m("decoder_embed_dim") * m("mlp_ratio")) as usize,
        }
    }

    fn schedule(&self) -> Schedule {
        Schedule {
            lr: self.number("lr"),
            min_lr: self.number("min_lr"),
            warmup_epochs: self.number("warmup_epochs"),
            epochs: self.number("epochs"),
        }
    }

    /// Gives a module the case's `weights.*`; parameters the case does not have stay (the fixed tables).
    fn weighted<M: Module>(&self, module: M) -> M {
        let file = self.file();
        model::apply(module, |name, shape, old| {
            let name = format!("weights.{name}");
            file.tensor(&name).ok()?;
            assert_eq!(self.shape(&name), shape, "{name}");
            let values = self.floats(&name);
            let len = values.len();
            Some(Tensor::from_data(TensorData::new(values, [len]), &old.device()))
        })
    }

    /// Image tensor `index` of a stack `[steps, N, C, H, W]`.
    fn images(&self, index: usize) -> Tensor<4> {
        let shape = self.shape("imgs");
        let [n, c, h, w]: [usize; 4] = shape[shape.len() - 4..].try_into().unwrap();
        let all = self.floats("imgs");
        let one = all[index * n * c * h * w..][..n * c * h * w].to_vec();
        Tensor::from_data(TensorData::new(one, [n, c, h, w]), &Device::flex())
    }

    fn close(&self, what: &str, got: &[f32], expected: &[f32], tolerance: f64, relative: bool) {
        assert_eq!(got.len(), expected.len(), "{}: {what}", self.name);
        let largest = expected.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
        let scale = if relative { largest.max(1e-12) } else { 1.0 };
        let worst = got
            .iter()
            .zip(expected)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs() / scale)
            .fold(0f64, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        assert!(
            worst <= tolerance,
            "{}: {what} is {worst:e} away, allowed {tolerance:e}",
            self.name
        );
    }

    /// Compares a module's parameters with `prefix.*`; key biases get `lr_sum`, the rates so far.
    ///
    /// A key bias has no gradient in exact arithmetic, and Adam scales its rounding noise up to the whole rate.
    fn same_parameters<M: Module>(&self, module: &M, prefix: &str, lr_sum: f64) {
        for param in model::named(module) {
            let got = vector(param.values);
            let expected = self.floats(&format!("{prefix}.{}", param.name));
            if param.name.ends_with("qkv.bias") {
                let third = got.len() / 3;
                for (part, tolerance) in [(0, PARAMETER), (1, PARAMETER + lr_sum), (2, PARAMETER)] {
                    let range = part * third..(part + 1) * third;
                    self.close(
                        &param.name,
                        &got[range.clone()],
                        &expected[range],
                        tolerance,
                        false,
                    );
                }
            } else {
                self.close(&param.name, &got, &expected, PARAMETER, false);
            }
        }
    }
}

fn vector<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn scalar(tensor: &Tensor<1>) -> f32 {
    vector(tensor.clone())[0]
}

fn optimizer<M: Module>(
    module: &M,
    rule: Rule,
    group: impl Fn(&str, &[usize]) -> Group,
) -> Optimizer {
    let trained: Vec<_> = model::named(module).into_iter().filter(|p| p.trained).collect();
    let groups = trained.iter().map(|p| group(&p.name, &p.shape)).collect();
    Optimizer::new(rule, trained.into_iter().map(|p| p.name).collect(), groups)
}

fn step<M: Module>(module: M, optimizer: &mut Optimizer, grads: Vec<Tensor<1>>, lr: f64) -> M {
    let mut grads = grads.into_iter();
    model::update(module, |i, param| optimizer.step(i, param, grads.next().unwrap(), lr))
}

#[test]
fn a_masked_autoencoder_gives_the_official_loss_and_gradients() {
    for case in Case::all("mae_forward") {
        let (encoder, decoder) = (case.encoder(), case.decoder());
        let mae = case.weighted(Mae::zeros(&encoder, &decoder, &Device::flex()));
        let masks = Masks::from_noise(
            &case.floats("noise"),
            encoder.num_patches(),
            case.number("mask_ratio"),
        );
        assert_eq!(
            masks.ids_restore.iter().map(|id| i64::from(*id)).collect::<Vec<_>>(),
            case.ints("ids_restore")
        );
        assert_eq!(masks.mask, case.floats("mask"));
        let norm_pix_loss = case.json["norm_pix_loss"].as_bool().unwrap();
        let replica = mae.clone().train();
        let output = replica.forward(case.images(0), &masks, norm_pix_loss);
        case.close(
            "loss",
            &vector(output.loss.clone().inner()),
            &case.floats("loss"),
            FORWARD,
            true,
        );
        case.close(
            "pred",
            &vector(output.pred.clone().inner()),
            &case.floats("pred"),
            FORWARD,
            true,
        );
        let latent = mae.forward_encoder(case.images(0), &masks);
        case.close("latent", &vector(latent), &case.floats("latent"), FORWARD, true);
        let patches = model::patchify(case.images(0), encoder.patch_size);
        case.close("target_patches", &vector(patches), &case.floats("target_patches"), 0.0, false);
        let picture = model::unpatchify(output.pred.clone().inner(), encoder.patch_size);
        let expected = case.floats("unpatchified_pred");
        case.close("unpatchified_pred", &vector(picture), &expected, FORWARD, true);
        let mut grads = output.loss.backward();
        let grads = model::grads(&replica, &mut grads);
        for (name, grad) in model::trainable_names(&mae).iter().zip(grads) {
            let expected = case.floats(&format!("grads.{name}"));
            case.close(name, &vector(grad), &expected, GRADIENT, true);
        }
    }
}

#[test]
fn pre_training_updates_are_the_official_ones() {
    for case in Case::all("pretrain_steps") {
        let encoder = case.encoder();
        let patches = encoder.num_patches();
        let mut mae = case.weighted(Mae::zeros(&encoder, &case.decoder(), &Device::flex()));
        let mut optimizer =
            optimizer(&mae, Rule::AdamW { beta_1: 0.9, beta_2: 0.95 }, |name, shape| {
                let group = optim::pretrain_group(name, shape, case.number("weight_decay"));
                assert_eq!(
                    Some(group.weight_decay),
                    case.json["weight_decay_of"][name].as_f64(),
                    "{name}"
                );
                group
            });
        let (accum_iter, micro_steps) =
            (case.count("accum_iter"), case.count("micro_steps_per_epoch"));
        let (lrs, losses) =
            (case.numbers("lr_per_micro_step"), case.numbers("loss_per_micro_step"));
        let noise = case.floats("noise");
        let per_step = noise.len() / case.shape("noise")[0];
        let (mut updates, mut lr_sum) = (0, 0.0);
        let mut sum: Option<Vec<Tensor<1>>> = None;
        for (i, expected) in losses.iter().enumerate() {
            let in_epoch = i % micro_steps;
            if in_epoch == 0 {
                sum = None;
            }
            let masks = Masks::from_noise(
                &noise[i * per_step..][..per_step],
                patches,
                case.number("mask_ratio"),
            );
            let replica = mae.clone().train();
            let norm_pix_loss = case.json["norm_pix_loss"].as_bool().unwrap();
            let loss = replica.forward(case.images(i), &masks, norm_pix_loss).loss;
            let got = f64::from(scalar(&loss.clone().inner()));
            assert!((got - expected).abs() / expected < FORWARD, "{}: loss {i}: {got}", case.name);
            let mut grads = (loss * (1.0 / accum_iter as f64)).backward();
            let grads = model::grads(&replica, &mut grads);
            let total = match sum.take() {
                None => grads,
                Some(old) => old.into_iter().zip(grads).map(|(a, b)| a + b).collect(),
            };
            if (in_epoch + 1) % accum_iter != 0 {
                sum = Some(total);
                continue;
            }
            let first = i + 1 - accum_iter;
            let lr =
                case.schedule().at((first / micro_steps) as f64
                    + (first % micro_steps) as f64 / micro_steps as f64);
            assert!(
                (lr - lrs[first]).abs() <= 1e-9 * lr.max(1e-12),
                "{}: lr {first}: {lr}",
                case.name
            );
            mae = step(mae, &mut optimizer, total, lr);
            updates += 1;
            lr_sum += lr;
            if case.json["snapshots"].as_array().unwrap().contains(&Value::from(updates)) {
                case.same_parameters(&mae, &format!("after_{updates}"), lr_sum);
            }
        }
        assert_eq!(updates, case.count("updates"));
    }
}

#[test]
fn fine_tuning_updates_are_the_official_ones() {
    for case in Case::all("finetune_steps") {
        let (encoder, classes) = (case.encoder(), case.count("num_classes"));
        let global_pool = case.json["global_pool"].as_bool().unwrap();
        let mut vit = case.weighted(Vit::zeros(&encoder, classes, global_pool, &Device::flex()));
        let (layer_decay, decay) = (case.number("layer_decay"), case.number("weight_decay"));
        let mut optimizer =
            optimizer(&vit, Rule::AdamW { beta_1: 0.9, beta_2: 0.999 }, |name, shape| {
                let group = optim::finetune_group(name, shape, encoder.depth, layer_decay, decay);
                assert_eq!(
                    Some(group.weight_decay),
                    case.json["weight_decay_of"][name].as_f64(),
                    "{name}"
                );
                let scale = case.json["lr_scale_of"][name].as_f64().unwrap();
                assert!((group.lr_scale - scale).abs() < 1e-9, "{name}");
                group
            });
        let n = case.shape("logits")[1];
        let labels = case.ints("labels");
        let (mut lr_sum, losses) = (0.0, case.numbers("loss_per_step"));
        for (i, expected) in losses.iter().enumerate() {
            let smoothing = match case.json["targets"].as_str().unwrap() {
                "smooth" => case.number("smoothing"),
                _ => 0.0,
            };
            let targets: Vec<f32> = if case.json["targets"] == "soft" {
                case.floats("soft_targets")[i * n * classes..][..n * classes].to_vec()
            } else {
                let labels: Vec<u32> = labels[i * n..][..n].iter().map(|l| *l as u32).collect();
                let hard = mae::data::TargetsSlice::Hard(&labels);
                mae::train::soft_targets(hard, classes, smoothing)
            };
            let targets =
                Tensor::from_data(TensorData::new(targets, [n, classes]), &Device::flex());
            let replica = vit.clone().train();
            let logits = replica.forward(case.images(i));
            let expected_logits = &case.floats("logits")[i * n * classes..][..n * classes];
            case.close("logits", &vector(logits.clone().inner()), expected_logits, FORWARD, true);
            let loss = mae::train::soft_cross_entropy(logits, targets);
            let got = f64::from(scalar(&loss.clone().inner()));
            assert!((got - expected).abs() / expected < FORWARD, "{}: loss {i}: {got}", case.name);
            let mut grads = loss.backward();
            let mut grads = model::grads(&replica, &mut grads);
            if i == 0 {
                for (name, grad) in model::trainable_names(&vit).iter().zip(&grads) {
                    let expected = case.floats(&format!("grads.{name}"));
                    case.close(name, &vector(grad.clone()), &expected, GRADIENT, true);
                }
            }
            let norm = optim::global_norm(&grads);
            let expected_norm = case.numbers("grad_norm_per_step")[i];
            assert!((f64::from(scalar(&norm)) - expected_norm).abs() / expected_norm < GRADIENT);
            if let Some(max_norm) = case.json["clip_grad"].as_f64() {
                grads = optim::clip_by_global_norm(grads, &norm, max_norm);
            }
            let micro_steps = case.count("micro_steps_per_epoch");
            let lr = case.schedule().at(i as f64 / micro_steps as f64);
            assert!((lr - case.numbers("lr_per_step")[i]).abs() <= 1e-9 * lr.max(1e-12));
            vit = step(vit, &mut optimizer, grads, lr);
            lr_sum += lr;
            if case.json["snapshots"].as_array().unwrap().contains(&Value::from(i + 1)) {
                case.same_parameters(&vit, &format!("after_{}", i + 1), lr_sum);
            }
        }
    }
}

#[test]
fn linear_probing_is_the_official_one() {
    for case in Case::all("linprobe_steps") {
        let (encoder, classes) = (case.encoder(), case.count("num_classes"));
        let global_pool = case.json["global_pool"].as_bool().unwrap();
        let vit = case.weighted(Vit::zeros(&encoder, classes, global_pool, &Device::flex()));
        let head = ProbeHead::zeros(encoder.embed_dim, classes, &Device::flex());
        let mut head = model::apply(head, |name, _, old| {
            let values = case.floats(&format!("weights.{}", mae::train::official_probe_name(name)));
            let len = values.len();
            Some(Tensor::from_data(TensorData::new(values, [len]), &old.device()))
        });
        let momentum = case.number("momentum");
        let decay = case.number("weight_decay");
        let mut optimizer =
            optimizer(&head, Rule::Lars { momentum }, |_, shape| optim::probe_group(shape, decay));
        let n = case.shape("logits")[1];
        for (i, expected) in case.numbers("loss_per_step").iter().enumerate() {
            let features = vit.forward_features(case.images(i));
            let labels: Vec<u32> =
                case.ints("labels")[i * n..][..n].iter().map(|l| *l as u32).collect();
            let hard = mae::data::TargetsSlice::Hard(&labels);
            let targets = mae::train::soft_targets(hard, classes, 0.0);
            let targets =
                Tensor::from_data(TensorData::new(targets, [n, classes]), &Device::flex());
            let replica = head.clone().train();
            let logits = replica.forward_train(features.clone());
            let expected_logits = &case.floats("logits")[i * n * classes..][..n * classes];
            case.close("logits", &vector(logits.clone().inner()), expected_logits, FORWARD, true);
            let loss = mae::train::soft_cross_entropy(logits, targets);
            let got = f64::from(scalar(&loss.clone().inner()));
            assert!((got - expected).abs() / expected < FORWARD, "{}: loss {i}: {got}", case.name);
            let mut grads = loss.backward();
            let grads = model::grads(&replica, &mut grads);
            head = head.observe(features);
            let micro_steps = case.count("micro_steps_per_epoch");
            let lr = case.schedule().at(i as f64 / micro_steps as f64);
            head = step(head, &mut optimizer, grads, lr);
        }
        let steps = case.numbers("loss_per_step").len();
        for param in model::named(&head) {
            let name = format!("after_{steps}.{}", mae::train::official_probe_name(&param.name));
            case.close(&name, &vector(param.values), &case.floats(&name), PARAMETER, false);
        }
        // The case evaluates the images of its first step.
        let logits = head.forward(vit.forward_features(case.images(0)));
        case.close("eval_logits", &vector(logits), &case.floats("eval_logits"), FORWARD, true);
    }
}

#[test]
fn schedules_are_the_official_ones() {
    for case in Case::all("schedule") {
        for curve in case.json["curves"].as_array().unwrap() {
            let number = |key: &str| curve[key].as_f64().unwrap();
            let schedule = Schedule {
                lr: number("lr"),
                min_lr: number("min_lr"),
                warmup_epochs: number("warmup_epochs"),
                epochs: number("epochs"),
            };
            for point in curve["points"].as_array().unwrap() {
                let (epoch, lr) = (point[0].as_f64().unwrap(), point[1].as_f64().unwrap());
                let got = schedule.at(epoch);
                assert!((got - lr).abs() <= 1e-9 * lr.abs().max(1e-12), "{epoch}: {got} for {lr}");
            }
        }
    }
}

#[test]
fn position_embeddings_are_the_official_ones() {
    for case in Case::all("pos_embed") {
        for table in case.json["tables"].as_array().unwrap() {
            let dim = table["embed_dim"].as_u64().unwrap() as usize;
            let grid = table["grid_size"].as_u64().unwrap() as usize;
            let got = model::sincos_pos_embed(dim, grid);
            let expected = case.floats(&format!("pos_embed.{dim}.{grid}"));
            let rows = if table["rows"].as_str().is_some_and(|r| r.starts_with("first 3")) {
                [&got[..3 * dim], &got[got.len() - 2 * dim..]].concat()
            } else {
                got.clone()
            };
            case.close("rows", &rows, &expected, 1e-6, false);
            let sum: f64 = got.iter().map(|v| f64::from(*v)).sum();
            assert!((sum - table["sum"].as_f64().unwrap()).abs() < 1e-2, "{sum}");
        }
    }
    for case in Case::all("pos_embed_resize") {
        for size in case.json["sizes"].as_array().unwrap() {
            let [dim, from, to] = [0, 1, 2].map(|i| size[i].as_u64().unwrap() as usize);
            let input = case.floats(&format!("in.{dim}.{from}.{to}"));
            let got = model::resize_pos_embed(&input, dim, to);
            case.close(
                "resized",
                &got,
                &case.floats(&format!("out.{dim}.{from}.{to}")),
                1e-6,
                true,
            );
        }
    }
}
