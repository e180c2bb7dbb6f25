//! The host port: a veth pair that gives the host's own sockets a place in the datapath, as one more VPC.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::plan::HostPort;
use crate::net::links::{LinkError, LinkService, Pair};

/// The addresses of the host port: carrier-grade NAT space (RFC 6598), which no tenant's network uses as its own.
pub const DEFAULT_PREFIX: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(100, 64, 0, 0), 16) {
    Ok(prefix) => prefix,
    Err(_) => panic!("16 is a prefix length"),
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
    Ok(HostPort { ifindex: port.ifindex, base: pair.prefix.network(), gateway: pair.gateway })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_addresses_lie_in_the_prefix() {
        let pair = pair("0123abcd", DEFAULT_PREFIX);
        assert!(pair.host.len() <= crate::net::links::LONGEST_NAME);
        assert!(pair.prefix.contains(&pair.address) && pair.prefix.contains(&pair.gateway));
        assert!(RANGE.contains(&pair.prefix));
        let last = HostPort { ifindex: 1, base: pair.prefix.network(), gateway: pair.gateway }.internal(65_279);
        assert_eq!(last, Some(pair.prefix.broadcast()));
    }
}
