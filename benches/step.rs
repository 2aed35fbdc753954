//! Measures one shard, forward and backward, and a micro-batch on one worker and on two.
//!
//! `cargo bench` prints medians. The ratio of the last two is the speed-up by the second core.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mae::infer::{Replicas, SHARD_IMAGES};
use mae::model::{Mae, Masks, grads, init_mae};
use mae::shape::{DecoderDims, EncoderDims, ImageSize, MaeLoss, Precision};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of images in a micro-batch.
const BATCH: usize = 128;

fn main() {
    divan::main();
}

fn encoder() -> EncoderDims {
    EncoderDims {
        input_size: ImageSize::square(32),
        patch_size: 4,
        in_chans: 3,
        embed_dim: 64,
        depth: 4,
        num_heads: 4,
        mlp_dim: 256,
        norm_eps: 1e-6,
        precision: Precision::Fp32,
    }
}

fn mae() -> Mae {
    let decoder = DecoderDims {
        embed_dim: 64,
        depth: 2,
        num_heads: 4,
        mlp_dim: 256,
        encoder_mask_token: false,
    };
    init_mae(Mae::zeros(&encoder(), &decoder, &Device::flex()), 0)
}

/// Runs one shard forward and backward on a replica of `mae`.
fn shard(mae: Mae) -> Vec<Tensor<1>> {
    let side = encoder().input_size.height;
    let pixels: Vec<f32> = (0..SHARD_IMAGES * 3 * side * side)
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let pixels = TensorData::new(pixels, [SHARD_IMAGES, 3, side, side]);
    let imgs = Tensor::<4>::from_data(pixels, &Device::flex());
    let patches = encoder().num_patches();
    let noise: Vec<f32> =
        (0..SHARD_IMAGES * patches).map(|i| (i * 7919 % 1013) as f32 / 1013.0).collect();
    let masks = Masks::from_noise(&noise, patches, 0.75);
    let replica = mae.train();
    let mut gradients = replica.forward(imgs, &masks, MaeLoss::masked(true)).loss.backward();
    grads(&replica, &mut gradients)
}

#[divan::bench]
fn one_shard(bencher: divan::Bencher) {
    let mae = mae();
    bencher.bench_local(|| shard(mae.clone()));
}

#[divan::bench(args = [1, 2])]
fn micro_batch_on_workers(bencher: divan::Bencher, workers: usize) {
    let (mae, replicas) = (mae(), Replicas::start(workers));
    bencher.bench_local(|| {
        let shards = (0..BATCH / SHARD_IMAGES).map(|_| mae.clone()).collect::<Vec<_>>();
        replicas.map(shards, shard).expect("the shards do not fail")
    });
}
