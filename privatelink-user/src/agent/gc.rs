//! Housekeeping of flows: the kernel's collector run in slices, and the search for source ports that no flow owns.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use privatelink_ebpf::abi::{
    Ip4,
    flow::{FlowKey, Meta, Slot},
    pool::{FIRST_PORT, PortPool},
    settings::CollectRequest,
};
use tokio_util::sync::CancellationToken;

use super::{Shared, index::Busy};
use crate::dataplane::{Dataplane, DataplaneError};

/// Buckets in one run of the collector: about a millisecond.
const SLICE: u32 = 4_096;
/// All buckets are swept this often.
const PASS: Duration = Duration::from_secs(5);
/// ... and this often while many handshakes are unfinished.
const FAST_PASS: Duration = Duration::from_secs(1);
const MANY_HALF_OPEN: u64 = 1_000;
/// Between two looks at the pools.
const POOL_SWEEP: Duration = Duration::from_secs(15);
/// A port that no flow owned in this many looks in a row is free. A look takes milliseconds in which a live port can
/// change its owner unseen; in four looks in a row that does not happen.
const LOOKS: u8 = 4;

/// Runs the collector until `stop`.
pub async fn collect(shared: &Shared, stop: CancellationToken) {
    let buckets = shared.dataplane().capacity().buckets;
    let slices = buckets.div_ceil(SLICE).max(1);
    let mut next = 0;
    let mut pass = PASS;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pass / slices) => {}
        }
        let first = next * SLICE;
        let rules = if shared.plan.borrow().ends_by_rule { CollectRequest::RULES } else { 0 };
        let run = tokio::task::block_in_place(|| {
            let mut dataplane = shared.dataplane();
            let flags = rules | if next == 0 { CollectRequest::STASH } else { 0 };
            dataplane.collect(first, SLICE.min(buckets - first), flags)?;
            if next == 0 { dataplane.half_open().map(Some) } else { Ok(None) }
        });
        match run {
            Ok(Some(half_open)) => pass = if half_open > MANY_HALF_OPEN { FAST_PASS } else { PASS },
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the collector does not run: idle flows stay");
                tokio::time::sleep(PASS).await;
            }
        }
        next = (next + 1) % slices;
    }
}

/// Looks for leaked ports, and for what flows still refer to, until `stop`.
pub async fn sweep(shared: &Shared, stop: CancellationToken) {
    let mut suspects = Suspects::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POOL_SWEEP) => {}
        }
        let plan = shared.plan.borrow().clone();
        let released = tokio::task::block_in_place(|| {
            let mut dataplane = shared.dataplane();
            suspects.look(&mut **dataplane, plan.targets.iter().map(|(key, index)| (*index, key.node)))
        });
        match released {
            Ok((busy, released)) => {
                if released > 0 {
                    tracing::warn!(released, "source ports without a flow were given back");
                }
                shared.set_busy(busy);
            }
            Err(error) => tracing::warn!(%error, "the flow table cannot be swept"),
        }
    }
}

/// What flows refer to.
///
/// # Errors
///
/// [`DataplaneError::Map`] when the tables cannot be read.
pub fn busy(dataplane: &dyn Dataplane) -> Result<Busy, DataplaneError> {
    let mut busy = Busy::default();
    dataplane.each_flow(&mut |slot| note(&mut busy, slot))?;
    Ok(busy)
}

fn note(busy: &mut Busy, slot: &Slot) {
    busy.targets.insert(slot.target);
    if slot.endpoint != 0 {
        busy.endpoints.insert(slot.endpoint);
    }
}

/// The source that a flow entry shows to its target: the node address and a port of the pool, or the client's own.
fn source(slot: &Slot) -> (Ip4, u16) {
    if Meta::unpack(slot.meta).forward() {
        (slot.new_src, slot.new_src_port.get())
    } else {
        let FlowKey { dst, dst_port, .. } = FlowKey::from_words(slot.key);
        (dst, dst_port.get())
    }
}

/// Ports that no flow owned at the last looks, by (pool, bit), with how many looks in a row.
#[derive(Debug, Default)]
pub struct Suspects(HashMap<(u32, u32), u8>);

impl Suspects {
    /// One look at `pools`, each with the node address that its ports are of: what flows refer to, and how many ports
    /// were given back.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] when the tables cannot be read.
    pub fn look(
        &mut self,
        dataplane: &mut dyn Dataplane,
        pools: impl Iterator<Item = (u32, IpAddr)>,
    ) -> Result<(Busy, usize), DataplaneError> {
        // The pools before the flows: a port whose flow is there all the time is never a suspect.
        let pools: BTreeMap<u32, (IpAddr, PortPool)> = pools
            .filter_map(|(index, node)| Some((index, (node, dataplane.pool(index)?))))
            .filter(|(_, (_, pool))| pool.used() > 0)
            .collect();
        let mut busy = Busy::default();
        let mut owned: HashSet<(u32, u32)> = HashSet::new();
        dataplane.each_flow(&mut |slot| {
            note(&mut busy, slot);
            let (address, port) = source(slot);
            // A client's own port, which only IPv4 targets see, is no port of the pool.
            let seen = IpAddr::V4(address.into());
            let of_node = pools.get(&slot.target).is_none_or(|(node, _)| node.is_ipv6() || *node == seen);
            if let Some(bit) = port.checked_sub(FIRST_PORT).filter(|_| of_node) {
                owned.insert((slot.target, u32::from(bit)));
            }
        })?;
        let before = std::mem::take(&mut self.0);
        let mut released = 0;
        for (index, (_, pool)) in &pools {
            for bit in set_bits(pool).filter(|bit| !owned.contains(&(*index, *bit))) {
                let looks = before.get(&(*index, bit)).copied().unwrap_or(0) + 1;
                if looks >= LOOKS {
                    dataplane.release_port(*index, bit);
                    released += 1;
                } else {
                    self.0.insert((*index, bit), looks);
                }
            }
        }
        Ok((busy, released))
    }
}

fn set_bits(pool: &PortPool) -> impl Iterator<Item = u32> + '_ {
    (0..)
        .zip(&pool.words)
        .flat_map(|(word, bits)| (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word * 64 + bit))
}

#[cfg(test)]
mod tests {
    use privatelink_ebpf::abi::{
        L4Port, VpcIndex,
        flow::{FlowState, Meta},
    };

    use super::*;
    use crate::dataplane::{Capacity, fake::Fake};

    const CAPACITY: Capacity = Capacity {
        ports: 8,
        listeners: 8,
        endpoints: 8,
        targets: 8,
        rings: 8,
        policies: 8,
        source_bounds: 8,
        buckets: 8,
    };

    const NODE_IP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 5);
    const NODE: IpAddr = IpAddr::V4(NODE_IP);

    fn reverse_entry(target: u32, port: u16) -> Slot {
        let meta = Meta { version: 1, state: FlowState::Established, translated: false, flags: 0, idle_s: 350 };
        let key = FlowKey::tcp(
            VpcIndex(1),
            Ip4::from_wire([10, 0, 1, 10]),
            L4Port::new(80),
            NODE_IP.into(),
            L4Port::new(port),
        );
        Slot { meta: meta.pack(), key: key.words(), target, endpoint: 3, ..Slot::FREE }
    }

    #[test]
    fn a_port_without_a_flow_comes_back_after_some_looks_and_one_with_a_flow_never() {
        let mut fake = Fake::new(CAPACITY);
        let mut pool = PortPool::EMPTY;
        pool.words[0] = 0b11;
        fake.pools.insert(1, pool);
        fake.flows.push(reverse_entry(1, FIRST_PORT));
        let mut suspects = Suspects::default();
        for look in 1..=10 {
            let (busy, released) = suspects.look(&mut fake, [(1, NODE)].into_iter()).expect("the fake reads");
            assert_eq!(released, usize::from(look == LOOKS), "look {look}");
            assert_eq!((busy.targets, busy.endpoints), ([1].into(), [3].into()));
        }
        assert_eq!(fake.pools[&1].words[0], 0b01);
    }

    #[test]
    fn a_client_that_the_target_sees_itself_owns_no_port_of_the_pool() {
        let mut fake = Fake::new(CAPACITY);
        let mut pool = PortPool::EMPTY;
        pool.words[0] = 0b1;
        fake.pools.insert(1, pool);
        let mut shown = reverse_entry(1, FIRST_PORT);
        shown.key = FlowKey { dst: Ip4::from_wire([10, 0, 7, 7]), ..FlowKey::from_words(shown.key) }.words();
        fake.flows.push(shown);
        let mut suspects = Suspects::default();
        let looks = (0..LOOKS).map(|_| suspects.look(&mut fake, [(1, NODE)].into_iter()).expect("the fake reads").1);
        assert_eq!(looks.sum::<usize>(), 1, "the port leaked, whoever uses the number besides");
    }

    #[test]
    fn a_port_that_changes_its_owner_between_looks_is_no_leak() {
        let mut fake = Fake::new(CAPACITY);
        let mut suspects = Suspects::default();
        for look in 0..20 {
            // Every other look finds the port's flow; in between it is claimed and not yet used.
            let mut pool = PortPool::EMPTY;
            pool.words[7] = 1 << 9;
            fake.pools.insert(1, pool);
            fake.flows = if look % 2 == 0 { vec![reverse_entry(1, FIRST_PORT + 7 * 64 + 9)] } else { Vec::new() };
            assert_eq!(suspects.look(&mut fake, [(1, NODE)].into_iter()).expect("the fake reads").1, 0);
        }
    }
}
