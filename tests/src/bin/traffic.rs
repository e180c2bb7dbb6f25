//! One process of a fleet of servers or clients: `privatelink_tests::traffic::fleet` starts it.

use anyhow::{Context as _, Result};
use privatelink_tests::traffic::fleet;

fn main() -> Result<()> {
    let work = std::env::args().nth(1).context("usage: traffic WORK, where WORK is the JSON of fleet::Work")?;
    fleet::serve_commands(&serde_json::from_str(&work).context("the work")?)
}
