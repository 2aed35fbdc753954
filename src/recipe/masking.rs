//! Resolves the mask sampling of a pre-training: `mask`, `mask_ratio` and `mask_granularity`.

use super::context::{Context, given};
use super::stages::Pretrain;
use super::training::{Setup, rate_text};
use crate::shape::{ImageSize, MaskKind, Masking};

/// Returns the masking settings. Adds a problem if the image's patches do not allow such masks.
pub(super) fn masking(table: &Pretrain, setup: &Setup<'_>, cx: &mut Context<'_>) -> Masking {
    let masking = Masking {
        kind: given(table.mask.as_ref()),
        ratio: given(table.mask_ratio.as_ref()),
        granularity: given(table.mask_granularity.as_ref()),
    };
    let grid = setup.data.input_size.in_squares_of(setup.model.patch_size);
    if is_possible(masking, grid, cx) {
        check_kept(masking, grid, cx);
    }
    masking
}

/// Returns whether the mask settings fit each other and the patches. If not, adds a problem.
fn is_possible(masking: Masking, grid: ImageSize, cx: &mut Context<'_>) -> bool {
    let Masking { kind, ratio, granularity } = masking;
    let (mask, side) = ("pretrain.mask", "pretrain.mask_granularity");
    let word = format!("\"{kind}\"");
    if granularity > 1 && kind != MaskKind::Random {
        let hint = format!("remove `mask_granularity`, or use `--set {mask}=random`");
        cx.conflict((mask, &word), "cannot be combined with", (side, granularity), hint);
    } else if !divides(granularity, grid) {
        let others = ["data.input_size", "model.patch_size", "model.size"];
        let fitting: Vec<_> = (1..=grid.longer()).filter(|side| divides(*side, grid)).collect();
        let why = format!("does not divide the {} of an image", patches(grid));
        cx.refuse_with(
            side,
            &others,
            granularity,
            &why,
            format!("set `{side}` to one of {fitting:?}"),
        );
    } else if kind == MaskKind::Grid && (ratio - Masking::GRID_RATIO).abs() > 1e-9 {
        let hint = format!(
            "use `--set pretrain.mask_ratio={}`, or set another `{mask}`",
            Masking::GRID_RATIO
        );
        let found = ("pretrain.mask_ratio", rate_text(ratio));
        cx.conflict(
            (mask, &word),
            "keeps one of every four patches, which contradicts",
            found,
            hint,
        );
    } else if kind == MaskKind::Grid && !divides(2, grid) {
        let others = ["data.input_size", "model.patch_size", "model.size"];
        let why = format!(
            "needs an even number of patches per side, but an image has {}",
            per_side(grid)
        );
        cx.refuse_with(mask, &others, word, &why, "change `data.input_size` or `model.patch_size`");
    } else {
        return true;
    }
    false
}

/// Adds a problem if the encoder would see all patches or none.
fn check_kept(masking: Masking, grid: ImageSize, cx: &mut Context<'_>) {
    let (patches, len_keep) = (grid.area(), masking.len_keep(grid));
    let others = ["data.input_size", "model.patch_size", "model.size", "pretrain.mask_granularity"];
    let hint = match masking.granularity {
        1 => {
            "lower `model.patch_size` or raise `data.input_size`, so that an image has more patches"
        }
        _ => "lower `mask_granularity`, or set `mask_ratio` closer to 0.75",
    };
    let what = if patches > 0 && len_keep == 0 {
        format!("hides all {patches} patches of an image")
    } else if len_keep >= patches {
        format!("hides no patch of an image (number of patches: {patches})")
    } else {
        return;
    };
    cx.refuse_with("pretrain.mask_ratio", &others, rate_text(masking.ratio), &what, hint);
}

/// Returns whether squares of `side` x `side` patches cover the grid exactly.
fn divides(side: usize, grid: ImageSize) -> bool {
    grid.height.is_multiple_of(side) && grid.width.is_multiple_of(side)
}

fn patches(grid: ImageSize) -> String {
    let side = if grid.is_square() { " per side" } else { "" };
    format!("{} patches{side}", per_side(grid))
}

fn per_side(grid: ImageSize) -> String {
    if grid.is_square() {
        grid.height.to_string()
    } else {
        format!("{} x {}", grid.height, grid.width)
    }
}
