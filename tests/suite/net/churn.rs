//! Connections opened and closed for a minute.

use std::time::Duration;

use anyhow::{Result, ensure};
use privatelink_tests::{
    require::Need,
    topology::Hook,
    traffic::{
        churn::{self, CloseFirst, Plan},
        server::{Behaviour, Server},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "churn_closed_by_the_client", needs: &[Need::WholeMachine], run: Run::EachHook(closed_by_client) },
        Test { name: "churn_closed_by_the_target", needs: &[Need::WholeMachine], run: Run::EachHook(closed_by_target) },
    ]
};

/// Longer than the 60 s for which a port is held after the target closed first, so that ports come round again.
const DURATION: Duration = Duration::from_secs(64);

fn closed_by_client(hook: Hook) -> Result<()> {
    churn(hook, Behaviour::Echo, CloseFirst::Client, 3150, 3000.0)
}

/// 64,512 ports held for 60 s each allow 1,075 a second.
fn closed_by_target(hook: Hook) -> Result<()> {
    churn(hook, Behaviour::EchoThenClose, CloseFirst::Server, 1020, 1000.0)
}

fn churn(hook: Hook, behaviour: Behaviour, close_first: CloseFirst, rate: u32, least: f64) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _server = Server::start(&server(scenario, 1).netns, target(scenario, 1), behaviour)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        progress!("{rate} connections a second for {} s", DURATION.as_secs());
        let plan = Plan { sources: client.addresses.clone(), to: FRONTEND, rate, duration: DURATION, close_first };
        let report = churn::churn(&client.netns, &plan)?;
        progress!("{:.0} a second, {}", report.rate(), report.tally);
        report.tally.all_succeeded()?;
        ensure!(report.rate() >= least, "only {:.0} connections a second", report.rate());
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}
