//! Cases `schedule`, `pos_embed` and `pos_embed_resize`: learning rates and position embeddings.

use super::case::{Case, Fields, VerifyError};
use super::report::TensorComparison;
use super::tolerances::Tolerances;
use crate::model;
use crate::optim::LrSchedule;

pub(super) fn schedule(
    case: &Case,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    for curve in case.items("curves")? {
        let schedule = LrSchedule {
            lr: curve.number("lr")?,
            min_lr: curve.number("min_lr")?,
            warmup_epochs: curve.number("warmup_epochs")?,
            epochs: curve.number("epochs")?,
        };
        let points = points(&curve)?;
        if points.is_empty() {
            return Err(curve.error("the learning rate curve has no points"));
        }
        // Divide each rate by its expected value. Small rates then count as much as large rates.
        let share = |got: f64, expected: f64| {
            if expected.abs() > 1e-12 {
                got / expected
            } else {
                1.0 + (got - expected) / schedule.lr
            }
        };
        let shares: Vec<f64> = points.iter().map(|(x, lr)| share(schedule.at(*x), *lr)).collect();
        out.relative(curve.text("name")?, &shares, &vec![1.0; shares.len()], tolerances.schedule);
    }
    Ok(())
}

/// Returns pairs of epoch (may be fractional) and learning rate.
fn points(curve: &Fields) -> Result<Vec<(f64, f64)>, VerifyError> {
    let list = curve.get("points").and_then(serde_json::Value::as_array);
    let pairs = list.and_then(|points| {
        points.iter().map(|p| Some((p.get(0)?.as_f64()?, p.get(1)?.as_f64()?))).collect()
    });
    pairs.ok_or_else(|| curve.error("`points` must be a list of pairs: epoch and learning rate"))
}

pub(super) fn pos_embed(
    case: &Case,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    for table in case.items("tables")? {
        let (dim, grid) = (table.count("embed_dim")?, table.count("grid_size")?);
        if dim == 0 || !dim.is_multiple_of(4) || dim * grid * grid > 1 << 28 {
            return Err(table.error(format!(
                "cannot compute a table with `embed_dim` {dim} and `grid_size` {grid}: `embed_dim` must be a positive multiple of 4, and the table must have at most 2^28 values"
            )));
        }
        let name = format!("pos_embed.{dim}.{grid}");
        let (all, expected) = (model::sincos_pos_embed(dim, grid.into()), case.floats(&name)?);
        let rows = match table.text("rows")?.as_str() {
            "all" => all.clone(),
            "first 3 and last 2" => [&all[..3 * dim], &all[all.len() - 2 * dim..]].concat(),
            other => return Err(table.error(format!("unknown `rows` {other:?}"))),
        };
        out.absolute(&name, &rows, &expected, tolerances.pos_embed);
        let values = || all.iter().map(|v| f64::from(*v));
        let sums: [f64; 2] = [values().sum(), values().map(|v| v * v).sum()];
        let expected = [table.number("sum")?, table.number("sum_of_squares")?];
        out.relative(format!("{name} (sums)"), &sums, &expected, tolerances.pos_embed);
    }
    Ok(())
}

pub(super) fn pos_embed_resize(
    case: &Case,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let sizes = case.get("sizes").and_then(serde_json::Value::as_array);
    for size in sizes.ok_or_else(|| case.error("`sizes` is missing, or is not a list"))? {
        let number =
            |i: usize| size.get(i).and_then(serde_json::Value::as_u64).unwrap_or(0) as usize;
        let [dim, from, to] = [0, 1, 2].map(number);
        let (input, output) = (format!("in.{dim}.{from}.{to}"), format!("out.{dim}.{from}.{to}"));
        for (name, grid) in [(&input, from), (&output, to)] {
            if !case.has_shape(name, &[1, 1 + grid * grid, dim]) || dim * grid == 0 {
                return Err(case.error(format!(
                    "`{name}` is missing, or is not a position embedding for {grid}x{grid} patches"
                )));
            }
        }
        let got = model::resize_pos_embed(&case.floats(&input)?, dim, from.into(), to.into());
        let tolerance = tolerances.pos_embed_resize * from as f64;
        out.relative(&output, &got, &case.floats(&output)?, tolerance);
    }
    Ok(())
}
