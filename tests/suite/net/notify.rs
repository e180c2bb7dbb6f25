//! Connection notifications: a webhook, a program and a file are told what happens to endpoints.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::unix::fs::PermissionsExt as _,
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    daemon::Agent,
    eventually::eventually,
    netns::Netns,
    programs::Directory,
    scenario::{ENDPOINT, Scenario, Service, program, text},
    topology::{Hook, Topology},
};
use serde_json::Value;

use crate::{
    Run, Test,
    common::{PATIENCE, plans, server},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "connections_are_told_to_webhook_program_and_file", needs: &[], run: Run::Once(told) }];

const WEBHOOK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_099);

/// An HTTP server that takes messages: each request's body, once it is answered.
struct Webhook(mpsc::Receiver<String>);

impl Webhook {
    /// Answers the first `failures` requests with an error.
    fn start(netns: &Netns, failures: usize) -> Result<Self> {
        let listener = netns.run(|| TcpListener::bind(WEBHOOK))?.context("the webhook's port")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let status = if number < failures { "503 Service Unavailable" } else { "200 OK" };
                let taken = stream.map_err(anyhow::Error::from).and_then(|mut stream| {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let mut request = String::new();
                    while !request.ends_with("}") {
                        let mut bytes = [0; 4096];
                        let read = stream.read(&mut bytes)?;
                        ensure!(read > 0, "the request ended early: {request}");
                        request.push_str(std::str::from_utf8(&bytes[..read])?);
                    }
                    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")?;
                    Ok(request)
                });
                let Ok(request) = taken else { continue };
                if number >= failures && sender.send(request).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// The next message.
    fn next(&self) -> Result<Value> {
        let request = self.0.recv_timeout(Duration::from_secs(20)).context("no message")?;
        ensure!(request.starts_with("POST /told HTTP/1.1\r\n"), "{request}");
        let body = request.split_once("\r\n\r\n").context("no body")?.1;
        serde_json::from_str(body).with_context(|| format!("the body {body}"))
    }
}

fn expect(message: &Value, event: &str, endpoint: &str, state: &str) -> Result<()> {
    let found = [text(message, "event")?, text(message, "vpc_endpoint_id")?, text(message, "vpc_endpoint_state")?];
    ensure!(found == [event, endpoint, state], "{message}");
    Ok(())
}

fn told() -> Result<()> {
    let dir = Directory::new("notify")?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (file, by_program) = (path("told"), path("by-program"));
    fs::write(path("program"), format!("#!/bin/sh\ncat >> {by_program}\n"))?;
    fs::set_permissions(path("program"), fs::Permissions::from_mode(0o755))?;
    let topic = "arn:aws:sns:us-east-1:123456789012:events";
    let targets = [
        format!("--notify=http://{WEBHOOK}/told"),
        format!("--notify=exec:{}", path("program")),
        format!("--notify={topic}=file:{file}"),
        format!("--notify-writes={}", dir.path().display()),
    ];
    let topology = Topology::build(Hook::Auto, plans(1), None)?;
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, targets.to_vec())?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = told_in(&mut scenario, topic, &file, &by_program, &path("program"));
    result.with_context(|| scenario.diagnosis())
}

fn told_in(scenario: &mut Scenario, topic: &str, file: &str, by_program: &str, program: &str) -> Result<()> {
    let cli = scenario.cli.clone();
    let service = scenario.publish(&Service::new("web", "provider", vec![server(scenario, 1).address()]))?;
    cli.run("endpoint-service modify web --acceptance-required true")?;
    let refused = cli.run("notification create --endpoint-service web --target file:/etc/passwd").err();
    let refused = format!("{:#}", refused.context("a target that nobody has allowed")?);
    ensure!(refused.contains("privatelink agent --notify file:/etc/passwd"), "{refused}");
    for target in [format!("http://{WEBHOOK}/told"), format!("exec:{program}"), topic.to_owned()] {
        cli.run(&format!("notification create --endpoint-service web --target {target}"))?;
    }

    // The webhook does not answer yet: nothing waits for it.
    let endpoint = scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
    cli.run(&format!("connection accept web {endpoint}"))?;
    let lines = |path: &str, count: usize| {
        eventually("the messages are there", PATIENCE, || {
            let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
            let mut lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
            // What is delivered when the agent dies may be delivered again, under the same id.
            lines.dedup_by(|again, first| again["id"] == first["id"]);
            ensure!(lines.len() == count, "{text}");
            Ok(lines)
        })
    };
    for path in [file, by_program] {
        let messages = lines(path, 2)?;
        expect(&messages[0], "Connect", &endpoint, "pendingAcceptance")?;
        expect(&messages[1], "Accept", &endpoint, "available")?;
        ensure!(text(&messages[0], "service_name")? == service, "{messages:?}");
    }

    // What was not delivered when the agent died is, by the next one; in order, although the first try fails.
    scenario.agent.kill()?;
    let webhook = Webhook::start(&scenario.topology.lb, 1)?;
    scenario.agent.start_again()?;
    let first = webhook.next()?;
    expect(&first, "Connect", &endpoint, "pendingAcceptance")?;
    expect(&webhook.next()?, "Accept", &endpoint, "available")?;
    cli.run(&format!("connection reject web {endpoint}"))?;
    expect(&webhook.next()?, "Reject", &endpoint, "rejected")?;
    cli.run(&format!("endpoint delete {endpoint}"))?;
    expect(&webhook.next()?, "Delete", &endpoint, "rejected")?;
    for path in [file, by_program] {
        expect(&lines(path, 4)?[3], "Delete", &endpoint, "rejected")?;
    }
    // What a webhook is called may be a secret.
    ensure!(!scenario.agent.log().contains("/told"), "a target is in the log");
    cli.run("endpoint-service delete web")?;
    let left = cli.run("notification list")?;
    ensure!(left.as_array().is_some_and(Vec::is_empty), "{left}");
    Ok(())
}
