//! What a benchmark prints: the machine, tables, and goals with their figures. It is written to
//! `target/performance` as well.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use super::machine;
use crate::scratch::target_folder;

/// The folder of what benchmarks write.
pub fn folder() -> io::Result<PathBuf> {
    let folder = target_folder().join("performance");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The text, and the goals so far.
#[derive(Debug)]
pub struct Report {
    file: &'static str,
    text: String,
    goals: Vec<Goal>,
}

#[derive(Debug)]
struct Goal {
    what: String,
    figure: String,
    /// `None` for a figure without a goal.
    is_met: Option<bool>,
}

impl Report {
    /// A report that is also written to a file of this name; it begins with the machine and the
    /// versions of these programs, each a name and a version.
    pub fn start(file: &'static str, programs: &[(String, String)]) -> Self {
        let mut report = Self { file, text: String::new(), goals: Vec::new() };
        report.line("Machine and versions");
        for (name, value) in machine::description().iter().chain(programs) {
            report.line(format!("{name:<20}{value}"));
        }
        report
    }

    /// Prints a line, or several.
    pub fn line(&mut self, line: impl AsRef<str>) {
        println!("{}", line.as_ref());
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Notes a goal, its figure, and whether it was met.
    pub fn goal(&mut self, what: impl Into<String>, figure: impl Into<String>, is_met: bool) {
        let (what, figure) = (what.into(), figure.into());
        self.goals.push(Goal { what, figure, is_met: Some(is_met) });
    }

    /// Notes a figure that belongs to the goals and is none.
    pub fn figure(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.goals.push(Goal { what: what.into(), figure: figure.into(), is_met: None });
    }

    /// Notes the goal that a figure is at most so many times another.
    pub fn at_most(&mut self, what: impl Into<String>, times: f64, limit: f64) {
        self.goal(
            format!("{} at most {limit} x", what.into()),
            format!("{times:.2} x"),
            times <= limit,
        );
    }

    /// Prints the goals, and writes the file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        let width = self.goals.iter().map(|goal| goal.what.len()).max().unwrap_or_default() + 2;
        let mut text = "\nGoals".to_owned();
        for Goal { what, figure, is_met } in &self.goals {
            let met = match is_met {
                Some(true) => "met",
                Some(false) => "not met",
                None => "no goal",
            };
            let _ = write!(text, "\n{what:<width$}{figure:>10}  {met}");
        }
        self.line(text);
        fs::write(folder()?.join(self.file), self.text)
    }
}
