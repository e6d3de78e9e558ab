//! How a cost grows with a size.

use std::fmt;

use super::chart::Line;

/// What an exponent may be above its goal between the ends: caches of the processor have a smaller
/// part of more, and a table of a million entries is not as quick as one of ten.
const BETWEEN_ENDS: f64 = 0.1;

/// The same in a step, which one figure that is off may change more.
const IN_A_STEP: f64 = 0.4;

/// What is wanted of a curve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Goal {
    /// The cost is the same, whatever the size.
    Constant,
    /// Twice the size costs at most twice.
    Linear,
}

/// Costs at sizes, from the smallest size to the greatest; all above 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve(pub Vec<(f64, f64)>);

impl Curve {
    /// The exponents from each size to the next: 0 where the cost stays, 1 where it grows as the
    /// size does.
    pub fn steps(&self) -> Vec<f64> {
        self.0.windows(2).map(|pair| exponent(pair[0], pair[1])).collect()
    }

    /// The exponent from the smallest size to the greatest.
    pub fn exponent(&self) -> f64 {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) if first.0 < last.0 => exponent(*first, *last),
            _ => 0.0,
        }
    }

    /// Whether it grows no more than is wanted.
    pub fn meets(&self, goal: Goal) -> bool {
        let most = goal.exponent();
        self.exponent() <= most + BETWEEN_ENDS
            && self.steps().into_iter().all(|step| step <= most + IN_A_STEP)
    }

    /// The part of it from a size on.
    pub fn from(&self, size: f64) -> Self {
        Self(self.0.iter().copied().filter(|point| point.0 >= size).collect())
    }

    /// It as a line of a chart.
    pub fn line(&self, name: &str) -> Line {
        Line { name: name.to_owned(), points: self.0.clone() }
    }
}

/// All exponents: `0.02 (0.01 0.03)`.
impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.steps().iter().map(|step| format!("{step:.2}")).collect();
        write!(f, "{:.2} ({})", self.exponent(), steps.join(" "))
    }
}

impl Goal {
    fn exponent(self) -> f64 {
        match self {
            Self::Constant => 0.0,
            Self::Linear => 1.0,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "does not grow",
            Self::Linear => "at most linear",
        })
    }
}

fn exponent(from: (f64, f64), to: (f64, f64)) -> f64 {
    (to.1 / from.1).ln() / (to.0 / from.0).ln()
}
