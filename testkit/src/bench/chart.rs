//! Curves as SVG, on white, so that they can be read on any page.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use crate::scratch::target_folder;

const WIDTH: f64 = 800.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

/// The height of the area of curves.
const AREA: f64 = 180.0;
const LOGARITHMIC_AREA: f64 = 320.0;

/// The width with names of lines, where there are several, the room for them, and the height of a
/// name.
const WIDTH_WITH_NAMES: f64 = 920.0;
const NAMES: f64 = 320.0;
const NAME: f64 = 20.0;

/// Colours of lines; those that follow have them again, dashed.
const COLOURS: [&str; 7] =
    ["#0066cc", "#c2410c", "#1a7f37", "#8250df", "#bf3989", "#7d4e00", "#57606a"];

/// What an axis shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// From 0 on.
    Linear,
    /// Powers of ten; values are above 0.
    Logarithmic,
}

/// A line from the left to the right.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is; shown where there are several lines.
    pub name: String,
    /// Places on both axes.
    pub points: Vec<(f64, f64)>,
}

/// Curves of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the axis below shows.
    pub below: &'a str,
    /// The unit of the values.
    pub unit: &'a str,
    /// The scale of both axes.
    pub scale: Scale,
    /// The lines.
    pub lines: &'a [Line],
}

/// An axis: where a value is, and the values that are written beside it.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Axis {
    fn new(
        scale: Scale,
        values: impl Iterator<Item = f64> + Clone,
        marks: f64,
        round: bool,
    ) -> Self {
        let greatest = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        if scale == Scale::Logarithmic {
            let low = values.fold(f64::INFINITY, f64::min).log10();
            let low = if low.is_finite() { (low + 1e-9).floor() } else { 0.0 };
            let high = (greatest.log10() - 1e-9).ceil().max(low + 1.0);
            let marks = std::iter::successors(Some(low), |mark| Some(mark + 1.0));
            let marks = marks.take_while(|mark| *mark <= high).map(|mark| 10_f64.powf(mark));
            return Self { scale, low, high, marks: marks.collect() };
        }
        // Nothing but zeros has an axis too.
        let greatest = if round { greatest.max(1.0) } else { greatest };
        let step = nice(greatest / marks);
        let high = if round { (greatest / step).ceil() * step } else { greatest };
        let marks = std::iter::successors(Some(0.0), |mark| Some(mark + step));
        let marks = marks.take_while(|mark| *mark <= high + step / 1e6).collect();
        Self { scale, low: 0.0, high, marks }
    }

    /// Which part of the axis is below a value.
    fn part(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

impl Chart<'_> {
    /// Draws it.
    pub fn svg(&self) -> String {
        let named = self.lines.len() > 1;
        let area = if self.scale == Scale::Logarithmic { LOGARITHMIC_AREA } else { AREA };
        let height = TOP + BOTTOM + area;
        let (width, names) = if named { (WIDTH_WITH_NAMES, NAMES) } else { (WIDTH, 0.0) };
        let right = width - RIGHT - names;
        let points = self.lines.iter().flat_map(|line| &line.points);
        let (sizes, values) = (points.clone().map(|point| point.0), points.map(|point| point.1));
        let (sizes, values) =
            (Axis::new(self.scale, sizes, 6.0, false), Axis::new(self.scale, values, 5.0, true));
        let x = |size: f64| LEFT + sizes.part(size) * (right - LEFT);
        let y = |value: f64| TOP + (1.0 - values.part(value)) * area;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            self.title
        );
        for value in &values.marks {
            let at = y(*value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                label(*value)
            );
        }
        for size in &sizes.marks {
            let at = x(*size);
            if self.scale == Scale::Logarithmic {
                let bottom = TOP + area;
                let _ = writeln!(
                    svg,
                    "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#eee\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                height - BOTTOM + 18.0,
                label(*size)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <text x=\"{right:.1}\" y=\"24\" text-anchor=\"end\">{}</text>",
            height - 6.0,
            self.below,
            self.unit
        );
        let mut name_at = TOP;
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let dashes = if number < COLOURS.len() { "" } else { " stroke-dasharray=\"6 3\"" };
            let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes}");
            let path: Vec<String> = line
                .points
                .iter()
                .map(|(size, value)| format!("{:.1},{:.1}", x(*size), y(*value)))
                .collect();
            let _ = writeln!(svg, "<polyline {style} points=\"{}\"/>", path.join(" "));
            if self.scale == Scale::Logarithmic {
                for point in &path {
                    let (x, y) = point.split_once(',').unwrap_or_default();
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{x}\" cy=\"{y}\" r=\"2.5\" fill=\"{colour}\"/>"
                    );
                }
            }
            if named {
                let _ = writeln!(
                    svg,
                    "<polyline {style} points=\"{:.1},{:.1} {:.1},{:.1}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    right + 14.0,
                    name_at + 6.0,
                    right + 38.0,
                    name_at + 6.0,
                    right + 44.0,
                    name_at + 10.0,
                    line.name
                );
                name_at += NAME;
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Draws it to `target/performance/NAME.svg`.
    pub fn write(&self, name: &str) -> io::Result<PathBuf> {
        let folder = target_folder().join("performance");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, self.svg())?;
        Ok(path)
    }
}

/// A number beside an axis.
fn label(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let unit = units.into_iter().find(|(unit, _)| value >= *unit && value >= 1e4);
    let (value, unit) = unit.map_or((value, ""), |(unit, name)| (value / unit, name));
    // Sums of steps are not exact.
    format!("{}{unit}", (value * 1e6).round() / 1e6)
}

/// The next greater one of 1, 2, 5, 10, 20, 50 and so on, also below 1.
fn nice(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-6).log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power);
    found.into_iter().find(|step| *step >= least * 0.999).unwrap_or(10.0 * power)
}
