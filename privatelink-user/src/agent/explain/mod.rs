//! `privatelink explain` in words: what a packet meets on its way, and what decides about it. Pure: the state, what the
//! agent knows and what the kernel's program said come in.

pub mod reason;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use privatelink_ebpf::{
    abi::{Counter, VpcIndex, explain::Trace, flow::FlowState, pool, service::PortFlags},
    datapath::Verdict,
};

use self::reason::Reason;
use super::{desired, index::TargetKey, plan::Plan, security};
use crate::{
    control::view,
    model::{
        Direction, EndpointState, InterfaceName, Listener, ListenerId, LoadBalancerId, Opening, Port, Protocol, State,
        TargetGroup,
    },
    net::{links::Links, neighbor::MacAddress},
    runtime::{
        Explanation, Finding, HookInUse, Object, PacketProtocol, PortStatus, Question, TargetHealth, TargetHealthReport,
    },
    tls::verified::{Roots, Verify},
};

/// The port that the packet is taken to come in on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub ifindex: u32,
    pub mac: MacAddress,
    pub interface: InterfaceName,
    pub hook: HookInUse,
}

/// What the kernel's program said.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub trace: Trace,
    /// Ports in use of the target's pool.
    pub used: Option<u32>,
}

/// What is known.
pub struct Facts<'a> {
    pub state: &'a State,
    pub plan: &'a Plan,
    pub statuses: &'a BTreeMap<InterfaceName, PortStatus>,
    pub port: Option<&'a Entry>,
    /// Nothing if no port can take the packet.
    pub seen: Option<Seen>,
    pub health: &'a dyn Fn(&TargetGroup) -> Vec<TargetHealthReport>,
    /// An interface's name.
    pub interface: &'a dyn Fn(u32) -> Option<String>,
}

/// The attached port of the question's VPC that it names, or else the first one in the order of the interfaces' names.
pub fn entry(
    state: &State,
    question: &Question,
    statuses: &BTreeMap<InterfaceName, PortStatus>,
    links: &Links,
) -> Option<Entry> {
    let meant = |port: &&Port| {
        port.vpc == question.vpc && question.port.as_ref().is_none_or(|interface| port.interface == *interface)
    };
    state.ports.values().filter(meant).find_map(|port| {
        let hook = statuses.get(&port.interface)?.hook?;
        let link = links.values().find(|link| link.name == port.interface.as_str())?;
        Some(Entry { ifindex: link.ifindex, mac: link.mac?, interface: port.interface.clone(), hook })
    })
}

/// Explains.
pub fn explain(question: &Question, facts: &Facts<'_>) -> Explanation {
    let mut story = Story { question, facts, findings: Vec::new(), closed: None };
    story.port();
    let listener = story.address();
    let Some(seen) = facts.seen else { return story.without_port() };
    let groups = listener.map(|listener| story.listener(listener)).unwrap_or_default();
    story.kernel(&seen, listener, &groups)
}

/// What a destination address is.
enum Destination<'a> {
    /// An endpoint or a node address; the load balancers behind it, the first of which that has the port takes the
    /// packet.
    LoadBalancers(&'a [LoadBalancerId]),
    Nobodys,
}

struct Story<'a> {
    question: &'a Question,
    facts: &'a Facts<'a>,
    findings: Vec<Finding>,
    /// The state of the endpoint, if that is why it carries no traffic.
    closed: Option<EndpointState>,
}

impl<'a> Story<'a> {
    fn find(&mut self, object: Object, name: impl Into<Option<String>>, text: impl Into<String>) {
        self.findings.push(Finding { object, name: name.into(), text: text.into() });
    }

    fn vpc_name(&self) -> String {
        view::vpc_name(self.facts.state, &self.question.vpc)
    }

    fn port(&mut self) {
        let vpc = self.vpc_name();
        let (state, question) = (self.facts.state, self.question);
        if let Some(entry) = self.facts.port {
            let ports = state.ports.values().filter(|port| port.vpc == question.vpc).count();
            let which = match ports {
                1 => "the only port".to_owned(),
                _ => format!("one of {ports} ports"),
            };
            let interface = entry.interface.to_string();
            self.find(Object::Port, interface, format!("{which} of VPC '{vpc}', attached by {}", entry.hook));
            return;
        }
        for port in state.ports.values().filter(|port| port.vpc == question.vpc) {
            let why = self.facts.statuses.get(&port.interface).and_then(|status| status.error.clone());
            let why = why.unwrap_or_else(|| "no programs are on it yet".to_owned());
            self.find(Object::Port, port.interface.to_string(), format!("port of VPC '{vpc}', not attached: {why}"));
        }
    }

    /// What the packet is for; the listener, if there is one.
    fn address(&mut self) -> Option<&'a Listener> {
        let (state, question) = (self.facts.state, self.question);
        let ip = question.to.ip();
        let destination = self.destination(ip);
        let speaks = match question.protocol {
            PacketProtocol::Tcp => Protocol::has_tcp,
            PacketProtocol::Udp => Protocol::has_udp,
            PacketProtocol::Icmp => {
                if let Destination::LoadBalancers([lb, ..]) = destination {
                    self.security_groups(lb, desired::echo(ip));
                }
                return None;
            }
        };
        let Destination::LoadBalancers(behind) = destination else { return None };
        let of = move |lb: &'a LoadBalancerId| state.listeners.values().filter(move |l| l.load_balancer == *lb);
        let of_lb = || behind.iter().flat_map(of);
        let found = of_lb().find(|listener| listener.port.contains(question.to.port()) && speaks(listener.protocol));
        if found.is_none() {
            let there = of_lb().map(|listener| format!("{} {}", listener.protocol, listener.port)).collect();
            let text = format!("none for {} {}; there are: {}", question.protocol, question.to.port(), listed(there));
            self.find(Object::Listener, None, text);
        }
        found
    }

    fn destination(&mut self, ip: IpAddr) -> Destination<'a> {
        let (state, vpc) = (self.facts.state, &self.question.vpc);
        if let Some((endpoint, alias)) = state.endpoint_at(vpc, ip) {
            if let Some(alias) = alias {
                self.find(
                    Object::Address,
                    ip.to_string(),
                    format!("an alias of the endpoint at {}, by {alias}", endpoint.address),
                );
            }
            let service = state.endpoint_services.get(&endpoint.service);
            let to = service.map_or_else(|| endpoint.service.to_string(), |service| service.service_name.to_string());
            self.find(Object::Endpoint, endpoint.id.to_string(), format!("{}, leads to {to}", endpoint.state));
            match endpoint.state {
                EndpointState::Available => {}
                state @ (EndpointState::PendingAcceptance | EndpointState::Rejected | EndpointState::Expired) => {
                    self.closed = Some(state);
                }
            }
            return service.map_or(Destination::Nobodys, |service| Destination::LoadBalancers(&service.load_balancers));
        }
        if let Some(lb) = state.load_balancers.values().find(|lb| lb.vpc == *vpc && lb.nodes().any(|node| node == ip)) {
            self.find(Object::Address, ip.to_string(), format!("node address of load balancer '{}'", lb.name));
            return Destination::LoadBalancers(std::slice::from_ref(&lb.id));
        }
        let at_resolver = match ip {
            IpAddr::V4(ip) => self.facts.plan.resolvers.contains(&(vpc.clone(), ip)),
            IpAddr::V6(_) => false,
        };
        if at_resolver {
            self.find(Object::Address, ip.to_string(), "the DNS server of the VPC, on port 53".to_owned());
            return Destination::Nobodys;
        }
        let there = state.endpoints.values().filter(|e| e.vpc == *vpc);
        let there = there.flat_map(|e| e.all_addresses().map(|address| address.to_string())).collect();
        let text = format!(
            "no endpoint (any more) and no load balancer in VPC '{}'; its endpoints: {}",
            self.vpc_name(),
            listed(there)
        );
        self.find(Object::Address, ip.to_string(), text);
        Destination::Nobodys
    }

    fn listener(&mut self, listener: &'a Listener) -> Vec<&'a TargetGroup> {
        let state = self.facts.state;
        let weights = &listener.forward.weights;
        let groups: Vec<&TargetGroup> = weights.keys().filter_map(|id| state.target_groups.get(id)).collect();
        let name = |group: &&TargetGroup| match weights.get(&group.id) {
            Some(weight) if weights.len() > 1 => format!("'{}' by weight {weight}", group.name),
            Some(_) | None => format!("'{}'", group.name),
        };
        let leads_to = listed(groups.iter().map(name).collect());
        let opening = match self.question.protocol {
            PacketProtocol::Udp => Opening::Udp(self.question.to.port()),
            PacketProtocol::Tcp | PacketProtocol::Icmp => Opening::Tcp(self.question.to.port()),
        };
        self.security_groups(&listener.load_balancer, opening);
        self.find(
            Object::Listener,
            view::listener_name(state, listener),
            format!("{} {}, leads to target group {leads_to}", listener.protocol, listener.port),
        );
        for group in &groups {
            self.target_group(group);
        }
        groups
    }

    fn target_group(&mut self, group: &TargetGroup) {
        let reports = (self.facts.health)(group);
        let count = |state: &str| reports.iter().filter(|report| report.health.state() == state).count();
        let states: Vec<String> = ["healthy", "unhealthy", "initial", "draining", "unused"]
            .into_iter()
            .filter(|state| count(state) > 0)
            .map(|state| format!("{} {state}", count(state)))
            .collect();
        let open = if self.facts.plan.fail_open.contains(&group.id) {
            "; none is healthy, so all of them are used"
        } else {
            ""
        };
        self.find(Object::TargetGroup, group.name.to_string(), format!("targets: {}{open}", listed(states)));
    }

    /// What each security group in the way says, and by which rule.
    fn security_groups(&mut self, lb: &LoadBalancerId, opening: Opening) {
        let (state, question) = (self.facts.state, self.question);
        let Some(lb) = state.load_balancers.get(lb) else { return };
        let to = match opening {
            Opening::Tcp(_) | Opening::Udp(_) => "to this port",
            Opening::Icmp(..) | Opening::Icmpv6(..) => "with an echo request",
        };
        let endpoint = state.endpoint_at(&question.vpc, question.to.ip()).map(|(endpoint, _)| endpoint);
        let verdicts = security::verdicts(state, endpoint, lb, opening, question.from.ip());
        for (group, rule) in verdicts {
            let text = match rule {
                Some((id, rule)) => format!("lets {} in by rule {id}, {rule}", question.from.ip()),
                None => format!(
                    "none of its {} inbound rules lets {} in {to}",
                    group.rules(Direction::Ingress).count(),
                    question.from.ip()
                ),
            };
            self.find(Object::SecurityGroup, group.name.to_string(), text);
        }
    }

    /// Nothing can be asked of the kernel: no port takes the packet.
    fn without_port(self) -> Explanation {
        let vpc = self.vpc_name();
        let attached = self.facts.state.ports.values().any(|port| port.vpc == self.question.vpc);
        let (verdict, way_out) = if attached {
            (
                format!("no port of VPC '{vpc}' is attached, so the datapath sees none of its packets"),
                "`privatelink port list` says what each port lacks".to_owned(),
            )
        } else {
            (
                format!("VPC '{vpc}' has no port, so the datapath sees none of its packets"),
                format!("`privatelink port attach DEV --vpc {vpc}` with the interface that leads into the VPC"),
            )
        };
        Explanation {
            reachable: false,
            verdict,
            decided_by: Object::Port,
            reason: None,
            way_out: Some(way_out),
            findings: self.findings,
        }
    }

    fn kernel(mut self, seen: &Seen, listener: Option<&Listener>, groups: &[&TargetGroup]) -> Explanation {
        let Seen { trace, used } = seen;
        if trace.has(Trace::FLOW) {
            let state = FlowState::from_bits(trace.flow_state as u8).name();
            let text = format!("the client's port {} has one already, {state}", self.question.from.port());
            self.find(Object::Flow, None, text);
        }
        // A flow that shows its client takes no port of the pool.
        let used = used.filter(|_| !trace.counted(Counter::ClientIpPreserved));
        let target = trace.has(Trace::TARGET).then(|| self.target(trace, used, groups)).flatten();
        if trace.verdict == Trace::FORWARD {
            return self.forwarded(trace, target);
        }
        let counter = reason::decisive(trace);
        if let Some(counter) = counter
            && let Some(Reason { object, text, way_out }) = reason::reason(counter)
        {
            if let Some(state) = self.closed {
                let text = format!("the endpoint is {state}, and only an available one carries traffic");
                let way_out = "`privatelink connection accept` by the service's owner makes it available";
                return self.refused(Object::Endpoint, counter.name(), &text, way_out.to_owned());
            }
            let mut way_out = way_out.to_owned();
            // The kernel follows the state within a moment; what it does not know yet is no fault of the configuration.
            if listener.is_some() && !trace.has(Trace::FRONTEND) {
                way_out = "the kernel's tables do not have the listener yet; ask again in a second".to_owned();
            }
            return self.refused(object, counter.name(), text, way_out);
        }
        let (object, verdict, way_out) = match Verdict::from_bits(trace.verdict) {
            Verdict::Pass => (
                Object::Port,
                "the address is none of ours and the port is shared, so the packet goes on to the host's own stack",
                "use the address of an endpoint",
            ),
            Verdict::AnswerArp => (Object::Address, "it is answered by ARP", "nothing to do"),
            Verdict::AnswerEcho => (Object::Address, "it is answered by an echo reply", "nothing to do"),
            Verdict::AnswerNeighbor => (Object::Address, "it is answered by neighbour discovery", "nothing to do"),
            Verdict::ToTc
            | Verdict::Drop(_)
            | Verdict::AnswerReset
            | Verdict::AnswerError(_)
            | Verdict::Proxy
            | Verdict::GoOn(_) => {
                (Object::Kernel, "the kernel refused it without a reason", "`privatelink stats --drops` lists refusals")
            }
        };
        Explanation {
            reachable: false,
            verdict: verdict.to_owned(),
            decided_by: object,
            reason: None,
            way_out: Some(way_out.to_owned()),
            findings: self.findings,
        }
    }

    fn refused(self, decided_by: Object, counter: &str, text: &str, way_out: String) -> Explanation {
        Explanation {
            reachable: false,
            verdict: text.to_owned(),
            decided_by,
            reason: Some(counter.to_owned()),
            way_out: Some(way_out),
            findings: self.findings,
        }
    }

    /// What the target's index stands for.
    fn target(&mut self, trace: &Trace, used: Option<u32>, groups: &[&TargetGroup]) -> Option<TargetKey> {
        let key = self.facts.plan.targets.iter().find(|(_, of)| **of == trace.target).map(|(key, _)| *key)?;
        // Behind several ports a target is reached at the one that was asked for.
        let port = if key.port == 0 { self.question.to.port() } else { key.port };
        let name = SocketAddr::new(key.ip, port).to_string();
        if let Some((listener, _)) = self.facts.plan.doors.iter().find(|(_, door)| **door == key) {
            self.relay(listener, name);
            return Some(key);
        }
        if key.vpc == VpcIndex::HOST {
            self.find(Object::Target, name, "the agent's DNS server, on the host port".to_owned());
            return Some(key);
        }
        let reports: Vec<_> = groups.iter().flat_map(|group| (self.facts.health)(group)).collect();
        let report = reports
            .iter()
            .find(|report| report.address.ip == key.ip && (key.port == 0 || report.address.port == key.port));
        let health = report.map_or_else(|| "no longer registered".to_owned(), |report| health(&report.health));
        let vpc = self.facts.plan.vpcs.get(&key.vpc);
        let vpc = vpc.map_or_else(|| vpc_number(key.vpc), |vpc| view::vpc_name(self.facts.state, vpc));
        self.find(Object::Target, name.clone(), format!("in VPC '{vpc}', {health}"));
        if let Some(used) = used {
            let passed_over =
                if trace.counted(Counter::NextNodeUsed) { "; all of another node address are in use" } else { "" };
            let text = format!("{used} of {} in use from {} to {name}{passed_over}", pool::CAPACITY, key.node);
            self.find(Object::Pool, None, text);
        }
        if let Some(report) = report {
            self.find(Object::NextHop, None, report.next_hop.to_string());
        }
        Some(key)
    }

    /// Where a TLS listener's connections go on.
    fn relay(&mut self, listener: &ListenerId, name: String) {
        let plan = self.facts.plan;
        let targets: usize = plan.upstreams.get(listener).into_iter().flatten().map(|group| group.targets.len()).sum();
        let tls = self.facts.state.listeners.get(listener).and_then(|listener| listener.tls.as_ref());
        let policy = tls.map_or_else(String::new, |tls| format!(" ({}, ALPN {})", tls.policy, tls.alpn));
        let verified = plan.upstreams.get(listener).into_iter().flatten().find_map(|group| group.verify.as_ref());
        let verified = verified.map_or_else(String::new, |Verify { roots, name }| {
            let whose = match roots {
                Roots::System => "this host's authorities",
                Roots::Pem(_) => "the target group's authorities",
            };
            let name = name.as_deref().unwrap_or("the name that the client asks for");
            format!("; their certificates have to be of {whose} and for {name}")
        });
        let text = format!(
            "the relay, which ends TLS{policy} and connects to one of {targets} targets from the node address{verified}"
        );
        self.find(Object::Target, name, text);
    }

    /// The source that the target sees, and why if that is not a matter of course.
    fn source(&mut self, trace: &Trace, node: IpAddr) -> String {
        let (own, node) = (format!("{}, the client itself", self.question.from.ip()), node.to_string());
        let direct =
            "the target group has preserve_client_ip.enabled, and the client comes to the load balancer itself";
        let (source, text) = if trace.counted(Counter::ClientIpPreserved) {
            (own, format!("{direct}: the target sees {}", self.question.from))
        } else if trace.counted(Counter::ClientIpSamePort) {
            let why = "client and target are behind one port, so replies would not come back through the load balancer";
            (node, format!("{direct}; but {why}: the target sees the node address"))
        } else if trace.counted(Counter::ClientIpCollision) {
            let why = "another flow to the target shows the client's address and port";
            (node, format!("{direct}; but {why}: the target sees the node address"))
        } else {
            return node;
        };
        self.find(Object::Source, None, text);
        source
    }

    fn forwarded(mut self, trace: &Trace, target: Option<TargetKey>) -> Explanation {
        let out = (self.facts.interface)(trace.out_ifindex).unwrap_or_else(|| trace.out_ifindex.to_string());
        if let Some(entry) = self.facts.port {
            let text = match entry.hook {
                HookInUse::Tcx | HookInUse::Clsact => format!("TC forwards it from {} to {out}", entry.interface),
                HookInUse::XdpTcx | HookInUse::XdpClsact if trace.out_port().has(PortFlags::XDP_TRANSMIT) => {
                    format!("XDP forwards it from {} to {out}", entry.interface)
                }
                HookInUse::XdpTcx | HookInUse::XdpClsact => {
                    format!("XDP leaves it to TC, because {out} takes no XDP frames")
                }
            };
            self.find(Object::Hook, entry.hook.to_string(), text);
        }
        let verdict = match target {
            Some(TargetKey { vpc: _, node, ip, port, proto: _ }) => {
                let source = self.source(trace, node);
                let at = SocketAddr::new(ip, port);
                format!("it goes to {at}, which sees {source} as its source, through {out}")
            }
            None => format!("it is forwarded through {out}"),
        };
        Explanation {
            reachable: true,
            verdict,
            decided_by: Object::Target,
            reason: None,
            way_out: None,
            findings: self.findings,
        }
    }
}

fn health(health: &TargetHealth) -> String {
    match health.description() {
        Some(description) => format!("{} ({description})", health.state()),
        None => health.state().to_owned(),
    }
}

fn vpc_number(index: VpcIndex) -> String {
    format!("number {}", index.0)
}

fn listed(items: Vec<String>) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
