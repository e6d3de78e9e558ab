//! The curves of the benchmarks: exponents, and how they are drawn.

use testkit::bench::{
    chart::{Chart, Line, Scale},
    growth::{Curve, Goal},
};

fn curve(cost: impl Fn(f64) -> f64) -> Curve {
    Curve([10.0, 100.0, 1000.0, 10_000.0].map(|size| (size, cost(size))).into())
}

#[test]
fn exponents_are_those_of_the_power() {
    for power in [0.0, 0.5, 1.0, 2.0] {
        let curve = curve(|size: f64| 3.0 * size.powf(power));
        assert!((curve.exponent() - power).abs() < 1e-9, "{curve}");
        assert_eq!(curve.steps().len(), 3);
        assert!(curve.steps().iter().all(|step| (step - power).abs() < 1e-9), "{curve}");
    }
    assert_eq!(curve(|size| size).to_string(), "1.00 (1.00 1.00 1.00)");
    assert_eq!(Curve(vec![(1.0, 5.0)]).to_string(), "0.00 ()");
    assert_eq!(Curve::default().exponent(), 0.0);
}

#[test]
fn goals_are_met_by_what_grows_no_more() {
    let linear = |size: f64| 2.0 * size;
    for (is_constant, is_linear, curve) in [
        (true, true, curve(|_| 7.0)),
        (true, true, curve(|size| 100.0 / size)),
        // As a table that is deeper for more.
        (true, true, curve(|size| 20.0 + size.log10())),
        (false, true, curve(linear)),
        // Most of a small one is something else.
        (false, true, curve(|size| 10_000.0 + linear(size))),
        (false, false, curve(|size| size * size)),
        // The ends alone do not show this one.
        (false, false, curve(|size| 1000.0 + size * size / 1000.0)),
    ] {
        assert_eq!(curve.meets(Goal::Constant), is_constant, "{curve}");
        assert_eq!(curve.meets(Goal::Linear), is_linear, "{curve}");
    }
    let early = Curve(vec![(1.0, 1.0), (10.0, 100.0), (100.0, 100.0), (1000.0, 100.0)]);
    assert!(!early.meets(Goal::Constant) && early.from(10.0).meets(Goal::Constant));
    assert_eq!(early.from(10.0).0.len(), 3);
}

fn chart(scale: Scale, lines: &[Line]) -> String {
    Chart { title: "Cost", below: "entries", unit: "us", scale, lines }.svg()
}

fn labels(svg: &str) -> Vec<&str> {
    svg.split("</text>")
        .filter_map(|text| Some(text.rsplit_once('>')?.1))
        .filter(|text| !text.trim().is_empty())
        .collect()
}

#[test]
fn powers_of_ten_are_marked() {
    let lines = [curve(|size| 0.3 * size).line("one"), curve(|_| 12.0).line("other")];
    let svg = chart(Scale::Logarithmic, &lines);
    assert_eq!(
        labels(&svg),
        [
            "Cost", "1", "10", "100", "1000", "10k", "10", "100", "1000", "10k", "entries", "us",
            "one", "other"
        ]
    );
    // From the left end of the axis below to the right one, in even steps.
    let points: Vec<&str> =
        svg.split("points=\"").skip(1).filter_map(|it| it.split('"').next()).collect();
    assert_eq!(points.len(), 4, "two lines, and two samples beside their names");
    let lefts: Vec<f64> = points[0]
        .split(' ')
        .map(|point| point.split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(lefts.len(), 4);
    assert!(lefts.windows(3).all(|it| (it[2] - 2.0 * it[1] + it[0]).abs() < 0.2), "{lefts:?}");
    assert_eq!(svg.matches("<circle").count(), 8);
}

#[test]
fn lines_from_zero_have_even_marks() {
    let points = vec![(0.0, 3.0), (10.0, 8.0), (30.0, 4.0)];
    let svg = chart(Scale::Linear, &[Line { name: "memory".into(), points }]);
    assert_eq!(
        labels(&svg),
        ["Cost", "0", "2", "4", "6", "8", "0", "5", "10", "15", "20", "25", "30", "entries", "us"]
    );
    assert!(svg.contains("points=\"80.0,152.5 313.3,40.0 780.0,130.0\""), "{svg}");
    // Nothing but zeros, one point, and none.
    for points in [vec![(0.0, 0.0), (1.0, 0.0)], vec![(1.0, 1.0)], vec![]] {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let points: Vec<(f64, f64)> = match scale {
                Scale::Linear => points.clone(),
                Scale::Logarithmic => points.iter().map(|(x, y)| (x + 1.0, y + 1.0)).collect(),
            };
            let svg = chart(scale, &[Line { name: "memory".into(), points }]);
            assert!(
                svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"),
                "{svg}"
            );
        }
    }
}
