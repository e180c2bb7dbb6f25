use std::{
    collections::HashSet,
    sync::atomic::{AtomicU8, Ordering},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::{abi::pool::CAPACITY, testing::world::nearly_full};

/// A pool that threads share.
#[derive(Clone, Copy)]
struct Shared(*mut PortPool);

// SAFETY: the pool is changed by `claim` and `release` only, and outlives the threads.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn claim(self, hint: u32) -> Claim {
        // SAFETY: a live pool.
        unsafe { claim(self.0, hint) }
    }

    fn release(self, port: u16) {
        // SAFETY: a live pool; the tests release what they have claimed.
        unsafe { release(self.0, port) };
    }
}

/// Claims until the pool says that it is exhausted.
fn drain(pool: Shared, seed: u32) -> Vec<u16> {
    let mut ports = Vec::new();
    for hint in 0u32.. {
        match pool.claim(hint.wrapping_mul(0x9e37_79b9).wrapping_add(seed)) {
            Claim::Port(port) => ports.push(port),
            Claim::Exhausted => break,
            Claim::Contended => {}
        }
    }
    ports
}

fn all_ports() -> HashSet<u16> {
    (FIRST_PORT..=u16::MAX).collect()
}

#[test]
fn every_port_is_claimed_once_and_then_none() {
    let mut pool = Box::new(PortPool::EMPTY);
    let shared = Shared(&raw mut *pool);
    let ports = drain(shared, 1);
    assert_eq!(ports.len() as u32, CAPACITY);
    assert_eq!(ports.iter().copied().collect::<HashSet<_>>(), all_ports());
    assert_eq!(pool.used(), CAPACITY);
    let shared = Shared(&raw mut *pool);
    for hint in 0..1000 {
        assert_eq!(shared.claim(hint), Claim::Exhausted);
    }
    shared.release(4242);
    assert_eq!(shared.claim(77), Claim::Port(4242));
    assert_eq!(shared.claim(77), Claim::Exhausted);
}

#[test]
fn eight_threads_share_every_port_and_none_twice() {
    let mut pool = Box::new(PortPool::EMPTY);
    let shared = Shared(&raw mut *pool);
    let ports: Vec<u16> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8u32).map(|seed| scope.spawn(move || drain(shared, seed << 28))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    // One that was told "exhausted" while another was marking a word may have left early; nothing is lost by that.
    let ports: Vec<u16> = ports.into_iter().chain(drain(shared, 0)).collect();
    assert_eq!(ports.len() as u32, CAPACITY);
    assert_eq!(ports.into_iter().collect::<HashSet<_>>(), all_ports());
    assert_eq!(shared.claim(5), Claim::Exhausted);
}

#[test]
fn churn_by_four_threads_never_hands_out_a_port_twice() {
    // Few free ports, so that the threads meet in the same words and at their edges.
    for free in [3, 64, 130, 9000] {
        let mut pool = Box::new(nearly_full(free));
        let shared = Shared(&raw mut *pool);
        let owners: Vec<AtomicU8> = (0..=u16::MAX).map(|_| AtomicU8::new(0)).collect();
        thread::scope(|scope| {
            for thread in 1..=4u8 {
                let owners = &owners;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    let mut random = thread as u32;
                    for _ in 0..60_000 {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        if random >> 31 == 0 || mine.is_empty() {
                            if let Claim::Port(port) = shared.claim(random) {
                                let before = owners[port as usize].swap(thread, Ordering::SeqCst);
                                assert_eq!(before, 0, "port {port} belongs to thread {before}");
                                mine.push(port);
                            }
                        } else {
                            let port = mine.swap_remove(random as usize % mine.len());
                            owners[port as usize].store(0, Ordering::SeqCst);
                            shared.release(port);
                        }
                    }
                    for port in mine {
                        owners[port as usize].store(0, Ordering::SeqCst);
                        shared.release(port);
                    }
                });
            }
        });
        // No hint hides a free port for good.
        assert_eq!(drain(shared, 9).len() as u32, free);
    }
}

#[test]
fn a_port_outside_the_pool_is_not_released() {
    let mut pool = Box::new(nearly_full(0));
    let shared = Shared(&raw mut *pool);
    for port in [0, 1, 1023] {
        shared.release(port);
    }
    assert_eq!(pool.used(), CAPACITY);
}

#[test]
fn hints_spread_over_the_pool() {
    let mut pool = Box::new(PortPool::EMPTY);
    let shared = Shared(&raw mut *pool);
    let words: HashSet<u16> = (0..200u32)
        .filter_map(|i| match shared.claim(i.wrapping_mul(0x9e37_79b9)) {
            Claim::Port(port) => Some(port / 64),
            Claim::Exhausted | Claim::Contended => None,
        })
        .collect();
    assert!(words.len() > 100, "200 claims touched only {} words", words.len());
}

#[test]
fn claims_cross_as_scalars() {
    for claim in [Claim::Port(1024), Claim::Port(u16::MAX), Claim::Exhausted, Claim::Contended] {
        assert_eq!(Claim::from_bits(claim.to_bits()), claim);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any mix of claims and releases agrees with a set.
    #[test]
    fn agrees_with_a_set(free in 0u32..300, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 1..600)) {
        let mut pool = Box::new(nearly_full(free));
        let shared = Shared(&raw mut *pool);
        let mut free: HashSet<u16> = (0..free).map(|i| u16::MAX - i as u16).collect();
        let mut mine = Vec::new();
        for (claims, random) in steps {
            if claims || mine.is_empty() {
                match shared.claim(random) {
                    Claim::Port(port) => {
                        prop_assert!(free.remove(&port), "{port} was not free");
                        mine.push(port);
                    }
                    Claim::Exhausted => prop_assert!(free.is_empty(), "{} ports are free", free.len()),
                    Claim::Contended => prop_assert!(false, "contended without anybody else"),
                }
            } else {
                let port = mine.swap_remove(random as usize % mine.len());
                shared.release(port);
                free.insert(port);
            }
        }
        prop_assert_eq!(pool.used(), CAPACITY - free.len() as u32);
    }
}
