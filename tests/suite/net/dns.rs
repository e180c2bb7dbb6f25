//! Names: inside each VPC through the datapath, outside on the host, forwarded for everything else.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    daemon::Agent,
    dns::{Answer, Dnsmasq, dig},
    eventually::eventually,
    link::{End, veth},
    netns::Netns,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::{ENDPOINT, QUICK_CHECKS, Scenario, Service, program, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

use crate::{
    Run, Test,
    common::{PATIENCE, plans, server, target},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "every_vpc_asks_for_names", needs: NEEDS, run: Run::EachHook(every_vpc_asks_for_names) },
        Test { name: "private_names_are_verified_by_dns", needs: NEEDS, run: Run::EachHook(private_names) },
        Test { name: "names_have_the_records_that_are_chosen", needs: NEEDS, run: Run::Once(chosen_records) },
        Test { name: "verified_names_are_asked_for_again", needs: NEEDS, run: Run::Once(asked_again) },
        Test { name: "targets_follow_the_addresses_of_a_name", needs: FOLLOWING, run: Run::Once(targets_by_name) },
        Test { name: "names_leave_out_zones_without_healthy_targets", needs: ZONED, run: Run::Once(zones_by_health) },
    ]
};

const NEEDS: &[Need] = &[Need::Program("dig"), Need::Program("dnsmasq")];

const FOLLOWING: &[Need] =
    &[Need::Program("dig"), Need::Program("dnsmasq"), Need::Program("nginx"), Need::Program("curl")];

const ZONED: &[Need] = &[Need::Program("dig"), Need::Program("nginx"), Need::Program("curl")];

/// The DNS server in every VPC of these tests.
pub const SECOND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 53);
const LINK_LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 253), 53);
/// The agent's server for hosts outside.
const OUTSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_300);
/// The upstream, behind a link of the agent's namespace.
const UPSTREAM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 53);

/// Who is asked to verify private DNS names.
pub const VERIFIER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_301);

/// Strings of one TXT record that no datagram holds.
const LONG: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// A server that is asked for what is not ours.
pub struct Upstream {
    _server: Dnsmasq,
    _netns: Netns,
}

impl Upstream {
    /// Answers with `records` at [`UPSTREAM`], in a namespace behind a link of `lb`.
    pub fn start(lb: &Netns, records: &[String]) -> Result<Self> {
        let netns = Netns::new("upstream")?;
        let (near, far) = (End::new(lb, "upstream"), End::new(&netns, "eth0"));
        veth(&near, &far)?;
        near.add_address("192.0.2.1/30")?;
        far.add_address("192.0.2.2/30")?;
        near.up()?;
        far.up()?;
        Ok(Self { _server: Dnsmasq::start(&netns, UPSTREAM, records)?, _netns: netns })
    }
}

/// A scenario whose agent serves names outside as well and asks the upstream.
pub fn with_names(hook: Hook, records: &[String], test: impl FnOnce(&mut Scenario) -> Result<()>) -> Result<()> {
    with_arguments(hook, records, &[], test)
}

/// The same with more arguments for the agent.
fn with_arguments(
    hook: Hook,
    records: &[String],
    more: &[&str],
    test: impl FnOnce(&mut Scenario) -> Result<()>,
) -> Result<()> {
    let topology = Topology::build(hook, plans(1), None)?;
    let _upstream = Upstream::start(&topology.lb, records)?;
    let arguments = [
        format!("--dns={OUTSIDE}"),
        format!("--dns-upstream={UPSTREAM}"),
        format!("--dns-verification-resolver={VERIFIER}"),
    ];
    let arguments = arguments.into_iter().chain(more.iter().map(|&argument| argument.to_owned())).collect();
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments)?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = test(&mut scenario);
    result.with_context(|| scenario.diagnosis())
}

/// The names of the endpoint, as it is described.
pub fn names(scenario: &Scenario, endpoint: &str) -> Result<Vec<String>> {
    let described = scenario.cli.run(&format!("endpoint describe {endpoint}"))?;
    let names = described["dns_names"].as_array().with_context(|| format!("no names in {described}"))?;
    names.iter().map(|name| name.as_str().map(str::to_owned).context("a name that is no text")).collect()
}

fn expect(answer: &Answer, status: &str, addresses: &[Ipv4Addr]) -> Result<()> {
    ensure!(answer.status == status && answer.addresses()? == addresses, "{answer:?}");
    Ok(())
}

fn every_vpc_asks_for_names(hook: Hook) -> Result<()> {
    let long: Vec<String> = LONG.iter().map(|letter| letter.repeat(250)).collect();
    let records = [
        "--host-record=www.example.org,192.0.2.80".to_owned(),
        format!("--txt-record=long.example.org,{}", long.join(",")),
        "--local=/example.org/".to_owned(),
    ];
    with_names(hook, &records, |scenario| {
        let service = scenario.publish(&Service::new("web", "provider", vec![server(scenario, 1).address()]))?;
        scenario.cli.run("endpoint-service modify web --acceptance-required true")?;
        let pending = scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        let other_address = Ipv4Addr::new(10, 0, 0, 60);
        let other = scenario.endpoint(&service, "consumer-b", other_address)?;
        scenario.cli.run(&format!("connection accept web {other}"))?;
        let [regional, zonal] = &*names(scenario, &pending)? else { anyhow::bail!("not two names") };
        let [of_other, _] = &*names(scenario, &other)? else { anyhow::bail!("not two names") };

        // Both VPCs are the same range, and so are the clients' addresses.
        for name in ["client-a", "client-b"] {
            let client = &scenario.topology.host(name).netns;
            client.ip(&["route", "add", &LINK_LOCAL.ip().to_string(), "dev", "eth0"])?;
            eventually("the VPC's DNS server answers", PATIENCE, || {
                expect(&dig(client, SECOND, &["+tries=1", "+time=1", regional])?, "NOERROR", &[ENDPOINT])
            })?;
            for server in [SECOND, LINK_LOCAL] {
                for transport in ["+notcp", "+tcp"] {
                    // The endpoint's address is its own before it is accepted.
                    let answer = dig(client, server, &[transport, regional])?;
                    expect(&answer, "NOERROR", &[ENDPOINT])?;
                    ensure!(answer.records[0].0 == 60 && answer.has("aa") && answer.has("ra"), "{answer:?}");
                    ensure!(answer.edns == Some(1232), "{answer:?}");
                    ensure!(answer.transport == if transport == "+tcp" { "TCP" } else { "UDP" }, "{answer:?}");
                    expect(&dig(client, server, &[transport, zonal])?, "NOERROR", &[ENDPOINT])?;
                    expect(&dig(client, server, &[transport, of_other])?, "NOERROR", &[other_address])?;
                }
            }
        }
        let client = &scenario.topology.host("client-a").netns;
        let upper = regional.to_ascii_uppercase();
        expect(&dig(client, SECOND, &["+noedns", &upper])?, "NOERROR", &[ENDPOINT])?;
        ensure!(dig(client, SECOND, &["+noedns", regional])?.edns.is_none());

        // A name without records of that type, names that are not there, and an EDNS version that nobody has.
        let answer = dig(client, SECOND, &[regional, "AAAA"])?;
        ensure!(answer.status == "NOERROR" && answer.records.is_empty() && answer.authorities == ["SOA"], "{answer:?}");
        for unknown in [format!("x.{regional}"), regional.replacen("vpce-", "vpce-x", 1)] {
            let answer = dig(client, SECOND, &[&unknown])?;
            ensure!(answer.status == "NXDOMAIN" && answer.authorities == ["SOA"], "{unknown}: {answer:?}");
        }
        ensure!(dig(client, SECOND, &["+edns=1", "+noednsnegotiation", regional])?.status == "BADVERS");

        large_answers(scenario, client)?;
        forwarded(scenario)?;
        outside(scenario, regional)?;
        comes_and_goes(scenario, &pending, regional)
    })
}

/// A name with more addresses than a datagram without EDNS holds.
fn large_answers(scenario: &Scenario, client: &Netns) -> Result<()> {
    let nodes: Vec<Ipv4Addr> = (1..=60).map(|last| Ipv4Addr::new(10, 0, 9, last)).collect();
    let list: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    scenario.cli.run(&format!("load-balancer create wide --vpc provider --address {}", list.join(" ")))?;
    let described = scenario.cli.run("load-balancer describe wide")?;
    let name = text(&described, "dns_name")?;
    let answer = dig(client, SECOND, &["+noedns", "+ignore", name])?;
    ensure!(answer.has("tc") && answer.size <= 512, "{answer:?}");
    let whole = dig(client, SECOND, &["+noedns", name])?;
    ensure!(whole.transport == "TCP" && !whole.has("tc"), "{whole:?}");
    expect(&whole, "NOERROR", &nodes)?;
    let answer = dig(client, SECOND, &["+bufsize=4096", "+ignore", name])?;
    ensure!(answer.transport == "UDP" && !answer.has("tc") && answer.size > 512, "{answer:?}");
    expect(&answer, "NOERROR", &nodes)?;
    // Each address has its turn as the first.
    let next = dig(client, SECOND, &["+bufsize=4096", name])?;
    ensure!(next.records[0] == answer.records[1], "{:?}, then {:?}", answer.records[0], next.records[0]);
    Ok(())
}

/// What is not ours is the upstream's.
fn forwarded(scenario: &Scenario) -> Result<()> {
    for name in ["client-a", "client-b"] {
        let client = &scenario.topology.host(name).netns;
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(client, SECOND, &[transport, "www.example.org"])?;
            expect(&answer, "NOERROR", &[Ipv4Addr::new(192, 0, 2, 80)])?;
        }
        let answer = dig(client, SECOND, &["missing.example.org"])?;
        ensure!(answer.status == "NXDOMAIN", "{answer:?}");
        let long = dig(client, SECOND, &["+ignore", "TXT", "long.example.org"])?;
        ensure!(long.has("tc") && long.size <= 1232, "{long:?}");
        let long = dig(client, SECOND, &["TXT", "long.example.org"])?;
        ensure!(long.transport == "TCP" && long.size > 3_000, "{} bytes by {}", long.size, long.transport);
    }
    Ok(())
}

/// Hosts outside every VPC know endpoints' names too.
fn outside(scenario: &Scenario, regional: &str) -> Result<()> {
    let host = &scenario.topology.lb;
    for transport in ["+notcp", "+tcp"] {
        expect(&dig(host, OUTSIDE, &[transport, regional])?, "NOERROR", &[ENDPOINT])?;
        let answer = dig(host, OUTSIDE, &[transport, "www.example.org"])?;
        expect(&answer, "NOERROR", &[Ipv4Addr::new(192, 0, 2, 80)])?;
    }
    let explained = scenario.cli.run("explain --vpc consumer-a --from 10.0.1.10 --to 10.0.0.2:53 --proto udp")?;
    ensure!(explained["reachable"] == true && explained.to_string().contains("the agent's DNS server"), "{explained}");
    // The server of the VPCs answers no one whose VPC it does not know.
    let inside = SocketAddrV4::new(Ipv4Addr::new(100, 64, 0, 1), 53);
    ensure!(dig(host, inside, &[regional])?.status == "REFUSED");
    Ok(())
}

/// Names follow the endpoint, the server follows the VPC, and both come back with the agent.
fn comes_and_goes(scenario: &mut Scenario, endpoint: &str, regional: &str) -> Result<()> {
    scenario.agent.kill()?;
    scenario.agent.start_again()?;
    let (a, b) = (scenario.topology.host("client-a").netns.clone(), scenario.topology.host("client-b").netns.clone());
    for client in [&a, &b] {
        expect(&dig(client, SECOND, &[regional])?, "NOERROR", &[ENDPOINT])?;
        expect(&dig(client, SECOND, &["+tcp", regional])?, "NOERROR", &[ENDPOINT])?;
    }
    scenario.cli.run(&format!("endpoint delete {endpoint}"))?;
    ensure!(dig(&a, SECOND, &[regional])?.status == "NXDOMAIN", "a name outlives its endpoint");

    let port = scenario.topology.vpcs[0].ports[0].clone();
    scenario.cli.run(&format!("port detach {port}"))?;
    scenario.cli.run("vpc delete consumer-a")?;
    scenario.cli.run("vpc create again --cidr 10.0.0.0/16")?;
    scenario.cli.run(&format!("port attach {port} --vpc again --hook {}", scenario.topology.hook.name()))?;
    eventually("the new VPC has its server", PATIENCE, || {
        ensure!(dig(&a, SECOND, &["+tries=1", "+time=1", "www.example.org"])?.status == "NOERROR");
        Ok(())
    })?;
    ensure!(dig(&b, SECOND, &["www.example.org"])?.status == "NOERROR");
    Ok(())
}

/// The provider's name leads to each VPC's own endpoint, after the provider has shown that it is its own.
fn private_names(hook: Hook) -> Result<()> {
    with_names(hook, &["--host-record=api.shop.example.org,192.0.2.81".to_owned()], |scenario| {
        let service = scenario.publish(&Service::new("web", "provider", vec![server(scenario, 1).address()]))?;
        let other_address = Ipv4Addr::new(10, 0, 0, 60);
        let a = scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        let b = scenario.endpoint(&service, "consumer-b", other_address)?;
        let enable =
            |endpoint: &str, on: bool| scenario.cli.run(&format!("endpoint modify {endpoint} --private-dns {on}"));
        let refused = format!("{:#}", enable(&a, true).err().context("private DNS without a name")?);
        ensure!(refused.contains("does not provide a private DNS name."), "{refused}");
        let state = || -> Result<String> {
            let described = scenario.cli.run("endpoint-service describe web")?;
            text(&described["private_dns"], "state").map(str::to_owned)
        };
        let verify = || scenario.cli.run("endpoint-service verify-domain web");

        // At the record's own name below a parent, and at the domain itself: each is enough, in its exact case.
        for (private, below) in [("api.shop.example.org", true), ("*.shop.example.org", false)] {
            scenario.cli.words(&["endpoint-service", "modify", "web", "--private-dns-name", private])?;
            let described = scenario.cli.run("endpoint-service describe web")?;
            let record = |name: &str| text(&described["private_dns"], name).map(str::to_owned);
            let (name, value) = (record("record_name")?, record("record_value")?);
            ensure!(state()? == "pendingVerification", "{described}");
            let silent = format!("{:#}", verify().err().context("verified by nobody")?);
            ensure!(silent.contains(&VERIFIER.to_string()) && silent.contains(&value), "{silent}");
            let at = if below { format!("{name}.example.org") } else { "shop.example.org".to_owned() };
            let server = |value: &str| {
                let records = [format!("--txt-record={at},v=spf1 -all"), format!("--txt-record={at},{value}")];
                Dnsmasq::start(&scenario.topology.lb, VERIFIER, &[&records[..], &["--local=/org/".to_owned()]].concat())
            };
            {
                let _wrong = server(&value.to_ascii_uppercase())?;
                let refused = format!("{:#}", verify().err().context("verified by another value")?);
                for found in [at.clone(), value.to_ascii_uppercase(), "v=spf1 -all".to_owned()] {
                    ensure!(refused.contains(&found), "'{found}' is not in: {refused}");
                }
                ensure!(state()? == "failed" && enable(&a, true).is_err(), "private DNS without verification");
            }
            let _right = server(&value)?;
            verify()?;
            ensure!(state()? == "verified");

            let asked = if below { private.to_owned() } else { "any.thing.shop.example.org".to_owned() };
            for (client, endpoint, address) in [("client-a", &a, ENDPOINT), ("client-b", &b, other_address)] {
                let client = &scenario.topology.host(client).netns;
                let public = eventually("the upstream is asked", PATIENCE, || {
                    dig(client, SECOND, &["+tries=1", "+time=1", "api.shop.example.org"])
                })?;
                expect(&public, "NOERROR", &[Ipv4Addr::new(192, 0, 2, 81)])?;
                enable(endpoint, true)?;
                ensure!(names(scenario, endpoint)?.last().map(String::as_str) == Some(private));
                for transport in ["+notcp", "+tcp"] {
                    let answer = dig(client, SECOND, &[transport, &asked])?;
                    expect(&answer, "NOERROR", &[address])?;
                    ensure!(answer.has("aa") && answer.records[0].0 == 60, "{answer:?}");
                }
            }
            // Everybody else keeps the public name.
            let outside = dig(&scenario.topology.lb, OUTSIDE, &["api.shop.example.org"])?;
            expect(&outside, "NOERROR", &[Ipv4Addr::new(192, 0, 2, 81)])?;
            // A rejected endpoint does not answer any more.
            scenario.cli.run(&format!("connection reject web {a}"))?;
            let client = &scenario.topology.host("client-a").netns;
            expect(&dig(client, SECOND, &["api.shop.example.org"])?, "NOERROR", &[Ipv4Addr::new(192, 0, 2, 81)])?;
            scenario.cli.run(&format!("connection accept web {a}"))?;
            expect(&dig(client, SECOND, &[&asked])?, "NOERROR", &[ENDPOINT])?;
            enable(&a, false)?;
            enable(&b, false)?;
        }
        Ok(())
    })
}

/// What a dualstack endpoint and its service have besides.
const IPV6_RANGE: &str = "fd00:10::/64";
const IPV6_NODE: &str = "fd00:10::5";
const IPV6_ENDPOINT: &str = "fd00:10::50";

/// The regional, zonal and private name of a dualstack endpoint answer with the records that are chosen, before and
/// after each change.
fn chosen_records() -> Result<()> {
    with_names(Hook::Auto, &["--local=/org/".to_owned()], |scenario| {
        let cli = &scenario.cli;
        for vpc in ["consumer-a", "provider"] {
            cli.run(&format!("vpc modify {vpc} --ipv6-cidr {IPV6_RANGE}"))?;
        }
        scenario.publish(&Service::new("web", "provider", vec![server(scenario, 1).address()]))?;
        cli.run(&format!("load-balancer modify web --ipv6-address {IPV6_NODE}"))?;
        cli.run("endpoint-service modify web --private-dns-name api.shop.example.org")?;
        let described = cli.run("endpoint-service describe web")?;
        let record = |name: &str| text(&described["private_dns"], name);
        let at = format!("--txt-record={}.example.org,{}", record("record_name")?, record("record_value")?);
        let _verifier = Dnsmasq::start(&scenario.topology.lb, VERIFIER, &[at, "--local=/org/".to_owned()])?;
        cli.run("endpoint-service verify-domain web")?;
        let made = cli.run(&format!(
            "endpoint create --service-name web --vpc consumer-a --address {ENDPOINT} --ipv6-address {IPV6_ENDPOINT} \
             --private-dns --dns-record-ip-type service-defined"
        ))?;
        let id = text(&made, "id")?;
        let [regional, zonal, private] = &*names(scenario, id)? else { anyhow::bail!("not three names: {made}") };
        let client = &scenario.topology.host("client-a").netns;
        let four = ENDPOINT.to_string();
        let expect = |records: &str, own: [&[&str]; 2], of_private: [&[&str]; 2]| -> Result<()> {
            let shown = cli.run(&format!("endpoint describe {id}"))?;
            ensure!(shown["dns_record_ip_type"] == records, "{shown}");
            for (name, expected) in [(regional, own), (zonal, own), (private, of_private)] {
                for (kind, expected) in ["A", "AAAA"].into_iter().zip(expected) {
                    eventually(&format!("{records}: {kind} of {name}"), PATIENCE, || {
                        let answer = dig(client, SECOND, &["+tries=1", "+time=1", name, kind])?;
                        let found: Vec<&str> = answer.records.iter().map(|(_, data)| data.as_str()).collect();
                        ensure!(answer.status == "NOERROR" && answer.has("aa") && found == expected, "{answer:?}");
                        // A name without such records is still there.
                        ensure!(
                            answer.authorities == if found.is_empty() { vec!["SOA"] } else { vec![] },
                            "{answer:?}"
                        );
                        Ok(())
                    })?;
                }
            }
            Ok(())
        };
        let (a, aaaa): (&[&str], &[&str]) = (&[&four], &[IPV6_ENDPOINT]);
        expect("service-defined", [a, aaaa], [a, &[]])?;
        for (records, expected) in [("ipv6", [&[], aaaa]), ("ipv4", [a, &[]]), ("dualstack", [a, aaaa])] {
            cli.run(&format!("endpoint modify {id} --dns-record-ip-type {records}"))?;
            expect(records, expected, expected)?;
        }
        let refused = cli.run(&format!("endpoint modify {id} --ip-address-type ipv4"));
        let refused = format!("{:#}", refused.err().context("dualstack records of an IPv4 endpoint")?);
        ensure!(refused.contains("is not supported for a VPC endpoint with the IP address type ipv4"), "{refused}");
        cli.run(&format!("endpoint modify {id} --ip-address-type ipv4 --reset-dns-record-ip-type"))?;
        expect("ipv4", [a, &[]], [a, &[]])
    })
}

/// A name whose record is gone is not verified any more; a resolver that is gone has lost no record.
fn asked_again() -> Result<()> {
    let arguments = ["--dns-verification-interval=1", "--log=info,privatelink_user::dns=debug"];
    with_arguments(Hook::Auto, &["--local=/org/".to_owned()], &arguments, |scenario| {
        let service = scenario.publish(&Service::new("web", "provider", vec![server(scenario, 1).address()]))?;
        let a = scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        let b = scenario.endpoint(&service, "consumer-b", ENDPOINT)?;
        let enable = |endpoint: &str| scenario.cli.run(&format!("endpoint modify {endpoint} --private-dns true"));
        scenario.cli.words(&["endpoint-service", "modify", "web", "--private-dns-name", "api.example.org"])?;
        let described = || scenario.cli.run("endpoint-service describe web");
        let value = text(&described()?["private_dns"], "record_value")?.to_owned();
        let resolver = |records: &[String]| {
            let records = [records, &["--local=/org/".to_owned()]].concat();
            Dnsmasq::start(&scenario.topology.lb, VERIFIER, &records)
        };
        let becomes = |state: &str| {
            eventually(&format!("the name is {state}"), PATIENCE, || {
                let described = described()?;
                ensure!(text(&described["private_dns"], "state")? == state, "{described}");
                Ok(())
            })
        };
        let right = [format!("--txt-record=api.example.org,{value}")];
        {
            let _right = resolver(&right)?;
            scenario.cli.run("endpoint-service verify-domain web")?;
            enable(&a)?;
        }
        let unanswered = || scenario.agent.log().matches("the TXT record was not found").count();
        let before = unanswered();
        eventually("the silent resolver is asked twice", 4 * PATIENCE, || {
            ensure!(unanswered() >= before + 2, "{} times", unanswered() - before);
            Ok(())
        })?;
        becomes("verified")?;
        let without = resolver(&[])?;
        becomes("failed")?;
        let client = &scenario.topology.host("client-a").netns;
        expect(&dig(client, SECOND, &["api.example.org"])?, "NOERROR", &[ENDPOINT])?;
        let refused = format!("{:#}", enable(&b).err().context("private DNS without a record")?);
        ensure!(refused.contains("does not provide a private DNS name."), "{refused}");
        drop(without);
        let _right = resolver(&right)?;
        becomes("verified")?;
        enable(&b).map(drop)
    })
}

/// The targets of a group are the addresses of a name, while clients go on.
fn targets_by_name() -> Result<()> {
    let topology = Topology::build(Hook::Auto, plans(2), None)?;
    let arguments = vec![format!("--dns-upstream={VERIFIER}")];
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments)?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = targets_by_name_in(&mut scenario);
    result.with_context(|| scenario.diagnosis())
}

fn targets_by_name_in(scenario: &mut Scenario) -> Result<()> {
    let [one, two] = [1, 2].map(|number| server(scenario, number).address());
    let mut servers = Vec::new();
    for number in 1..=2 {
        let (name, address) = (format!("server-{number}"), target(scenario, number));
        servers.push(Nginx::start(&server(scenario, number).netns, Directory::new(&name)?, address, &name)?);
    }
    let lb = scenario.topology.lb.clone();
    let answering = |addresses: &[Ipv4Addr]| {
        let record = |address: &Ipv4Addr| format!("--host-record=app.example.org,{address}");
        let records: Vec<String> = addresses.iter().map(record).chain(["--local=/org/".to_owned()]).collect();
        Dnsmasq::start(&lb, VERIFIER, &records)
    };
    let mut names = answering(&[one])?;
    let cli = scenario.cli.clone();
    for line in [
        "load-balancer create web --vpc provider --address 10.0.0.5",
        &format!("target-group create web --vpc provider --protocol TCP --port 8080 {QUICK_CHECKS}"),
        "target register web --dns-name app.example.org",
        "listener create web --protocol TCP --port 80 --target-group web",
        "endpoint-service create --load-balancer web --name web",
    ] {
        cli.run(line)?;
    }
    scenario.endpoint("web", "consumer-a", ENDPOINT)?;
    let become_healthy = |wanted: &[(Ipv4Addr, &str)]| {
        let wanted: Vec<(IpAddr, &str)> = wanted.iter().map(|(ip, state)| ((*ip).into(), *state)).collect();
        eventually(&format!("the targets are {wanted:?}"), 6 * PATIENCE, || {
            let health = scenario.health("web")?;
            let health: Vec<_> = health.iter().map(|(target, state)| (target.ip(), state.as_str())).collect();
            ensure!(health == wanted, "{health:?}");
            Ok(())
        })
    };
    become_healthy(&[(one, "healthy")])?;

    let client = scenario.topology.host("client-a").netns.clone();
    let (done, pages) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let changed = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let page = curl(&client, &["--max-time", "5", &format!("http://{ENDPOINT}/")]);
                pages.lock().unwrap_or_else(PoisonError::into_inner).push(page);
            }
        });
        let steps = || {
            drop(names);
            names = answering(&[two])?;
            become_healthy(&[(one, "draining"), (two, "healthy")])?;
            // Nobody answers: the last answer counts.
            drop(names);
            let failed = || scenario.agent.log().matches("cannot be resolved").count();
            let before = failed();
            eventually("the name is asked for in vain", 6 * PATIENCE, || {
                ensure!(failed() > before, "not yet");
                Ok(())
            })?;
            become_healthy(&[(one, "draining"), (two, "healthy")])?;
            let _both = answering(&[one, two])?;
            become_healthy(&[(one, "healthy"), (two, "healthy")])
        };
        let result = steps();
        done.store(true, Ordering::Relaxed);
        result
    });
    changed?;
    let pages = pages.into_inner().unwrap_or_else(PoisonError::into_inner);
    let pages: Vec<String> = pages.into_iter().collect::<Result<_>>().context("a client failed meanwhile")?;
    ensure!(pages.first().is_some_and(|page| page == "server-1"), "{pages:?}");
    ensure!(pages.iter().any(|page| page == "server-2"), "nobody came to the new target: {pages:?}");
    cli.run("target deregister web --dns-name app.example.org")?;
    become_healthy(&[(one, "draining"), (two, "draining")])
}

/// A load balancer and an endpoint in two zones, with a server in each.
fn zones_by_health() -> Result<()> {
    let plans = vec![
        VpcPlan::new("consumer-a", vec![HostPlan::new("client-a", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server-1", 1, 10), HostPlan::new("server-2", 2, 10)]),
    ];
    Scenario::run(&program()?, Hook::Auto, plans, zones_by_health_in)
}

fn zones_by_health_in(scenario: &mut Scenario) -> Result<()> {
    let start = |number: u8| {
        let (name, address) = (format!("server-{number}"), target(scenario, number));
        Nginx::start(&server(scenario, number).netns, Directory::new(&name)?, address, &name)
    };
    let (first, second) = (start(1)?, start(2)?);
    let cli = &scenario.cli;
    for vpc in ["consumer-a", "provider"] {
        for (third, zone) in [(1, 'a'), (2, 'b')] {
            cli.run(&format!("subnet create --vpc {vpc} --cidr 10.0.{third}.0/24 --zone us-east-1{zone}"))?;
        }
    }
    for line in [
        "load-balancer create web --vpc provider --address 10.0.1.5 10.0.2.5",
        &format!("target-group create web --vpc provider --protocol TCP --port 8080 {QUICK_CHECKS}"),
        "target register web 10.0.1.10 10.0.2.10",
        "listener create web --protocol TCP --port 80 --target-group web",
        "endpoint-service create --load-balancer web --name web",
    ] {
        cli.run(line)?;
    }
    let made = cli.run(
        "endpoint create --service-name web --vpc consumer-a --subnet consumer-a/10.0.1.0/24=10.0.1.50 \
         --subnet consumer-a/10.0.2.0/24=10.0.2.50",
    )?;
    let [regional, _, zonal] = &*names(scenario, text(&made, "id")?)? else { anyhow::bail!("not three names") };
    let described = cli.run("load-balancer describe web")?;
    let of_lb = text(&described, "dns_name")?;

    let client = &scenario.topology.host("client-a").netns;
    let [lb_a, lb_b, at_a, at_b] = [(1, 5), (2, 5), (1, 50), (2, 50)].map(|(c, d)| Ipv4Addr::new(10, 0, c, d));
    let served = |what: &str, nodes: &[Ipv4Addr], endpoints: &[Ipv4Addr]| {
        eventually(what, 6 * PATIENCE, || {
            let options = ["+tries=1", "+time=1"];
            expect(&dig(client, SECOND, &[&options[..], &[of_lb]].concat())?, "NOERROR", nodes)?;
            expect(&dig(client, SECOND, &[&options[..], &[regional]].concat())?, "NOERROR", endpoints)
        })?;
        // A name of one zone has that zone's address, whatever its health.
        expect(&dig(client, SECOND, &[zonal])?, "NOERROR", &[at_b])?;
        expect(&dig(client, SECOND, &[&format!("us-east-1b.{of_lb}")])?, "NOERROR", &[lb_b])
    };
    served("both zones are healthy", &[lb_a, lb_b], &[at_a, at_b])?;
    drop(second);
    served("the second zone is left out", &[lb_a], &[at_a])?;
    let page = curl(client, &["--max-time", "5", &format!("http://{at_a}/")])?;
    ensure!(page == "server-1", "{page}");
    drop(first);
    served("without a healthy zone all are answered", &[lb_a, lb_b], &[at_a, at_b])?;
    let _second = start(2)?;
    served("the first zone is left out", &[lb_b], &[at_b])?;
    // Across zones, the one healthy target is every zone's.
    cli.run("load-balancer modify web --attribute load_balancing.cross_zone.enabled=true")?;
    served("both zones have a healthy target", &[lb_a, lb_b], &[at_a, at_b])
}
