//! The case table without a kernel: `decide` over tables in memory.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    frame::{
        SliceFrame, answer_echo, answer_echo6, answer_error, apply, apply_proxied, apply6, to_ipv4, to_ipv6, translate6,
    },
    run::{Backend, Fate, Outcome, Path, Seen},
    tables::{MemTables, Options},
    world::{CLOCK, World},
};
use crate::{
    abi::{
        Counter, Mac, Stage, entries,
        event::Event,
        flow::Slot,
        fragment::HELD_SLOTS,
        limit::EndpointUse,
        pool::PortPool,
        settings::CollectRequest,
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{
        Forward, Frame as _, Tables, Verdict, arp, challenge, collect, decide, fragment, held, parse, proxy, reset,
        stage, translate,
        v6::{self, Rewrite6},
        verdict::turns_back,
    },
    wire::{ArpHdr, L3},
};

/// `decide`, and a hook's part done on slices.
pub struct Host {
    options: Options,
    tables: MemTables,
    /// The frames in the slots of fragments that wait.
    held: RefCell<BTreeMap<u32, Vec<u8>>>,
}

impl Host {
    pub fn new(options: Options) -> Self {
        Self { options, tables: MemTables::new(World::empty(), options), held: RefCell::default() }
    }

    fn xdp(&self, ifindex: u32, bytes: &[u8]) -> Option<Seen> {
        let seen = |fate, transmitted, bytes| Some(Seen { fate, by_xdp: true, transmitted, bytes });
        if stage(SliceFrame::new(bytes)) == Stage::V6 {
            return match v6::decide(SliceFrame::new(bytes), self.tables.xdp(), ifindex) {
                Ok(rewrite) => {
                    seen(Fate::Sent, turns_back(ifindex, rewrite.ifindex, rewrite.out), rewritten6(bytes, &rewrite))
                }
                Err(Verdict::Drop(_)) => seen(Fate::Dropped, false, Vec::new()),
                Err(Verdict::GoOn(Stage::Challenge)) => match self.challenge(bytes, self.tables.xdp(), ifindex) {
                    Some(answer) => seen(Fate::Sent, false, answer),
                    None => seen(Fate::Dropped, false, Vec::new()),
                },
                Err(_) => None,
            };
        }
        match decide(SliceFrame::new(bytes), self.tables.xdp(), ifindex) {
            Ok(forward @ Forward::Packet(rewrite)) => {
                seen(Fate::Sent, turns_back(ifindex, rewrite.ifindex, rewrite.out), changed(bytes, &forward))
            }
            Ok(forward @ Forward::Fragment(relay)) => {
                seen(Fate::Sent, turns_back(ifindex, relay.ifindex, relay.out), changed(bytes, &forward))
            }
            Err(Verdict::Drop(_)) => seen(Fate::Dropped, false, Vec::new()),
            Err(Verdict::GoOn(Stage::Challenge)) => match self.challenge(bytes, self.tables.xdp(), ifindex) {
                Some(answer) => seen(Fate::Sent, false, answer),
                None => seen(Fate::Dropped, false, Vec::new()),
            },
            Ok(Forward::Error(_))
            | Err(
                Verdict::Pass
                | Verdict::ToTc
                | Verdict::AnswerArp
                | Verdict::AnswerReset
                | Verdict::AnswerEcho
                | Verdict::AnswerError(_)
                | Verdict::Proxy
                | Verdict::AnswerNeighbor
                | Verdict::GoOn(_),
            ) => None,
        }
    }

    fn tc(&self, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Outcome<Seen> {
        let frame = SliceFrame::segmented(bytes, gso_size);
        if stage(frame) == Stage::V6 {
            return self.tc6(frame, ifindex, bytes);
        }
        let (fate, bytes) = match decide(frame, self.tables.tc(), ifindex) {
            Ok(forward) => (Fate::Sent, changed(bytes, &forward)),
            Err(Verdict::GoOn(Stage::Wait)) => self.wait(frame, ifindex, bytes)?,
            Err(Verdict::Proxy) => return self.proxied(frame, ifindex, bytes),
            Err(Verdict::GoOn(Stage::Challenge)) => self.challenged(bytes, ifindex),
            Err(Verdict::GoOn(Stage::ToIpv6)) => return self.to_ipv6(frame, ifindex, bytes),
            Err(Verdict::Pass) => (Fate::Passed, bytes.to_vec()),
            Err(Verdict::ToTc | Verdict::AnswerNeighbor | Verdict::GoOn(_)) => {
                return Err("TC handed a frame on".into());
            }
            Err(Verdict::Drop(_)) => (Fate::Dropped, Vec::new()),
            Err(Verdict::AnswerArp) => (Fate::Sent, self.arp_reply(ifindex, bytes)?),
            Err(Verdict::AnswerReset) => {
                let segment = parse::segment(frame, crate::abi::VpcIndex::NONE).ok_or("a reset for no segment")?;
                (Fate::Sent, reset::build(&segment).to_vec())
            }
            Err(Verdict::AnswerEcho) => {
                let mut bytes = bytes.to_vec();
                answer_echo(&mut bytes, self.port_mac(ifindex)?);
                (Fate::Sent, bytes)
            }
            Err(Verdict::AnswerError(cause)) => (Fate::Sent, answer_error(bytes, cause)),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    /// Puts a fragment aside, or empties the slots of those that have waited for it: the last one leaves.
    fn wait(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<(Fate, Vec<u8>)> {
        let t = self.tables.tc();
        let vpc = t.port(ifindex).ok_or("no port")?.vpc;
        let key = fragment::key_of(frame, vpc).ok_or("no fragment")?;
        match held::decide(frame, t, &key) {
            held::REFUSED => Ok((Fate::Dropped, Vec::new())),
            held::RELEASE => {
                let mut last = Vec::new();
                for slot in held::group(vpc)..held::group(vpc) + HELD_SLOTS {
                    if held::take_bits(t, &key, slot) != 0 {
                        last = self.held.borrow_mut().remove(&slot).ok_or("a slot without a frame")?;
                        held::free(t, slot);
                    }
                }
                Ok((Fate::Sent, last))
            }
            slot => {
                self.held.borrow_mut().insert(slot as u32, bytes.to_vec());
                held::publish(t, slot as u32);
                Ok((Fate::Dropped, Vec::new()))
            }
        }
    }

    fn proxied(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<Seen> {
        let (fate, bytes) = match proxy::decide(frame, self.tables.tc(), ifindex, |proxied| *proxied) {
            Ok(proxied) => (Fate::Sent, apply_proxied(bytes, &proxied, self.endpoint_id(proxied.endpoint))),
            Err(Verdict::Drop(_)) => (Fate::Dropped, Vec::new()),
            Err(Verdict::AnswerReset) => {
                let segment = parse::segment(frame, crate::abi::VpcIndex::NONE).ok_or("a reset for no segment")?;
                (Fate::Sent, reset::build(&segment).to_vec())
            }
            Err(Verdict::AnswerError(cause)) => (Fate::Sent, answer_error(bytes, cause)),
            Err(
                other @ (Verdict::Pass
                | Verdict::ToTc
                | Verdict::AnswerArp
                | Verdict::AnswerEcho
                | Verdict::Proxy
                | Verdict::AnswerNeighbor
                | Verdict::GoOn(_)),
            ) => return Err(format!("{other:?} for a segment of a flow with a PROXY header")),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn challenged(&self, bytes: &[u8], ifindex: u32) -> (Fate, Vec<u8>) {
        match self.challenge(bytes, self.tables.tc(), ifindex) {
            Some(answer) => (Fate::Sent, answer),
            None => (Fate::Dropped, Vec::new()),
        }
    }

    /// The SYN-ACK with a cookie; nothing for a reset, or if the SYN gets none.
    fn challenge<'t, T: Tables<'t>>(&self, bytes: &[u8], t: T, ifindex: u32) -> Option<Vec<u8>> {
        let answer = challenge::answer(challenge::decide(SliceFrame::new(bytes), t, ifindex).ok()?);
        let segment = t.lent();
        if !segment.key.ipv6() {
            return Some(reset::answer(segment, answer).to_vec());
        }
        // SAFETY: this thread's own record, written by the decision.
        t.packet6().map(|addresses| v6::reset::answer(segment, unsafe { &*addresses }, answer).to_vec())
    }

    fn endpoint_id(&self, endpoint: u16) -> [u8; 22] {
        if endpoint == 1 { *super::cases::ENDPOINT_ID } else { [0; 22] }
    }

    fn port_mac(&self, ifindex: u32) -> Outcome<Mac> {
        Ok(self.tables.tc().port(ifindex).ok_or("no port")?.mac)
    }

    fn tc6(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<Seen> {
        let (fate, bytes) = match v6::decide(frame, self.tables.tc(), ifindex) {
            Ok(rewrite) => (Fate::Sent, rewritten6(bytes, &rewrite)),
            Err(Verdict::Pass) => (Fate::Passed, bytes.to_vec()),
            Err(Verdict::Drop(_)) => (Fate::Dropped, Vec::new()),
            Err(Verdict::GoOn(Stage::Challenge)) => self.challenged(bytes, ifindex),
            Err(Verdict::GoOn(Stage::ToIpv4)) => return self.to_ipv4(frame, ifindex, bytes),
            Err(Verdict::AnswerError(cause)) => (Fate::Sent, answer_error(bytes, cause)),
            Err(Verdict::GoOn(Stage::Icmp6)) => return self.icmp6(frame, ifindex, bytes),
            Err(Verdict::AnswerNeighbor) => {
                let asked = v6::ndp::message(frame).ok_or("an answer to no question")?;
                let port = self.tables.tc().port(ifindex).ok_or("no port")?;
                (Fate::Sent, v6::ndp::reply(&asked, port.mac).to_vec())
            }
            Err(Verdict::AnswerReset) => {
                let t = self.tables.tc();
                let segment =
                    v6::parse::segment(frame, t, crate::abi::VpcIndex::NONE).ok_or("a reset for no segment")?;
                let head = frame.window::<{ v6::parse::HEAD }>(0).ok_or("no header")?;
                (Fate::Sent, v6::reset::build(&segment, &v6::parse::addresses(head)).to_vec())
            }
            Err(
                other @ (Verdict::ToTc | Verdict::AnswerArp | Verdict::AnswerEcho | Verdict::Proxy | Verdict::GoOn(_)),
            ) => return Err(format!("{other:?} for an IPv6 packet")),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn to_ipv6(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<Seen> {
        let (fate, bytes) = match translate::to_ipv6(frame, self.tables.tc(), ifindex) {
            Ok(rewrite) => (Fate::Sent, to_ipv6(bytes, &rewrite)),
            Err(Verdict::Drop(_)) => (Fate::Dropped, Vec::new()),
            Err(Verdict::AnswerError(cause)) => (Fate::Sent, answer_error(bytes, cause)),
            Err(Verdict::AnswerReset) => {
                let segment = parse::segment(frame, crate::abi::VpcIndex::NONE).ok_or("a reset for no segment")?;
                (Fate::Sent, reset::build(&segment).to_vec())
            }
            Err(other) => return Err(format!("{other:?} for a packet that becomes IPv6")),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn to_ipv4(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<Seen> {
        let t = self.tables.tc();
        let (fate, bytes) = match translate::to_ipv4(frame, t, ifindex) {
            Ok(rewrite) => (Fate::Sent, to_ipv4(bytes, &rewrite)),
            Err(Verdict::Drop(_)) => (Fate::Dropped, Vec::new()),
            Err(Verdict::AnswerError(cause)) => (Fate::Sent, answer_error(bytes, cause)),
            Err(Verdict::AnswerReset) => {
                let segment =
                    v6::parse::segment(frame, t, crate::abi::VpcIndex::NONE).ok_or("a reset for no segment")?;
                let head = frame.window::<{ v6::parse::HEAD }>(0).ok_or("no header")?;
                (Fate::Sent, v6::reset::build(&segment, &v6::parse::addresses(head)).to_vec())
            }
            Err(other) => return Err(format!("{other:?} for a packet that becomes IPv4")),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn icmp6(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<Seen> {
        let mut bytes = bytes.to_vec();
        let fate = match v6::icmp::decide(frame, self.tables.tc(), ifindex) {
            Ok(translation) => {
                translate6(&mut bytes, &translation);
                Fate::Sent
            }
            Err(Verdict::Drop(_)) => {
                bytes.clear();
                Fate::Dropped
            }
            Err(Verdict::AnswerEcho) => {
                answer_echo6(&mut bytes, self.port_mac(ifindex)?);
                Fate::Sent
            }
            Err(other) => return Err(format!("{other:?} for ICMP over IPv6")),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn arp_reply(&self, ifindex: u32, bytes: &[u8]) -> Outcome<Vec<u8>> {
        use crate::datapath::Frame as _;
        let request: ArpHdr = SliceFrame::new(bytes).read(L3).ok_or("the request is cut short")?;
        Ok(arp::reply(&request, self.port_mac(ifindex)?).to_vec())
    }
}

fn rewritten6(bytes: &[u8], rewrite: &Rewrite6<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    apply6(&mut bytes, rewrite);
    bytes
}

fn changed(bytes: &[u8], forward: &Forward) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    apply(&mut bytes, forward);
    bytes
}

impl Backend for Host {
    fn reset(&mut self, world: &World) -> Outcome<()> {
        self.tables = MemTables::new(world.clone(), self.options);
        Ok(())
    }

    fn configure(&mut self, world: &World) -> Outcome<()> {
        self.tables.world = world.clone();
        Ok(())
    }

    fn frame(&mut self, path: Path, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Outcome<Seen> {
        if path == Path::XdpThenTc
            && let Some(seen) = self.xdp(ifindex, bytes)
        {
            return Ok(seen);
        }
        self.tc(ifindex, gso_size, bytes)
    }

    fn counters(&mut self) -> Outcome<Vec<u64>> {
        Ok(Counter::ALL.iter().map(|counter| self.tables.counter(*counter)).collect())
    }

    fn events(&mut self) -> Outcome<Vec<Event>> {
        Ok(self.tables.take_events())
    }

    fn slots(&mut self) -> Outcome<Vec<Slot>> {
        Ok(self.tables.slots())
    }

    fn clients6(&mut self) -> Outcome<usize> {
        Ok(self.tables.clients6())
    }

    fn advance(&mut self, seconds: u32) -> Outcome<()> {
        self.tables.advance_ticks(CLOCK.ticks(seconds));
        Ok(())
    }

    fn collect(&mut self) -> Outcome<()> {
        for bucket in self.tables.buckets() {
            // SAFETY: a live bucket of these tables.
            unsafe { collect::bucket(self.tables.tc(), bucket, 0, CollectRequest::RULES) };
        }
        for slot in 0..entries::HELD {
            held::expire(self.tables.tc(), slot);
        }
        for slot in self.tables.stash_slots() {
            // SAFETY: a live slot of these tables.
            unsafe { collect::slot(self.tables.tc(), slot, 0, CollectRequest::RULES) };
        }
        Ok(())
    }

    fn pool(&mut self, index: usize) -> Outcome<PortPool> {
        Ok(self.tables.pool(index))
    }

    fn half_open_vpc(&mut self, vpc: u16) -> Outcome<u32> {
        Ok(self.tables.half_open_of_vpc(vpc))
    }

    fn half_open_endpoint(&mut self, endpoint: u32) -> Outcome<u32> {
        Ok(self.tables.half_open_of_endpoint(endpoint))
    }

    fn endpoint_use(&mut self, endpoint: u32) -> Outcome<EndpointUse> {
        Ok(self.tables.use_of_endpoint(endpoint))
    }

    fn endpoint_stats(&mut self, index: usize) -> Outcome<EndpointStats> {
        Ok(self.tables.endpoint_stats_of(index))
    }

    fn listener_stats(&mut self, index: usize) -> Outcome<ListenerStats> {
        Ok(self.tables.listener_stats_of(index))
    }

    fn target_stats(&mut self, index: usize) -> Outcome<TargetStats> {
        Ok(self.tables.target_stats_of(index))
    }
}
