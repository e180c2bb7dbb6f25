//! The agent and its command line on this host.

use anyhow::Result;

use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// `privatelink ARGS` as root, optimised.
pub fn run(pins: &Pins, args: Vec<String>) -> Result<()> {
    build::programs(pins, Profile::Release)?;
    let args = if args.is_empty() { vec!["agent".to_owned()] } else { args };
    build::replace(build::as_root(&pins.target.join(Profile::Release.dir()).join("privatelink")).args(args))
}
