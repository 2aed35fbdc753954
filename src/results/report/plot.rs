//! Draws charts as SVG inside the HTML report.
//!
//! The library Plotters draws with placeholder colours. The style sheet replaces the placeholders by colours for light
//! mode or dark mode.

use super::axis::PlotAxis;
use super::text::escape;
use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{Circle, Cross, PathElement, Polygon, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TRANSPARENT, TextStyle};

use std::fmt::Write as _;

/// SVG units per pixel. Plotters draws in whole units.
const UNIT: u32 = 10;
const WIDTH: u32 = 380;
const HEIGHT: u32 = 260;
const FONT: u32 = 14;
/// Width of a digit, as a fraction of the font size.
const DIGIT: f64 = 0.58;

const INK: RGBColor = RGBColor(0x44, 0x4B, 0x55);
const GRID: RGBColor = RGBColor(0xE0, 0xE3, 0xE8);
const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
/// Line colours that colour-blind readers can distinguish.
const HUES: [RGBColor; 7] = [
    RGBColor(0x0A, 0x6C, 0xB0),
    RGBColor(0xC2, 0x57, 0x00),
    RGBColor(0x00, 0x80, 0x60),
    RGBColor(0xA6, 0x3F, 0x80),
    RGBColor(0x8A, 0x6D, 0x00),
    RGBColor(0x22, 0x26, 0x2B),
    RGBColor(0x70, 0x77, 0x80),
];
/// Number of line colours, without the colour for training from scratch.
const CYCLE: usize = HUES.len() - 1;
/// The `slot` of the line for training from scratch.
pub(super) const SCRATCH: usize = usize::MAX;
/// Dash patterns of lines. The last pattern is for baselines.
const DASHES: [&str; 4] = ["none", "70 40", "20 35", "100 50"];
const BASELINE: usize = 3;

#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) x: PlotAxis,
    pub(super) y: PlotAxis,
    pub(super) series: Vec<Series>,
    /// Dashed horizontal lines.
    pub(super) baselines: Vec<Baseline>,
}

/// A line in a chart, or a set of crosses.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// Selects the colour and the dash pattern.
    pub(super) slot: usize,
    pub(super) shape: Shape,
    pub(super) points: Vec<PlotPoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A line. The standard deviation is a band around the line.
    Curve,
    /// A line with a mark at each value. The standard deviation is an error bar.
    Marks,
    /// Crosses without a line, for published results.
    Crosses,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PlotPoint {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Standard deviation, drawn above and below `y`.
    pub(super) spread: Option<f64>,
    /// Whether to draw a ring, for a checkpoint from the middle of a schedule.
    pub(super) hollow: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Baseline {
    pub(super) name: String,
    pub(super) slot: usize,
    pub(super) y: f64,
}

type Area<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<PlotAxis, PlotAxis>>;
const INTO_A_STRING: &str = "drawing into a string cannot fail";

impl Chart {
    /// Returns the chart with its title as HTML.
    pub(super) fn figure(&self) -> String {
        format!("<figure><figcaption>{}</figcaption>{}</figure>\n", escape(&self.title), self.svg())
    }

    fn svg(&self) -> String {
        let mut drawing = String::new();
        self.draw(&mut drawing);
        // Replace the opening `<svg>` tag by one with a title and without a fixed size.
        let inside = drawing.split_once('>').map_or("", |(_, inside)| inside);
        let inside =
            inside.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "");
        let (id, width, height) = (escape(&self.id), WIDTH * UNIT, HEIGHT * UNIT);
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{inside}",
            escape(&self.title),
            escape(&self.description()),
        )
    }

    /// Describes the chart in words, for screen readers.
    fn description(&self) -> String {
        let mut text = format!("{} against {}.", self.y_label, self.x_label);
        for series in &self.series {
            let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else {
                continue;
            };
            let name = if series.name.is_empty() { "The line" } else { &series.name };
            let at =
                |point: &PlotPoint| format!("{} at {}", significant(point.y), self.x_name(point.x));
            let _ = match series.points.len() {
                1 => write!(text, " {name}: {}.", at(first)),
                _ => write!(text, " {name}: from {} to {}.", at(first), at(last)),
            };
        }
        for line in &self.baselines {
            let _ = write!(text, " {}: {}.", line.name, significant(line.y));
        }
        text
    }

    fn x_name(&self, x: f64) -> String {
        self.x.label(x).map_or_else(|| significant(x), str::to_owned)
    }

    fn draw(&self, into: &mut String) {
        let size = (WIDTH * UNIT, HEIGHT * UNIT);
        let root = SVGBackend::with_string(into, size).into_drawing_area();
        let longest = self.y.ticks.iter().map(|(_, label)| label.chars().count()).max();
        let label_width = longest.unwrap_or(1) as f64 * DIGIT * f64::from(FONT * UNIT);
        let mut area: Area<'_, '_> = ChartBuilder::on(&root)
            .margin_top(28 * UNIT)
            .margin_right(self.right_margin())
            .margin_left(2 * UNIT)
            .x_label_area_size(42 * UNIT)
            .y_label_area_size(label_width as u32 + 14 * UNIT)
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .expect(INTO_A_STRING);
        area.configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(UNIT))
            .axis_style(INK.stroke_width(UNIT))
            .set_all_tick_mark_size(4 * UNIT)
            .label_style(text_style(FONT))
            .axis_desc_style(text_style(FONT))
            .x_desc(self.x_label.as_str())
            .draw()
            .expect(INTO_A_STRING);
        let y_label = Text::new(
            self.y.named(&self.y_label),
            (4 * UNIT as i32, 6 * UNIT as i32),
            text_style(FONT),
        );
        root.draw(&y_label).expect(INTO_A_STRING);
        for line in &self.baselines {
            let ends = vec![(self.x.start, line.y), (self.x.end, line.y)];
            let style = hue(line.slot, BASELINE).stroke_width(2 * UNIT - UNIT / 2);
            show(&mut area, &PathElement::new(ends, style));
        }
        // Draw published results first, so that they never cover the run's own marks.
        let (crosses, own): (Vec<&Series>, Vec<&Series>) =
            self.series.iter().partition(|series| series.shape == Shape::Crosses);
        for series in crosses.into_iter().chain(own) {
            series.draw(&mut area);
        }
        self.draw_values(&mut area);
        drop(area);
        root.present().expect(INTO_A_STRING);
    }

    /// Returns the right margin that the last label needs, in SVG units.
    fn right_margin(&self) -> u32 {
        let Some((_, last)) = self.x.ticks.last() else { return 12 * UNIT };
        let half = last.chars().count() as f64 * DIGIT * f64::from(FONT * UNIT) / 2.0;
        (half as u32 + 2 * UNIT).max(12 * UNIT)
    }

    /// Writes the values above a line. Leaves out values that would overlap.
    fn draw_values(&self, area: &mut Area<'_, '_>) {
        let [series] = &self.series[..] else { return };
        if series.shape != Shape::Marks || series.points.iter().any(|p| p.spread.is_some()) {
            return;
        }
        let apart = (self.x.end - self.x.start) * 0.125;
        let mut next = f64::INFINITY;
        for point in series.points.iter().rev().filter(|point| point.y.is_finite()) {
            if next - point.x < apart {
                continue;
            }
            next = point.x;
            let style = text_style(FONT - 2).pos(Pos::new(HPos::Center, VPos::Bottom));
            let lift = (self.y.end - self.y.start) * 0.035;
            show(area, &Text::new(format!("{:.2}", point.y), (point.x, point.y + lift), style));
        }
    }
}

impl Series {
    /// Returns the legend entry of this line as HTML.
    pub(super) fn key(&self) -> String {
        let sample = match self.shape {
            Shape::Crosses => {
                format!("<i class=\"x\" style=\"color:var(--c{})\">×</i>", place(self.slot))
            }
            _ => line_key(self.slot, dash(self.slot)),
        };
        format!("<li>{sample}{}</li>", escape(&self.name))
    }

    fn draw(&self, area: &mut Area<'_, '_>) {
        let color = hue(self.slot, dash(self.slot));
        let points: Vec<PlotPoint> =
            self.points.iter().copied().filter(|p| p.y.is_finite()).collect();
        let places: Vec<(f64, f64)> = points.iter().map(|p| (p.x, p.y)).collect();
        let spread = |p: &PlotPoint| p.spread.filter(|spread| spread.is_finite());
        if self.shape == Shape::Curve {
            let upper = points.iter().filter_map(|p| Some((p.x, p.y + spread(p)?)));
            let lower = points.iter().rev().filter_map(|p| Some((p.x, p.y - spread(p)?)));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            if band.len() > 3 {
                show(area, &Polygon::new(band, color.mix(0.18)));
            }
        }
        if self.shape != Shape::Crosses && places.len() > 1 {
            show(area, &PathElement::new(places, color.stroke_width(2 * UNIT)));
        }
        let solid = hue(self.slot, 0);
        for point in &points {
            let at = (point.x, point.y);
            if let Some(spread) = spread(point).filter(|_| self.shape == Shape::Marks) {
                let bar = vec![(point.x, point.y - spread), (point.x, point.y + spread)];
                show(area, &PathElement::new(bar, solid.stroke_width(UNIT)));
            }
            match self.shape {
                Shape::Crosses => {
                    show(area, &Cross::new(at, 4 * UNIT, solid.stroke_width(2 * UNIT)));
                }
                Shape::Marks if point.hollow => {
                    show(area, &Circle::new(at, 4 * UNIT, PAPER.filled()));
                    show(area, &Circle::new(at, 4 * UNIT, solid.stroke_width(2 * UNIT)));
                }
                Shape::Marks => show(area, &Circle::new(at, 5 * UNIT, solid.filled())),
                // A line with a single point is invisible, so draw a dot.
                Shape::Curve if points.len() == 1 => {
                    show(area, &Circle::new(at, 4 * UNIT, solid.filled()));
                }
                Shape::Curve => {}
            }
        }
    }
}

impl Baseline {
    /// Returns the legend entry of this baseline as HTML.
    pub(super) fn key(&self) -> String {
        format!("<li>{}{}</li>", line_key(self.slot, BASELINE), escape(&self.name))
    }
}

/// Returns the legend as HTML. Empty for a single line without a name.
pub(super) fn legend(series: &[Series], baselines: &[Baseline]) -> String {
    if series.len() + baselines.len() < 2 && series.iter().all(|line| line.name.is_empty()) {
        return String::new();
    }
    let keys = series.iter().map(Series::key).chain(baselines.iter().map(Baseline::key));
    format!("<ul class=\"legend\">{}</ul>\n", keys.collect::<String>())
}

/// Returns all y values of a chart, including error bars.
pub(super) fn heights(series: &[Series], baselines: &[Baseline]) -> Vec<f64> {
    let ends = |p: &PlotPoint| {
        let spread = p.spread.unwrap_or(0.0);
        [p.y - spread, p.y + spread]
    };
    let points = series.iter().flat_map(|s| &s.points).flat_map(ends);
    points.chain(baselines.iter().map(|line| line.y)).filter(|y| y.is_finite()).collect()
}

fn show<'b, E>(area: &mut Area<'_, 'b>, element: &E)
where
    E: plotters::element::Drawable<SVGBackend<'b>>,
    for<'e> &'e E: plotters::element::PointCollection<'e, (f64, f64)>,
{
    area.plotting_area().draw(element).expect(INTO_A_STRING);
}

fn text_style(size: u32) -> TextStyle<'static> {
    // Plotters divides the font size by this factor when it writes SVG.
    let size = f64::from(size * UNIT) * 1.24;
    TextStyle::from(("sans-serif", size).into_font()).color(&INK)
}

/// Returns an index into [`DASHES`].
fn dash(slot: usize) -> usize {
    if slot == SCRATCH { BASELINE } else { slot / CYCLE % BASELINE }
}

/// Returns an index into [`HUES`].
fn place(slot: usize) -> usize {
    if slot == SCRATCH { CYCLE } else { slot % CYCLE }
}

/// Returns a placeholder colour, which [`style_rules`] replaces.
fn hue(slot: usize, dash: usize) -> RGBColor {
    let RGBColor(r, g, b) = HUES[place(slot)];
    RGBColor(r, g, b + dash as u8)
}

fn line_key(slot: usize, dash: usize) -> String {
    format!(
        "<svg viewBox=\"0 0 280 60\" aria-hidden=\"true\"><path d=\"M0 30H280\" stroke=\"{}\" stroke-width=\"25\"/></svg>",
        hex(hue(slot, dash))
    )
}

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Returns CSS rules that replace the placeholder colours.
pub(super) fn style_rules() -> String {
    let mut css = format!(
        "svg [stroke=\"{}\"]{{stroke:var(--grid)}}svg [fill=\"{ink}\"]{{fill:var(--ink2)}}svg [stroke=\"{ink}\"]{{stroke:var(--line)}}svg [fill=\"{}\"]{{fill:var(--card)}}\n",
        hex(GRID),
        hex(PAPER),
        ink = hex(INK)
    );
    for (place, RGBColor(r, g, b)) in HUES.into_iter().enumerate() {
        for (dash, pattern) in DASHES.iter().enumerate() {
            let color = hex(RGBColor(r, g, b + dash as u8));
            let _ = writeln!(
                css,
                "svg [stroke=\"{color}\"]{{stroke:var(--c{place});stroke-dasharray:{pattern}}}svg [fill=\"{color}\"]{{fill:var(--c{place})}}"
            );
        }
    }
    css
}

/// Formats a number with four significant digits.
pub(super) fn significant(value: f64) -> String {
    if value == 0.0 || (value.fract() == 0.0 && value.abs() < 1e6) {
        return format!("{value}");
    }
    let digits = (3.0 - value.abs().log10().floor()).max(0.0) as usize;
    if digits > 6 { format!("{value:.3e}") } else { format!("{value:.digits$}") }
}
