//! The DNS names that follow from resources: of endpoints, endpoint services and load balancers. Their one place.
//!
//! ```text
//! vpce-0123…-abcdefgh.vpce-svc-4567….us-east-1.vpce.amazonaws.com               an endpoint, all of its zones
//! vpce-0123…-abcdefgh-us-east-1a.vpce-svc-4567….us-east-1.vpce.amazonaws.com    the same endpoint in one zone
//! vpce-svc-4567….us-east-1.vpce.amazonaws.com                                   an endpoint service
//! web-89abcdef01234567.elb.us-east-1.amazonaws.com                              a load balancer, all of its zones
//! us-east-1a.web-89abcdef01234567.elb.us-east-1.amazonaws.com                   the same load balancer in one zone
//! ```

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use super::{
    Endpoint, EndpointNames, EndpointServiceId, InvalidValue, IpFamily, LoadBalancer, LoadBalancerId, Region, State,
    Subnet, VpcId, Zone, derived,
};

/// The domain under which all these names are; `amazonaws.com` unless the agent is told another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceDomain(String);

impl ServiceDomain {
    /// The longest one, in bytes, that leaves room for the longest name below it in the 253 of a DNS name (RFC 1035
    /// section 2.3.4): an endpoint's zonal name in a region of 30 characters.
    pub const MAX_LEN: usize = 120;

    /// The domain's text: lower case, without a dot at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Below it are the names of endpoints and endpoint services.
    pub fn endpoints(&self) -> String {
        format!("vpce.{self}")
    }

    /// Below it are the names of the load balancers of `region`.
    pub fn load_balancers(&self, region: &str) -> String {
        format!("elb.{region}.{self}")
    }

    /// The base of the names of a service's endpoints.
    pub fn endpoint_service(&self, region: &Region, service: &EndpointServiceId) -> String {
        format!("{service}.{region}.{}", self.endpoints())
    }

    /// The name that leads to an endpoint in all of its zones.
    pub fn endpoint(&self, endpoint: &Endpoint) -> String {
        let base = self.endpoint_service(endpoint.service_region(), &endpoint.service);
        format!("{}.{base}", endpoint_label(endpoint))
    }

    /// The name that leads to an endpoint in one zone.
    pub fn endpoint_in_zone(&self, endpoint: &Endpoint, zone: &str) -> String {
        let base = self.endpoint_service(endpoint.service_region(), &endpoint.service);
        format!("{}-{zone}.{base}", endpoint_label(endpoint))
    }

    /// The name that leads to a load balancer in all of its zones.
    pub fn load_balancer(&self, id: &LoadBalancerId) -> String {
        let (region, _) = id.scope();
        format!("{}.{}", id.suffix().replace('/', "-").to_ascii_lowercase(), self.load_balancers(region))
    }

    /// The name that leads to a load balancer in one zone.
    pub fn load_balancer_in_zone(&self, id: &LoadBalancerId, zone: &str) -> String {
        format!("{zone}.{}", self.load_balancer(id))
    }
}

/// The first label of an endpoint's name; eight characters make it hard to guess for who knows the id.
fn endpoint_label(endpoint: &Endpoint) -> String {
    format!("{}-{}", endpoint.id, derived::label(8, &["endpoint name", endpoint.id.as_str()]))
}

impl Default for ServiceDomain {
    fn default() -> Self {
        Self("amazonaws.com".to_owned())
    }
}

impl fmt::Display for ServiceDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ServiceDomain {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match host_name(text, Self::MAX_LEN) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(rule) => Err(InvalidValue::new(
                "service domain",
                text,
                rule,
                "use a domain like amazonaws.com or internal.example",
            )),
        }
    }
}

/// Whether `text` is a host name of at most `longest` bytes, written in lower case and without a dot at the end: labels
/// of 1 to 63 letters, digits and inner hyphens (RFC 1035 section 2.3.1, RFC 1123 section 2.1). Else the rule that it
/// breaks.
pub(super) fn host_name(text: &str, longest: usize) -> Result<(), String> {
    let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(letters)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > longest {
        Err(format!("cannot be longer than '{longest}' characters"))
    } else if !text.split('.').all(label) {
        Err("must be labels of 1 to 63 lower-case letters, digits and inner hyphens, with dots between them".to_owned())
    } else {
        Ok(())
    }
}

/// An address and the name of the availability zone that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZonedAddress {
    /// Such as `us-east-1a`.
    pub zone: String,
    pub address: IpAddr,
}

impl State {
    /// The zone of an address: that of its subnet; the first one for an address in none.
    fn zone_of(&self, vpc: &VpcId, region: &Region, address: IpAddr) -> String {
        self.subnet_of(vpc, address).map_or(Zone::A, |subnet| subnet.zone).name(region)
    }

    /// The subnet of `vpc` in which `address` lies.
    pub fn subnet_of(&self, vpc: &VpcId, address: impl Into<IpAddr>) -> Option<&Subnet> {
        let address = address.into();
        self.subnets.values().find(|subnet| subnet.vpc == *vpc && subnet.contains(address))
    }

    /// The addresses of an endpoint with their zones.
    pub fn endpoint_zones(&self, endpoint: &Endpoint) -> Vec<ZonedAddress> {
        let region = &endpoint.owner.region;
        let zoned = |address| ZonedAddress { zone: self.zone_of(&endpoint.vpc, region, address), address };
        endpoint.all_addresses().map(zoned).collect()
    }

    /// The addresses that an endpoint's `names` have records for, with their zones.
    pub fn endpoint_records(&self, endpoint: &Endpoint, names: EndpointNames) -> Vec<ZonedAddress> {
        let records = endpoint.dns_record_ip_type();
        let has = |zoned: &ZonedAddress| records.has(names, IpFamily::of(zoned.address));
        self.endpoint_zones(endpoint).into_iter().filter(has).collect()
    }

    /// The node addresses of a load balancer with their zones.
    pub fn load_balancer_zones(&self, lb: &LoadBalancer) -> Vec<ZonedAddress> {
        let Some(region) = lb.id.region() else { return Vec::new() };
        let zoned = |address| ZonedAddress { zone: self.zone_of(&lb.vpc, &region, address), address };
        lb.nodes().map(zoned).collect()
    }

    /// The names that lead to an endpoint, in the order in which AWS lists them: regional, then one a zone, then the
    /// private one, which leads to it in its VPC.
    pub fn endpoint_names(&self, endpoint: &Endpoint) -> Vec<String> {
        let domain = &self.service_domain;
        let mut zones: Vec<String> = self.endpoint_zones(endpoint).into_iter().map(|zoned| zoned.zone).collect();
        let mut seen = BTreeSet::new();
        zones.retain(|zone| seen.insert(zone.clone()));
        let zonal = zones.iter().map(|zone| domain.endpoint_in_zone(endpoint, zone));
        let private = endpoint.private_dns.iter().map(ToString::to_string);
        std::iter::once(domain.endpoint(endpoint)).chain(zonal).chain(private).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{EndpointState, Owner};

    fn endpoint() -> Endpoint {
        Endpoint {
            id: "vpce-0123456789abcdef0".parse().expect("an id"),
            owner: Owner::example(),
            service: "vpce-svc-0123456789abcdef1".parse().expect("an id"),
            vpc: "vpc-0123456789abcdef2".parse().expect("an id"),
            address: std::net::Ipv4Addr::new(10, 0, 0, 50),
            ipv6_addresses: Vec::new(),
            further_addresses: Vec::new(),
            state: EndpointState::Available,
            policy: None,
            security_groups: Default::default(),
            private_dns: None,
            limits: Default::default(),
            payer: Default::default(),
            private_dns_on_acceptance: false,
            dns_record_ip_type: None,
            service_region: None,
            aliases: Default::default(),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn names_have_their_documented_forms() {
        let names = State::default().endpoint_names(&endpoint());
        let label = derived::label(8, &["endpoint name", "vpce-0123456789abcdef0"]);
        let base = "vpce-svc-0123456789abcdef1.us-east-1.vpce.amazonaws.com";
        assert_eq!(
            names,
            [
                format!("vpce-0123456789abcdef0-{label}.{base}"),
                format!("vpce-0123456789abcdef0-{label}-us-east-1a.{base}"),
            ]
        );
        let id = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/Web/0123456789abcdef";
        let id = id.parse().expect("an ARN");
        let domain: ServiceDomain = "link.example".parse().expect("a domain");
        assert_eq!(domain.load_balancer(&id), "web-0123456789abcdef.elb.us-east-1.link.example");
        assert_eq!(
            domain.load_balancer_in_zone(&id, "us-east-1a"),
            "us-east-1a.web-0123456789abcdef.elb.us-east-1.link.example"
        );
    }

    #[test]
    fn the_longest_name_is_a_dns_name() {
        let domain: ServiceDomain = format!("{0}.{1}", "a".repeat(63), "b".repeat(56)).parse().expect("the longest");
        let mut endpoint = endpoint();
        endpoint.owner.region = "r".repeat(30).parse().expect("the longest region");
        let zone = Zone::A.name(&endpoint.owner.region);
        let name = domain.endpoint_in_zone(&endpoint, &zone);
        assert!(name.len() <= 253, "{}", name.len());
        assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
    }

    #[test]
    fn a_service_domain_is_a_host_name() {
        for text in
            ["", ".", "a.", ".a", "A.example", "a..b", "-a.b", "a-.b", "a b", "ä.example", "a_b", &"a".repeat(64)]
        {
            assert!(text.parse::<ServiceDomain>().is_err(), "'{text}' was accepted");
        }
        for text in ["internal", "amazonaws.com", "a-1.b2"] {
            assert_eq!(text.parse::<ServiceDomain>().expect("a domain").as_str(), text);
        }
    }
}
