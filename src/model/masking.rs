//! Masks for pre-training: random, in blocks, or in a grid.

use super::block_mask::block_mask;
use crate::random::{Key, Purpose};
use crate::shape::{ImageSize, MaskKind, Masking, len_keep};
use rand::RngExt;

/// Kept and removed patches of `N` images with `L` patches each.
#[derive(Debug, Clone, PartialEq)]
pub struct Masks {
    /// Number of kept patches per image (`K` in tensor shapes).
    pub len_keep: usize,
    /// Indices of the kept patches in each image, `[N, K]`, in the order of the encoder's tokens.
    pub ids_keep: Vec<i32>,
    /// Index of each patch after shuffling, `[N, L]`. After shuffling, the kept patches of an image come first.
    pub ids_restore: Vec<i32>,
    /// 0 for a kept patch and 1 for a removed patch, `[N, L]`.
    pub mask: Vec<f32>,
}

impl Masks {
    /// Draws one mask for each entry of `samples`. `grid` is the number of patches along each axis.
    ///
    /// The mask depends only on the sample, `masking`, `grid` and `key`.
    pub fn draw(masking: Masking, grid: ImageSize, samples: &[u64], key: Key) -> Self {
        let mut masks = Self::empty(masking.len_keep(grid), samples.len(), grid.area());
        for &sample in samples {
            masks.push(&match masking.kind {
                MaskKind::Random => random_order(grid, masking.granularity, sample, key),
                MaskKind::Block => {
                    let removed = grid.area() - masks.len_keep;
                    let mut rng = key.rng(sample, Purpose::Mask);
                    kept_first(&block_mask(grid, removed, &mut rng))
                }
                MaskKind::Grid => kept_first(&grid_mask(grid)),
            });
        }
        masks
    }

    /// Keeps the patches with the smallest noise in each image (paper §3).
    ///
    /// `noise` is `[N, L]`, without NaN or infinity.
    pub fn from_noise(noise: &[f32], num_patches: usize, mask_ratio: f64) -> Self {
        let len_keep = len_keep(num_patches, mask_ratio);
        let mut masks = Self::empty(len_keep, noise.len() / num_patches, num_patches);
        for noise in noise.chunks_exact(num_patches) {
            masks.push(&sorted(noise));
        }
        masks
    }

    fn empty(len_keep: usize, images: usize, num_patches: usize) -> Self {
        Self {
            len_keep,
            ids_keep: Vec::with_capacity(images * len_keep),
            ids_restore: Vec::with_capacity(images * num_patches),
            mask: Vec::with_capacity(images * num_patches),
        }
    }

    /// Adds the mask of an image. `ids_shuffle` lists all its patches, the kept patches first.
    fn push(&mut self, ids_shuffle: &[i32]) {
        let image = self.mask.len();
        self.ids_restore.resize(image + ids_shuffle.len(), 0);
        self.mask.resize(image + ids_shuffle.len(), 1.0);
        for (rank, &id) in ids_shuffle.iter().enumerate() {
            self.ids_restore[image + id as usize] = rank as i32;
        }
        let kept = &ids_shuffle[..self.len_keep];
        for &id in kept {
            self.mask[image + id as usize] = 0.0;
        }
        self.ids_keep.extend_from_slice(kept);
    }

    /// Returns the number of images, `N`.
    pub fn len(&self) -> usize {
        self.ids_keep.len() / self.len_keep
    }

    pub fn is_empty(&self) -> bool {
        self.ids_keep.is_empty()
    }
}

/// Draws a random number for each patch of a sample. Sorting the patches by these numbers shuffles the patches.
fn mask_noise(sample: u64, patches: usize, key: Key) -> Vec<f32> {
    let mut rng = key.rng(sample, Purpose::Mask);
    (0..patches).map(|_| rng.random::<f32>()).collect()
}

/// Returns the indices that sort `noise` in ascending order.
fn sorted(noise: &[f32]) -> Vec<i32> {
    let mut ids: Vec<i32> = (0..noise.len() as i32).collect();
    // The sort is stable, so equal noise gives the same order on every machine.
    ids.sort_by(|&a, &b| noise[a as usize].total_cmp(&noise[b as usize]));
    ids
}

/// Returns all patches of a sample in random order. Squares of `side` x `side` patches stay together.
///
/// With larger squares, a removed patch has fewer visible neighbours that reveal it (arXiv 2512.15715).
fn random_order(grid: ImageSize, side: usize, sample: u64, key: Key) -> Vec<i32> {
    let squares = grid.in_squares_of(side);
    let order = sorted(&mask_noise(sample, squares.area(), key));
    let patches = order.iter().flat_map(|&square| {
        let (top, left) =
            (square as usize / squares.width * side, square as usize % squares.width * side);
        (0..side * side).map(move |i| ((top + i / side) * grid.width + left + i % side) as i32)
    });
    patches.collect()
}

/// Returns for each patch whether a grid mask removes it.
///
/// Of each 2 x 2 patches, a grid mask keeps only the upper left patch (paper, Fig. 6).
fn grid_mask(grid: ImageSize) -> Vec<bool> {
    (0..grid.area())
        .map(|i| !(i / grid.width).is_multiple_of(2) || !(i % grid.width).is_multiple_of(2))
        .collect()
}

/// Returns the indices of all patches, the kept patches first.
fn kept_first(removed: &[bool]) -> Vec<i32> {
    let ids = |is_removed: bool| {
        let of = removed.iter().enumerate().filter(move |(_, removed)| **removed == is_removed);
        of.map(|(id, _)| id as i32)
    };
    ids(false).chain(ids(true)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Masks, mask_noise};
    use crate::random::Key;
    use crate::shape::{ImageSize, MaskKind, Masking, len_keep};
    use proptest::prelude::*;

    const KEY: Key = Key { seed: 3, stage: 1, epoch: 2 };

    #[test]
    fn kept_counts_are_the_official_ones() {
        assert_eq!(len_keep(196, 0.75), 49);
        assert_eq!(len_keep(196, 0.9), 19); // 196 * (1 - 0.9) = 19.599999999999998
        assert_eq!(len_keep(64, 0.75), 16);
        assert_eq!(Masking { granularity: 4, ..Masking::random(0.75) }.len_keep(16.into()), 4 * 16);
    }

    #[test]
    fn random_masks_sort_the_noise_of_each_sample() {
        let samples = [7, 0, 123_456];
        let noise: Vec<f32> = samples.iter().flat_map(|s| mask_noise(*s, 49, KEY)).collect();
        let drawn = Masks::draw(Masking::random(0.6), 7.into(), &samples, KEY);
        assert_eq!(drawn, Masks::from_noise(&noise, 49, 0.6));
    }

    #[test]
    fn a_grid_mask_keeps_one_patch_of_each_square() {
        let grid = Masking { kind: MaskKind::Grid, ..Masking::random(0.75) };
        let masks = Masks::draw(grid, 6.into(), &[0, 9], KEY);
        assert_eq!(masks.ids_keep, [0, 2, 4, 12, 14, 16, 24, 26, 28].repeat(2));
        assert_eq!(masks.len(), 2);
    }

    #[test]
    fn squares_are_kept_or_removed_as_a_whole() {
        let (grid, side) = (12, 3);
        let masking = Masking { granularity: side, ..Masking::random(0.75) };
        let samples: Vec<u64> = (0..50).collect();
        let masks = Masks::draw(masking, grid.into(), &samples, KEY);
        assert_eq!(masks.len_keep, 4 * side * side);
        for mask in masks.mask.chunks_exact(grid * grid) {
            for (i, hidden) in mask.iter().enumerate() {
                let (row, column) = (i / grid / side * side, i % grid / side * side);
                assert!((hidden - mask[row * grid + column]).abs() < 0.5, "patch {i}");
            }
        }
    }

    proptest! {
        #[test]
        fn masks_hide_the_rest_and_restore_is_a_permutation(
            kind in prop::sample::select(vec![MaskKind::Random, MaskKind::Block, MaskKind::Grid]),
            half in 1usize..9, wide in 1usize..9, side in 1usize..4, ratio in 0.05f64..0.95, seed: u64,
        ) {
            let masking = match kind {
                MaskKind::Random => Masking { granularity: side, ..Masking::random(ratio) },
                MaskKind::Block => Masking { kind, ..Masking::random(ratio) },
                MaskKind::Grid => Masking { kind, ..Masking::random(0.75) },
            };
            let grid = ImageSize { height: half, width: wide }.times(2 * masking.granularity);
            let (patches, keep) = (grid.area(), masking.len_keep(grid));
            prop_assume!(keep > 0);
            let masks = Masks::draw(masking, grid, &[0, 1], Key { seed, stage: 1, epoch: 1 });
            for image in 0..2 {
                let range = image * patches..(image + 1) * patches;
                let hidden = masks.mask[range.clone()].iter().filter(|m| **m > 0.5).count();
                prop_assert_eq!(hidden, patches - keep);
                let mut ranks = masks.ids_restore[range.clone()].to_vec();
                for (rank, id) in masks.ids_keep[image * keep..(image + 1) * keep].iter().enumerate() {
                    prop_assert_eq!(ranks[*id as usize], rank as i32);
                    prop_assert!(masks.mask[range.start + *id as usize] < 0.5);
                }
                ranks.sort_unstable();
                prop_assert_eq!(ranks, (0..patches as i32).collect::<Vec<_>>());
            }
        }
    }
}
