//! Bars as SVG, on a logarithmic scale: `target/performance/NAME.svg`.

use std::{fmt::Write as _, fs, io};

use testkit::bench::report::folder;

const ROW: f64 = 26.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 48.0;

/// Writes a chart; each bar has its name and value. A short run can measure 0, which has no bar.
pub(crate) fn write(name: &str, title: &str, unit: &str, bars: &[(&str, f64)]) -> io::Result<()> {
    let values = || bars.iter().filter(|(_, value)| *value > 0.0).map(|(_, value)| value.log10());
    if values().next().is_none() {
        return Ok(());
    }
    // The shortest bar is long enough to be seen.
    let low = (values().fold(f64::INFINITY, f64::min) - 0.1).floor();
    let high = values().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let at = |value: f64| LEFT + (value.max(low) - low) / (high - low) * (RIGHT - LEFT);
    #[allow(clippy::cast_precision_loss)]
    let bottom = TOP + ROW * bars.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 700 {:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"13\">{title}</text>\n\
         <text x=\"10\" y=\"36\" fill=\"#555\">{unit}, logarithmic: less is better</text>\n",
        bottom + 28.0
    );
    let mut mark = low;
    while mark <= high {
        let x = at(mark);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ccc\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
            bottom + 16.0,
            shown(10_f64.powf(mark))
        );
        mark += 1.0;
    }
    let mut y = TOP;
    for (bar, value) in bars {
        let end = at(value.log10());
        let colour = if *bar == "spf-milter" { "#1a7f37" } else { "#6e7781" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{bar}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" stroke=\"white\" stroke-width=\"4\" paint-order=\"stroke\">{}</text>",
            LEFT - 8.0,
            y + 17.0,
            y + 5.0,
            (end - LEFT).max(1.0),
            end + 6.0,
            y + 17.0,
            shown(*value)
        );
        y += ROW;
    }
    svg.push_str("</svg>\n");
    fs::write(folder()?.join(format!("{name}.svg")), svg)
}

/// A value with three digits that count, or none too many for a round one.
fn shown(value: f64) -> String {
    if value <= 0.0 {
        return "0".to_owned();
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let decimals = (2.0 - value.log10().floor()).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
