//! The kernel's side of the agent: programs, maps, links and pins. The only code that knows that BPF exists; it knows
//! no resources.
//!
//! [`Dataplane`] is what the reconciler needs of it. [`kernel::Kernel`] is the real one, [`fake::Fake`] the one that
//! tests drive and break.

pub mod attach;
pub mod clock;
pub mod error;
pub mod events;
pub mod fake;
pub mod features;
pub mod flows;
mod hashed;
pub mod kernel;
mod links;
pub mod load;
pub mod mapped;
pub mod peers;
pub mod pin;
mod resets;
pub mod stats;
mod syscall;
pub mod tables;

use std::collections::BTreeMap;

use privatelink_ebpf::abi::{
    Counter,
    explain::Trace,
    flow::{Addresses6, FlowKey, Slot},
    pool::PortPool,
    settings::Clock,
};

pub use attach::{Hook, HookPlan};
pub use error::DataplaneError;
pub use stats::Counts;
pub use tables::{AddressAt, ByFamily, FrontendAt, Installed, InstalledPolicy, Op, Tables};

/// How many entries the kernel's tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Interface indexes that can be ports: below this.
    pub ports: u32,
    pub listeners: u32,
    pub endpoints: u32,
    /// Targets and their port pools; a target's pool has the target's index.
    pub targets: u32,
    /// Sets of sources.
    pub policies: u32,
    /// Bounds of all sets of sources together.
    pub source_bounds: u32,
    /// Entries of all rings together.
    pub rings: u32,
    /// Buckets of the flow table.
    pub buckets: u32,
}

/// What the reconciler and the collector need of the kernel.
pub trait Dataplane: Send {
    /// The sizes of the tables; fixed when they were made.
    fn capacity(&self) -> Capacity;

    /// The datapath's clock.
    fn clock(&self) -> Clock;

    /// The present tick of the datapath's clock.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Program`] when the kernel does not run the clock program.
    fn tick(&mut self) -> Result<u32, DataplaneError>;

    /// Everything that the agent owns of the kernel's tables, as it is now.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] with the table that cannot be read.
    fn read(&self) -> Result<Tables, DataplaneError>;

    /// Does one operation.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] with the table that refused it.
    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError>;

    /// Puts the programs on an interface; what is there already stays, or is replaced without a gap.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Attach`] and [`DataplaneError::ForeignXdp`].
    fn attach(&mut self, ifindex: u32, name: &str, plan: HookPlan) -> Result<Hook, DataplaneError>;

    /// Takes the programs off an interface. One without programs, or one that is gone, is no error.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Pin`] when a pin cannot be removed.
    fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError>;

    /// Where the programs are.
    fn attached(&self) -> BTreeMap<u32, Hook>;

    /// Runs the kernel's collector over `buckets` buckets from `first` on; `flags` are those of the request
    /// ([`privatelink_ebpf::abi::settings::CollectRequest`]).
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Program`] when the kernel does not run it.
    fn collect(&mut self, first: u32, buckets: u32, flags: u32) -> Result<(), DataplaneError>;

    /// Ends the flows whose target has another generation than theirs or whose endpoint has ended: both ends are reset,
    /// and the entries are gone when this returns.
    ///
    /// # Errors
    ///
    /// [`DataplaneError`] when the tables cannot be read or the collector does not run; then the flows end at their
    /// next packet or with the next sweep.
    fn end_flows(&mut self) -> Result<(), DataplaneError>;

    /// Shows every flow entry that is in use, in no order. Entries change while they are read; a torn one is skipped.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] when the stash cannot be read.
    fn each_flow(&self, visit: &mut dyn FnMut(&Slot)) -> Result<(), DataplaneError>;

    /// The addresses of an IPv6 client's packets, by the key of its flow's reverse entry.
    fn client6(&self, reverse: &FlowKey) -> Option<Addresses6>;

    /// What the datapath would do with `frame` if it came in on interface `ifindex`. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Program`] and [`DataplaneError::Verify`] when the kernel does not run the program.
    fn explain(&mut self, ifindex: u32, frame: &[u8]) -> Result<Trace, DataplaneError>;

    /// A copy of one port pool.
    fn pool(&self, index: u32) -> Option<PortPool>;

    /// Gives one port of a pool back: bit `bit % 64` of word `bit / 64`.
    fn release_port(&mut self, pool: u32, bit: u32);

    /// Half-open flows now, over all VPCs.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] when they cannot be read.
    fn half_open(&self) -> Result<u64, DataplaneError>;

    /// One counter, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] when it cannot be read.
    fn counter(&self, counter: Counter) -> Result<u64, DataplaneError>;

    /// Every counter, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] with the table that cannot be read.
    fn counts(&self, wanted: &stats::Wanted) -> Result<Counts, DataplaneError>;
}
