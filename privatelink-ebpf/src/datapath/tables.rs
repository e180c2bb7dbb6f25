//! What the datapath may ask of the world.

use super::{
    addresses, challenge,
    flow_table::{self, SlotRef},
    held, icmp, lifecycle, limit, open,
    parse::Segment,
    refusal, security,
};
use crate::abi::{
    Counter, Ip4, VpcIndex,
    cookie::Source,
    event::Event,
    flow::{Addresses6, Bucket, FlowKey, Slot},
    fragment::{FirstFragment, FragmentKey, HeldFragment},
    limit::{Budget, EndpointBudget, EndpointUse},
    security::{Bound, Policy},
    service::{
        Address, Address6Key, AddressKey, Frontend, Frontend6Key, FrontendKey, Listener, Parted, Port, StandIn, Target,
    },
    settings::{Clock, IcmpBudget, ResetBudget},
    stats::{EndpointStats, ListenerStats, TargetStats},
};

/// Which program asks. XDP hands to TC, unmodified and without having changed any table, whatever it does not finish
/// itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    Tc,
    Xdp,
}

/// The tables, the clock and the counters. Implemented by a zero-sized type over BPF maps and by a reference to tables
/// in memory; passed by value, so that it costs no register.
///
/// Raw pointers point to records that several CPUs change at once; `flow_table` and `ports` are the only users.
pub trait Tables<'t>: Copy {
    const HOOK: Hook;

    fn port(self, ifindex: u32) -> Option<&'t Port>;
    /// The address is ours in this VPC.
    fn owns(self, key: &AddressKey) -> bool;
    /// The address is a load balancer's node address.
    fn is_node(self, key: &AddressKey) -> bool;
    fn frontend(self, key: &FrontendKey) -> Option<&'t Frontend>;
    /// The address, as a word, of the endpoint of which `ip` is an alias; 0 if it is nobody's.
    fn alias(self, vpc: VpcIndex, ip: Ip4) -> u32;
    /// [`addresses::elsewhere_bits`].
    fn elsewhere(self, key: &FrontendKey) -> u64;
    /// ARP for the client's address is answered on that interface.
    fn stands_in(self, key: &StandIn) -> bool;
    /// A flow shows the client's address to a target there.
    fn stand_in(self, key: &StandIn);
    /// The listener's flows to the target end.
    fn parted(self, key: &Parted) -> bool;
    /// What an IPv6 address is, if it is ours in this VPC.
    fn address6(self, key: &Address6Key) -> Option<Address>;
    fn frontend6(self, key: &Frontend6Key) -> Option<Frontend>;
    /// This CPU's record of the addresses of the IPv6 packet that is judged.
    fn packet6(self) -> Option<*mut Addresses6>;
    /// The addresses that an IPv6 client's packets have, by the key of its flow's reverse entry.
    fn client6(self, key: &FlowKey) -> Option<&'t Addresses6>;
    /// Remembers [`Tables::packet6`] under the key. False: there is no room.
    fn put_client6(self, key: &FlowKey) -> bool;
    fn remove_client6(self, key: &FlowKey);
    fn policy(self, index: u32) -> Option<Policy>;
    fn source_bound(self, index: u32) -> Option<&'t Bound>;
    fn listener(self, index: u32) -> Option<&'t Listener>;
    /// A ring's entry: a target index.
    fn ring(self, index: u32) -> Option<u32>;
    fn target(self, index: u32) -> Option<&'t Target>;

    /// The same target behind the next node address of its load balancer; 0: there is none.
    fn next_node(self, target: u32) -> u32;

    /// Claims a source port; see [`super::ports::claim`].
    fn claim_port(self, pool: u32, hint: u32) -> super::ports::Claim;
    fn release_port(self, pool: u32, port: u16);
    /// Counts a claim that found every port in use.
    fn count_exhausted(self, pool: u32);

    fn bucket(self, index: u32) -> Option<*mut Bucket>;
    fn bucket_mask(self) -> u32;
    fn hash_seed(self) -> u64;
    fn cookie_key(self) -> [u64; 2];
    /// Use the stash only: the kernel's hash map as the reference.
    fn reference_table(self) -> bool;
    fn stash(self, key: &FlowKey) -> Option<*mut Slot>;
    /// Inserts the scratch entry under its key, unless the key exists.
    fn stash_insert(self, key: &FlowKey) -> bool;
    fn stash_remove(self, key: &FlowKey);
    /// This CPU's entry on its way into the stash.
    fn scratch(self) -> Option<*mut Slot>;
    fn lock(self, stripe: u32) -> Option<*mut u32>;

    fn vpc_budget(self, vpc: u32) -> Option<&'t Budget>;
    fn endpoint_budget(self, endpoint: u32) -> Option<&'t EndpointBudget>;
    fn vpc_half_open(self, vpc: u32) -> Option<*mut u32>;
    fn endpoint_half_open(self, endpoint: u32) -> Option<*mut u32>;
    fn endpoint_use(self, endpoint: u32) -> Option<*mut EndpointUse>;
    fn reset_budget(self, vpc: u32) -> Option<*mut ResetBudget>;
    /// What the first fragment of a packet said.
    fn fragment(self, key: &FragmentKey) -> Option<FirstFragment>;
    /// A slot for a fragment that waits for the first one; see [`super::held`].
    fn held(self, slot: u32) -> Option<*mut HeldFragment>;
    fn note_fragment(self, key: &FragmentKey, first: &FirstFragment);
    /// When a source answered a challenge, in ticks.
    fn verified_at(self, source: &Source) -> Option<u32>;
    /// A source has answered a challenge now.
    fn verify(self, source: &Source);
    fn icmp_budget(self, vpc: u32) -> Option<*mut IcmpBudget>;

    fn clock(self) -> Clock;
    /// Now, in ticks.
    fn now(self) -> u32;
    /// Now, in nanoseconds of the monotonic clock: for rates, which ticks are too coarse for.
    fn nanoseconds(self) -> u64;

    fn count(self, counter: Counter);
    fn endpoint_stats(self, endpoint: u32) -> Option<*mut EndpointStats>;
    fn listener_stats(self, listener: u32) -> Option<*mut ListenerStats>;
    fn target_stats(self, target: u32) -> Option<*mut TargetStats>;
    /// Flow events are wanted.
    fn flow_events(self) -> bool;
    /// Reports a record: zeroed, then filled by `fill` where it lies, so that it takes no stack.
    fn emit(self, fill: impl FnOnce(&mut Event));

    // The cold paths, through the tables, so that the kernel can make each a function that the verifier checks once
    // instead of once a path that leads to it. An implementation calls what the default calls.

    /// Puts the segment aside for the cold paths, where it takes no stack.
    fn lend(self, segment: Segment) -> &'t Segment;
    /// The lent segment with another acknowledgement.
    fn lend_with_ack(self, segment: &'t Segment, ack: u32) -> &'t Segment;
    /// The segment that was put aside last.
    fn lent(self) -> &'t Segment;

    /// Finds an entry wherever it is.
    fn find(self, key: &FlowKey) -> Option<SlotRef> {
        flow_table::find_anywhere(self, key)
    }
    /// Whether there is an entry, wherever it is.
    fn has(self, key: &FlowKey) -> bool {
        self.find(key).is_some()
    }
    fn reserve(self, key: &FlowKey) -> i64 {
        flow_table::reserve_index(self, key)
    }
    fn admit(self, segment: &Segment) -> i64 {
        open::admit_bits(self, segment)
    }
    fn admits_source(self, policy: u32, hi: u64, lo: u64) -> u32 {
        security::admits_source_bits(self, policy, hi, lo)
    }
    fn ended(self, forward: &FlowKey, target: u32) -> u32 {
        security::ended_bits(self, forward, target)
    }
    fn awaited(self, key: &FragmentKey) -> u32 {
        held::awaited_bits(self, key)
    }
    fn reserve_held(self, key: &FragmentKey, len: u32) -> i32 {
        held::reserve_bits::<false, _>(self, key, len)
    }
    fn take_held(self, key: &FragmentKey, slot: u32) -> u32 {
        held::take_bits(self, key, slot)
    }
    fn admit_flow(self, endpoint: u32, bytes: u32) -> u32 {
        limit::admit_flow_bits(self, endpoint, bytes)
    }
    fn meter(self, endpoint: u32, bytes: u32) -> u32 {
        limit::meter_bits(self, endpoint, bytes)
    }
    fn metered_wrongly(self, endpoint: u32, flags: u32) -> u32 {
        limit::metered_wrongly_bits(self, endpoint, flags)
    }
    fn meter_anew(self, key: &FlowKey) -> u32 {
        limit::meter_anew_bits(self, key)
    }
    fn verified(self, segment: &Segment) -> u32 {
        challenge::verified_bits(self, segment)
    }
    fn claim_node(self, target: u32, hint: u32) -> i64 {
        open::claim_node_bits(self, target, hint)
    }
    fn node_port_served(self, target: u32, port: u32) -> u32 {
        open::node_port_served_bits(self, target, port)
    }
    fn insert(self, segment: &Segment, admission: i64, ifindex_and_flag: u32) -> u32 {
        open::insert_bits(self, segment, admission, ifindex_and_flag)
    }
    fn end_hold(self, segment: &Segment) -> u32 {
        open::end_hold_bits(self, segment)
    }
    fn report_opened(self, segment: &Segment) -> u32 {
        open::report_opened_bits(self, segment)
    }
    fn step(self, segment: &Segment) -> u32 {
        lifecycle::step_bits(self, segment)
    }
    fn close(self, key: &FlowKey, why: u32) -> u32 {
        lifecycle::close_bits(self, key, why)
    }
    fn judge_stranger(self, segment: &Segment, port_flags: u32) -> u32 {
        refusal::judge_stranger_bits(self, segment, port_flags)
    }
    fn refuse_connection(self, segment: &Segment, reason: u32) -> u32 {
        refusal::refuse_connection_bits(self, segment, reason)
    }
    fn answer_with_error(self, segment: &Segment, cause: u32) -> u32 {
        icmp::error::answer_bits(self, segment, cause)
    }
    fn end_flow(self, segment: &Segment, why: u32) -> u32 {
        refusal::end_flow_bits(self, segment, why)
    }
    fn silent(self, segment: &Segment) -> u32 {
        lifecycle::silent_bits(self, segment)
    }
    fn supersede(self, segment: &Segment) -> u32 {
        lifecycle::supersede_bits(self, segment)
    }
    fn give_hold_back(self, segment: &Segment, port: u32) -> u32 {
        open::give_hold_back_bits(self, segment, port)
    }
    fn target_pair(self, target: u32) -> u64 {
        lifecycle::target_pair_bits(self, target)
    }
    fn difference(self, segment: &Segment, target: u32) -> u32 {
        addresses::difference_bits(self, segment, target)
    }
    fn replied(self, segment: &Segment) -> u32 {
        lifecycle::replied_bits(self, segment)
    }
    fn retire(self, segment: &Segment) -> u32 {
        lifecycle::retire_bits(self, segment)
    }
    fn move_client(self, segment: &Segment, ifindex: u32) -> u32 {
        lifecycle::move_client_bits(self, segment, ifindex)
    }
    fn acknowledge_header(self, key: &FlowKey) -> u32 {
        lifecycle::acknowledge_header_bits(self, key)
    }
    fn keep_to_tc(self, segment: &Segment) -> u32 {
        lifecycle::keep_to_tc_bits(self, segment)
    }
}
