//! An in-memory [`Dataplane`] that fails on demand.

use std::{collections::BTreeMap, sync::Arc};

use privatelink_ebpf::abi::{
    Counter,
    explain::Trace,
    flow::{Addresses6, FlowKey, FlowState, Meta, Slot},
    pool::PortPool,
    security::{Bound, Policy},
    service::Listener,
    settings::Clock,
};

use super::{Capacity, Counts, Dataplane, DataplaneError, Hook, HookPlan, Op, Tables, stats::Wanted};

/// Tables in memory, with `RINGS` as one flat array as in the kernel, so that a listener that points at a half-written
/// ring is seen.
#[derive(Debug)]
pub struct Fake {
    pub capacity: Capacity,
    tables: Tables,
    rings: Vec<u32>,
    bounds: Vec<Bound>,
    pub pools: BTreeMap<u32, PortPool>,
    pub flows: Vec<Slot>,
    /// Entries that [`Dataplane::end_flows`] has taken.
    pub ended: usize,
    pub attached: BTreeMap<u32, Hook>,
    /// Every operation that was done, oldest first.
    pub log: Vec<Op>,
    /// Operations (and attachments) until one fails; `None` never fails.
    pub fail_after: Option<usize>,
}

impl Fake {
    pub fn new(capacity: Capacity) -> Self {
        Self {
            rings: vec![0; capacity.rings as usize],
            bounds: vec![Bound::default(); capacity.source_bounds as usize],
            capacity,
            tables: Tables::default(),
            pools: BTreeMap::new(),
            flows: Vec::new(),
            ended: 0,
            attached: BTreeMap::new(),
            log: Vec::new(),
            fail_after: None,
        }
    }

    /// Starts from `tables`, whatever they hold; rings are put where the records point, as far as that is inside.
    pub fn with(capacity: Capacity, tables: Tables) -> Self {
        let mut fake = Self::new(capacity);
        for installed in tables.listeners.values() {
            let base = installed.record.ring_base as usize;
            for (offset, target) in installed.ring.iter().enumerate() {
                if let Some(slot) = fake.rings.get_mut(base + offset) {
                    *slot = *target;
                }
            }
        }
        for installed in tables.policies.values() {
            fake.write_bounds(installed.record.base, &installed.bounds);
        }
        fake.tables = tables;
        fake
    }

    fn fail(&mut self) -> Result<(), DataplaneError> {
        match &mut self.fail_after {
            Some(0) => {
                self.fail_after = None;
                Err(DataplaneError::Injected)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write_bounds(&mut self, base: u32, bounds: &[Bound]) {
        for (offset, bound) in bounds.iter().enumerate() {
            if let Some(slot) = self.bounds.get_mut(base as usize + offset) {
                *slot = *bound;
            }
        }
    }

    fn bounds(&self, record: Policy) -> Arc<[Bound]> {
        let base = (record.base as usize).min(self.bounds.len());
        let end = base.saturating_add(record.len() as usize).min(self.bounds.len());
        self.bounds.get(base..end).unwrap_or_default().into()
    }

    fn ring(&self, record: &Listener) -> Arc<[u32]> {
        let base = (record.ring_base as usize).min(self.rings.len());
        let end = base.saturating_add(record.ring_len as usize).min(self.rings.len());
        self.rings.get(base..end).unwrap_or_default().into()
    }
}

impl Dataplane for Fake {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn clock(&self) -> Clock {
        Clock::for_hz(1000)
    }

    fn tick(&mut self) -> Result<u32, DataplaneError> {
        Ok(0)
    }

    fn read(&self) -> Result<Tables, DataplaneError> {
        let mut tables = self.tables.clone();
        for installed in tables.listeners.values_mut() {
            installed.ring = self.ring(&installed.record);
        }
        for installed in tables.policies.values_mut() {
            installed.bounds = self.bounds(installed.record);
        }
        Ok(tables)
    }

    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
        self.fail()?;
        self.log.push(op.clone());
        if let Op::WriteBounds { base, bounds } = op {
            self.write_bounds(*base, bounds);
        }
        if let Op::WriteRing { base, slots } = op {
            for (offset, target) in slots.iter().enumerate() {
                if let Some(slot) = self.rings.get_mut(*base as usize + offset) {
                    *slot = *target;
                }
            }
        }
        if let Op::ResetPool(index) = op {
            self.pools.insert(*index, PortPool::EMPTY);
        }
        self.tables.note(op);
        Ok(())
    }

    fn attach(&mut self, ifindex: u32, _name: &str, plan: HookPlan) -> Result<Hook, DataplaneError> {
        self.fail()?;
        let hook = match plan {
            HookPlan::Tc => Hook::Tcx,
            HookPlan::PreferXdp | HookPlan::Xdp => Hook::XdpTcx,
        };
        self.attached.insert(ifindex, hook);
        Ok(hook)
    }

    fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.fail()?;
        self.attached.remove(&ifindex);
        Ok(())
    }

    fn attached(&self) -> BTreeMap<u32, Hook> {
        self.attached.clone()
    }

    fn collect(&mut self, _first: u32, _buckets: u32, _flags: u32) -> Result<(), DataplaneError> {
        Ok(())
    }

    fn end_flows(&mut self) -> Result<(), DataplaneError> {
        let Self { flows, tables, ended, .. } = self;
        let before = flows.len();
        flows.retain(|slot| {
            let target = tables.targets.get(&slot.target);
            let endpoint = tables.endpoints.get(&slot.endpoint);
            target.is_some_and(|target| target.generation == slot.generation)
                && !endpoint.is_some_and(|budget| budget.ended())
        });
        *ended += before - flows.len();
        Ok(())
    }

    fn each_flow(&self, visit: &mut dyn FnMut(&Slot)) -> Result<(), DataplaneError> {
        for slot in &self.flows {
            match Meta::unpack(slot.meta).state {
                FlowState::Free | FlowState::Busy => {}
                FlowState::SynSent
                | FlowState::SynReceived
                | FlowState::Established
                | FlowState::Closing
                | FlowState::LastAck
                | FlowState::TimeWait
                | FlowState::Resetting
                | FlowState::Unreplied => visit(slot),
            }
        }
        Ok(())
    }

    fn client6(&self, _: &FlowKey) -> Option<Addresses6> {
        None
    }

    fn explain(&mut self, _ifindex: u32, _frame: &[u8]) -> Result<Trace, DataplaneError> {
        Ok(Trace::question(false))
    }

    fn pool(&self, index: u32) -> Option<PortPool> {
        self.pools.get(&index).copied()
    }

    fn release_port(&mut self, pool: u32, bit: u32) {
        if let Some(word) = self.pools.get_mut(&pool).and_then(|pool| pool.words.get_mut(bit as usize / 64)) {
            *word &= !(1 << (bit % 64));
        }
    }

    fn half_open(&self) -> Result<u64, DataplaneError> {
        Ok(0)
    }

    fn counter(&self, _counter: Counter) -> Result<u64, DataplaneError> {
        Ok(0)
    }

    fn counts(&self, _wanted: &Wanted) -> Result<Counts, DataplaneError> {
        Ok(Counts::default())
    }
}
