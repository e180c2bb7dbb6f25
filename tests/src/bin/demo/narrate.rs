//! Plain words on the terminal.

use std::{io::Write as _, time::Instant};

use anyhow::Result;

/// Numbers the steps and remembers which failed.
#[derive(Default)]
pub struct Narrator {
    steps: usize,
    failed: Vec<usize>,
}

/// What a step says.
pub struct Tell;

impl Tell {
    /// Something that is being done.
    pub fn doing(&mut self, what: impl AsRef<str>) {
        println!("   · {}", what.as_ref());
        // A step may take seconds: what it does should be on the screen meanwhile, also through a pipe.
        let _ = std::io::stdout().flush();
    }

    /// Something that was shown to be so.
    pub fn shown(&mut self, what: impl AsRef<str>) {
        println!("   ✓ {}", what.as_ref());
    }

    /// A command that an operator would type.
    pub fn command(&mut self, line: &str) {
        println!("     $ privatelink {line}");
    }
}

impl Narrator {
    /// Tells one step; its failure is told and counted.
    pub fn step<T>(&mut self, title: &str, act: impl FnOnce(&mut Tell) -> Result<T>) -> Result<T> {
        self.steps += 1;
        println!("{}. {title}", self.steps);
        let started = Instant::now();
        let result = act(&mut Tell);
        match &result {
            Ok(_) => println!("   ({:.1} s)\n", started.elapsed().as_secs_f32()),
            Err(error) => {
                self.failed.push(self.steps);
                println!("   ✗ FAILED: {error:#}\n");
            }
        }
        result
    }

    /// Whether any step failed.
    pub fn failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// How it went, in a sentence.
    pub fn summary(&self) -> String {
        match self.failed.as_slice() {
            [] => format!("all {} steps succeeded.", self.steps),
            failed => {
                let numbers: Vec<String> = failed.iter().map(usize::to_string).collect();
                format!("of {} steps these failed: {}.", self.steps, numbers.join(", "))
            }
        }
    }
}
