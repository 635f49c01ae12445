//! Drawings, as SVG that stands inside a page.
//!
//! Every colour is a name: the page's style sheet replaces it by one that suits light or dark
//! surroundings, so a drawing is also right by itself.

use anyhow::Result;
use plotters::coord::ranged1d::KeyPointHint;
use plotters::coord::ranged1d::{NoDefaultFormatting, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::number::number;
use super::subjects::COLOURS;
use crate::statistics::Estimate;

/// Text, and what is less important than text.
pub(super) const INK: (&str, &str) = ("#27272A", "#E4E4E7");
pub(super) const FAINT: (&str, &str) = ("#63636B", "#A1A1AA");
pub(super) const GRID: (&str, &str) = ("#E4E4E8", "#33363F");

const WIDTH: u32 = 480;
const TEXT: u32 = 18;

/// How numbers are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// In proportion, from zero.
    Linear,
    /// Equal ratios at equal distances.
    Log,
    /// Shares below one: each further nine at an equal distance (HdrHistogram's percentile axis).
    Nines,
}

/// One subject's part of a drawing.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// An index of the colours.
    pub(super) colour: usize,
    /// Where it goes through.
    pub(super) points: Vec<(f64, Estimate)>,
}

/// A drawing of lines.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// What is along the horizontal axis.
    pub(super) label: String,
    /// Its scale.
    pub(super) across: Scale,
    /// The scale of what is measured.
    pub(super) up: Scale,
    /// Whether the points are marked; a curve of many is not.
    pub(super) marked: bool,
    /// The subjects.
    pub(super) lines: Vec<Line>,
}

/// A drawing of horizontal bars.
#[derive(Clone, Debug)]
pub(super) struct Bars {
    /// Each has a heading, which may be empty.
    pub(super) groups: Vec<(String, Vec<Bar>)>,
}

/// One bar: its colour, its name and how long it is.
pub(super) type Bar = (usize, String, Estimate);

impl Lines {
    /// Draws it.
    pub(super) fn draw(&self) -> Result<String> {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let xs = Axis::of(self.across, all().map(|(x, _)| *x), true);
        let ys = Axis::of(self.up, all().flat_map(|(_, y)| [y.low, y.high, y.value]), false);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, 300)).into_drawing_area();
            let mut chart = ChartBuilder::on(&root)
                .margin_top(10)
                .margin_right(26)
                .set_label_area_size(LabelAreaPosition::Left, 62)
                .set_label_area_size(LabelAreaPosition::Bottom, 54)
                .build_cartesian_2d(xs.clone(), ys.clone())?;
            let style = ("sans-serif", TEXT).into_font().color(&colour(FAINT.0));
            chart
                .configure_mesh()
                .disable_x_mesh()
                .axis_style(colour(GRID.0))
                .bold_line_style(colour(GRID.0))
                .light_line_style(TRANSPARENT)
                .label_style(style.clone())
                .axis_desc_style(style)
                .x_label_formatter(&|x| xs.name(*x))
                .y_label_formatter(&|y| ys.name(*y))
                .x_desc(&*self.label)
                .draw()?;
            // What matters most comes first in the legend, and is drawn last, on top.
            for line in self.lines.iter().rev() {
                let paint = colour(COLOURS[line.colour].0);
                let place = |x: f64, y: f64| (xs.place(x), ys.place(y));
                let path = line.points.iter().map(|(x, y)| place(*x, y.value));
                chart.draw_series(LineSeries::new(path.clone(), paint.stroke_width(2)))?;
                if !self.marked {
                    continue;
                }
                chart.draw_series(line.points.iter().map(|(x, y)| {
                    let ends = vec![place(*x, y.low), place(*x, y.high)];
                    PathElement::new(ends, paint.mix(0.45).stroke_width(4))
                }))?;
                chart.draw_series(path.map(|place| Circle::new(place, 4, paint.filled())))?;
            }
            root.present()?;
        }
        Ok(embedded(svg))
    }
}

impl Bars {
    /// Draws it.
    pub(super) fn draw(&self) -> Result<String> {
        const ROW: i32 = 30;
        const HEADING: i32 = 30;
        const LEFT: i32 = 180;
        const RIGHT: i32 = 78;
        let headings = self.groups.iter().filter(|(heading, _)| !heading.is_empty()).count() as i32;
        let rows = self.groups.iter().map(|(_, bars)| bars.len()).sum::<usize>() as i32;
        let height = headings * HEADING + rows * ROW + 10;
        let all = self.groups.iter().flat_map(|(_, bars)| bars);
        let largest = all.map(|(_, _, value)| value.high).fold(f64::MIN_POSITIVE, f64::max);
        let room = f64::from(WIDTH as i32 - LEFT - RIGHT);
        let x = |value: f64| LEFT + (value.max(0.0) / largest * room).round() as i32;
        let mut svg = String::new();
        {
            let root =
                SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
            let text = |name: (&str, &str), at: HPos| {
                ("sans-serif", TEXT)
                    .into_font()
                    .color(&colour(name.0))
                    .pos(Pos::new(at, VPos::Center))
            };
            let mut y = 5;
            for (heading, bars) in &self.groups {
                if !heading.is_empty() {
                    let style = text(FAINT, HPos::Left);
                    root.draw(&Text::new(heading.clone(), (0, y + HEADING / 2 + 2), style))?;
                    y += HEADING;
                }
                for (paint, name, value) in bars {
                    let paint = colour(COLOURS[*paint].0);
                    let middle = y + ROW / 2;
                    let name = Text::new(name.clone(), (LEFT - 10, middle), text(INK, HPos::Right));
                    root.draw(&name)?;
                    let bar = [(LEFT, y + 4), (x(value.value).max(LEFT + 2), y + ROW - 4)];
                    root.draw(&Rectangle::new(bar, paint.filled()))?;
                    let whisker = vec![(x(value.low), middle), (x(value.high), middle)];
                    root.draw(&PathElement::new(whisker, colour(INK.0).stroke_width(1)))?;
                    let end = x(value.high.max(value.value)) + 7;
                    let number =
                        Text::new(number(value.value), (end, middle), text(INK, HPos::Left));
                    root.draw(&number)?;
                    y += ROW;
                }
            }
            root.present()?;
        }
        Ok(embedded(svg))
    }
}

/// An axis: a line from the least to the most, with names at some places.
#[derive(Clone, Debug)]
struct Axis {
    scale: Scale,
    range: std::ops::Range<f64>,
    names: Vec<(f64, String)>,
}

impl Axis {
    /// An axis for these values; `each` wants a name at every one of them, if they are few.
    fn of(scale: Scale, values: impl Iterator<Item = f64>, each: bool) -> Axis {
        let mut values: Vec<f64> =
            values.filter(|value| scale != Scale::Log || *value > 0.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let least = values.first().copied().unwrap_or(1.0);
        let most = values.last().copied().unwrap_or(2.0);
        let (ticks, least, most): (Vec<f64>, f64, f64) = match scale {
            Scale::Nines => (vec![0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999], 0.0, most),
            Scale::Log if each && values.len() <= 8 => (values.clone(), least, most),
            Scale::Log => {
                let decades = least.log10().floor() as i32..=most.log10().ceil() as i32;
                let steps: &[f64] = if most / least < 60.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let ticks =
                    decades.flat_map(|d| steps.iter().map(move |step| step * 10f64.powi(d)));
                (ticks.collect(), least / 1.15, most * 1.15)
            }
            Scale::Linear => {
                let (least, most) = (least.min(0.0), most.max(least.min(0.0) + 1e-9));
                let rough = (most - least) / 4.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|step| step * power);
                let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
                let first = (least / step).floor() as i64;
                let last = (most / step).ceil() as i64;
                let ticks = (first..=last).map(|tick| tick as f64 * step).collect();
                (ticks, first as f64 * step, last as f64 * step)
            }
        };
        let mut axis = Axis { scale, range: 0.0..1.0, names: Vec::new() };
        let margin = if each && scale == Scale::Log { 0.04 } else { 0.0 };
        let (from, to) = (axis.place(least), axis.place(most));
        let margin = (to - from).max(0.1) * margin;
        axis.range = from - margin..(to + margin).max(from + 1e-6);
        axis.names = ticks
            .into_iter()
            .map(|tick| (axis.place(tick), axis.named(tick)))
            .filter(|(place, _)| axis.range.contains(place) || *place == axis.range.end)
            .collect();
        axis
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1e-12).log10(),
            Scale::Nines => -(1.0 - value).max(1e-7).log10(),
        }
    }

    fn named(&self, value: f64) -> String {
        match self.scale {
            Scale::Nines => {
                format!("{:.4}", value * 100.0)
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .to_owned()
                    + " %"
            }
            _ if value.fract() == 0.0 && value.abs() >= 10_000.0 => {
                if value % 1000.0 == 0.0 {
                    format!("{}k", value / 1000.0)
                } else {
                    number(value)
                }
            }
            _ => format!("{}", (value * 1e6).round() / 1e6),
        }
    }

    fn name(&self, place: f64) -> String {
        let named = self.names.iter().find(|(known, _)| (known - place).abs() < 1e-9);
        named.map(|(_, name)| name.clone()).unwrap_or_default()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.names.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.clone()
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        number(*value)
    }
}

fn colour(name: &str) -> RGBColor {
    let part = |from| u8::from_str_radix(&name[from..from + 2], 16).expect("a colour is #RRGGBB");
    RGBColor(part(1), part(3), part(5))
}

/// Takes what only a file of its own needs; the page gives width and font.
fn embedded(svg: String) -> String {
    svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", " role=\"img\"", 1)
        .replace(" font-family=\"sans-serif\"", "")
}
