//! Curves as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

/// A curve from the left to the right; `points` are times in minutes and values.
pub fn curve(title: &str, unit: &str, points: &[(f64, f64)]) -> String {
    let last = points.iter().map(|point| point.0).fold(f64::MIN_POSITIVE, f64::max);
    let step = nice(points.iter().map(|point| point.1).fold(1.0, f64::max) / 5.0);
    let top = (points.iter().map(|point| point.1).fold(1.0, f64::max) / step).ceil() * step;
    let x = |time: f64| LEFT + time / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        let at = y(value);
        write!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        )
        .unwrap();
        value += step;
    }
    let step = nice(last / 6.0);
    let mut time = 0.0;
    while time <= last {
        let at = x(time);
        let label = (time * 100.0).round() / 100.0;
        writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            HEIGHT - BOTTOM + 18.0
        )
        .unwrap();
        time += step;
    }
    let path: Vec<String> =
        points.iter().map(|(time, value)| format!("{:.1},{:.1}", x(*time), y(*value))).collect();
    write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">minutes</text>\n\
         <text x=\"{:.1}\" y=\"24\" text-anchor=\"end\">{unit}</text>\n\
         <polyline fill=\"none\" stroke=\"#06c\" stroke-width=\"1.5\" points=\"{}\"/>\n</svg>\n",
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        WIDTH - RIGHT,
        path.join(" ")
    )
    .unwrap();
    svg
}

/// The next greater one of 1, 2, 5, 10, 20, 50 and so on, also below 1.
fn nice(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-6).log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power);
    found.into_iter().find(|step| *step >= least * 0.999).unwrap_or(10.0 * power)
}
