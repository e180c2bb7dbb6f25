//! The case table without a kernel: `decide` over tables in memory.

use super::{
    frame::{SliceFrame, apply, apply6},
    run::{Backend, Fate, Outcome, Path, Seen},
    tables::{MemTables, Options},
    world::{CLOCK, World},
};
use crate::{
    abi::{
        Counter, Stage,
        event::Event,
        flow::Slot,
        pool::PortPool,
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{
        Frame as _, Rewrite, Tables, Verdict, arp, collect, decide, parse, reset, stage,
        v6::{self, Rewrite6},
    },
    wire::{ArpHdr, L3},
};

/// `decide`, and a hook's part done on slices.
pub struct Host {
    options: Options,
    tables: MemTables,
}

impl Host {
    pub fn new(options: Options) -> Self {
        Self { options, tables: MemTables::new(World::empty(), options) }
    }

    fn xdp(&self, ifindex: u32, bytes: &[u8]) -> Option<Seen> {
        let seen = |fate, transmitted, bytes| Some(Seen { fate, by_xdp: true, transmitted, bytes });
        if stage(SliceFrame::new(bytes)) == Stage::V6 {
            return match v6::decide(SliceFrame::new(bytes), self.tables.xdp(), ifindex) {
                Ok(rewrite) => seen(Fate::Sent, rewrite.ifindex == ifindex, rewritten6(bytes, &rewrite)),
                Err(Verdict::Drop(_)) => seen(Fate::Dropped, false, Vec::new()),
                Err(_) => None,
            };
        }
        match decide(SliceFrame::new(bytes), self.tables.xdp(), ifindex) {
            Ok(rewrite) => seen(Fate::Sent, rewrite.ifindex == ifindex, rewritten(bytes, &rewrite)),
            Err(Verdict::Drop(_)) => seen(Fate::Dropped, false, Vec::new()),
            Err(
                Verdict::Pass
                | Verdict::ToTc
                | Verdict::AnswerArp
                | Verdict::AnswerReset
                | Verdict::AnswerNeighbor
                | Verdict::GoOn(_),
            ) => None,
        }
    }

    fn tc(&self, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Outcome<Seen> {
        let frame = SliceFrame::segmented(bytes, gso_size != 0);
        if stage(frame) == Stage::V6 {
            return self.tc6(frame, ifindex, bytes);
        }
        let (fate, bytes) = match decide(frame, self.tables.tc(), ifindex) {
            Ok(rewrite) => (Fate::Sent, rewritten(bytes, &rewrite)),
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
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn tc6(&self, frame: SliceFrame<'_>, ifindex: u32, bytes: &[u8]) -> Outcome<Seen> {
        let (fate, bytes) = match v6::decide(frame, self.tables.tc(), ifindex) {
            Ok(rewrite) => (Fate::Sent, rewritten6(bytes, &rewrite)),
            Err(Verdict::Pass) => (Fate::Passed, bytes.to_vec()),
            Err(Verdict::Drop(_)) => (Fate::Dropped, Vec::new()),
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
            Err(Verdict::ToTc | Verdict::AnswerArp | Verdict::GoOn(_)) => return Err("TC handed a frame on".into()),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    fn arp_reply(&self, ifindex: u32, bytes: &[u8]) -> Outcome<Vec<u8>> {
        use crate::datapath::Frame as _;
        let request: ArpHdr = SliceFrame::new(bytes).read(L3).ok_or("the request is cut short")?;
        let port = self.tables.tc().port(ifindex).ok_or("no port")?;
        Ok(arp::reply(&request, port.mac).to_vec())
    }
}

fn rewritten6(bytes: &[u8], rewrite: &Rewrite6<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    apply6(&mut bytes, rewrite);
    bytes
}

fn rewritten(bytes: &[u8], rewrite: &Rewrite) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    apply(&mut bytes, rewrite);
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
            unsafe { collect::bucket(self.tables.tc(), bucket, 0, 0) };
        }
        for slot in self.tables.stash_slots() {
            // SAFETY: a live slot of these tables.
            unsafe { collect::slot(self.tables.tc(), slot, 0, 0) };
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
