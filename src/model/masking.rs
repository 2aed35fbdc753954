//! Random masking, on the host.

use crate::random::{Key, Purpose};
use crate::shape::len_keep;
use rand::RngExt;

/// The kept and removed patches of `N` images with `L` patches each.
#[derive(Debug, Clone, PartialEq)]
pub struct Masks {
    /// Number of kept patches in each image. Shapes call this number `K`.
    pub len_keep: usize,
    /// Indices of the kept patches in each image, `[N, K]`, by increasing noise.
    pub ids_keep: Vec<i32>,
    /// Position of each patch after sorting its image by noise, `[N, L]`.
    pub ids_restore: Vec<i32>,
    /// 0 for a kept patch and 1 for a removed patch, `[N, L]`.
    pub mask: Vec<f32>,
}

impl Masks {
    /// Keeps the patches with the smallest noise in each image (paper §3).
    ///
    /// `noise` is `[N, L]` and must not contain NaN or infinity.
    pub fn from_noise(noise: &[f32], num_patches: usize, mask_ratio: f64) -> Self {
        let len_keep = len_keep(num_patches, mask_ratio);
        let mut masks = Self {
            len_keep,
            ids_keep: Vec::with_capacity(noise.len() / num_patches * len_keep),
            ids_restore: vec![0; noise.len()],
            mask: vec![1.0; noise.len()],
        };
        let mut ids_shuffle: Vec<i32> = Vec::with_capacity(num_patches);
        for (n, noise) in noise.chunks_exact(num_patches).enumerate() {
            ids_shuffle.clear();
            ids_shuffle.extend(0..num_patches as i32);
            // The sort is stable, so equal noise gives the same order on every machine.
            ids_shuffle.sort_by(|&a, &b| noise[a as usize].total_cmp(&noise[b as usize]));
            let image = n * num_patches;
            for (rank, &id) in ids_shuffle.iter().enumerate() {
                masks.ids_restore[image + id as usize] = rank as i32;
            }
            for &id in &ids_shuffle[..len_keep] {
                masks.mask[image + id as usize] = 0.0;
            }
            masks.ids_keep.extend_from_slice(&ids_shuffle[..len_keep]);
        }
        masks
    }

    /// Returns the number of images, `N`.
    pub fn len(&self) -> usize {
        self.ids_keep.len() / self.len_keep
    }

    pub fn is_empty(&self) -> bool {
        self.ids_keep.is_empty()
    }
}

/// Draws one random number for each patch, `[N, patches]`.
///
/// Sorting by these numbers shuffles the patches.
pub fn mask_noise(samples: &[u64], patches: usize, key: Key) -> Vec<f32> {
    let mut noise = Vec::with_capacity(samples.len() * patches);
    for &sample in samples {
        let mut rng = key.rng(sample, Purpose::Mask);
        noise.extend((0..patches).map(|_| rng.random::<f32>()));
    }
    noise
}

#[cfg(test)]
mod tests {
    use super::{Masks, len_keep};
    use proptest::prelude::*;

    #[test]
    fn kept_counts_are_the_official_ones() {
        assert_eq!(len_keep(196, 0.75), 49);
        assert_eq!(len_keep(196, 0.9), 19); // 196 * (1 - 0.9) = 19.599999999999998
        assert_eq!(len_keep(64, 0.75), 16);
    }

    proptest! {
        #[test]
        fn masks_hide_the_rest_and_restore_is_a_permutation(
            noise in prop::collection::vec(0.0f32..1.0, 2 * 16), ratio in 0.1f64..0.9
        ) {
            let masks = Masks::from_noise(&noise, 16, ratio);
            prop_assert_eq!(masks.len(), 2);
            for n in 0..2 {
                let hidden: f32 = masks.mask[n * 16..][..16].iter().sum();
                prop_assert_eq!(hidden as usize, 16 - masks.len_keep);
                let mut ids = masks.ids_restore[n * 16..][..16].to_vec();
                for (rank, id) in masks.ids_keep[n * masks.len_keep..][..masks.len_keep].iter().enumerate() {
                    prop_assert_eq!(ids[*id as usize] as usize, rank);
                }
                ids.sort_unstable();
                prop_assert_eq!(ids, (0..16).collect::<Vec<i32>>());
            }
        }
    }
}
