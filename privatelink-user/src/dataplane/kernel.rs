//! The real [`Dataplane`]: aya's handles on the pinned tables, the programs and their links.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, DevMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf, lpm_trie},
    util::{KernelVersion, nr_cpus},
};
use privatelink_ebpf::abi::{
    Counter, VpcIndex,
    explain::Trace,
    flow::{Addresses6, Bucket, FlowKey, Slot, WAYS},
    limit::{Budget, EndpointBudget},
    pool::{PortPool, SUMMARIES},
    security::{Bound, Policy},
    service::{
        Address, Address6Key, AddressKey, Alias, AliasKey, EndpointIdText, Frontend, Frontend6Key, FrontendKey,
        Listener, Parted, Port, Range, RangeKey, Target,
    },
    settings::{Clock, CollectRequest},
    stats::{self, EndpointStats, ListenerStats, TargetStats},
};

use super::{
    Capacity, Counts, Dataplane, DataplaneError, Hook, HookPlan, Installed, InstalledPolicy, Op, Tables,
    features::{self, TCX},
    flows::{self, Flows, in_use},
    hashed::HashTable,
    load::{self, Loaded, Options},
    mapped::Mapping,
    pin::PinDir,
    resets,
    stats::{Wanted, sum},
    syscall::delete_element,
    tables::ByFamily,
};

use crate::net::raw::PacketSocket;

/// Buckets in one run of the collector.
const COLLECT_SLICE: u32 = 16_384;

/// The datapath in this host's kernel.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    clock: Clock,
    pub(super) pins: PinDir,
    /// Attach by clsact, because of the kernel's age or because it was asked for.
    pub(super) clsact: bool,
    capacity: Capacity,
    cpus: usize,
    pub(super) attached: BTreeMap<u32, Hook>,
    maps: Maps,
}

struct Maps {
    ports: Table<Port>,
    parted: aya::maps::HashMap<MapData, Parted, u32>,
    policies: Mapping,
    source_bounds: Mapping,
    listeners: Table<Listener>,
    targets: Table<Target>,
    next_nodes: Table<u32>,
    vpcs: Table<Budget>,
    endpoints: Table<EndpointBudget>,
    endpoint_ids: Table<EndpointIdText>,
    xdp_ports: DevMap<MapData>,
    /// For removal, which aya's device map lacks.
    xdp_ports_fd: OwnedFd,
    addresses: HashTable<AddressKey, Address>,
    frontends: HashTable<FrontendKey, Frontend>,
    addresses6: HashTable<Address6Key, Address>,
    frontends6: HashTable<Frontend6Key, Frontend>,
    clients6: aya::maps::HashMap<MapData, FlowKey, Addresses6>,
    aliases: LpmTrie<MapData, AliasKey, Alias>,
    ranges: LpmTrie<MapData, RangeKey, Range>,
    stash: aya::maps::HashMap<MapData, FlowKey, Slot>,
    /// Entries that the stash has room for.
    stash_entries: u32,
    trace: Array<MapData, Trace>,
    rings: Mapping,
    flows: Arc<Mapping>,
    pools: Table<PortPool>,
    vpc_half_open: Array<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
    endpoint_stats: PerCpuArray<MapData, EndpointStats>,
    listener_stats: PerCpuArray<MapData, ListenerStats>,
    target_stats: PerCpuArray<MapData, TargetStats>,
}

/// The trie's key of the addresses of a prefix of `bits`.
fn alias_key(key: AliasKey, bits: u8) -> lpm_trie::Key<AliasKey> {
    lpm_trie::Key::new(AliasKey::VPC_BITS + u32::from(bits), key)
}

/// The trie's key of the ports of a prefix of `bits`.
fn range_key(key: RangeKey, bits: u8) -> lpm_trie::Key<RangeKey> {
    lpm_trie::Key::new(RangeKey::FIXED_BITS + u32::from(bits), key)
}

/// How many bits behind those that always count a key of a trie counts.
fn prefix_bits(length: u32, fixed: u32) -> u8 {
    u8::try_from(length.saturating_sub(fixed)).unwrap_or(u8::MAX)
}

/// The contents of a trie, by key and length of prefix.
fn trie<K: Pod + Ord, V: Pod>(
    trie: &LpmTrie<MapData, K, V>,
    fixed: u32,
    name: &'static str,
) -> Result<BTreeMap<(K, u8), V>, DataplaneError> {
    trie.iter()
        .map(|entry| entry.map(|(key, value)| ((key.data(), prefix_bits(key.prefix_len(), fixed)), value)))
        .collect::<Result<_, _>>()
        .map_err(DataplaneError::map(name))
}

/// An array that is read through memory and written through the kernel, which copies a value at a time.
struct Table<V: Pod> {
    name: &'static str,
    array: Array<MapData, V>,
    mapping: Mapping,
}

impl<V: Pod + bytemuck::Pod> Table<V> {
    fn open(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let data = array_data(ebpf, name)?;
        let mapping = map_array::<V>(&data, name)?;
        let array = Map::Array(data).try_into().map_err(DataplaneError::map(name))?;
        Ok(Self { name, array, mapping })
    }

    fn put(&mut self, index: u32, value: V) -> Result<(), DataplaneError> {
        self.array.set(index, value, 0).map_err(DataplaneError::map(self.name))
    }

    fn remove(&mut self, index: u32) -> Result<(), DataplaneError> {
        self.put(index, bytemuck::Zeroable::zeroed())
    }

    fn all(&self) -> BTreeMap<u32, V> {
        self.mapping.nonzero().collect()
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, DataplaneError> {
    ebpf.take_map(name).ok_or(DataplaneError::Missing { kind: "table", name })
}

fn array_data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, DataplaneError> {
    match take(ebpf, name)? {
        Map::Array(data) => Ok(data),
        _ => Err(DataplaneError::Missing { kind: "array table", name }),
    }
}

fn map_array<V>(data: &MapData, name: &'static str) -> Result<Mapping, DataplaneError> {
    let entries = data.info().map_err(DataplaneError::map(name))?.max_entries();
    Mapping::new(data.fd(), size_of::<V>(), entries).map_err(|source| DataplaneError::Mmap { table: name, source })
}

fn typed<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, DataplaneError> {
    take(ebpf, name)?.try_into().map_err(DataplaneError::map(name))
}

/// What the agent reads from the kernel besides tables.
pub struct Streams {
    /// Records of `abi::event`.
    pub events: RingBuf<MapData>,
    /// Single flows.
    pub flows: Flows,
    /// Debug lines of the programs, if they were asked for.
    pub log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Kernel {
    /// Loads the programs, adopts or makes the tables, and puts the new programs into the links that are pinned.
    ///
    /// # Errors
    ///
    /// Every one of [`DataplaneError`] that is about loading.
    pub fn open(options: &Options) -> Result<(Self, Streams), DataplaneError> {
        features::report();
        let Loaded { mut ebpf, settings, clock } = load::load(options)?;
        let log = match options.log_level {
            Some(_) => aya_log::EbpfLogger::init(&mut ebpf)
                .inspect_err(|error| tracing::warn!(%error, "the programs' debug lines cannot be read"))
                .ok(),
            None => None,
        };
        let events = typed(&mut ebpf, "EVENTS")?;
        let rings = array_data(&mut ebpf, "RINGS")?;
        let flows = array_data(&mut ebpf, "FLOWS")?;
        let policies = array_data(&mut ebpf, "POLICIES")?;
        let source_bounds = array_data(&mut ebpf, "SOURCE_BOUNDS")?;
        let Map::DevMap(xdp_ports) = take(&mut ebpf, "XDP_PORTS")? else {
            return Err(DataplaneError::Missing { kind: "device table", name: "XDP_PORTS" });
        };
        let xdp_ports_fd = xdp_ports
            .fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| DataplaneError::map("XDP_PORTS")(MapError::IoError(error)))?;
        let Map::HashMap(stash) = take(&mut ebpf, "STASH")? else {
            return Err(DataplaneError::Missing { kind: "hash table", name: "STASH" });
        };
        let table = Arc::new(map_array::<Bucket>(&flows, "FLOWS")?);
        let flows = Flows::new(Arc::clone(&table), &stash, &settings)?;
        let stash_entries = stash.info().map_err(DataplaneError::map("STASH"))?.max_entries();
        let maps = Maps {
            ports: Table::open(&mut ebpf, "PORTS")?,
            parted: typed(&mut ebpf, "PARTED")?,
            policies: map_array::<Policy>(&policies, "POLICIES")?,
            source_bounds: map_array::<Bound>(&source_bounds, "SOURCE_BOUNDS")?,
            listeners: Table::open(&mut ebpf, "LISTENERS")?,
            targets: Table::open(&mut ebpf, "TARGETS")?,
            next_nodes: Table::open(&mut ebpf, "NEXT_NODES")?,
            vpcs: Table::open(&mut ebpf, "VPCS")?,
            endpoints: Table::open(&mut ebpf, "ENDPOINTS")?,
            endpoint_ids: Table::open(&mut ebpf, "ENDPOINT_IDS")?,
            xdp_ports: Map::DevMap(xdp_ports).try_into().map_err(DataplaneError::map("XDP_PORTS"))?,
            xdp_ports_fd,
            addresses: HashTable::open(&mut ebpf, "ADDRESSES")?,
            frontends: HashTable::open(&mut ebpf, "FRONTENDS")?,
            addresses6: HashTable::open(&mut ebpf, "ADDRESSES6")?,
            frontends6: HashTable::open(&mut ebpf, "FRONTENDS6")?,
            clients6: typed(&mut ebpf, "CLIENTS6")?,
            aliases: typed(&mut ebpf, "ALIASES")?,
            ranges: typed(&mut ebpf, "PORT_RANGES")?,
            stash: Map::HashMap(stash).try_into().map_err(DataplaneError::map("STASH"))?,
            stash_entries,
            trace: typed(&mut ebpf, "TRACE")?,
            rings: map_array::<u32>(&rings, "RINGS")?,
            flows: Arc::clone(&table),
            pools: Table::open(&mut ebpf, "POOLS")?,
            vpc_half_open: typed(&mut ebpf, "VPC_HALF_OPEN")?,
            counters: typed(&mut ebpf, "COUNTERS")?,
            endpoint_stats: typed(&mut ebpf, "ENDPOINT_STATS")?,
            listener_stats: typed(&mut ebpf, "LISTENER_STATS")?,
            target_stats: typed(&mut ebpf, "TARGET_STATS")?,
        };
        let capacity = Capacity {
            ports: maps.ports.mapping.entries(),
            listeners: maps.listeners.mapping.entries(),
            endpoints: maps.endpoints.mapping.entries(),
            targets: maps.targets.mapping.entries().min(maps.pools.mapping.entries()),
            policies: maps.policies.entries(),
            source_bounds: maps.source_bounds.entries(),
            rings: maps.rings.entries(),
            buckets: settings.buckets.min(maps.flows.entries()),
        };
        let mut kernel = Self {
            ebpf,
            clock,
            pins: options.pins(),
            clsact: options.clsact || KernelVersion::current().is_ok_and(|version| TCX.missing_in(version)),
            capacity,
            cpus: nr_cpus().map_err(|(_, source)| DataplaneError::Mmap { table: "COUNTERS", source })?,
            attached: BTreeMap::new(),
            maps,
        };
        kernel.adopt_links();
        Ok((kernel, Streams { events, flows, log }))
    }

    fn bounds(&self, policy: Policy) -> Arc<[Bound]> {
        let end = policy.base.saturating_add(policy.len()).min(self.capacity.source_bounds);
        (policy.base..end).filter_map(|bound| self.maps.source_bounds.get::<Bound>(bound)).collect()
    }

    fn write_bounds(&self, base: u32, bounds: &[Bound]) -> Option<()> {
        for (index, Bound { hi, lo }) in (base..).zip(bounds) {
            self.maps.source_bounds.store_pair(index, [*hi, *lo])?;
        }
        Some(())
    }

    fn ring(&self, listener: &Listener) -> Arc<[u32]> {
        let end = listener.ring_base.saturating_add(listener.ring_len).min(self.capacity.rings);
        (listener.ring_base..end).filter_map(|slot| self.maps.rings.get::<u32>(slot)).collect()
    }
}

impl Kernel {
    /// Gives an interface to a VPC. Replies leave by the interface that a flow's client came in on; so before the
    /// interface belongs to another VPC than it did, it belongs to none, and the flows that name it end.
    fn put_port(&mut self, ifindex: u32, port: Port) -> Result<(), DataplaneError> {
        let before = self.maps.ports.mapping.get::<Port>(ifindex).map_or(VpcIndex::NONE, |before| before.vpc);
        if before != port.vpc {
            if before != VpcIndex::NONE {
                self.maps.ports.remove(ifindex)?;
            }
            self.sweep(0, ifindex)?;
        }
        self.maps.ports.put(ifindex, port)
    }

    /// Runs the collector over the whole table, slice by slice. `flags` and `port` are those of [`CollectRequest`].
    fn sweep(&mut self, flags: u32, port: u32) -> Result<(), DataplaneError> {
        let all = self.capacity.buckets;
        for first_bucket in (0..all.max(1)).step_by(COLLECT_SLICE as usize) {
            let buckets = COLLECT_SLICE.min(all.saturating_sub(first_bucket));
            let stash = if first_bucket == 0 { CollectRequest::STASH } else { 0 };
            self.run_collector(CollectRequest { first_bucket, buckets, flags: flags | stash, port })?;
        }
        Ok(())
    }

    fn run_collector(&mut self, request: CollectRequest) -> Result<(), DataplaneError> {
        let mut frame = [0; 64];
        if let Some(head) = frame.get_mut(..size_of::<CollectRequest>()) {
            head.copy_from_slice(bytemuck::bytes_of(&request));
        }
        match load::run(&mut self.ebpf, load::COLLECT, &frame)? {
            (_, 0) => Ok(()),
            (_, returned) => Err(DataplaneError::Result { name: load::COLLECT, returned }),
        }
    }
}

impl Dataplane for Kernel {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn tick(&mut self) -> Result<u32, DataplaneError> {
        let sample = load::sample(&mut self.ebpf)?;
        Ok((sample.jiffies >> self.clock.tick_shift) as u32)
    }

    fn read(&self) -> Result<Tables, DataplaneError> {
        let maps = &self.maps;
        let ports = maps.ports.all();
        let mut xdp_ports = std::collections::BTreeSet::new();
        for ifindex in ports.keys() {
            match maps.xdp_ports.get(*ifindex, 0) {
                Ok(_) => drop(xdp_ports.insert(*ifindex)),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(DataplaneError::map("XDP_PORTS")(error)),
            }
        }
        // Equal rings and equal sets of sources share a slice, which is read once.
        let mut rings: HashMap<(u32, u32), Arc<[u32]>> = HashMap::new();
        let mut ring = |record: &Listener| {
            Arc::clone(rings.entry((record.ring_base, record.ring_len)).or_insert_with(|| self.ring(record)))
        };
        let listeners = maps
            .listeners
            .all()
            .into_iter()
            .map(|(index, record)| (index, Installed { ring: ring(&record), record }))
            .collect();
        let mut sets: HashMap<(u32, u32), Arc<[Bound]>> = HashMap::new();
        let mut bounds =
            |record: Policy| Arc::clone(sets.entry((record.base, record.len())).or_insert_with(|| self.bounds(record)));
        let policies = maps
            .policies
            .nonzero::<Policy>()
            .map(|(index, record)| (index, InstalledPolicy { bounds: bounds(record), record }))
            .collect();
        Ok(Tables {
            ports,
            xdp_ports,
            addresses: both(maps.addresses.all()?, maps.addresses6.all()?),
            frontends: both(maps.frontends.all()?, maps.frontends6.all()?),
            aliases: trie(&maps.aliases, AliasKey::VPC_BITS, "ALIASES")?,
            ranges: trie(&maps.ranges, RangeKey::FIXED_BITS, "PORT_RANGES")?,
            parted: maps.parted.keys().collect::<Result<_, _>>().map_err(DataplaneError::map("PARTED"))?,
            policies,
            listeners,
            targets: maps.targets.all(),
            next_nodes: maps.next_nodes.all(),
            vpcs: maps.vpcs.all().into_iter().map(|(index, budget)| (VpcIndex(index as u16), budget)).collect(),
            endpoints: maps.endpoints.all().into_iter().map(|(index, budget)| (index as u16, budget)).collect(),
            endpoint_ids: maps.endpoint_ids.all().into_iter().map(|(index, id)| (index as u16, id)).collect(),
        })
    }

    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
        if let Op::WriteBounds { base, bounds } = op {
            let max_entries = self.capacity.source_bounds;
            return self
                .write_bounds(*base, bounds)
                .ok_or(MapError::OutOfBounds { index: *base, max_entries })
                .map_err(DataplaneError::map(op.table()));
        }
        let maps = &mut self.maps;
        let refused = DataplaneError::map(op.table());
        let gone = |result: Result<(), MapError>| match result {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        };
        match op {
            Op::PutPort(ifindex, port) => self.put_port(*ifindex, *port),
            Op::RemovePort(ifindex) => maps.ports.remove(*ifindex),
            Op::PutXdpPort(ifindex) => {
                maps.xdp_ports.set(*ifindex, *ifindex, None, 0).map_err(xdp_map_error).map_err(refused)
            }
            Op::RemoveXdpPort(ifindex) => {
                delete_element(&maps.xdp_ports_fd, *ifindex).map_err(MapError::IoError).map_err(refused)
            }
            Op::PutAddress(at, address) => match at.key() {
                ByFamily::V4(key) => maps.addresses.insert(&key, address),
                ByFamily::V6(key) => maps.addresses6.insert(&key, address),
            }
            .map_err(refused),
            Op::RemoveAddress(at) => gone(match at.key() {
                ByFamily::V4(key) => maps.addresses.remove(&key),
                ByFamily::V6(key) => maps.addresses6.remove(&key),
            })
            .map_err(refused),
            Op::PutAlias(key, bits, alias) => maps.aliases.insert(&alias_key(*key, *bits), alias, 0).map_err(refused),
            Op::RemoveAlias(key, bits) => gone(maps.aliases.remove(&alias_key(*key, *bits))).map_err(refused),
            Op::PutRange(key, bits, range) => maps.ranges.insert(&range_key(*key, *bits), range, 0).map_err(refused),
            Op::RemoveRange(key, bits) => gone(maps.ranges.remove(&range_key(*key, *bits))).map_err(refused),
            Op::PutFrontend(at, frontend) => match at.key() {
                ByFamily::V4(key) => maps.frontends.insert(&key, frontend),
                ByFamily::V6(key) => maps.frontends6.insert(&key, frontend),
            }
            .map_err(refused),
            Op::RemoveFrontend(at) => gone(match at.key() {
                ByFamily::V4(key) => maps.frontends.remove(&key),
                ByFamily::V6(key) => maps.frontends6.remove(&key),
            })
            .map_err(refused),
            Op::WriteRing { base, slots } => {
                for (offset, target) in (0..).zip(slots.iter()) {
                    maps.rings
                        .store_u32(base.saturating_add(offset), *target)
                        .ok_or_else(|| MapError::OutOfBounds {
                            index: base.saturating_add(offset),
                            max_entries: self.capacity.rings,
                        })
                        .map_err(DataplaneError::map("RINGS"))?;
                }
                Ok(())
            }
            Op::PutParted(key) => maps.parted.insert(key, 1, 0).map_err(refused),
            Op::RemoveParted(key) => gone(maps.parted.remove(key)).map_err(refused),
            Op::WriteBounds { .. } => Ok(()),
            Op::PutPolicy(index, policy) => put_policy(&maps.policies, *index, *policy).map_err(refused),
            Op::RemovePolicy(index) => put_policy(&maps.policies, *index, Policy::default()).map_err(refused),
            Op::PutListener(index, listener) => maps.listeners.put(*index, *listener),
            Op::RemoveListener(index) => maps.listeners.remove(*index),
            Op::PutTarget(index, target) => maps.targets.put(*index, *target),
            Op::PutNextNode(index, next) => maps.next_nodes.put(*index, *next),
            Op::RemoveNextNode(index) => maps.next_nodes.remove(*index),
            Op::ResetPool(index) => maps.pools.put(*index, PortPool::EMPTY),
            Op::PutVpc(index, budget) => maps.vpcs.put(u32::from(index.0), *budget),
            Op::RemoveVpc(index) => maps.vpcs.remove(u32::from(index.0)),
            Op::PutEndpoint(index, budget) => maps.endpoints.put(u32::from(*index), *budget),
            Op::PutEndpointId(index, id) => maps.endpoint_ids.put(u32::from(*index), *id),
            Op::ResetListenerStats(index) => clear(&mut maps.listener_stats, *index, self.cpus).map_err(refused),
            Op::ResetTargetStats(index) => clear(&mut maps.target_stats, *index, self.cpus).map_err(refused),
            Op::ResetEndpointStats(index) => {
                clear(&mut maps.endpoint_stats, u32::from(*index), self.cpus).map_err(refused)
            }
        }
    }

    fn attach(&mut self, ifindex: u32, name: &str, plan: HookPlan) -> Result<Hook, DataplaneError> {
        self.put_programs(ifindex, name, plan)
    }

    fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.take_programs(ifindex)
    }

    fn attached(&self) -> BTreeMap<u32, Hook> {
        self.attached.clone()
    }

    fn collect(&mut self, first: u32, buckets: u32, flags: u32) -> Result<(), DataplaneError> {
        self.run_collector(CollectRequest { first_bucket: first, buckets, flags, port: 0 })
    }

    fn end_flows(&mut self) -> Result<(), DataplaneError> {
        let (mut halves, mut any) = (resets::Halves::default(), false);
        let (targets, endpoints, ports) =
            (&self.maps.targets.mapping, &self.maps.endpoints.mapping, &self.maps.ports.mapping);
        self.each_flow(&mut |slot| {
            let gone = targets.get::<Target>(slot.target).is_none_or(|target| target.generation != slot.generation);
            let unwanted = slot.endpoint != 0
                && endpoints.get::<EndpointBudget>(u32::from(slot.endpoint)).is_some_and(|budget| budget.ended());
            if gone || unwanted {
                any = true;
                halves.add(slot);
            }
        })?;
        if !any {
            return Ok(());
        }
        let client6 = |reverse: &FlowKey| self.client6(reverse);
        let resets: Vec<_> = halves.resets(|ifindex| ports.get(ifindex), |index| targets.get(index), client6).collect();
        let counted = match PacketSocket::open() {
            Ok(socket) => {
                let sent = resets::send(&socket, resets.into_iter());
                tracing::info!(sent, "flows ended: resets sent to both ends");
                CollectRequest::RESET
            }
            Err(error) => {
                tracing::warn!(%error, "flows end without a reset");
                0
            }
        };
        self.sweep(counted, 0)
    }

    fn each_flow(&self, visit: &mut dyn FnMut(&Slot)) -> Result<(), DataplaneError> {
        for bucket in 0..self.capacity.buckets {
            for way in 0..WAYS {
                if let Some(slot) = flows::whole(&self.maps.flows, bucket, way) {
                    visit(&slot);
                }
            }
        }
        for entry in self.maps.stash.iter() {
            match entry {
                Ok((_, slot)) if in_use(slot.meta) => visit(&slot),
                Ok(_) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(DataplaneError::map("STASH")(error)),
            }
        }
        Ok(())
    }

    fn client6(&self, reverse: &FlowKey) -> Option<Addresses6> {
        self.maps.clients6.get(reverse, 0).ok()
    }

    fn explain(&mut self, ifindex: u32, frame: &[u8]) -> Result<Trace, DataplaneError> {
        let refused = || DataplaneError::map("TRACE");
        let room = self.maps.stash_entries as usize;
        let stash_full = self.maps.stash.keys().take(room).count() >= room;
        self.maps.trace.set(0, Trace::question(stash_full), 0).map_err(refused())?;
        let name = load::explaining(frame);
        match load::run_on(&mut self.ebpf, name, ifindex, frame)? {
            (_, 0) => self.maps.trace.get(&0, 0).map_err(refused()),
            (_, returned) => Err(DataplaneError::Result { name, returned }),
        }
    }

    fn pool(&self, index: u32) -> Option<PortPool> {
        self.maps.pools.mapping.get(index)
    }

    fn release_port(&mut self, pool: u32, bit: u32) {
        // The bit first and the hints after, as in `datapath::ports`.
        let word = bit as usize / 64;
        let group = word / 64;
        let pools = &self.maps.pools.mapping;
        let summary = std::mem::offset_of!(PortPool, summary);
        let words = std::mem::offset_of!(PortPool, words);
        if group < SUMMARIES {
            pools.clear_bits(pool, words + 8 * word, 1 << (bit % 64));
            pools.clear_bits(pool, summary + 8 * group, 1 << (word % 64));
            pools.clear_bits(pool, std::mem::offset_of!(PortPool, top), 1 << group);
        }
    }

    fn half_open(&self) -> Result<u64, DataplaneError> {
        let mut sum = 0;
        for index in self.maps.vpcs.all().keys() {
            sum += u64::from(self.maps.vpc_half_open.get(index, 0).map_err(DataplaneError::map("VPC_HALF_OPEN"))?);
        }
        Ok(sum)
    }

    fn counter(&self, counter: Counter) -> Result<u64, DataplaneError> {
        total(&self.maps.counters, counter as u32).map_err(DataplaneError::map("COUNTERS"))
    }

    fn counts(&self, wanted: &Wanted) -> Result<Counts, DataplaneError> {
        let Wanted { endpoints, listeners, targets } = wanted;
        let maps = &self.maps;
        let mut counts = Counts::default();
        for counter in Counter::ALL {
            counts.counters.push((*counter, self.counter(*counter)?));
        }
        for index in endpoints {
            let value =
                total(&maps.endpoint_stats, u32::from(*index)).map_err(DataplaneError::map("ENDPOINT_STATS"))?;
            counts.endpoints.insert(*index, value);
        }
        for index in listeners {
            let value = total(&maps.listener_stats, *index).map_err(DataplaneError::map("LISTENER_STATS"))?;
            counts.listeners.insert(*index, value);
        }
        for index in targets {
            let value = total(&maps.target_stats, *index).map_err(DataplaneError::map("TARGET_STATS"))?;
            counts.targets.insert(*index, value);
        }
        Ok(counts)
    }
}

/// The contents of the tables of both families.
fn both<A: Into<K>, B: Into<K>, K: Ord, V>(four: BTreeMap<A, V>, six: BTreeMap<B, V>) -> BTreeMap<K, V> {
    let four = four.into_iter().map(|(key, value)| (key.into(), value));
    four.chain(six.into_iter().map(|(key, value)| (key.into(), value))).collect()
}

fn put_policy(policies: &Mapping, index: u32, policy: Policy) -> Result<(), MapError> {
    let max_entries = policies.entries();
    policies.store_u64(index, policy.to_word()).ok_or(MapError::OutOfBounds { index, max_entries })
}

fn xdp_map_error(error: aya::maps::xdp::XdpMapError) -> MapError {
    match error {
        aya::maps::xdp::XdpMapError::MapError(error) => error,
        aya::maps::xdp::XdpMapError::ChainedProgramNotSupported => MapError::IoError(io::ErrorKind::Unsupported.into()),
    }
}

fn total<V: Pod + stats::Counts>(map: &PerCpuArray<MapData, V>, index: u32) -> Result<V, MapError> {
    let values = map.get(&index, 0)?;
    Ok(sum(values.iter().copied()))
}

fn clear<V: Pod + Default>(map: &mut PerCpuArray<MapData, V>, index: u32, cpus: usize) -> Result<(), MapError> {
    let zero = PerCpuValues::try_from(vec![V::default(); cpus]).map_err(MapError::IoError)?;
    map.set(index, zero, 0)
}
