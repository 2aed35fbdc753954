//! A GPU or a software adapter: reference cases and runs are compared with the CPU.
//!
//! This needs a build with `--features wgpu` and a graphics driver, for example Debian's `mesa-vulkan-drivers`.

use super::program::{Bench, TINY, losses};
use burn::module::Module;
use burn::tensor::{Device, DeviceType, Tensor, TensorData};
use mae::model::{self, Block};
use mae::shape::{EncoderDims, ImageSize, Precision};

/// Largest relative difference of a loss from the CPU.
const CLOSE: f64 = 1e-4;

/// Returns `x y` and the gradients of its sum of squares. `turned` transposes `y`. `still` makes `y` a constant.
fn product_on(
    device: &Device,
    (x, y): ([usize; 4], [usize; 4]),
    turned: bool,
    still: bool,
) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let matrix = |shape: [usize; 4], factor: usize| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| (i * factor % 101) as f32 / 50.0 - 1.0).collect();
        Tensor::<4>::from_data(TensorData::new::<f32, _>(values, shape), &device)
    };
    let (x, y) = (matrix(x, 7919).require_grad(), matrix(y, 104_729));
    let y = if still { y } else { y.require_grad() };
    let z = mae::ops::product(x.clone(), if turned { y.clone().transpose() } else { y.clone() });
    let grads = z.clone().square().sum().backward();
    let vector = |data: TensorData| data.try_to_vec::<f32>().expect("a product is fp32");
    let mut all = vec![vector(z.into_data())];
    let gradients = [x, y].into_iter().filter_map(|leaf| leaf.grad(&grads));
    all.extend(gradients.map(|gradient| vector(gradient.into_data())));
    assert_eq!(all.len(), if still { 2 } else { 3 });
    all
}

#[test]
fn products_of_any_shape_and_their_gradients_match_the_cpu() {
    let adapters = Device::enumerate(DeviceType::Wgpu);
    let gpu = adapters.first().expect("a graphics driver");
    for (shapes, turned, still) in [
        (([1, 1, 5, 7], [1, 1, 7, 3]), false, false),
        (([1, 1, 1, 192], [1, 1, 192, 10]), false, true),
        (([3, 1, 6, 8], [3, 1, 8, 1]), false, false),
        (([2, 3, 50, 64], [2, 3, 50, 64]), true, false),
        (([1, 2, 197, 33], [1, 2, 33, 197]), false, false),
        (([1, 1, 394, 48], [1, 1, 144, 48]), true, true),
    ] {
        let expected = product_on(&Device::flex(), shapes, turned, still);
        let got = product_on(gpu, shapes, turned, still);
        for (expected, got) in expected.iter().zip(&got) {
            assert_eq!(expected.len(), got.len());
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let distance = expected.iter().zip(got).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(
                distance <= 1e-5 * largest,
                "{shapes:?} {turned} {still}: {distance} of {largest}"
            );
        }
    }
}

/// Returns the output of a block, and the gradients of its input and its parameters.
///
/// The width makes parts of tensors start at unaligned addresses. The factors of drop path are columns of a wider tensor.
fn block_on(device: &Device) -> Vec<Vec<f32>> {
    let dims = EncoderDims {
        input_size: ImageSize::square(4),
        patch_size: 2,
        in_chans: 1,
        embed_dim: 6,
        depth: 2,
        num_heads: 3,
        mlp_dim: 10,
        norm_eps: 1e-6,
        precision: Precision::Fp32,
    };
    let irregular = |count: usize, factor: usize| -> Vec<f32> {
        (0..count).map(|i| (i * factor % 101) as f32 / 50.0 - 1.0).collect()
    };
    let block = Block::zeros(dims.embed_dim, dims.num_heads, dims.mlp_dim, &dims, device);
    let mut factor = 7919;
    let block = model::apply(block, |_, _, values| {
        factor += 2;
        let values = irregular(values.dims()[0], factor);
        Some(Tensor::from_data(values.as_slice(), device))
    });
    let block = block.train();
    let device = device.clone().autodiff();
    let values = |shape: [usize; 3], factor: usize| {
        let count = shape.iter().product();
        Tensor::<3>::from_data(TensorData::new(irregular(count, factor), shape), &device)
    };
    let x = values([3, 5, 6], 31).require_grad();
    let factors = values([1, 3, 32], 57).squeeze_dim::<2>(0).slice([0..3, 0..24]);
    let y = block.forward_drop_path(x.clone(), &factors, 1);
    let y = block.forward(y);
    let mut grads = (y.clone() * values([3, 5, 6], 613)).sum().backward();
    let vector = |data: TensorData| data.try_to_vec::<f32>().expect("fp32");
    let mut all = vec![vector(y.inner().into_data())];
    all.push(vector(x.grad(&grads).expect("x is tracked").into_data()));
    all.extend(model::grads(&block, &mut grads).into_iter().map(|grad| vector(grad.into_data())));
    all
}

#[test]
fn a_block_of_any_width_and_its_gradients_match_the_cpu() {
    let adapters = Device::enumerate(DeviceType::Wgpu);
    let got = block_on(adapters.first().expect("a graphics driver"));
    for (i, (got, expected)) in got.iter().zip(&block_on(&Device::flex())).enumerate() {
        assert_eq!(got.len(), expected.len(), "{i}");
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-4 * largest, "{i}: {a}, on the CPU {b} of {largest}");
        }
    }
}

#[test]
fn reference_cases_are_within_their_tolerance_on_wgpu() {
    let bench = Bench::new(TINY);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    let cases = ["mae-1-r50-pixel", "finetune-1", "linprobe-0", "pretrain-steps-1"];
    let cases = cases.map(|case| format!("{golden}{case}"));
    let mut args = vec!["verify", "--device", "wgpu"];
    args.extend(cases.iter().map(String::as_str));
    let text = bench.done(&args);
    assert!(text.contains("4 of 4 cases pass on wgpu: "), "{text}");
}

#[test]
fn pre_training_on_wgpu_matches_the_cpu_also_with_gradient_checkpointing() {
    let cpu = Bench::new(TINY);
    let short = ["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.epochs=2"];
    cpu.done(&short);
    let expected = losses(&cpu, "pretrain");
    for recompute in ["false", "true"] {
        let gpu = Bench::new(TINY);
        let key = format!("runtime.gradient_checkpointing={recompute}");
        let on = ["--set", "runtime.device=wgpu", "--set", &key];
        gpu.done(&[&short[..], &on[..]].concat());
        let got = losses(&gpu, "pretrain");
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(&expected) {
            assert!((a - b).abs() <= CLOSE * b, "recomputing {recompute}: {a}, on the CPU {b}");
        }
    }
}

#[test]
fn fine_tuning_on_wgpu_with_drop_path_matches_the_cpu_also_if_updates_may_be_skipped() {
    let short = [
        "run",
        "r.toml",
        "--stage",
        "finetune",
        "--set",
        "finetune.from=scratch",
        "--set",
        "finetune.drop_path=0.4",
        "--set",
        "finetune.blr=0.02",
    ];
    let cpu = Bench::new(TINY);
    cpu.done(&short);
    let expected = losses(&cpu, "finetune/from-scratch");
    for on_nan in ["stop", "skip"] {
        let gpu = Bench::new(TINY);
        let key = format!("finetune.on_nan={on_nan}");
        gpu.done(&[&short[..], &["--set", "runtime.device=wgpu", "--set", &key]].concat());
        let got = losses(&gpu, "finetune/from-scratch");
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(&expected) {
            assert!((a - b).abs() <= CLOSE * b, "{on_nan}: {a}, on the CPU {b}");
        }
    }
}

#[test]
fn settings_that_wgpu_does_not_support_are_refused() {
    let bench = Bench::new(TINY);
    let on = ["run", "r.toml", "--set", "runtime.device=wgpu", "--set"];
    for (key, expected) in [
        ("runtime.precision=bf16", "does not support bf16"),
        ("runtime.devices=64", "`runtime.devices = 64`: wgpu finds "),
    ] {
        let error = bench.refused(&[&on[..], &[key]].concat(), 2);
        assert!(error.contains(expected) && error.contains("hint:"), "{key}: {error}");
        assert!(!bench.path("runs").exists(), "{key}");
    }
}
