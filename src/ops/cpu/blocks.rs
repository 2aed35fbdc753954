//! Splits an operation into blocks that several threads can compute.
//!
//! The size of a block depends only on the shapes of the tensors. In a rayon pool, the threads of the pool share the
//! blocks. Outside of a pool, the calling thread computes all blocks. Both ways give the same bits.

use std::ops::Range;

/// Number of values in a block of rows: the block fits into the L2 cache.
const BLOCK_VALUES: usize = 65_536;
/// Approximate number of multiplications in one block of a matrix product.
const BLOCK_PRODUCTS: usize = 1 << 24;
const MOST_BLOCKS: usize = 16;
/// The number of columns in a block is a multiple of this number.
const COLUMNS: usize = 16;

/// Runs `work` on every item. In a rayon pool, the threads of the pool share the items.
pub(super) fn each<T: Send>(items: impl ExactSizeIterator<Item = T>, work: impl Fn(T) + Sync) {
    if items.len() < 2 || rayon_core::current_thread_index().is_none() {
        return items.for_each(work);
    }
    let work = &work;
    rayon_core::in_place_scope(|scope| {
        for item in items {
            scope.spawn(move |_| work(item));
        }
    });
}

/// Returns how many rows of `width` values one block has.
pub(super) fn block_rows(width: usize) -> usize {
    (BLOCK_VALUES / width.max(1)).max(1)
}

/// Cuts the columns of an `[m, k]` by `[k, n]` product into one range per block.
pub(super) fn column_blocks([m, k, n]: [usize; 3]) -> impl ExactSizeIterator<Item = Range<usize>> {
    let blocks = (m * n * k / BLOCK_PRODUCTS).clamp(1, MOST_BLOCKS);
    let blocks = if blocks.is_power_of_two() { blocks } else { blocks.next_power_of_two() / 2 };
    let width = n.div_ceil(blocks).next_multiple_of(COLUMNS);
    (0..n.div_ceil(width)).map(move |i| i * width..((i + 1) * width).min(n))
}

/// Returns the sum of each column over all `items`.
///
/// `work` adds the rows of one item to the item's own slice of column sums. These slices are then added in item order.
pub(super) fn summed<T: Send>(
    items: impl ExactSizeIterator<Item = T>,
    columns: usize,
    work: impl Fn(T, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut partial = vec![0.0; items.len() * columns];
    each(items.zip(partial.chunks_exact_mut(columns)), |(item, sums)| work(item, sums));
    partial.chunks_exact(columns).skip(1).fold(partial[..columns].to_vec(), |mut total, sums| {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
        total
    })
}

#[cfg(test)]
mod tests {
    use super::{column_blocks, each, summed};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_product_is_cut_into_all_of_its_columns() {
        for n in [1, 5, 16, 33, 768, 3072] {
            let blocks: Vec<_> = column_blocks([800, 768, n]).collect();
            assert!(blocks.len() <= 16);
            let columns: Vec<usize> = blocks.into_iter().flatten().collect();
            assert_eq!(columns, (0..n).collect::<Vec<_>>());
        }
        assert_eq!(column_blocks([65, 64, 256]).len(), 1, "small products are not cut");
    }

    #[test]
    fn sums_have_the_same_bits_with_any_number_of_threads() {
        let values: Vec<f32> = (0..1000).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let sum = || {
            summed(values.chunks_exact(100), 1, |block, sums| sums[0] += block.iter().sum::<f32>())
        };
        let alone = sum();
        for threads in 1..4 {
            let pool = rayon_core::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(sum), alone);
            let seen = AtomicUsize::new(0);
            pool.install(|| each(0..7, |i| _ = seen.fetch_add(i, Ordering::Relaxed)));
            assert_eq!(seen.into_inner(), 21);
        }
    }
}
