//! Block-wise masks, as in `BEiT` (arXiv 2106.08254, algorithm 1). Table 1f of the MAE paper compares them with random
//! masks.

use crate::shape::ImageSize;
use rand::{Rng, RngExt};

/// Smallest area of a block in patches. For fewer than 14 x 14 patches, it is proportionally smaller.
const MIN_AREA: f64 = 16.0;
/// Number of patches for which `BEiT` chose [`MIN_AREA`]: 14 x 14.
const USUAL_PATCHES: f64 = 196.0;
/// Smallest ratio of a block's height to its width. The largest ratio is `1 / MIN_ASPECT`.
const MIN_ASPECT: f64 = 0.3;
/// Number of attempts to place a block. If all fail, single random patches complete the mask.
const ATTEMPTS: usize = 10;

/// Draws a mask of rectangular blocks. Returns for each patch whether it is removed.
///
/// - `grid` is the number of patches along each axis.
/// - Exactly `removed` patches are removed, so all images have the same number of visible patches.
/// - The area of a block is uniform: at least the minimum area, at most the number of patches still to remove.
/// - The logarithm of a block's aspect ratio is uniform.
/// - A block that removes no new patch or too many new patches is drawn again.
/// - If no block fits, single random patches are removed.
pub(super) fn block_mask(grid: ImageSize, removed: usize, rng: &mut impl Rng) -> Vec<bool> {
    let mut mask = vec![false; grid.area()];
    let mut left = removed;
    while left > 0 {
        match (0..ATTEMPTS).find_map(|_| block(grid, left, &mask, rng)) {
            Some(block) => {
                left -= block.len();
                for patch in block {
                    mask[patch] = true;
                }
            }
            None => break,
        }
    }
    fill(&mut mask, left, rng);
    mask
}

/// Draws a block. Returns the patches that the block adds to `mask`.
///
/// Returns `None` if the block leaves the image, adds no patch, or adds more than `left` patches.
fn block(grid: ImageSize, left: usize, mask: &[bool], rng: &mut impl Rng) -> Option<Vec<usize>> {
    let share = (grid.area() as f64 / USUAL_PATCHES).min(1.0);
    let min_area = (MIN_AREA * share).min(left as f64);
    let area = rng.random_range(min_area..=left as f64);
    let limit = MIN_ASPECT.ln();
    let aspect = rng.random_range(limit..=-limit).exp();
    let side = |length: f64| (length.round() as usize).max(1);
    let (height, width) = (side((area * aspect).sqrt()), side((area / aspect).sqrt()));
    if height > grid.height || width > grid.width {
        return None;
    }
    let top = rng.random_range(0..=grid.height - height);
    let start = rng.random_range(0..=grid.width - width);
    let patches = (top..top + height)
        .flat_map(|row| (start..start + width).map(move |c| row * grid.width + c));
    let added: Vec<usize> = patches.filter(|patch| !mask[*patch]).collect();
    (1..=left).contains(&added.len()).then_some(added)
}

/// Removes `count` more random patches.
fn fill(mask: &mut [bool], count: usize, rng: &mut impl Rng) {
    let mut visible: Vec<usize> = (0..mask.len()).filter(|patch| !mask[*patch]).collect();
    for _ in 0..count {
        let chosen = rng.random_range(0..visible.len());
        mask[visible.swap_remove(chosen)] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::block_mask;
    use crate::random::{Key, Purpose};

    const GRID: usize = 14;

    /// Draws 200 masks that each remove `removed` patches.
    fn masks(removed: usize) -> Vec<Vec<bool>> {
        let key = Key { seed: 0, stage: 1, epoch: 1 };
        (0..200).map(|i| block_mask(GRID.into(), removed, &mut key.rng(i, Purpose::Mask))).collect()
    }

    /// Returns how many neighbours of removed patches are removed, as a fraction of all their neighbours.
    fn clustering(masks: &[Vec<bool>]) -> f64 {
        let (mut same, mut all) = (0.0, 0.0);
        for mask in masks {
            for i in (0..GRID * GRID).filter(|i| mask[*i]) {
                let right = (i % GRID + 1 < GRID).then_some(i + 1);
                for neighbour in
                    right.into_iter().chain((i + GRID < GRID * GRID).then_some(i + GRID))
                {
                    all += 1.0;
                    same += f64::from(u8::from(mask[neighbour]));
                }
            }
        }
        same / all
    }

    #[test]
    fn block_masks_remove_the_exact_number_of_patches_in_blocks() {
        for removed in [1, 40, 98, 147, 195] {
            let masks = masks(removed);
            let count = |mask: &Vec<bool>| mask.iter().filter(|removed| **removed).count();
            assert!(masks.iter().all(|mask| count(mask) == removed), "{removed}");
        }
        // If patches were removed independently, the values would be 0.5 and 0.75.
        assert!(clustering(&masks(98)) > 0.8, "{}", clustering(&masks(98)));
        assert!(clustering(&masks(147)) > 0.87, "{}", clustering(&masks(147)));
    }

    #[test]
    fn the_first_block_of_a_mask_has_an_allowed_area_and_aspect() {
        let key = Key { seed: 5, stage: 1, epoch: 1 };
        let empty = vec![false; GRID * GRID];
        let mut areas = Vec::new();
        for sample in 0..500 {
            let mut rng = key.rng(sample, Purpose::Mask);
            let Some(block) = super::block(GRID.into(), 98, &empty, &mut rng) else { continue };
            let rows =
                block.iter().map(|patch| patch / GRID).collect::<std::collections::BTreeSet<_>>();
            let (height, width) = (rows.len() as f64, (block.len() / rows.len()) as f64);
            assert_eq!(block.len(), (height * width) as usize, "it is a rectangle");
            areas.push(block.len());
            // Rounding moves each side by up to half a patch.
            assert!(
                (height - 0.5) / (width + 0.5) < 1.0 / 0.3
                    && (width - 0.5) / (height + 0.5) < 1.0 / 0.3
            );
        }
        assert!(
            areas.len() > 300
                && *areas.iter().min().unwrap() >= 12
                && *areas.iter().max().unwrap() > 80
        );
    }
}
