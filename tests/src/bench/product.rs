//! The product's own object, loaded and filled without the agent: one listener, its targets, an endpoint.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, xdp::DevMap},
    programs::{
        ProgramFd, ProgramInfo, SchedClassifier, TcAttachType, Xdp, XdpMode, tc::SchedClassifierLinkId, xdp::XdpLinkId,
    },
};
use privatelink_ebpf::abi::{
    Counter, L4Port, Mac, Proto, VpcIndex, entries,
    pool::PortPool,
    service::{
        Address, AddressKey, AddressKind, Frontend, FrontendKey, Listener, Port, PortFlags, Target, TargetFlags,
    },
    settings::{Clock, globals},
};
use privatelink_user::dataplane::load::{self, OBJECT};

use super::{
    bed::{Bed, Device, ENDPOINT, NODE, PORT, TARGET_PORT, TARGETS, target},
    traffic::xdp,
};

/// Which flow table works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The set-associative one.
    Own,
    /// The kernel's hash map.
    Reference,
}

/// Where the targets are, seen from the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Behind another port.
    Between,
    /// Behind the same port.
    Same,
}

/// A listener each, on the same port, with the same targets.
const PROTOCOLS: [(u32, Proto); 2] = [(1, Proto::Tcp), (2, Proto::Udp)];

/// The agent's default number of buckets, or what `flows` need at half load if that is more.
fn buckets(flows: u32) -> u32 {
    flows.next_power_of_two().max(entries::FLOWS)
}

/// A loaded datapath.
#[derive(Debug)]
pub struct Product<'a> {
    bed: &'a Bed,
    ebpf: Ebpf,
    xdp_links: Vec<XdpLinkId>,
    tc_links: Vec<SchedClassifierLinkId>,
}

impl<'a> Product<'a> {
    pub fn load(bed: &'a Bed, table: Table, way: Way, flows: u32) -> Result<Self> {
        let buckets = buckets(flows);
        let mask = buckets - 1;
        // A tick of at least a quarter of a second on any kernel, so that no flow is idle too early.
        let clock = Clock::for_hz(1000);
        let (reference, stash) = match table {
            Table::Own => (0_u32, 65_536),
            Table::Reference => (1, buckets * 4),
        };
        let mut loader = EbpfLoader::new();
        loader
            .override_global(globals::HASH_SEED, &0x5851_f42d_4c95_7f2d_u64, true)
            .override_global(globals::BUCKET_MASK, &mask, true)
            .override_global(globals::REFERENCE_TABLE, &reference, true)
            .override_global(globals::TICK_SHIFT, &clock.tick_shift, true)
            .override_global(globals::TICKS_PER_256_S, &clock.ticks_per_256_s, true)
            .map_max_entries("FLOWS", buckets)
            .map_max_entries("STASH", stash);
        let mut ebpf = loader.load(OBJECT).context("loading the datapath")?;
        for name in load::ENTRIES {
            load::load_program(&mut ebpf, name)?;
        }
        load::fill_stages(&mut ebpf)?;
        let mut product = Self { bed, ebpf, xdp_links: Vec::new(), tc_links: Vec::new() };
        product.fill(way)?;
        Ok(product)
    }

    fn fill(&mut self, way: Way) -> Result<()> {
        let bed = self.bed;
        let (consumer, provider) = (VpcIndex(1), VpcIndex(2));
        let (out, far, provider) = match way {
            Way::Between => (&bed.target, &bed.targets, provider),
            Way::Same => (&bed.client, &bed.clients, consumer),
        };
        self.set_port(&bed.client, consumer, PortFlags::XDP_TRANSMIT)?;
        if way == Way::Between {
            self.set_port(&bed.target, provider, PortFlags::XDP_TRANSMIT)?;
        }
        let mut ports: DevMap<_> = self.ebpf.map_mut("XDP_PORTS").context("XDP_PORTS")?.try_into()?;
        for device in [&bed.client, &bed.target] {
            bed.lb.run(|| ports.set(device.index, device.index, None::<&ProgramFd>, 0))?.context("XDP_PORTS")?;
        }
        let mut addresses: HashMap<_, AddressKey, Address> = self.hash("ADDRESSES")?;
        addresses.insert(AddressKey::new(consumer, ENDPOINT.into()), Address::from(AddressKind::Endpoint), 0)?;
        addresses.insert(AddressKey::new(provider, NODE.into()), Address::from(AddressKind::Node), 0)?;
        let mut frontends: HashMap<_, FrontendKey, Frontend> = self.hash("FRONTENDS")?;
        for (listener, proto) in PROTOCOLS {
            let key = FrontendKey::new(consumer, ENDPOINT.into(), L4Port::new(PORT), proto);
            frontends.insert(key, Frontend { listener, endpoint: 1, ..Frontend::default() }, 0)?;
        }
        for (listener, proto) in PROTOCOLS {
            let ring_base = (listener - 1) * u32::from(TARGETS);
            let record = Listener { ring_base, ring_len: TARGETS.into(), idle_s: 350, ..Listener::default() };
            self.array("LISTENERS", listener, record)?;
            for n in 0..TARGETS {
                let index = ring_base + u32::from(n) + 1;
                self.array("RINGS", ring_base + u32::from(n), index)?;
                self.array("TARGETS", index, target_record(n, proto, provider, out.index, far.mac, index))?;
                self.array("POOLS", index, PortPool::EMPTY)?;
            }
        }
        Ok(())
    }

    /// Writes a port's record.
    fn set_port(&mut self, device: &Device, vpc: VpcIndex, flags: PortFlags) -> Result<()> {
        let Device { mac, index, .. } = *device;
        self.array("PORTS", index, Port { vpc, flags, mtu: 1500, mac, _pad: [0; 2] })
    }

    /// From now on TC leaves by `bpf_redirect_peer`.
    pub fn redirect_to_peers(&mut self) -> Result<()> {
        let bed = self.bed;
        let flags = PortFlags::XDP_TRANSMIT.with(PortFlags::PEER);
        self.set_port(&bed.client, VpcIndex(1), flags)?;
        self.set_port(&bed.target, VpcIndex(2), flags)
    }

    fn array<T: aya::Pod>(&mut self, name: &str, index: u32, value: T) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        let mut array: Array<_, T> = map.try_into().with_context(|| name.to_owned())?;
        array.set(index, value, 0).with_context(|| format!("{name}[{index}]"))
    }

    fn hash<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> Result<HashMap<&mut MapData, K, V>> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        map.try_into().with_context(|| name.to_owned())
    }

    /// A counter of the datapath, since the object was loaded.
    pub fn counter(&self, counter: Counter) -> Result<u64> {
        let counters: PerCpuArray<_, u64> = self.ebpf.map("COUNTERS").context("COUNTERS")?.try_into()?;
        Ok(counters.get(&(counter as u32), 0).context("COUNTERS")?.iter().sum())
    }

    /// All counters that are not zero, for error messages.
    pub fn counters(&self) -> String {
        let count = |counter: &&Counter| self.counter(**counter).unwrap_or_default();
        let counted = Counter::ALL.iter().filter(|counter| count(counter) != 0);
        counted.map(|counter| format!("{} {}", counter.name(), count(&counter))).collect::<Vec<_>>().join(", ")
    }

    /// Bytes that the kernel says the maps of these names take; of all without names.
    pub fn memory(&self, names: Option<&[&str]>) -> Result<u64> {
        let mut sum = 0;
        for (name, map) in self.ebpf.maps().filter(|(name, _)| names.is_none_or(|names| names.contains(name))) {
            let (Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::PerCpuHashMap(data)
            | Map::PerCpuLruHashMap(data)
            | Map::LpmTrie(data)
            | Map::DevMap(data)
            | Map::ProgramArray(data)
            | Map::RingBuf(data)) = map
            else {
                bail!("{name} is of a kind that is not measured")
            };
            let fd = data.fd().as_fd().as_raw_fd();
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).with_context(|| name.to_owned())?;
            let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:")).map(str::trim);
            sum += bytes.and_then(|bytes| bytes.parse::<u64>().ok()).with_context(|| format!("{name}: {text}"))?;
        }
        Ok(sum)
    }

    /// What the kernel knows of each program.
    pub fn programs(&self) -> Result<Vec<(String, ProgramInfo)>> {
        let programs = self.ebpf.programs();
        programs.map(|(name, program)| Ok((name.to_owned(), program.info().context("a program")?))).collect()
    }

    /// The XDP program.
    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, "privatelink_xdp")
    }

    /// The TC program.
    pub fn tc(&mut self) -> Result<&mut SchedClassifier> {
        tc(&mut self.ebpf, "privatelink_tc")
    }

    /// Puts the XDP program on both ports, and the TC program below it, to which XDP hands what it will not do: one in
    /// 65,536 SYNs has a checksum that looks partial.
    pub fn attach_xdp(&mut self) -> Result<()> {
        self.attach_tc()?;
        let bed = self.bed;
        for device in [&bed.client, &bed.target] {
            let program = xdp(&mut self.ebpf, "privatelink_xdp")?;
            let link = bed.lb.run(|| program.attach_to_if_index(device.index, XdpMode::Driver))?;
            self.xdp_links.push(link.with_context(|| format!("attaching to {}", device.end.name))?);
        }
        Ok(())
    }

    /// Puts the TC program on both ports.
    pub fn attach_tc(&mut self) -> Result<()> {
        let bed = self.bed;
        for device in [&bed.client, &bed.target] {
            let program = tc(&mut self.ebpf, "privatelink_tc")?;
            let link = bed.lb.run(|| program.attach(&device.end.name, TcAttachType::Ingress))?;
            self.tc_links.push(link.with_context(|| format!("attaching to {}", device.end.name))?);
        }
        Ok(())
    }

    /// Takes the programs off the ports; tables and flows stay.
    pub fn detach(&mut self) -> Result<()> {
        for link in self.xdp_links.drain(..) {
            xdp(&mut self.ebpf, "privatelink_xdp")?.detach(link).context("detaching")?;
        }
        for link in self.tc_links.drain(..) {
            tc(&mut self.ebpf, "privatelink_tc")?.detach(link).context("detaching")?;
        }
        Ok(())
    }
}

fn tc<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    program.try_into().with_context(|| format!("{name} is no TC program"))
}

fn target_record(n: u8, proto: Proto, vpc: VpcIndex, ifindex: u32, mac: Mac, pool: u32) -> Target {
    Target {
        ip: target(n).into(),
        node_ip: NODE.into(),
        port: L4Port::new(TARGET_PORT),
        vpc,
        generation: 1,
        flags: TargetFlags::RESOLVED,
        ifindex,
        pool,
        mac,
        proto: proto.number(),
        _pad: 0,
        ip6: privatelink_ebpf::abi::Ip6::UNSPECIFIED,
        node_ip6: privatelink_ebpf::abi::Ip6::UNSPECIFIED,
    }
}
