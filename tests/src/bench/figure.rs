//! Figures, and how they are shown.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// What a figure has to be. Compared with its ratio if it has one, else with our value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!(">= {goal}"),
            Self::AtMost(goal) => format!("<= {goal}"),
        }
    }
}

/// One row of the table; one object of the JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub ours: f64,
    /// Name to value, in the same unit, from the same interleaved run.
    pub rivals: BTreeMap<String, f64>,
    /// Ours over the rival that the goal is about.
    pub ratio: Option<f64>,
    pub goal: Option<String>,
    pub met: Option<bool>,
}

impl Figure {
    /// A figure that is only reported.
    pub fn new(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { name: name.into(), unit, ours, rivals: BTreeMap::new(), ratio: None, goal: None, met: None }
    }

    /// Adds a rival that is only shown.
    #[must_use]
    pub fn beside(mut self, rival: impl Into<String>, value: f64) -> Self {
        self.rivals.insert(rival.into(), value);
        self
    }

    /// Adds the rival that ours is divided by.
    #[must_use]
    pub fn over(mut self, rival: impl Into<String>, value: f64) -> Self {
        self.ratio = Some(self.ours / value);
        self.beside(rival, value)
    }

    /// Sets the goal for the ratio, or for our value if there is none.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.met = Some(goal.met(self.ratio.unwrap_or(self.ours)));
        self.goal = Some(goal.text());
        self
    }

    /// One line of the table.
    pub fn line(&self) -> String {
        let Self { name, unit, ours, rivals, ratio, goal, met } = self;
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let met = match met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let rivals: Vec<String> = rivals.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        format!(
            "{name:<26} {:>9} {unit:<14} {ratio:>6} {:<8} {met:<7} {}",
            number(*ours),
            goal.as_deref().unwrap_or(""),
            rivals.join(", ")
        )
    }
}

/// The head of the table.
pub fn head() -> String {
    format!("{:<26} {:>9} {:<14} {:>6} {:<8} {:<7} rivals", "figure", "ours", "unit", "ratio", "goal", "")
}

/// Three significant digits are what repeats.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The machine that the figures are from.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cpus: usize,
    pub kernel: String,
}

impl Machine {
    pub fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models = || cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = Command::new("uname").arg("-rm").output().map(|output| output.stdout).unwrap_or_default();
        Self {
            processor: models().next().map_or("unknown", |(_, model)| model).to_owned(),
            cpus: models().count(),
            kernel: String::from_utf8_lossy(&kernel).trim().to_owned(),
        }
    }
}

/// The JSON file.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub machine: &'a Machine,
    pub rounds: usize,
    pub figures: &'a [Figure],
}

impl Report<'_> {
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

/// The middle value; of an even number the lower of the two.
pub fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().context("no samples")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_sample() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).ok(), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).ok(), Some(2.0));
        assert!(median(&[]).is_err());
    }

    #[test]
    fn a_goal_is_about_the_ratio_if_there_is_one() {
        let figure = Figure::new("x", "Mpps", 9.0).over("least", 10.0).beside("other", 1.0).goal(Goal::AtLeast(0.8));
        assert_eq!((figure.met, figure.goal.as_deref()), (Some(true), Some(">= 0.8")));
        assert_eq!(Figure::new("x", "ns", 41.0).goal(Goal::AtMost(40.0)).met, Some(false));
    }
}
