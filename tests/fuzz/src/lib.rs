//! Targets of coverage-guided fuzzing: each takes bytes, makes of them what it is about, and panics if something is not
//! as it must always be. `cargo xtask fuzz TARGET --minutes N` has libFuzzer choose the bytes; what it found worth
//! keeping lies in `corpus/TARGET` and is replayed by the unit tests.

mod decide;
mod icmp;
mod parse;
mod proxy;

/// The variable that names the target.
pub const TARGET: &str = "PRIVATELINK_FUZZ_TARGET";

/// One thing that is fuzzed.
pub struct Target {
    pub name: &'static str,
    /// Runs it over an input.
    ///
    /// # Panics
    ///
    /// If something is not as it must be.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "parse", run: parse::run },
    Target { name: "decide", run: decide::run },
    Target { name: "proxy", run: proxy::run },
    Target { name: "icmp", run: icmp::run },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// All names, for messages.
pub fn names() -> String {
    TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
}

/// Bytes to choices: zeros when there are no more.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn exhausted(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// Below `bound`, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut all = [0; N];
        all[..taken.len()].copy_from_slice(taken);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Every input that was worth keeping, and the shortest ones.
    #[test]
    fn the_corpus_is_replayed() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for target in TARGETS {
            let mut inputs: Vec<_> = fs::read_dir(corpus.join(target.name))
                .expect("a target has a corpus")
                .map(|entry| entry.expect("a directory's entry").path())
                .collect();
            inputs.sort();
            assert!(inputs.len() >= 10, "{} has {} inputs", target.name, inputs.len());
            for input in inputs {
                eprintln!("{}", input.display());
                (target.run)(&fs::read(input).expect("an input"));
            }
            for len in 0..4 {
                (target.run)(&vec![0xff; len]);
            }
        }
    }
}
