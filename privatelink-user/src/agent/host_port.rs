//! The host port: a veth pair that gives the host's own sockets a place in the datapath, as one more VPC.

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::plan::{HostPort, internal_ipv6};
use crate::net::links::{LinkError, LinkService, Pair, PairIpv6};

/// The addresses of the host port: carrier-grade NAT space (RFC 6598), which no tenant's network uses as its own. The
/// lower half is for targets, the upper half for VPCs, of which there are up to 65,534.
pub const DEFAULT_PREFIX: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(100, 64, 0, 0), 15) {
    Ok(prefix) => prefix,
    Err(_) => panic!("15 is a prefix length"),
};

/// The range that the prefix must lie in.
pub const RANGE: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(100, 64, 0, 0), 10) {
    Ok(prefix) => prefix,
    Err(_) => panic!("10 is a prefix length"),
};

/// Health checks are small; the pair needs no more than every network carries.
const MTU: u32 = 1_500;

/// What the pair of an instance is.
pub fn pair(instance: &str, prefix: Ipv4Net) -> Pair {
    let at = |offset: u32| Ipv4Addr::from(u32::from(prefix.network()).saturating_add(offset));
    Pair {
        host: format!("plh{instance}"),
        port: format!("plp{instance}"),
        address: at(1),
        gateway: at(2),
        prefix,
        mtu: MTU,
    }
}

/// Makes the pair; the datapath's end of it.
///
/// # Errors
///
/// [`LinkError`].
pub async fn ensure(service: &LinkService, pair: &Pair) -> Result<HostPort, LinkError> {
    let (_, port) = service.ensure_pair(pair).await?;
    Ok(HostPort::new(port.ifindex, pair.prefix, pair.gateway))
}

/// The same addresses and prefix in IPv6.
fn ipv6(pair: &Pair) -> PairIpv6 {
    let (network, length) = (internal_ipv6(pair.prefix.network()), 96 + pair.prefix.prefix_len());
    PairIpv6 {
        address: internal_ipv6(pair.address),
        gateway: internal_ipv6(pair.gateway),
        prefix: Ipv6Net::new_assert(network, length),
    }
}

/// Gives the pair its IPv6 side, which checks of IPv6 targets need.
///
/// # Errors
///
/// [`LinkError`].
pub async fn ensure_ipv6(service: &LinkService, pair: &Pair) -> Result<(), LinkError> {
    service.ensure_ipv6(pair, &ipv6(pair)).await
}

#[cfg(test)]
mod tests {
    use privatelink_ebpf::abi::VpcIndex;

    use super::*;

    #[test]
    fn names_fit_the_kernel_and_addresses_lie_in_the_prefix() {
        let pair = pair("0123abcd", DEFAULT_PREFIX);
        assert!(pair.host.len() <= crate::net::links::LONGEST_NAME);
        assert!(pair.prefix.contains(&pair.address) && pair.prefix.contains(&pair.gateway));
        assert!(RANGE.contains(&pair.prefix));
        let host_port = HostPort::new(1, pair.prefix, pair.gateway);
        assert_eq!(
            host_port.internal(65_279, crate::model::IpFamily::Ipv4),
            Some(Ipv4Addr::new(100, 64, 255, 255).into())
        );
        for vpc in [1, 258, 65_534].map(VpcIndex) {
            let address = host_port.of_vpc(vpc).expect("in the prefix");
            assert!(pair.prefix.contains(&address), "{address}");
            assert_eq!(host_port.vpc_of(address), Some(vpc));
        }
        assert_eq!(host_port.of_vpc(VpcIndex(258)), Some(Ipv4Addr::new(100, 65, 1, 2)));
        assert_eq!(host_port.vpc_of(pair.address), None);
        assert_eq!(
            HostPort::new(1, "100.64.0.0/24".parse().expect("a prefix"), pair.gateway).of_vpc(VpcIndex(128)),
            None
        );
    }
}
