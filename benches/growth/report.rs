//! Tables, curves, and goals.

use std::{io, time::Duration};

use testkit::bench::{
    chart::{Chart, Line, Scale},
    growth::{Curve, Goal},
};

/// The least cost that can be shown; it stands for none.
const LEAST: f64 = 0.001;

/// What came of all goals.
#[derive(Default)]
pub(crate) struct Report {
    goals: Vec<(String, String, bool)>,
}

/// A line of a table.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) goal: Goal,
    /// The size from which on the goal holds: below, other things cost more.
    pub(crate) from: f64,
}

impl<'a> Row<'a> {
    pub(crate) fn new(name: &'a str, goal: Goal) -> Self {
        Self { name, goal, from: 0.0 }
    }
}

/// A table of costs, with a column for each size.
pub(crate) struct Table<'a> {
    goals: &'a mut Vec<(String, String, bool)>,
    title: String,
    what: &'static str,
    sizes: Vec<f64>,
    lines: Vec<Line>,
}

impl Report {
    /// Begins a table of costs, and prints its head.
    pub(crate) fn table(&mut self, title: &str, what: &'static str, sizes: &[f64]) -> Table<'_> {
        println!("\n{title}");
        let columns: String = sizes.iter().map(|size| format!("{size:>11}")).collect();
        println!("{what:<44}{columns}  exponent (of each step)");
        let (goals, title, sizes) = (&mut self.goals, title.to_owned(), sizes.to_vec());
        Table { goals, title, what, sizes, lines: Vec::new() }
    }

    /// Prints the goals.
    pub(crate) fn print(&self, time: Duration) {
        println!("\nGoals ({} seconds)", time.as_secs());
        for (goal, figure, is_met) in &self.goals {
            let verdict = if *is_met { "met" } else { "not met" };
            println!("{verdict:<8} {goal}: {figure}");
        }
    }
}

impl Table<'_> {
    /// Prints a line, whose goal holds from the first size on.
    pub(crate) fn row(&mut self, name: &str, costs: impl Iterator<Item = f64>, goal: Goal) {
        self.row_with(Row::new(name, goal), costs);
    }

    /// Prints a line, which has [`LEAST`] where nothing could be measured.
    pub(crate) fn row_with(&mut self, row: Row<'_>, costs: impl Iterator<Item = f64>) {
        let points = self.sizes.iter().copied().zip(costs.map(|cost| cost.max(LEAST)));
        let curve = Curve(points.collect());
        let figure = |cost: f64| match cost {
            100.0.. => format!("{cost:>11.0}"),
            1.0.. => format!("{cost:>11.1}"),
            _ => format!("{cost:>11.3}"),
        };
        let columns: String = curve.0.iter().map(|(_, cost)| figure(*cost)).collect();
        let part = curve.from(row.from);
        println!("{:<44}{columns}  {part}", row.name);
        let of = if row.from > 0.0 { format!(" from {} on", row.from) } else { String::new() };
        let goal = format!("{} {}{of}, {}", row.name, row.goal, self.what);
        self.goals.push((goal, part.to_string(), part.meets(row.goal)));
        let mut line = curve.line(row.name);
        line.points.retain(|(_, cost)| *cost > LEAST);
        self.lines.push(line);
    }

    /// Draws what was printed to `target/performance/NAME.svg`.
    pub(crate) fn draw(&self, name: &str) -> io::Result<()> {
        let chart = Chart {
            title: &self.title,
            below: self.what,
            unit: "",
            scale: Scale::Logarithmic,
            lines: &self.lines,
        };
        let path = chart.write(name)?;
        println!("{}", path.display());
        Ok(())
    }
}
