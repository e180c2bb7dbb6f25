//! The main job in network namespaces: the program `demo` of `privatelink-tests`.

use anyhow::Result;

use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// Another demo than the main one.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Which {
    /// HTTPS through an endpoint.
    Https,
}

/// The demo; its programs are the ones that the tests build too, so that a newcomer waits for one build only.
pub fn run(pins: &Pins, which: Option<Which>, keep: bool, remove: bool) -> Result<()> {
    let mut args: Vec<String> = Vec::new();
    args.extend(which.map(|Which::Https| "https".to_owned()));
    args.extend(keep.then(|| "--keep".to_owned()));
    args.extend(remove.then(|| "--remove".to_owned()));
    build::harness(pins, "demo", Profile::Dev, args)
}
