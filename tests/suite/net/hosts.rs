//! Interfaces and hosts that misbehave: each ends in a condition that the agent states, and heals by itself when its
//! cause has gone.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode, tc::TcAttachOptions},
};
use privatelink_tests::{
    daemon::Agent,
    eventually::eventually,
    link::{End, Offload, veth},
    netns::Netns,
    require::Need,
    scenario::{ENDPOINT, Scenario, Service, program, rows, text},
    topology::{Hook, Topology},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};
use privatelink_user::dataplane::load::BENCH_OBJECT;

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, SILENCE, plans, server, target, with_web},
    restart::exchange,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "port_interface_that_goes_is_named_and_taken_back",
            needs: &[],
            run: Run::EachHook(comes_and_goes),
        },
        Test {
            name: "port_interface_that_is_down_or_small_is_named_and_heals",
            needs: &[],
            run: Run::EachHook(down_and_small),
        },
        Test { name: "programs_of_others_are_left_in_their_place", needs: &[], run: Run::Once(foreign) },
        Test { name: "two_agents_share_a_host", needs: &[], run: Run::Once(two_agents) },
        Test {
            name: "target_that_accepts_and_never_answers_is_left_out_and_returns",
            needs: &[Need::Program("nginx")],
            run: Run::Once(silent_target),
        },
    ]
};

/// How long a change of an interface takes to be noticed, and a way to be well again.
const SOON: Duration = Duration::from_secs(20);

/// How the port of client-a is said to be.
fn port(scenario: &Scenario) -> Result<serde_json::Value> {
    let ports = scenario.cli.run("port list")?;
    let port = rows(&ports)?.iter().find(|port| port["interface"] == "consumer-a").context("no such port")?;
    Ok(port.clone())
}

/// Until the port is said to be attached, or not to be and why.
fn said(scenario: &Scenario, error: Option<&str>) -> Result<()> {
    eventually("the port's state is told", SOON, || {
        let port = port(scenario)?;
        match error {
            None => ensure!(port["error"].is_null() && !port["hook_in_use"].is_null(), "{port}"),
            Some(error) => ensure!(text(&port, "error")?.contains(error), "{port}"),
        }
        Ok(())
    })
}

fn echoes(client: &Netns) -> Result<()> {
    let mut stream = stream::connect(client, Source::ANY, FRONTEND, Duration::from_secs(2))?;
    stream::echo(&mut stream, b"hello").map(drop)
}

fn serves(client: &Netns) -> Result<()> {
    eventually("the client is served", SOON, || echoes(client))
}

fn pins(scenario: &Scenario) -> usize {
    scenario.agent.pins().len()
}

/// The port of a consumer is renamed, moved to another namespace, and deleted and made anew. Each time the other
/// consumer notices nothing, the agent says what is missing, nothing of the port stays behind, and the first client is
/// served again as soon as there is such an interface.
fn comes_and_goes(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let (lb, elsewhere) = (scenario.topology.lb.clone(), Netns::new("elsewhere")?);
        let client = scenario.topology.host("client-a").netns.clone();
        let other = scenario.topology.host("client-b").netns.clone();
        let mut held = stream::connect(&other, Source::ANY, FRONTEND, PATIENCE)?;
        serves(&client)?;
        let attached = pins(scenario);
        // One link for traffic control, one for XDP.
        let detached = attached - if hook == Hook::Xdp { 2 } else { 1 };
        let mut gone = |scenario: &Scenario, what: &str| -> Result<()> {
            said(scenario, Some("does not exist")).context(what.to_owned())?;
            eventually("its links are gone", SOON, || {
                ensure!(pins(scenario) == detached, "{:?}", scenario.agent.pins());
                Ok(())
            })
            .context(what.to_owned())?;
            ensure!(echoes(&client).is_err(), "{what}: the client is served");
            stream::echo(&mut held, what.as_bytes())?;
            echoes(&other).with_context(|| format!("{what}: the other client"))
        };
        let back = |scenario: &Scenario, what: &str| -> Result<()> {
            said(scenario, None).context(what.to_owned())?;
            serves(&client).context(what.to_owned())?;
            ensure!(pins(scenario) == attached, "{what}: {:?}", scenario.agent.pins());
            Ok(())
        };

        for (from, to) in [("consumer-a", "renamed"), ("renamed", "consumer-a")] {
            lb.ip(&["link", "set", from, "down"])?;
            lb.ip(&["link", "set", from, "name", to])?;
            lb.ip(&["link", "set", to, "up"])?;
            if to == "renamed" { gone(scenario, to)? } else { back(scenario, "named as before")? }
        }

        lb.ip(&["link", "set", "consumer-a", "netns", elsewhere.name()])?;
        gone(scenario, "moved")?;
        elsewhere.ip(&["link", "set", "consumer-a", "netns", lb.name()])?;
        lb.ip(&["link", "set", "consumer-a", "up"])?;
        back(scenario, "moved back")?;

        lb.ip(&["link", "delete", "consumer-a"])?;
        gone(scenario, "deleted")?;
        let (near, far) = (End::new(&lb, "consumer-a"), End::new(&client, "eth0"));
        veth(&near, &far)?;
        if hook == Hook::Xdp {
            far.set_offload(Offload::TxChecksum, false)?;
            far.set_offload(Offload::Gro, true)?;
        }
        for end in [&near, &far] {
            end.up()?;
        }
        far.add_address("10.0.1.10/16")?;
        back(scenario, "made anew")?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// A port that is down is told, and an open connection goes on when it is up again. One whose MTU becomes smaller under
/// a transfer, and larger again, carries the transfer by segments that fit.
fn down_and_small(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let lb = scenario.topology.lb.clone();
        let client = scenario.topology.host("client-a");
        let mut held = stream::connect(&client.netns, Source::ANY, FRONTEND, Duration::from_secs(30))?;
        stream::echo(&mut held, b"up")?;
        lb.ip(&["link", "set", "consumer-a", "down"])?;
        said(scenario, Some("is down"))?;
        ensure!(stream::connect(&client.netns, Source::ANY, FRONTEND, SILENCE).is_err(), "it forwards");
        lb.ip(&["link", "set", "consumer-a", "up"])?;
        said(scenario, None)?;
        stream::echo(&mut held, b"up again").context("the open connection")?;
        serves(&client.netns)?;

        // Larger than its port is what comes from the server, which is told "fragmentation needed".
        for mtu in [1_300, 1_500] {
            client.link.set_mtu(mtu)?;
            lb.ip(&["link", "set", "consumer-a", "mtu", &mtu.to_string()])?;
            eventually("the MTU is told", SOON, || {
                let port = port(scenario)?;
                ensure!(port["mtu"].as_u64() == Some(mtu.into()), "{port}");
                Ok(())
            })?;
            exchange(&mut held, &vec![7; 1 << 20]).with_context(|| format!("the open connection at {mtu}"))?;
            let stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::transfer(&stream, 1 << 20).with_context(|| format!("a new connection at {mtu}"))?;
        }
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// Two agents in one namespace, each with ports of its own. The second one is refused the first one's internal
/// addresses, before it has made anything; with others it serves its own networks, and what becomes of it is nothing to
/// the first.
fn two_agents() -> Result<()> {
    let topology = Topology::build(Hook::Tc, plans(2), None)?;
    let first = Agent::start(&program()?, &topology.lb)?;
    let scenario = Scenario::configure(topology, first)?;
    let result = (|| {
        // Of the provider's two servers the second one is behind a port of its own, which goes to the other agent.
        for line in ["port detach consumer-b", "port detach provider-1"] {
            scenario.cli.run(line)?;
        }
        let service = scenario.publish(&Service::new("web", "provider", vec![server(&scenario, 1).address()]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        let servers = [1, 2].map(|number| {
            let text = Behaviour::Greet(format!("server-{number}"));
            Server::start(&server(&scenario, number).netns, target(&scenario, number), text)
        });
        scenario.wait_healthy("web")?;
        let lb = &scenario.topology.lb;
        let links = lb.links()?;
        let refused = Agent::start(&program()?, lb).err().context("it took the other's addresses")?;
        let said = format!("{refused:#}");
        ensure!(said.contains("is in use") && said.contains("--host-prefix"), "{said}");
        ensure!(lb.links()? == links, "it has made interfaces");

        let arguments = vec!["--host-prefix".to_owned(), "100.80.0.0/15".to_owned()];
        let mut second = Agent::start_with_arguments(&program()?, lb, arguments)?;
        let cli = second.cli();
        for line in [
            "vpc create b --cidr 10.0.0.0/16".to_owned(),
            "vpc create p --cidr 10.0.0.0/16".to_owned(),
            "port attach consumer-b --vpc b".to_owned(),
            "port attach provider-1 --vpc p".to_owned(),
            "load-balancer create web --vpc p --address 10.0.0.5".to_owned(),
            "target-group create web --vpc p --protocol TCP --port 8080 --health-check-interval 5".to_owned(),
            format!("target register web {}", server(&scenario, 2).address()),
            "listener create web --protocol TCP --port 80 --target-group web".to_owned(),
            "endpoint-service create --load-balancer web --name web".to_owned(),
            format!("endpoint create --service-name web --vpc b --address {ENDPOINT}"),
        ] {
            cli.run(&line)?;
        }
        let greeted = |client: &str, by: &str| {
            let client = scenario.topology.host(client).netns.clone();
            eventually(&format!("{by} answers"), SOON, || {
                let mut stream = stream::connect(&client, Source::ANY, FRONTEND, Duration::from_secs(2))?;
                let line = stream::read_line(&mut stream)?;
                ensure!(line == by, "{line}");
                Ok(())
            })
        };
        greeted("client-a", "server-1")?;
        greeted("client-b", "server-2")?;
        let pins: Vec<PathBuf> = scenario.agent.pins();
        ensure!(second.stop()?.success() && second.remove()?.success(), "the second did not end cleanly");
        ensure!(second.pins().is_empty(), "the second left {:?}", second.pins());
        ensure!(scenario.agent.pins() == pins, "the first lost pins");
        greeted("client-a", "server-1")?;
        // Its checks go on: nobody has taken their way.
        scenario.wait_healthy("web")?;
        for server in servers {
            drop(server?);
        }
        Ok(())
    })();
    result.with_context(|| scenario.diagnosis())
}

/// A server that accepts connections and answers nothing passes no check by HTTP, whose reason says so; another one in
/// its place does.
fn silent_target() -> Result<()> {
    with_web(2, Hook::Tc, |scenario| {
        let dir = |label: &str| privatelink_tests::programs::Directory::new(label);
        let start = |number: u8| {
            let name = format!("server-{number}");
            let host = server(scenario, number);
            privatelink_tests::programs::Nginx::start(&host.netns, dir(&name)?, target(scenario, number), &name)
        };
        let silent = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Sink)?;
        let _answers = start(2)?;
        scenario.cli.run("target-group modify web --health-check-protocol HTTP")?;
        scenario.wait_state("web", server(scenario, 2).address(), "healthy", SOON)?;
        scenario.wait_state("web", server(scenario, 1).address(), "unhealthy", Duration::from_secs(40))?;
        let health = scenario.cli.run("target health web")?.to_string();
        ensure!(health.contains("Target.Timeout"), "{health}");
        let client = &scenario.topology.host("client-a").netns;
        for _ in 0..20 {
            let page = privatelink_tests::programs::curl(client, &["--max-time", "5", &format!("http://{FRONTEND}/")])?;
            ensure!(page.contains("server-2"), "{page}");
        }
        drop(silent);
        let _answers_too = start(1)?;
        scenario.wait_state("web", server(scenario, 1).address(), "healthy", Duration::from_secs(40))
    })
}

/// Somebody else's programs, which drop all that they see, are on a port's interface. One of XDP is never replaced: XDP
/// is refused by its number, TC is taken by oneself, and once it is gone XDP is to be had. One of traffic control that
/// was there before comes after ours and sees nothing of what we forward; one that was put before ours has its way,
/// until it goes.
fn foreign() -> Result<()> {
    with_web(1, Hook::Xdp, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let lb = scenario.topology.lb.clone();
        let client = scenario.topology.host("client-a").netns.clone();
        let cli = scenario.cli.clone();
        let attach = |hook: &str| cli.run(&format!("port attach consumer-a --vpc consumer-a --hook {hook}"));
        let mut ebpf = Ebpf::load(BENCH_OBJECT).context("loading somebody's programs")?;
        cli.run("port detach consumer-a")?;
        eventually("the port is free", SOON, || {
            let port = lb.run(|| xdp_of("consumer-a"))??;
            ensure!(port.is_none(), "program {port:?} is on it");
            Ok(())
        })?;

        let program: &mut Xdp = ebpf.program_mut("sink").context("no program sink")?.try_into()?;
        program.load().context("loading sink")?;
        let number = program.info().context("sink")?.id();
        let theirs = lb.run(|| program.attach("consumer-a", XdpMode::Driver))?.context("attaching sink")?;
        let refused = format!("{:#}", attach("xdp").err().context("a foreign XDP program was replaced")?);
        ensure!(refused.contains(&format!("program {number} of somebody else")), "{refused}");
        ensure!(refused.contains("ip link set dev consumer-a xdp off"), "no way out: {refused}");
        attach("auto")?;
        said(scenario, None)?;
        let port = port(scenario)?;
        ensure!(text(&port, "reason")?.contains(&number.to_string()) && text(&port, "hook_in_use")? == "tcx", "{port}");
        ensure!(lb.run(|| xdp_of("consumer-a"))?? == Some(number), "the foreign program has gone");
        ensure!(echoes(&client).is_err(), "what drops all lets something through");
        let program: &mut Xdp = ebpf.program_mut("sink").context("no program sink")?.try_into()?;
        program.detach(theirs).context("detaching sink")?;
        serves(&client)?;
        cli.run("port detach consumer-a")?;

        let program: &mut SchedClassifier = ebpf.program_mut("sink_tc").context("no program sink_tc")?.try_into()?;
        program.load().context("loading sink_tc")?;
        let put = |program: &mut SchedClassifier, order: LinkOrder| {
            let options = TcAttachOptions::TcxOrder(order);
            lb.run(|| program.attach_with_options("consumer-a", TcAttachType::Ingress, options))?.context("sink_tc")
        };
        let theirs = put(program, LinkOrder::default())?;
        attach("xdp")?;
        serves(&client).context("with a foreign program behind ours, by XDP")?;
        attach("tc")?;
        eventually("it is TC's", SOON, || {
            let port = self::port(scenario)?;
            ensure!(text(&port, "hook_in_use")? == "tcx", "{port}");
            Ok(())
        })?;
        serves(&client).context("with a foreign program behind ours, by TC")?;
        program.detach(theirs).context("detaching sink_tc")?;
        let theirs = put(program, LinkOrder::first())?;
        ensure!(echoes(&client).is_err(), "what drops all before us lets something through");
        program.detach(theirs).context("detaching sink_tc")?;
        serves(&client)
    })
}

/// The XDP program on an interface of this namespace.
fn xdp_of(interface: &str) -> Result<Option<u32>> {
    let output = std::process::Command::new("ip").args(["-j", "link", "show", interface]).output().context("ip")?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("what ip printed")?;
    let number = links[0]["xdp"]["prog"]["id"].as_u64();
    number.map(u32::try_from).transpose().context("a program's number")
}
