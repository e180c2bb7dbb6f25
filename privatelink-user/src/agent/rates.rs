//! What load balancers do a second: AWS's peaks, and the load balancer capacity units (LCU) that it would count.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    usage::{self, Active},
};
use crate::{
    dataplane::stats::Wanted,
    model::LoadBalancerId,
    runtime::{LoadBalancerUsage, ProtocolUsage},
};

/// Over how long a peak is averaged (AWS `PeakBytesPerSecond`, `PeakPacketsPerSecond`).
const INTERVAL: Duration = Duration::from_secs(10);
/// How many of them are remembered: a minute, CloudWatch's period.
const INTERVALS: usize = 6;

/// What one capacity unit of a protocol is: so much of each, whichever is used most (AWS's pricing page of Network Load
/// Balancers).
struct CapacityUnit {
    new_flows_per_second: f64,
    active_flows: f64,
    bytes_per_second: f64,
}

/// 1 GB an hour.
const BYTES_PER_SECOND: f64 = 1e9 / 3600.0;
const TCP: CapacityUnit =
    CapacityUnit { new_flows_per_second: 800.0, active_flows: 100_000.0, bytes_per_second: BYTES_PER_SECOND };
const UDP: CapacityUnit =
    CapacityUnit { new_flows_per_second: 400.0, active_flows: 50_000.0, bytes_per_second: BYTES_PER_SECOND };
const TLS: CapacityUnit =
    CapacityUnit { new_flows_per_second: 50.0, active_flows: 3_000.0, bytes_per_second: BYTES_PER_SECOND };

impl CapacityUnit {
    fn thousandths(&self, rate: &ProtocolRate, active_flows: u64) -> u64 {
        let used = [
            rate.new_flows / self.new_flows_per_second,
            active_flows as f64 / self.active_flows,
            rate.bytes / self.bytes_per_second,
        ];
        (used.into_iter().fold(0.0, f64::max) * 1_000.0).round() as u64
    }
}

/// What has been counted of a load balancer at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    tcp: Total,
    udp: Total,
    tls: Total,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    new_flows: u64,
    bytes: u64,
    packets: u64,
}

impl Total {
    const fn of(usage: &ProtocolUsage) -> Self {
        Self { new_flows: usage.new_flows, bytes: usage.bytes, packets: usage.packets }
    }

    /// A counter whose index has come to stand for something else begins anew.
    const fn since(self, before: Self) -> Self {
        Self {
            new_flows: self.new_flows.saturating_sub(before.new_flows),
            bytes: self.bytes.saturating_sub(before.bytes),
            packets: self.packets.saturating_sub(before.packets),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ProtocolRate {
    new_flows: f64,
    bytes: f64,
}

/// The last minute of all load balancers.
#[derive(Debug, Default)]
pub struct Rates(VecDeque<Sample>);

#[derive(Debug)]
struct Sample {
    /// On the agent's clock, in milliseconds.
    at: u64,
    totals: BTreeMap<LoadBalancerId, Totals>,
}

impl Rates {
    fn note(&mut self, at: u64, usages: &[LoadBalancerUsage]) {
        let totals = |usage: &LoadBalancerUsage| {
            let LoadBalancerUsage { tcp, udp, tls, .. } = usage;
            let totals = Totals { tcp: Total::of(tcp), udp: Total::of(udp), tls: Total::of(tls) };
            (usage.load_balancer.clone(), totals)
        };
        self.0.push_back(Sample { at, totals: usages.iter().map(totals).collect() });
        while self.0.len() > INTERVALS + 1 {
            self.0.pop_front();
        }
    }

    /// Adds what is measured a second to what is counted.
    pub fn complete(&self, usage: &mut LoadBalancerUsage) {
        // One that was not there yet had nothing to count.
        let of = |sample: &Sample| sample.totals.get(&usage.load_balancer).copied().unwrap_or_default();
        let samples: Vec<(u64, Totals)> = self.0.iter().map(|sample| (sample.at, of(sample))).collect();
        let spans = samples.iter().zip(samples.iter().skip(1));
        let per_second =
            |count: u64, from: u64, to: u64| count as f64 * 1_000.0 / to.saturating_sub(from).max(1) as f64;
        for ((from, before), (to, after)) in spans {
            let (tcp, udp) = (after.tcp.since(before.tcp), after.udp.since(before.udp));
            let peak = |count: u64| per_second(count, *from, *to).round() as u64;
            usage.peak_bytes_per_second = usage.peak_bytes_per_second.max(peak(tcp.bytes + udp.bytes));
            usage.peak_packets_per_second = usage.peak_packets_per_second.max(peak(tcp.packets + udp.packets));
        }
        let (mut tcp, mut udp, mut tls) = Default::default();
        if let (Some((from, before)), Some((to, after))) = (samples.first(), samples.last()) {
            let rate = |total: Total| ProtocolRate {
                new_flows: per_second(total.new_flows, *from, *to),
                bytes: per_second(total.bytes, *from, *to),
            };
            let ended = after.tls.since(before.tls);
            // What counts as TLS does not count as TCP again.
            tcp = rate(after.tcp.since(before.tcp).since(ended));
            udp = rate(after.udp.since(before.udp));
            tls = rate(ended);
        }
        usage.tcp.capacity_thousandths = TCP.thousandths(&tcp, usage.tcp.active_flows);
        usage.udp.capacity_thousandths = UDP.thousandths(&udp, usage.udp.active_flows);
        usage.tls.capacity_thousandths = TLS.thousandths(&tls, usage.tls.active_flows);
    }
}

/// Notes every [`INTERVAL`] what has been counted, until `stop`.
pub async fn sample(shared: &Shared, stop: CancellationToken) {
    loop {
        let plan = shared.plan.borrow().clone();
        let wanted = Wanted {
            endpoints: Default::default(),
            listeners: plan.listeners.values().copied().collect(),
            targets: plan.targets.values().copied().collect(),
        };
        let counted = tokio::task::block_in_place(|| shared.dataplane().counts(&wanted));
        match counted {
            Ok(counts) => {
                let state = shared.store.state();
                let usages = usage::load_balancers(
                    &state,
                    &plan,
                    &counts,
                    &Active::default(),
                    &BTreeMap::new(),
                    &usage::tls(&state, shared.relay().status()),
                    &Rates::default(),
                );
                shared.rates().note(shared.now(), &usages);
            }
            Err(error) => tracing::debug!(%error, "the counters cannot be read: rates and peaks miss a moment"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/net/web/0123456789abcdef";

    fn usage(tcp: Total, udp: Total) -> LoadBalancerUsage {
        let of = |total: Total, active_flows| ProtocolUsage {
            active_flows,
            new_flows: total.new_flows,
            bytes: total.bytes,
            packets: total.packets,
            capacity_thousandths: 0,
        };
        LoadBalancerUsage {
            tcp: of(tcp, 50_000),
            udp: of(udp, 0),
            ..LoadBalancerUsage::new(WEB.parse().expect("an ARN"))
        }
    }

    fn total(new_flows: u64, bytes: u64, packets: u64) -> Total {
        Total { new_flows, bytes, packets }
    }

    #[test]
    fn a_peak_is_the_fastest_ten_seconds_of_the_last_minute() {
        let mut rates = Rates::default();
        for (second, bytes) in [(0, 0), (10, 1_000), (20, 51_000), (30, 52_000)] {
            rates.note(second * 1_000, &[usage(total(0, bytes, bytes / 100), Total::default())]);
        }
        let mut seen = usage(total(0, 0, 0), Total::default());
        rates.complete(&mut seen);
        assert_eq!((seen.peak_bytes_per_second, seen.peak_packets_per_second), (5_000, 50));
        for second in 4..12 {
            rates.note(second * 10_000, &[usage(total(0, 52_000, 520), Total::default())]);
        }
        let mut seen = usage(total(0, 0, 0), Total::default());
        rates.complete(&mut seen);
        assert_eq!(seen.peak_bytes_per_second, 0, "the minute is over");
    }

    #[test]
    fn what_a_new_load_balancer_does_before_it_is_seen_counts() {
        let mut rates = Rates::default();
        rates.note(0, &[]);
        rates.note(10_000, &[usage(total(0, 20_000, 100), Total::default())]);
        let mut seen = usage(total(0, 0, 0), Total::default());
        rates.complete(&mut seen);
        assert_eq!((seen.peak_bytes_per_second, seen.peak_packets_per_second), (2_000, 10));
    }

    #[test]
    fn the_dimension_that_is_used_most_counts() {
        let mut rates = Rates::default();
        rates.note(0, &[usage(Total::default(), Total::default())]);
        // 80 flows and 10 MB a second, and 50,000 flows that are open; 100 datagram flows a second.
        rates.note(10_000, &[usage(total(800, 100_000_000, 1), total(1_000, 0, 0))]);
        let mut seen = usage(total(0, 0, 0), Total::default());
        rates.complete(&mut seen);
        assert_eq!((seen.tcp.capacity_thousandths, seen.udp.capacity_thousandths), (36_000, 250));
    }

    #[test]
    fn tls_counts_by_its_own_units_and_not_as_tcp_again() {
        let mut rates = Rates::default();
        let of = |new_flows, bytes| LoadBalancerUsage {
            tls: ProtocolUsage { active_flows: 1_500, new_flows, bytes, ..ProtocolUsage::default() },
            ..usage(total(2 * new_flows, 2 * bytes, 0), Total::default())
        };
        rates.note(0, &[of(0, 0)]);
        // 100 connections a second: two units of TLS, an eighth of one of TCP for the other 100.
        rates.note(10_000, &[of(1_000, 1_000)]);
        let mut seen = LoadBalancerUsage { tcp: ProtocolUsage::default(), ..of(1_000, 1_000) };
        rates.complete(&mut seen);
        assert_eq!((seen.tls.capacity_thousandths, seen.tcp.capacity_thousandths), (2_000, 125));
        // 1,500 that are open are half a unit by themselves.
        let mut idle = LoadBalancerUsage { tcp: ProtocolUsage::default(), ..of(1_000, 1_000) };
        Rates::default().complete(&mut idle);
        assert_eq!((idle.tls.capacity_thousandths, idle.tcp.capacity_thousandths), (500, 0));
    }

    #[test]
    fn open_flows_count_without_any_rate_and_counters_may_begin_anew() {
        let mut seen = usage(total(9, 9, 9), Total::default());
        Rates::default().complete(&mut seen);
        assert_eq!(seen.tcp.capacity_thousandths, 500);
        let mut rates = Rates::default();
        rates.note(0, &[usage(total(100, 100_000, 100), Total::default())]);
        rates.note(10_000, &[usage(Total::default(), Total::default())]);
        rates.complete(&mut seen);
        assert_eq!(seen.peak_bytes_per_second, 0);
    }
}
