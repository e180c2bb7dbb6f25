//! Security groups: whether a source may open a connection at a frontend. Only packets that open something are asked.
//!
//! A policy's slice holds the sorted addresses at which membership changes, so a source is in the set if an odd number
//! of them is not above it. The search is a binary one: its cost is that of the slice's length in bits, not of the
//! rules.

use super::{addresses, parse::Segment, tables::Tables};
use crate::abi::{
    Counter,
    flow::FlowKey,
    security::{Bound, Policy},
    service::{Frontend, Parted},
};

/// The security groups of the frontend let the segment's source in.
#[inline(always)]
pub fn admits<'t, T: Tables<'t>>(t: T, frontend: Frontend, segment: &Segment) -> bool {
    frontend.policy == Policy::NONE
        || addresses::source(t, &segment.key).is_some_and(|source| contains(t, frontend.policy, source))
}

/// The security groups let an echo request of `source` in; `frontend`: whose policy counts for it.
#[inline(always)]
pub fn admits_echo<'t, T: Tables<'t>>(t: T, frontend: Option<&Frontend>, source: Bound) -> bool {
    frontend.is_none_or(|frontend| frontend.policy == Policy::NONE || contains(t, frontend.policy, source))
}

/// An open flow does not go on: the reason, as a counter's number; 0: it does. `forward` is its forward entry's key. A
/// flow without a frontend goes on.
#[inline(always)]
pub fn ended_bits<'t, T: Tables<'t>>(t: T, forward: &FlowKey, target: u32) -> u32 {
    const _: () = assert!(Counter::FlowOpened as u32 == 0);
    let Some((frontend, client)) = addresses::of_flow(t, forward) else { return 0 };
    if t.parted(&Parted { listener: frontend.listener, target }) {
        return Counter::FlowEndedByWeight as u32;
    }
    if policy_ends(t, frontend, client) { Counter::FlowEndedBySecurityGroup as u32 } else { 0 }
}

/// The frontend's policy does not admit the flow's client any more, and says that this ends open flows.
#[inline(always)]
fn policy_ends<'t, T: Tables<'t>>(t: T, frontend: Frontend, client: Bound) -> bool {
    frontend.policy != Policy::NONE
        && t.policy(frontend.policy).is_some_and(|policy| policy.established())
        && !contains(t, frontend.policy, client)
}

/// The source is one of the policy's.
#[inline(always)]
fn contains<'t, T: Tables<'t>>(t: T, policy: u32, source: Bound) -> bool {
    let Bound { hi, lo } = source;
    t.admits_source(policy, hi, lo) != 0
}

/// [`contains`] with scalars: 1 or 0.
///
/// Without a branch that depends on data: the verifier would follow both ways of every halving.
#[inline(always)]
pub fn admits_source_bits<'t, T: Tables<'t>>(t: T, policy: u32, hi: u64, lo: u64) -> u32 {
    let Some(policy) = t.policy(policy) else { return 0 };
    // Bounds below `at` are not above the source; those from `at + left` on are.
    let (mut at, mut left) = (0, policy.len());
    for _ in 0..Policy::SEARCH_STEPS {
        if left == 0 {
            break;
        }
        let half = left - left / 2;
        let Some(bound) = t.source_bound(policy.base.wrapping_add(at).wrapping_add(half - 1)) else { return 0 };
        at += half & (not_above(*bound, hi, lo) as u32).wrapping_neg();
        left -= half;
    }
    at & 1
}

/// 1 if `bound` is not above the source, else 0.
#[inline(always)]
const fn not_above(bound: Bound, hi: u64, lo: u64) -> u64 {
    let below = less(hi, bound.hi) | less(lo, bound.lo) & (less(bound.hi, hi) ^ 1);
    below ^ 1
}

/// 1 if `a` is less than `b`, else 0: the borrow of `a - b`.
#[inline(always)]
const fn less(a: u64, b: u64) -> u64 {
    (!a & b | (!a | b) & a.wrapping_sub(b)) >> 63
}

#[cfg(test)]
mod tests;
