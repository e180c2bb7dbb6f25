//! `privatelink_explain` before every frame of the case table: it changes nothing, and what it says is what then
//! happens.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use privatelink_ebpf::{
    abi::{
        Counter, Stage,
        counters::CounterKind,
        event::Event,
        explain::Trace,
        flow::Slot,
        limit::EndpointUse,
        pool::PortPool,
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::Verdict,
    testing::{
        cases,
        run::{Backend, Fate, Outcome, Path, Seen, run},
        world::{ENDPOINTS, LISTENERS, POOLS, TARGETS, World},
    },
};
use privatelink_tests::netns::Netns;

use crate::kernel::{self, Kernel};

/// Refusals that need two CPUs at once, a kernel that fails, or more frames than a case has; how they are worded is
/// shown by the tests of `privatelink-user`.
const NOT_BY_CASES: [Counter; 7] = [
    Counter::FlowRaced,
    Counter::FlowTableContended,
    Counter::PortsContended,
    Counter::KernelRefused,
    Counter::FlowTableFull,
    Counter::ResetLimited,
    Counter::IcmpLimited,
];

pub fn every_case() -> Result<()> {
    let netns = Netns::new("explain")?;
    kernel::interfaces(&netns)?;
    netns.run(|| {
        let mut explained = Explained { kernel: Kernel::load(false)?, named: BTreeSet::new(), frames: 0 };
        let wrong: Vec<String> =
            cases::all().iter().filter_map(|case| run(case, Path::Tc, &mut explained).err()).collect();
        let Explained { kernel: _, named, frames } = explained;
        ensure!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
        let reasons: Vec<&str> = Counter::ALL
            .iter()
            .filter(|counter| counter.kind() == CounterKind::Drop && !NOT_BY_CASES.contains(counter))
            .filter(|counter| !named.contains(counter))
            .map(|counter| counter.name())
            .collect();
        ensure!(reasons.is_empty(), "no case has {EXPLAIN} name {}", reasons.join(", "), EXPLAIN = kernel::EXPLAIN);
        eprintln!("{frames} frames explained before they were sent; {} counters named", named.len());
        Ok(())
    })?
}

/// The kernel, which is asked about every frame before it gets it.
struct Explained {
    kernel: Kernel,
    named: BTreeSet<Counter>,
    frames: usize,
}

/// All that an operator can see.
#[derive(PartialEq, Debug)]
struct Visible {
    counters: Vec<u64>,
    slots: Vec<[u8; 64]>,
    pools: Vec<Vec<u64>>,
    half_open: Vec<u32>,
    uses: Vec<EndpointUse>,
    endpoints: Vec<EndpointStats>,
    listeners: Vec<ListenerStats>,
    targets: Vec<TargetStats>,
    events: usize,
}

impl Explained {
    fn visible(&mut self) -> Outcome<Visible> {
        let kernel = &mut self.kernel;
        let pool = |pool: PortPool| {
            let PortPool { top, summary, words, exhausted } = pool;
            [&[top, exhausted][..], &summary, &words].concat()
        };
        Ok(Visible {
            counters: kernel.counters()?,
            slots: kernel.slots()?.iter().map(bytes_of).collect(),
            pools: (0..POOLS as usize).map(|index| kernel.pool(index).map(pool)).collect::<Outcome<_>>()?,
            half_open: (0..16)
                .map(|vpc| kernel.half_open_vpc(vpc))
                .collect::<Outcome<Vec<u32>>>()?
                .into_iter()
                .chain((0..ENDPOINTS).map(|index| kernel.half_open_endpoint(index)).collect::<Outcome<Vec<u32>>>()?)
                .collect(),
            uses: (0..ENDPOINTS).map(|index| kernel.endpoint_use(index)).collect::<Outcome<_>>()?,
            endpoints: (0..ENDPOINTS as usize).map(|index| kernel.endpoint_stats(index)).collect::<Outcome<_>>()?,
            listeners: (0..LISTENERS as usize).map(|index| kernel.listener_stats(index)).collect::<Outcome<_>>()?,
            targets: (0..TARGETS as usize).map(|index| kernel.target_stats(index)).collect::<Outcome<_>>()?,
            events: kernel.events()?.len(),
        })
    }
}

fn bytes_of(slot: &Slot) -> [u8; 64] {
    // SAFETY: plain bytes (`Pod`), as long as the array.
    unsafe { std::mem::transmute(*slot) }
}

/// What the trace says of the frame's fate.
fn fate(trace: &Trace) -> Fate {
    match trace.verdict {
        Trace::FORWARD => Fate::Sent,
        bits => match Verdict::from_bits(bits) {
            Verdict::GoOn(Stage::Challenge) => Fate::Sent,
            Verdict::Pass | Verdict::ToTc | Verdict::GoOn(_) => Fate::Passed,
            Verdict::Drop(_) => Fate::Dropped,
            Verdict::AnswerArp
            | Verdict::AnswerReset
            | Verdict::AnswerEcho
            | Verdict::AnswerError(_)
            | Verdict::AnswerNeighbor => Fate::Sent,
            Verdict::Proxy => panic!("explained by no stage"),
        },
    }
}

impl Backend for Explained {
    fn frame(&mut self, path: Path, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Outcome<Seen> {
        let before = self.visible()?;
        let trace = self.kernel.explain(ifindex, gso_size, bytes).context("asking").map_err(|e| format!("{e:#}"))?;
        let after = self.visible()?;
        if before != after {
            return Err(format!("asking changed something: {before:?}\n{after:?}"));
        }
        let seen = self.kernel.frame(path, ifindex, gso_size, bytes)?;
        self.frames += 1;
        let counted = self.kernel.counters()?;
        let raised = |counter: &Counter| counted[*counter as usize] != after.counters[*counter as usize];
        // Where an entry finds room is not said.
        let stashed = |counter: &Counter| *counter == Counter::FlowStashed;
        let really: Vec<Counter> = Counter::ALL.iter().copied().filter(raised).filter(|c| !stashed(c)).collect();
        let said: Vec<Counter> = trace.counts().filter(|c| !stashed(c)).collect();
        if said != really || fate(&trace) != seen.fate {
            return Err(format!("said {said:?} and {:?}; it was {really:?} and {:?}", fate(&trace), seen.fate));
        }
        self.named.extend(said);
        Ok(seen)
    }

    fn reset(&mut self, world: &World) -> Outcome<()> {
        self.kernel.reset(world)
    }

    fn configure(&mut self, world: &World) -> Outcome<()> {
        self.kernel.configure(world)
    }

    fn counters(&mut self) -> Outcome<Vec<u64>> {
        self.kernel.counters()
    }

    fn events(&mut self) -> Outcome<Vec<Event>> {
        self.kernel.events()
    }

    fn slots(&mut self) -> Outcome<Vec<Slot>> {
        self.kernel.slots()
    }

    fn clients6(&mut self) -> Outcome<usize> {
        self.kernel.clients6()
    }

    fn advance(&mut self, seconds: u32) -> Outcome<()> {
        self.kernel.advance(seconds)
    }

    fn collect(&mut self) -> Outcome<()> {
        self.kernel.collect()
    }

    fn pool(&mut self, index: usize) -> Outcome<PortPool> {
        self.kernel.pool(index)
    }

    fn half_open_vpc(&mut self, vpc: u16) -> Outcome<u32> {
        self.kernel.half_open_vpc(vpc)
    }

    fn half_open_endpoint(&mut self, endpoint: u32) -> Outcome<u32> {
        self.kernel.half_open_endpoint(endpoint)
    }

    fn endpoint_use(&mut self, endpoint: u32) -> Outcome<EndpointUse> {
        self.kernel.endpoint_use(endpoint)
    }

    fn endpoint_stats(&mut self, index: usize) -> Outcome<EndpointStats> {
        self.kernel.endpoint_stats(index)
    }

    fn listener_stats(&mut self, index: usize) -> Outcome<ListenerStats> {
        self.kernel.listener_stats(index)
    }

    fn target_stats(&mut self, index: usize) -> Outcome<TargetStats> {
        self.kernel.target_stats(index)
    }
}
