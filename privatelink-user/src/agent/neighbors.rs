//! Next hops of targets: asked for with the node address as sender on every port of the VPC, learned from what the
//! datapath hears, refreshed for as long as a target needs them.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    time::Duration,
};

use privatelink_ebpf::abi::VpcIndex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    plan::{Hop, HopKey, Plan},
};
use crate::net::{
    arp,
    links::Links,
    ndp,
    neighbor::{MacAddress, Neighbor},
    raw::PacketSocket,
};

/// Looked at this often even if nothing is due.
const LONGEST_WAIT: u64 = 1_000;
/// Questions sent at once, and the pause before the next: thousands of new targets are asked for without a burst that a
/// switch or a neighbour would drop.
const AT_ONCE: usize = 64;
const PAUSE: u64 = 10;

/// All next hops that are needed.
#[derive(Debug, Default)]
pub struct Neighbors(BTreeMap<HopKey, Entry>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: Neighbor,
    /// The port that heard the last answer.
    ifindex: u32,
}

impl Neighbors {
    /// Starts from what the kernel's records say, so that a new agent needs no answer before it can go on.
    pub fn adopt(&mut self, hops: impl IntoIterator<Item = (HopKey, Hop)>, now: u64) {
        for (key, Hop { ifindex, mac }) in hops {
            // Used as it is, and asked again at once.
            let state = Neighbor::Stale { mac, probes: 0, next: now };
            self.0.insert(key, Entry { state, ifindex });
        }
    }

    /// Keeps exactly what `plan` needs.
    fn retain_and_add(&mut self, plan: &Plan) {
        self.0.retain(|key, _| plan.next_hops.contains_key(key));
        for key in plan.next_hops.keys() {
            self.0.entry(*key).or_insert(Entry { state: Neighbor::Unresolved, ifindex: 0 });
        }
    }

    /// What is known.
    pub fn hops(&self) -> BTreeMap<HopKey, Hop> {
        let hop = |entry: &Entry| Some(Hop { ifindex: entry.ifindex, mac: entry.state.mac()? });
        self.0.iter().filter_map(|(key, entry)| Some((*key, hop(entry)?))).collect()
    }

    /// One neighbour's state.
    pub fn get(&self, key: &HopKey) -> Option<(Neighbor, u32)> {
        self.0.get(key).map(|entry| (entry.state, entry.ifindex))
    }

    /// Asks again at once, by broadcast: what is known may be wrong.
    pub fn doubt(&mut self, key: &HopKey, now: u64) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.state = entry.state.doubted(now);
        }
    }

    /// Notes an answer; whether it changes where packets go.
    fn answered(&mut self, key: HopKey, ifindex: u32, mac: MacAddress, now: u64) -> bool {
        let Some(entry) = self.0.get_mut(&key) else { return false };
        let changed = entry.state.mac() != Some(mac) || entry.ifindex != ifindex;
        let mut hasher = DefaultHasher::new();
        key.ip.hash(&mut hasher);
        let jitter = hasher.finish() % 1_000;
        *entry = Entry { state: entry.state.answered(mac, now, jitter), ifindex };
        changed
    }

    /// The questions that are due, whether a neighbour was given up, and when to come back.
    fn tick(&mut self, plan: &Plan, links: &Links, now: u64) -> (Vec<Question>, bool, u64) {
        let mut requests = Vec::new();
        let mut lost = false;
        let mut next = now + LONGEST_WAIT;
        for (key, entry) in &mut self.0 {
            if requests.len() >= AT_ONCE {
                next = now + PAUSE;
                break;
            }
            let known = entry.state.mac().is_some();
            let (state, probe) = entry.state.tick(now);
            entry.state = state;
            lost |= known && state.mac().is_none();
            next = next.min(state.due());
            if let (Some(probe), Some(sender)) = (probe, plan.next_hops.get(key)) {
                requests.extend(questions(plan, links, key.vpc, *sender, key.ip, probe));
            }
        }
        (requests, lost, next.max(now + 1))
    }
}

/// The same question on every port of the VPC.
fn questions<'a>(
    plan: &'a Plan,
    links: &'a Links,
    vpc: VpcIndex,
    sender: IpAddr,
    target: IpAddr,
    probe: crate::net::neighbor::Probe,
) -> impl Iterator<Item = Question> + 'a {
    plan.ports.iter().filter(move |(_, of)| **of == vpc).filter_map(move |(ifindex, _)| {
        let sender_mac = links.get(ifindex)?.mac?;
        let ifindex = *ifindex;
        match (sender, target) {
            (IpAddr::V4(sender), IpAddr::V4(target)) => {
                Some(Question::Arp(arp::Request { ifindex, sender_mac, sender, target, probe }))
            }
            (IpAddr::V6(sender), IpAddr::V6(target)) => {
                Some(Question::Ndp(ndp::Solicitation { ifindex, sender_mac, sender, target, probe }))
            }
            // A target's node address is of its family, and so is its next hop.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    })
}

/// A question on its way: who has this address?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Arp(arp::Request),
    Ndp(ndp::Solicitation),
}

impl Question {
    fn send(&self, socket: &PacketSocket) -> std::io::Result<()> {
        match self {
            Self::Arp(request) => request.send(socket),
            Self::Ndp(solicitation) => solicitation.send(socket),
        }
    }
}

/// What the datapath heard: on which interface, which address, at which MAC.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub ifindex: u32,
    pub ip: IpAddr,
    pub mac: MacAddress,
}

/// Asks and learns until `stop`.
pub async fn run(shared: &Shared, mut heard: mpsc::Receiver<Heard>, stop: CancellationToken) {
    let socket = match PacketSocket::open() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "next hops cannot be asked for: no raw socket (CAP_NET_RAW)");
            return;
        }
    };
    let mut plans = shared.plan.subscribe();
    loop {
        let plan = plans.borrow_and_update().clone();
        let links = shared.links();
        let now = shared.now();
        let (requests, lost, next) = {
            let mut neighbors = shared.neighbors();
            neighbors.retain_and_add(&plan);
            neighbors.tick(&plan, &links, now)
        };
        if lost {
            shared.reconcile.notify_one();
        }
        for request in requests {
            if let Err(error) = request.send(&socket) {
                tracing::debug!(%error, ?request, "a question for a next hop was not sent");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = plans.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(next - now)) => {}
            first = heard.recv() => {
                let Some(first) = first else { return };
                let mut batch = vec![first];
                while let Ok(more) = heard.try_recv() {
                    batch.push(more);
                }
                let now = shared.now();
                let mut changed = false;
                let mut neighbors = shared.neighbors();
                for Heard { ifindex, ip, mac } in batch {
                    if let Some(vpc) = plan.ports.get(&ifindex) {
                        changed |= neighbors.answered(HopKey { vpc: *vpc, ip }, ifindex, mac, now);
                    }
                }
                drop(neighbors);
                if changed {
                    shared.reconcile.notify_one();
                }
            }
        }
    }
}
