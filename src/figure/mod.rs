//! Figures: rows of pictures with labels, column headings and a footer, as one PNG file.
//!
//! Small pictures are enlarged by an integer factor, so each pixel becomes a square. Text uses a bitmap font that is
//! part of the program (Noto Sans Mono), so the file is the same on every machine. A character that the font lacks
//! becomes `?`.

mod canvas;
mod confusion;

pub use confusion::confusion_png;

use crate::durable;
use canvas::{Canvas, LINE, Weight, text_width};
use std::io;
use std::path::Path;

/// White border around the figure, in pixels.
const MARGIN: usize = 16;
/// Space between pictures, and between text and pictures, in pixels.
const GAP: usize = 8;
/// Space between groups of rows, in pixels.
const GROUP_GAP: usize = 24;
/// Minimum length of the shorter side of a picture, in pixels. Smaller pictures are enlarged.
const SMALLEST: usize = 112;
/// Maximum number of characters in a label.
const LABEL_CHARS: usize = 32;

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    pub width: usize,
    /// RGB values, `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

/// A row of pictures and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FigureRow {
    /// Lines of the label. The first line is bold.
    pub label: Vec<String>,
    /// One picture per column.
    pub tiles: Vec<Tile>,
}

/// Rows of pictures with labels, column headings and a footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Heading of each column. A heading may have several lines.
    pub heads: Vec<&'static str>,
    /// Rows in groups. There is extra space between two groups.
    pub groups: Vec<Vec<FigureRow>>,
    /// Lines of text below the rows.
    pub footer: Vec<&'static str>,
}

impl Figure {
    /// Writes the figure as a PNG file, atomically.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        durable::write_output(path, &self.png()?)
    }

    /// Encodes the figure as PNG.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        self.draw().png()
    }

    fn draw(&self) -> Canvas {
        let layout = Layout::of(self);
        let mut canvas = Canvas::white(layout.width, layout.height);
        for (head, &(left, width)) in self.heads.iter().zip(&layout.columns) {
            let lines: Vec<&str> = head.lines().collect();
            let top = layout.below_heads - GAP - lines.len() * LINE;
            for (i, line) in lines.iter().enumerate() {
                let left = left + (width - text_width(line)) / 2;
                canvas.text(left, top + i * LINE, line, Weight::Regular);
            }
        }
        let mut top = layout.below_heads;
        for group in &self.groups {
            for row in group {
                draw_row(&mut canvas, row, &layout, top);
                top += height(row) + GAP;
            }
            top += GROUP_GAP - GAP;
        }
        let top = layout.height - MARGIN - self.footer.len() * LINE;
        for (i, line) in self.footer.iter().enumerate() {
            canvas.text(MARGIN, top + i * LINE, line, Weight::Regular);
        }
        canvas
    }
}

/// Where the parts of a figure are, in pixels.
struct Layout {
    width: usize,
    height: usize,
    /// Left edge and width of each column.
    columns: Vec<(usize, usize)>,
    /// Top edge of the first row of pictures.
    below_heads: usize,
}

impl Layout {
    fn of(figure: &Figure) -> Self {
        let rows = || figure.groups.iter().flatten();
        let labels = rows().flat_map(|row| &row.label).map(|line| text_width(&shortened(line)));
        let mut left = MARGIN + labels.max().map_or(0, |width| width + 2 * GAP);
        let mut columns = Vec::new();
        for (i, head) in figure.heads.iter().enumerate() {
            let tiles = rows().map(|row| shown_width(&row.tiles[i]));
            let width = tiles.chain(head.lines().map(text_width)).max().unwrap_or(0);
            columns.push((left, width));
            left += width + GAP;
        }
        let head_lines = figure.heads.iter().map(|head| head.lines().count()).max().unwrap_or(0);
        let below_heads = MARGIN + head_lines * LINE + GAP;
        let rows_height: usize = rows().map(|row| height(row) + GAP).sum();
        let group_gaps = figure.groups.len().saturating_sub(1) * (GROUP_GAP - GAP);
        let footer_width = figure.footer.iter().map(|line| text_width(line)).max().unwrap_or(0);
        Self {
            width: (left - GAP).max(MARGIN + footer_width) + MARGIN,
            height: below_heads
                + rows_height
                + group_gaps
                + GAP
                + figure.footer.len() * LINE
                + MARGIN,
            columns,
            below_heads,
        }
    }
}

fn draw_row(canvas: &mut Canvas, row: &FigureRow, layout: &Layout, top: usize) {
    let height = height(row);
    let label_top = top + (height - row.label.len() * LINE) / 2;
    for (i, line) in row.label.iter().enumerate() {
        let weight = if i == 0 { Weight::Bold } else { Weight::Regular };
        canvas.text(MARGIN, label_top + i * LINE, &shortened(line), weight);
    }
    for (tile, (left, width)) in row.tiles.iter().zip(&layout.columns) {
        let (wide, high) = (shown_width(tile), shown_height(tile));
        canvas.tile(left + (width - wide) / 2, top + (height - high) / 2, tile, wide / tile.width);
    }
}

fn height(row: &FigureRow) -> usize {
    row.tiles.iter().map(shown_height).fold(row.label.len() * LINE, usize::max)
}

impl Tile {
    fn height(&self) -> usize {
        self.rgb.len() / 3 / self.width
    }

    /// Returns the factor by which a figure enlarges this picture.
    fn scale(&self) -> usize {
        SMALLEST.div_ceil(self.width.min(self.height()))
    }
}

fn shown_width(tile: &Tile) -> usize {
    tile.width * tile.scale()
}

fn shown_height(tile: &Tile) -> usize {
    tile.height() * tile.scale()
}

/// Replaces the middle of a long label by `..`.
fn shortened(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    if chars.len() <= LABEL_CHARS {
        return line.to_owned();
    }
    let half = (LABEL_CHARS - 2) / 2;
    let (first, last) = (&chars[..half], &chars[chars.len() - half..]);
    first.iter().chain(&['.', '.']).chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::{Figure, FigureRow, Tile, shortened, shown_height, shown_width};

    fn tile(side: usize, rgb: [u8; 3]) -> Tile {
        Tile { width: side, rgb: rgb.repeat(side * side) }
    }

    #[test]
    fn small_pictures_are_enlarged_and_large_ones_are_not() {
        let sides = [8, 16, 28, 32, 64, 112, 224, 448].map(|side| shown_width(&tile(side, [0; 3])));
        assert_eq!(sides, [112, 112, 112, 128, 128, 112, 224, 448]);
        let wide = Tile { width: 64, rgb: vec![0; 3 * 64 * 16] };
        assert_eq!((shown_width(&wide), shown_height(&wide)), (448, 112));
    }

    #[test]
    fn pictures_of_different_sizes_never_overlap() {
        let row = |side, label: &str| FigureRow {
            label: vec![label.to_owned(); 9],
            tiles: vec![tile(side, [200, 0, 0]), tile(side, [0, 0, 200])],
        };
        let figure = Figure {
            heads: vec!["a head that is wider than every picture", "b\nc"],
            groups: vec![
                vec![row(16, "größe.png"), row(224, &"x".repeat(99))],
                vec![row(30, "字")],
            ],
            footer: vec!["a line"],
        };
        let canvas = figure.draw();
        let png = image::load_from_memory(&canvas.png().unwrap()).unwrap().into_rgb8();
        let count = |rgb| png.pixels().filter(|p| p.0 == rgb).count();
        // The figure contains every pixel of every picture, so pictures do not overlap and are not cut off.
        let expected = 112 * 112 + 224 * 224 + 120 * 120;
        assert_eq!((count([200, 0, 0]), count([0, 0, 200])), (expected, expected));
        assert_eq!(png.get_pixel(0, 0).0, [255; 3]);
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("epoch 800"), "epoch 800");
        let short = shortened("mae_pretrain_vit_base_of_somebody_else_full.pth");
        assert_eq!(short, "mae_pretrain_vi..y_else_full.pth");
    }
}
