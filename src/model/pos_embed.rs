//! Position embeddings: the fixed 2-D sin-cos table, and resizing of trained tables.

use crate::shape::ImageSize;

/// Returns fixed 2-D sin-cos position embeddings, `[1 + L, dim]`, for a grid of `L` patches.
///
/// Row 0 belongs to the class token and is zero. In each other row, the first half encodes the column of the patch, and
/// the second half encodes the row. A half has `dim / 4` sines and then `dim / 4` cosines. The frequencies are
/// 10000^(-i / (dim / 4)).
///
/// The computation uses f64, as in the official code. `dim` must be a multiple of 4.
pub fn sincos_pos_embed(dim: usize, grid: ImageSize) -> Vec<f32> {
    let quarter = dim / 4;
    let omega: Vec<f64> =
        (0..quarter).map(|i| 1.0 / 10000f64.powf(i as f64 / quarter as f64)).collect();
    let mut table = vec![0.0; dim]; // the class token
    for row in 0..grid.height {
        for col in 0..grid.width {
            for position in [col as f64, row as f64] {
                table.extend(omega.iter().map(|w| (position * w).sin() as f32));
                table.extend(omega.iter().map(|w| (position * w).cos() as f32));
            }
        }
    }
    table
}

/// Resizes position embeddings `[1 + L, dim]` from the grid `from` to the grid `to`.
///
/// The row of the class token does not change. The interpolation is bicubic as in official fine-tuning (a = -0.75, no
/// aligned corners, no antialiasing).
pub fn resize_pos_embed(table: &[f32], dim: usize, from: ImageSize, to: ImageSize) -> Vec<f32> {
    if from == to {
        return table.to_vec();
    }
    let (class_token, patches) = table.split_at(dim);
    let (rows, columns) =
        (bicubic_taps(from.height, to.height), bicubic_taps(from.width, to.width));
    let mut out = class_token.to_vec();
    for row in &rows {
        for col in &columns {
            for d in 0..dim {
                let mut sum = 0.0f64;
                for (y, wy) in row {
                    for (x, wx) in col {
                        sum += wy * wx * f64::from(patches[(y * from.width + x) * dim + d]);
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

/// Returns four source indices with bicubic weights for each target index.
fn bicubic_taps(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let at = (i as f64 + 0.5) * scale - 0.5;
            let base = at.floor();
            let t = at - base;
            let weights = [cubic(t + 1.0), cubic(t), cubic(1.0 - t), cubic(2.0 - t)];
            let mut taps = [(0, 0.0); 4];
            for (k, tap) in taps.iter_mut().enumerate() {
                let position = (base as i64 - 1 + k as i64).clamp(0, from as i64 - 1);
                *tap = (position as usize, weights[k]);
            }
            taps
        })
        .collect()
}

/// Returns the cubic convolution kernel (a = -0.75) at distance `x`, with 0 <= `x` <= 2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

#[cfg(test)]
mod tests {
    use super::{resize_pos_embed, sincos_pos_embed};
    use crate::shape::ImageSize;

    #[test]
    fn the_class_token_is_zero_and_the_first_patch_is_sin_0_cos_0() {
        let table = sincos_pos_embed(8, 2.into());
        assert_eq!(table.len(), 5 * 8);
        assert_eq!(table[..8], [0.0; 8]);
        assert_eq!(table[8..16], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_constant_table_stays_constant() {
        let resized = resize_pos_embed(&[2.0; 4 * (1 + 9)], 4, 3.into(), 5.into());
        assert_eq!(resized.len(), 4 * 26);
        assert!(resized.iter().all(|v| (v - 2.0).abs() < 1e-6));
    }

    #[test]
    fn rows_and_columns_are_resized_separately() {
        // If a table depends only on the column, the resized table also depends only on the column.
        let column = |grid: ImageSize| -> Vec<f32> {
            std::iter::once(0.0)
                .chain((0..grid.area()).map(|i| if i % grid.width < 2 { 1.0 } else { 3.0 }))
                .collect()
        };
        let wide = ImageSize { height: 3, width: 4 };
        let high = ImageSize { height: 5, width: 4 };
        assert_eq!(resize_pos_embed(&column(wide), 1, wide, high), column(high));
        let table = sincos_pos_embed(4, wide);
        assert_eq!(table.len(), 4 * (1 + 12));
        let first = |row: usize, column: usize| table[4 * (1 + row * 4 + column)];
        assert!((first(0, 3) - 3f32.sin()).abs() < 1e-6 && first(2, 0).abs() < 1e-6);
    }
}
