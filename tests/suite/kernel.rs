//! The loaded programs and their maps as a backend of the case table.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, DevMap, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, RingBuf, lpm_trie::Key},
    programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp, XdpMode},
};
use privatelink_ebpf::{
    abi::{
        Counter,
        cookie::Source,
        event::Event,
        explain::Trace,
        flow::{Addresses6, Bucket, FlowKey, Slot},
        fragment::{FirstFragment, FragmentKey, HeldFragment, HeldFrame},
        limit::{Budget, EndpointBudget, EndpointUse},
        pool::PortPool,
        security::{Bound, Policy},
        service::{
            Address, Address6Key, AddressKey, Alias, AliasKey, EndpointIdText, Frontend, Frontend6Key, FrontendKey,
            Listener, Parted, Port, PortFlags, Range, RangeKey, StandIn, Target,
        },
        settings::{Clock, CollectRequest, FLOW_EVENTS, IcmpBudget, ResetBudget, Settings, globals},
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::limit,
    testing::{
        cases::{ENDPOINT_ID, INTERFACES},
        run::{Backend, Fate, Outcome, Path, Seen},
        tables::{self, COOKIE_KEY, SEED},
        world::{CLOCK, ENDPOINTS, LISTENERS, POLICIES, POOLS, PORTS, RINGS, SOURCE_BOUNDS, TARGETS, World},
    },
};
use privatelink_tests::netns::Netns;
use privatelink_user::dataplane::{
    load::{self, OBJECT},
    stats::sum,
};

/// Programs that are run; the stages are called by them.
pub use privatelink_user::dataplane::load::{COLLECT, EXPLAIN, EXPLAIN_IPV6, TC, XDP};

/// Makes the interfaces of the cases, with the indexes that the cases name.
pub fn interfaces(netns: &Netns) -> Result<()> {
    // Nothing but the cases' frames.
    netns.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
    for index in INTERFACES {
        let (name, peer) = (format!("p{index}"), format!("q{index}"));
        // The peers' own indexes are out of the way.
        let (number, peer_number) = (index.to_string(), (index + 100).to_string());
        let peer_of = ["type", "veth", "peer", "name", &peer, "index", &peer_number];
        netns.ip(&[&["link", "add", &name, "index", &number], &peer_of[..]].concat())?;
        netns.ip(&["link", "set", &peer, "up"])?;
        netns.ip(&["link", "set", &name, "up"])?;
    }
    Ok(())
}

/// Loads the object with small tables and no program yet.
pub fn load(reference: bool) -> Result<Ebpf> {
    let options = tables::Options::default();
    let bucket_mask = options.buckets - 1;
    let reference = u32::from(reference);
    let Clock { tick_shift, ticks_per_256_s } = CLOCK;
    let mut loader = EbpfLoader::new();
    loader
        .override_global(globals::HASH_SEED, &SEED, true)
        .override_global(globals::COOKIE_KEY, &COOKIE_KEY, true)
        .override_global(globals::BUCKET_MASK, &bucket_mask, true)
        .override_global(globals::REFERENCE_TABLE, &reference, true)
        .override_global(globals::TICK_SHIFT, &tick_shift, true)
        .override_global(globals::TICKS_PER_256_S, &ticks_per_256_s, true);
    for (map, entries) in [
        ("FLOWS", options.buckets),
        ("STASH", options.stash as u32),
        ("PORTS", PORTS),
        ("XDP_PORTS", PORTS),
        ("LISTENERS", LISTENERS),
        ("LISTENER_STATS", LISTENERS),
        ("POLICIES", POLICIES),
        ("SOURCE_BOUNDS", SOURCE_BOUNDS),
        ("RINGS", RINGS),
        ("TARGETS", TARGETS),
        ("TARGET_STATS", TARGETS),
        ("NEXT_NODES", TARGETS),
        ("POOLS", POOLS),
        ("ENDPOINTS", ENDPOINTS),
        ("ENDPOINT_IDS", ENDPOINTS),
        ("ENDPOINT_STATS", ENDPOINTS),
        ("ENDPOINT_HALF_OPEN", ENDPOINTS),
        ("EVENTS", 65_536),
    ] {
        loader.map_max_entries(map, entries);
    }
    loader.load(OBJECT).context("loading the kernel object (built by `cargo xtask setup`'s bpf-linker)")
}

/// Loaded programs and typed maps.
pub struct Kernel {
    ebpf: Ebpf,
    reference: bool,
    settings: Array<MapData, Settings>,
    ports: Array<MapData, Port>,
    xdp_ports: DevMap<MapData>,
    addresses: HashMap<MapData, AddressKey, Address>,
    frontends: HashMap<MapData, FrontendKey, Frontend>,
    addresses6: HashMap<MapData, Address6Key, Address>,
    aliases: LpmTrie<MapData, AliasKey, Alias>,
    ranges: LpmTrie<MapData, RangeKey, Range>,
    frontends6: HashMap<MapData, Frontend6Key, Frontend>,
    clients6: HashMap<MapData, FlowKey, Addresses6>,
    listeners: Array<MapData, Listener>,
    parted: HashMap<MapData, Parted, u32>,
    policies: Array<MapData, Policy>,
    source_bounds: Array<MapData, Bound>,
    rings: Array<MapData, u32>,
    targets: Array<MapData, Target>,
    next_nodes: Array<MapData, u32>,
    pools: Array<MapData, PortPool>,
    vpcs: Array<MapData, Budget>,
    endpoints: Array<MapData, EndpointBudget>,
    vpc_half_open: Array<MapData, u32>,
    endpoint_half_open: Array<MapData, u32>,
    endpoint_use: Array<MapData, EndpointUse>,
    reset_budgets: Array<MapData, ResetBudget>,
    icmp_budgets: Array<MapData, IcmpBudget>,
    verified: HashMap<MapData, Source, u32>,
    fragments: HashMap<MapData, FragmentKey, FirstFragment>,
    held: Array<MapData, HeldFragment>,
    stand_ins: HashMap<MapData, StandIn, u32>,
    flows: Array<MapData, Bucket>,
    stash: HashMap<MapData, FlowKey, Slot>,
    counters: PerCpuArray<MapData, u64>,
    endpoint_stats: PerCpuArray<MapData, EndpointStats>,
    listener_stats: PerCpuArray<MapData, ListenerStats>,
    target_stats: PerCpuArray<MapData, TargetStats>,
    trace: Array<MapData, Trace>,
    endpoint_ids: Array<MapData, EndpointIdText>,
    events: RingBuf<MapData>,
}

/// VPCs that cases use: the low ones and the host's.
fn vpcs() -> impl Iterator<Item = u32> {
    (0..16).chain([u32::from(u16::MAX)])
}

impl Kernel {
    /// Loads everything; to be called, and used, inside the namespace that has the interfaces.
    pub fn load(reference: bool) -> Result<Self> {
        let mut ebpf = load(reference)?;
        for name in load::ENTRIES {
            load::load_program(&mut ebpf, name)?;
        }
        load::fill_stages(&mut ebpf)?;
        load::load_program(&mut ebpf, EXPLAIN_IPV6)?;
        Self::of(ebpf, reference)
    }

    /// The same of programs that are loaded, with the stages where the attached ones find them.
    pub fn of(mut ebpf: Ebpf, reference: bool) -> Result<Self> {
        // A veth device has the receive queue that a test run asks for only while a program is attached.
        let xdp: &mut Xdp = ebpf.program_mut(XDP).context(XDP)?.try_into()?;
        for index in INTERFACES {
            xdp.attach(&format!("p{index}"), XdpMode::Driver).with_context(|| format!("attaching to p{index}"))?;
        }
        macro_rules! take {
            ($name:literal) => {
                ebpf.take_map($name).context($name)?.try_into().context($name)?
            };
        }
        Ok(Self {
            reference,
            settings: take!("SETTINGS"),
            ports: take!("PORTS"),
            xdp_ports: take!("XDP_PORTS"),
            addresses: take!("ADDRESSES"),
            frontends: take!("FRONTENDS"),
            addresses6: take!("ADDRESSES6"),
            aliases: take!("ALIASES"),
            ranges: take!("PORT_RANGES"),
            frontends6: take!("FRONTENDS6"),
            clients6: take!("CLIENTS6"),
            listeners: take!("LISTENERS"),
            parted: take!("PARTED"),
            policies: take!("POLICIES"),
            source_bounds: take!("SOURCE_BOUNDS"),
            rings: take!("RINGS"),
            targets: take!("TARGETS"),
            next_nodes: take!("NEXT_NODES"),
            pools: take!("POOLS"),
            vpcs: take!("VPCS"),
            endpoints: take!("ENDPOINTS"),
            vpc_half_open: take!("VPC_HALF_OPEN"),
            endpoint_half_open: take!("ENDPOINT_HALF_OPEN"),
            endpoint_use: take!("ENDPOINT_USE"),
            reset_budgets: take!("RESET_BUDGETS"),
            icmp_budgets: take!("ICMP_BUDGETS"),
            verified: take!("VERIFIED"),
            fragments: take!("FRAGMENTS"),
            held: take!("HELD"),
            stand_ins: take!("STAND_INS"),
            flows: take!("FLOWS"),
            stash: take!("STASH"),
            counters: take!("COUNTERS"),
            endpoint_stats: take!("ENDPOINT_STATS"),
            listener_stats: take!("LISTENER_STATS"),
            target_stats: take!("TARGET_STATS"),
            trace: take!("TRACE"),
            endpoint_ids: take!("ENDPOINT_IDS"),
            events: take!("EVENTS"),
            ebpf,
        })
    }

    fn empty(&mut self) -> Result<()> {
        let free = Bucket { slots: [Slot::FREE; 4] };
        for index in 0..self.flows.len() {
            self.flows.set(index, free, 0)?;
        }
        for key in self.stash.keys().collect::<Result<Vec<_>, _>>()? {
            self.stash.remove(&key)?;
        }
        for key in self.fragments.keys().collect::<Result<Vec<_>, _>>()? {
            self.fragments.remove(&key)?;
        }
        for slot in 0..self.held.len() {
            self.held.set(slot, HeldFragment::default(), 0)?;
        }
        for source in self.verified.keys().collect::<Result<Vec<_>, _>>()? {
            self.verified.remove(&source)?;
        }
        for key in self.stand_ins.keys().collect::<Result<Vec<_>, _>>()? {
            self.stand_ins.remove(&key)?;
        }
        for key in self.clients6.keys().collect::<Result<Vec<_>, _>>()? {
            self.clients6.remove(&key)?;
        }
        for vpc in vpcs() {
            self.vpc_half_open.set(vpc, 0, 0)?;
            self.reset_budgets.set(vpc, ResetBudget::default(), 0)?;
            self.icmp_budgets.set(vpc, IcmpBudget::default(), 0)?;
        }
        for index in 0..ENDPOINTS {
            self.endpoint_half_open.set(index, 0, 0)?;
            self.endpoint_use.set(index, EndpointUse::default(), 0)?;
            zero(&mut self.endpoint_stats, index)?;
        }
        for index in 0..LISTENERS {
            zero(&mut self.listener_stats, index)?;
        }
        for index in 0..TARGETS {
            zero(&mut self.target_stats, index)?;
        }
        while self.events.next().is_some() {}
        Ok(())
    }

    fn write(&mut self, world: &World) -> Result<()> {
        let flags = if world.flow_events { FLOW_EVENTS } else { 0 };
        self.settings.set(0, Settings { flags, ..Settings::default() }, 0)?;
        for index in 0..PORTS {
            let port = world.ports.get(&index).copied().unwrap_or_default();
            self.ports.set(index, port, 0)?;
            if port.flags.has(PortFlags::XDP_TRANSMIT) {
                self.xdp_ports.set(index, index, None::<&ProgramFd>, 0)?;
            }
        }
        self.endpoint_ids.set(1, EndpointIdText(*ENDPOINT_ID), 0)?;
        replace(&mut self.addresses, world.addresses.iter())?;
        replace(&mut self.frontends, world.frontends.iter())?;
        for key in self.aliases.keys().collect::<Result<Vec<_>, _>>()? {
            self.aliases.remove(&key)?;
        }
        for ((key, bits), alias) in &world.aliases {
            self.aliases.insert(&Key::new(AliasKey::VPC_BITS + bits, *key), alias, 0)?;
        }
        for key in self.ranges.keys().collect::<Result<Vec<_>, _>>()? {
            self.ranges.remove(&key)?;
        }
        for ((key, bits), range) in &world.ranges {
            self.ranges.insert(&Key::new(RangeKey::FIXED_BITS + bits, *key), range, 0)?;
        }
        replace(&mut self.addresses6, world.addresses6.iter())?;
        replace(&mut self.frontends6, world.frontends6.iter())?;
        fill(&mut self.listeners, 0..LISTENERS, |index| world.listeners.get(&index).copied())?;
        replace(&mut self.parted, world.parted.iter().map(|key| (key, &1)))?;
        fill(&mut self.policies, 0..POLICIES, |index| world.policies.get(&index).copied())?;
        fill(&mut self.source_bounds, 0..SOURCE_BOUNDS, |index| world.source_bounds.get(index as usize).copied())?;
        fill(&mut self.rings, 0..RINGS, |index| world.rings.get(index as usize).copied())?;
        fill(&mut self.targets, 0..TARGETS, |index| world.targets.get(&index).copied())?;
        fill(&mut self.next_nodes, 0..TARGETS, |index| world.next_nodes.get(&index).copied())?;
        fill(&mut self.vpcs, vpcs(), |vpc| world.vpc_budgets.get(&vpc).copied())?;
        fill(&mut self.endpoints, 0..ENDPOINTS, |index| world.endpoint_budgets.get(&index).copied())
    }

    fn tc(&mut self, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Result<Seen> {
        let program: &mut SchedClassifier = self.ebpf.program_mut(TC).context(TC)?.try_into()?;
        let (out, result) = test_run(bytes, &skb(ifindex, gso_size), |options| Ok(program.test_run(options)?))?;
        // TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT.
        let (fate, bytes) = match result.return_value {
            0 => (Fate::Passed, out),
            2 => (Fate::Dropped, Vec::new()),
            7 => (Fate::Sent, out),
            other => anyhow::bail!("TC returned {other}"),
        };
        Ok(Seen { fate, by_xdp: false, transmitted: false, bytes })
    }

    /// What the frame would come to, by the program that changes nothing.
    pub fn explain(&mut self, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Result<Trace> {
        self.trace.set(0, Trace::question(self.stash.keys().count() >= tables::Options::default().stash), 0)?;
        let name = load::explaining(bytes);
        let program: &mut SchedClassifier = self.ebpf.program_mut(name).context(name)?.try_into()?;
        let (out, result) = test_run(bytes, &skb(ifindex, gso_size), |options| Ok(program.test_run(options)?))?;
        anyhow::ensure!(result.return_value == 0, "{name} returned {}", result.return_value);
        anyhow::ensure!(out == bytes, "{name} changed the frame");
        Ok(self.trace.get(&0, 0)?)
    }

    /// Nothing: XDP has passed the frame on.
    fn xdp(&mut self, ifindex: u32, bytes: &[u8]) -> Result<Option<Seen>> {
        // `struct xdp_md`: end of data, interface index.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
        let program: &mut Xdp = self.ebpf.program_mut(XDP).context(XDP)?.try_into()?;
        let (out, result) = test_run(bytes, &context, |options| Ok(program.test_run(options)?))?;
        let seen = |fate, transmitted, bytes| Ok(Some(Seen { fate, by_xdp: true, transmitted, bytes }));
        // XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT.
        match result.return_value {
            1 => seen(Fate::Dropped, false, Vec::new()),
            2 => {
                anyhow::ensure!(out == bytes, "XDP changed a frame that it passed on");
                Ok(None)
            }
            3 => seen(Fate::Sent, true, out),
            4 => seen(Fate::Sent, false, out),
            other => anyhow::bail!("XDP returned {other}"),
        }
    }

    fn live(&self) -> Result<Vec<(Place, Slot)>> {
        let mut live = Vec::new();
        for index in 0..self.flows.len() {
            let bucket = self.flows.get(&index, 0)?;
            live.extend(bucket.slots.iter().enumerate().map(|(way, slot)| (Place::Bucket(index, way), *slot)));
        }
        for entry in self.stash.iter() {
            let (key, slot) = entry?;
            live.push((Place::Stash(key), slot));
        }
        live.retain(|(_, slot)| (slot.meta >> 32) as u8 != 0);
        Ok(live)
    }

    fn age(&mut self, seconds: u32) -> Result<()> {
        let ticks = CLOCK.ticks(seconds);
        for entry in self.fragments.iter().collect::<Result<Vec<_>, _>>()? {
            let (key, first) = entry;
            self.fragments.insert(key, FirstFragment { seen: first.seen.wrapping_sub(ticks), ..first }, 0)?;
        }
        for slot in 0..self.held.len() {
            let held = self.held.get(&slot, 0)?;
            self.held.set(slot, HeldFragment { seen: held.seen.wrapping_sub(ticks), ..held }, 0)?;
        }
        for (source, at) in self.verified.iter().collect::<Result<Vec<_>, _>>()? {
            self.verified.insert(source, at.wrapping_sub(ticks), 0)?;
        }
        for (place, mut slot) in self.live()? {
            slot.last_seen = slot.last_seen.wrapping_sub(ticks);
            match place {
                Place::Bucket(index, way) => {
                    let mut bucket = self.flows.get(&index, 0)?;
                    bucket.slots[way] = slot;
                    self.flows.set(index, bucket, 0)?;
                }
                Place::Stash(key) => self.stash.insert(key, slot, 0)?,
            }
        }
        for index in 0..ENDPOINTS {
            let mut used = self.endpoint_use.get(&index, 0)?;
            for moment in limit::moments(&mut used) {
                *moment = moment.wrapping_sub(u64::from(seconds) * 1_000_000_000);
            }
            self.endpoint_use.set(index, used, 0)?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<()> {
        let flags = CollectRequest::STASH | CollectRequest::RULES;
        let request = CollectRequest { first_bucket: 0, buckets: self.flows.len(), flags, port: 0 };
        let bytes: [u8; size_of::<CollectRequest>()] = [
            request.first_bucket.to_ne_bytes(),
            request.buckets.to_ne_bytes(),
            request.flags.to_ne_bytes(),
            request.port.to_ne_bytes(),
        ]
        .concat()
        .try_into()
        .map_err(|_| anyhow::anyhow!("the request has another size"))?;
        let program: &mut SchedClassifier = self.ebpf.program_mut(COLLECT).context(COLLECT)?.try_into()?;
        let (_, result) = test_run(&bytes, &[0; 192], |options| Ok(program.test_run(options)?))?;
        anyhow::ensure!(result.return_value == 0, "the sweep returned {}", result.return_value);
        Ok(())
    }

    fn take_events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(record) = self.events.next() {
            anyhow::ensure!(record.len() == size_of::<Event>(), "a record of {} bytes", record.len());
            // SAFETY: as long as an event, of which every bit pattern is a value.
            events.push(unsafe { record.as_ptr().cast::<Event>().read_unaligned() });
        }
        Ok(events)
    }
}

/// A `struct __sk_buff` with interface index, number and size of segments.
fn skb(ifindex: u32, gso_size: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
    if gso_size != 0 {
        context[164..168].copy_from_slice(&2u32.to_ne_bytes());
        context[176..180].copy_from_slice(&gso_size.to_ne_bytes());
    }
    context
}

/// Where an entry is.
enum Place {
    Bucket(u32, usize),
    Stash(FlowKey),
}

fn test_run(
    bytes: &[u8],
    context: &[u8],
    run: impl FnOnce(TestRunOptions<'_>) -> Result<TestRunResult>,
) -> Result<(Vec<u8>, TestRunResult)> {
    // A packet may leave that waited for this one.
    let mut out = vec![0; bytes.len().max(HeldFrame::LEN) + 256];
    let options = TestRunOptions {
        data_in: Some(bytes),
        data_out: Some(&mut out),
        ctx_in: Some(context),
        ..TestRunOptions::new()
    };
    let result = run(options).with_context(|| format!("running a frame of {} bytes", bytes.len()))?;
    out.truncate(result.data_size_out as usize);
    Ok((out, result))
}

fn zero<T: Pod + Default>(map: &mut PerCpuArray<MapData, T>, index: u32) -> Result<()> {
    let cpus = map.get(&index, 0)?.len();
    map.set(index, PerCpuValues::try_from(vec![T::default(); cpus])?, 0)?;
    Ok(())
}

fn fill<T: Pod>(
    map: &mut Array<MapData, T>,
    indexes: impl Iterator<Item = u32>,
    value: impl Fn(u32) -> Option<T>,
) -> Result<()> {
    for index in indexes {
        // SAFETY: `Pod`: zero is a value.
        let value = value(index).unwrap_or_else(|| unsafe { std::mem::zeroed() });
        map.set(index, value, 0)?;
    }
    Ok(())
}

fn replace<'a, K: Pod + 'a, V: Pod + 'a>(
    map: &mut HashMap<MapData, K, V>,
    entries: impl Iterator<Item = (&'a K, &'a V)>,
) -> Result<()> {
    for key in map.keys().collect::<Result<Vec<_>, _>>()? {
        map.remove(&key)?;
    }
    for (key, value) in entries {
        map.insert(key, value, 0)?;
    }
    Ok(())
}

fn words<T>(result: Result<T>) -> Outcome<T> {
    result.map_err(|error| format!("{error:#}"))
}

impl Backend for Kernel {
    fn reset(&mut self, world: &World) -> Outcome<()> {
        words(self.empty())?;
        for (index, pool) in world.pools.iter().enumerate() {
            words(self.pools.set(index as u32, pool, 0).map_err(Into::into))?;
        }
        words(self.write(world))
    }

    fn configure(&mut self, world: &World) -> Outcome<()> {
        words(self.write(world))
    }

    fn frame(&mut self, path: Path, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Outcome<Seen> {
        if path == Path::XdpThenTc
            && let Some(seen) = words(self.xdp(ifindex, bytes))?
        {
            return Ok(seen);
        }
        words(self.tc(ifindex, gso_size, bytes))
    }

    fn counters(&mut self) -> Outcome<Vec<u64>> {
        let all = Counter::ALL.iter().map(|counter| {
            let values = self.counters.get(&(*counter as u32), 0)?;
            Ok(values.iter().sum())
        });
        words(all.collect())
    }

    fn events(&mut self) -> Outcome<Vec<Event>> {
        words(self.take_events())
    }

    fn slots(&mut self) -> Outcome<Vec<Slot>> {
        let live = words(self.live())?;
        if self.reference && live.iter().any(|(place, _)| matches!(place, Place::Bucket(..))) {
            return Err("the reference mode uses the other table".into());
        }
        Ok(live.into_iter().map(|(_, slot)| slot).collect())
    }

    fn clients6(&mut self) -> Outcome<usize> {
        Ok(self.clients6.keys().count())
    }

    fn advance(&mut self, seconds: u32) -> Outcome<()> {
        words(self.age(seconds))
    }

    fn collect(&mut self) -> Outcome<()> {
        words(self.sweep())
    }

    fn pool(&mut self, index: usize) -> Outcome<PortPool> {
        words(self.pools.get(&(index as u32), 0).map_err(Into::into))
    }

    fn half_open_vpc(&mut self, vpc: u16) -> Outcome<u32> {
        words(self.vpc_half_open.get(&u32::from(vpc), 0).map_err(Into::into))
    }

    fn half_open_endpoint(&mut self, endpoint: u32) -> Outcome<u32> {
        words(self.endpoint_half_open.get(&endpoint, 0).map_err(Into::into))
    }

    fn endpoint_use(&mut self, endpoint: u32) -> Outcome<EndpointUse> {
        words(self.endpoint_use.get(&endpoint, 0).map_err(Into::into))
    }

    fn endpoint_stats(&mut self, index: usize) -> Outcome<EndpointStats> {
        let all = words(self.endpoint_stats.get(&(index as u32), 0).map_err(Into::into))?;
        Ok(sum(all.iter().copied()))
    }

    fn listener_stats(&mut self, index: usize) -> Outcome<ListenerStats> {
        let all = words(self.listener_stats.get(&(index as u32), 0).map_err(Into::into))?;
        Ok(sum(all.iter().copied()))
    }

    fn target_stats(&mut self, index: usize) -> Outcome<TargetStats> {
        let all = words(self.target_stats.get(&(index as u32), 0).map_err(Into::into))?;
        Ok(sum(all.iter().copied()))
    }
}
