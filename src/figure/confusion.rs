//! The picture of a confusion matrix.

use super::canvas::{Canvas, LINE, Weight, text_width};
use super::{GAP, MARGIN, Tile, shortened};
use std::io;

/// Usual side of the matrix in pixels. Because of [`CELL`], very few or very many classes give a different side.
const SIDE: usize = 640;
/// Smallest and largest side of a cell, in pixels.
const CELL: [usize; 2] = [6, 40];
/// Pictures with more classes than this show no class names and no numbers.
const NAMED: usize = 20;
/// Colour of a cell that has all images of its row. Dark text stays readable on it.
const FULL: [u8; 3] = [86, 152, 214];
/// Colour of a cell without images.
const EMPTY: [u8; 3] = [244, 245, 247];

/// Draws a confusion matrix as PNG. `counts[label][predicted]` is the number of such images.
///
/// The colour of a cell shows the fraction of its row's images.
pub fn confusion_png(names: &[String], counts: &[Vec<usize>]) -> io::Result<Vec<u8>> {
    let n = counts.len();
    let cell = (SIDE / n.max(1)).clamp(CELL[0], CELL[1]);
    let is_named = n <= NAMED;
    let label = |index: usize| match names.get(index) {
        Some(name) if name.parse() == Ok(index) => name.clone(),
        Some(name) => format!("{} {index}", shortened(name)),
        None => index.to_string(),
    };
    let labels: Vec<String> = (0..n).filter(|_| is_named).map(label).collect();
    let widest = labels.iter().map(|label| text_width(label)).max().unwrap_or(0);
    let heads = ["rows: class of the image", "columns: predicted class"];
    let left = MARGIN + widest + if is_named { GAP } else { 0 };
    let top = MARGIN + heads.len() * LINE + GAP + if is_named { LINE } else { 0 };
    let heads_width = heads.iter().map(|head| text_width(head)).max().unwrap_or(0);
    let width = (left + n * cell).max(MARGIN + heads_width) + MARGIN;
    let mut canvas = Canvas::white(width, top + n * cell + MARGIN);
    for (line, head) in heads.iter().enumerate() {
        canvas.text(MARGIN, MARGIN + line * LINE, head, Weight::Regular);
    }
    for (row, counts) in counts.iter().enumerate() {
        let y = top + row * cell;
        if let Some(label) = labels.get(row) {
            let x = left - GAP - text_width(label);
            canvas.text(x, y + (cell - LINE) / 2, label, Weight::Regular);
            let head = row.to_string();
            let x = left + row * cell + (cell - text_width(&head)) / 2;
            canvas.text(x, top - LINE, &head, Weight::Regular);
        }
        let images: usize = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate() {
            let x = left + column * cell;
            let share = count as f64 / images.max(1) as f64;
            let tile = Tile { width: 1, rgb: colour(share, count > 0).to_vec() };
            // Draw a line between cells if there is room.
            canvas.tile(x, y, &tile, cell - usize::from(cell > CELL[0]));
            let text = count.to_string();
            if is_named && count > 0 && text_width(&text) < cell {
                let x = x + (cell - text_width(&text)) / 2;
                canvas.text(x, y + (cell - LINE) / 2, &text, Weight::Regular);
            }
        }
    }
    canvas.png()
}

/// Returns the colour of a cell that has the fraction `share` of its row's images.
///
/// If `any` is true, the colour differs visibly from an empty cell.
fn colour(share: f64, any: bool) -> [u8; 3] {
    let strength = if any { 0.12 + 0.88 * share.sqrt() } else { 0.0 };
    std::array::from_fn(|channel| {
        let (from, to) = (f64::from(EMPTY[channel]), f64::from(FULL[channel]));
        (from + (to - from) * strength).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::{EMPTY, FULL, confusion_png};

    #[test]
    fn every_cell_is_drawn_at_every_size() {
        for n in [1, 2, 20, 21, 100] {
            let names: Vec<String> = (0..n).map(|index| format!("class {index}")).collect();
            let counts: Vec<Vec<usize>> = (0..n)
                .map(|row| (0..n).map(|column| usize::from(row == column) * 7).collect())
                .collect();
            let png = confusion_png(&names, &counts).unwrap();
            let picture = image::load_from_memory(&png).unwrap().into_rgb8();
            let share = |rgb| picture.pixels().filter(|pixel| pixel.0 == rgb).count();
            assert!(share(FULL) >= n * 20 && share(EMPTY) >= n * (n - 1) * 20, "{n} classes");
        }
    }
}
