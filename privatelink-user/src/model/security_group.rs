//! A security group: who may connect to the load balancers and endpoints that carry it, and where such a load balancer
//! may connect to. Rules allow only; what no rule allows is refused. Answers pass by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    InvalidValue, PrefixListId, SecurityGroupId, SecurityGroupRuleId, Vpc, VpcId,
    invalid::{serde_as_text, text_value},
};

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroup {
    pub id: SecurityGroupId,
    /// Unique among the security groups of its VPC.
    pub name: SecurityGroupName,
    pub description: SecurityGroupText,
    /// Only what is in this VPC can carry it.
    pub vpc: VpcId,
    pub rules: BTreeMap<SecurityGroupRuleId, SecurityGroupRule>,
    /// Open flows that the rules do not allow end; without it rules count for new flows only.
    pub applies_to_established: bool,
    pub created_at: Timestamp,
}

impl SecurityGroup {
    /// Rules of one direction that a group may have (AWS: 60, at most 1,000).
    pub const MAX_RULES: usize = 1_000;
    /// Groups that a load balancer or an endpoint may carry (AWS's default).
    pub const MAX_PER_RESOURCE: usize = 5;

    /// The group that every VPC has: made and deleted with it. What carries it may connect to what carries it, and it
    /// may connect everywhere, until its rules are changed. Its ids follow from the VPC's.
    pub fn default_of(vpc: &Vpc) -> Self {
        let id = SecurityGroupId::derived(&["default security group", vpc.id.as_str()]);
        let rule_id = |direction: &str| SecurityGroupRuleId::derived(&["default rule", id.as_str(), direction]);
        let inbound = SecurityGroupRule {
            direction: Direction::Ingress,
            traffic: Traffic::All,
            peer: Peer::Group(id.clone()),
            description: None,
        };
        Self {
            name: SecurityGroupName(SecurityGroupName::DEFAULT.to_owned()),
            description: SecurityGroupText("default VPC security group".to_owned()),
            vpc: vpc.id.clone(),
            rules: [(rule_id("ingress"), inbound), (rule_id("egress"), SecurityGroupRule::allow_all_outbound())].into(),
            applies_to_established: false,
            created_at: vpc.created_at,
            id,
        }
    }

    /// Whether it is its VPC's default group; no other group can have the name.
    pub fn is_default(&self) -> bool {
        self.name.is_default()
    }

    /// The rules of one direction.
    pub fn rules(&self, direction: Direction) -> impl Iterator<Item = (&SecurityGroupRuleId, &SecurityGroupRule)> {
        self.rules.iter().filter(move |(_, rule)| rule.direction == direction)
    }
}

/// The security groups that a load balancer or an endpoint carries. None: everything may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroups {
    pub groups: BTreeSet<SecurityGroupId>,
    /// As [`SecurityGroup::applies_to_established`], for the choice of the groups.
    pub applies_to_established: bool,
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupRule {
    pub direction: Direction,
    pub traffic: Traffic,
    pub peer: Peer,
    pub description: Option<SecurityGroupText>,
}

impl SecurityGroupRule {
    /// What every new group has: it may connect everywhere.
    pub fn allow_all_outbound() -> Self {
        let everywhere = IpNet::V4(Ipv4Net::default());
        Self { direction: Direction::Egress, traffic: Traffic::All, peer: Peer::Cidr(everywhere), description: None }
    }

    /// Whether both allow the same.
    pub fn same(&self, other: &Self) -> bool {
        let Self { direction, traffic, peer, description: _ } = self;
        *direction == other.direction && *traffic == other.traffic && *peer == other.peer
    }
}

impl fmt::Display for SecurityGroupRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, traffic, peer, description: _ } = self;
        match direction {
            Direction::Ingress => write!(f, "{traffic} from {peer}"),
            Direction::Egress => write!(f, "{traffic} to {peer}"),
        }
    }
}

/// Which way connections are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards what carries the group.
    Ingress,
    /// From there.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl FromStr for Direction {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "ingress" => Ok(Self::Ingress),
            "egress" => Ok(Self::Egress),
            _ => Err(InvalidValue::new("Direction", text, "must be one of '[ingress, egress]'", "use ingress")),
        }
    }
}

serde_as_text!(Direction);

/// Protocol and ports of a rule: `all`, `tcp`, `tcp:80`, `udp:1000-2000`, `icmp`, `icmp:3/4` (type and code),
/// `icmpv6:128`, or a protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    All,
    Tcp(PortRange),
    Udp(PortRange),
    Icmp(IcmpKind),
    Icmpv6(IcmpKind),
    /// Another IP protocol, all of it.
    Protocol(u8),
}

/// Destination ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// Nothing if `first` is above `last`.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub fn first(self) -> u16 {
        self.first
    }

    pub fn last(self) -> u16 {
        self.last
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// ICMP messages: all, those of a type, or those of a type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpKind {
    All,
    Type(u8),
    TypeAndCode(u8, u8),
}

impl IcmpKind {
    pub fn contains(self, kind: u8, code: u8) -> bool {
        match self {
            Self::All => true,
            Self::Type(only) => only == kind,
            Self::TypeAndCode(only, with) => (only, with) == (kind, code),
        }
    }
}

/// What is to be allowed: one packet that opens something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opening {
    Tcp(u16),
    Udp(u16),
    /// Type and code.
    Icmp(u8, u8),
    Icmpv6(u8, u8),
}

impl Traffic {
    /// Whether it includes `opening`.
    pub fn contains(self, opening: Opening) -> bool {
        match (self, opening) {
            (Self::All, _) => true,
            (Self::Tcp(ports), Opening::Tcp(port)) | (Self::Udp(ports), Opening::Udp(port)) => ports.contains(port),
            (Self::Icmp(kinds), Opening::Icmp(kind, code)) | (Self::Icmpv6(kinds), Opening::Icmpv6(kind, code)) => {
                kinds.contains(kind, code)
            }
            (Self::Tcp(_) | Self::Udp(_) | Self::Icmp(_) | Self::Icmpv6(_) | Self::Protocol(_), _) => false,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = |f: &mut fmt::Formatter<'_>, name, ports: &PortRange| match *ports {
            PortRange::ALL => f.write_str(name),
            ports => write!(f, "{name}:{ports}"),
        };
        let kinds = |f: &mut fmt::Formatter<'_>, name, kinds: &IcmpKind| match kinds {
            IcmpKind::All => f.write_str(name),
            IcmpKind::Type(kind) => write!(f, "{name}:{kind}"),
            IcmpKind::TypeAndCode(kind, code) => write!(f, "{name}:{kind}/{code}"),
        };
        match self {
            Self::All => f.write_str("all"),
            Self::Tcp(range) => ports(f, "tcp", range),
            Self::Udp(range) => ports(f, "udp", range),
            Self::Icmp(kind) => kinds(f, "icmp", kind),
            Self::Icmpv6(kind) => kinds(f, "icmpv6", kind),
            Self::Protocol(number) => write!(f, "{number}"),
        }
    }
}

impl FromStr for Traffic {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse_traffic(&text.to_ascii_lowercase()).ok_or_else(|| {
            InvalidValue::new(
                "Traffic",
                text,
                "must be 'all', 'tcp', 'udp', 'icmp', 'icmpv6' or a protocol number between '0-255', and can go on with \
                 a colon and a port, a range of ports, or an ICMP type and code",
                "use a form like tcp:443, udp:1000-2000, icmp:3/4 or all",
            )
        })
    }
}

serde_as_text!(Traffic);

fn parse_traffic(text: &str) -> Option<Traffic> {
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    };
    let ports = || match rest {
        None => Some(PortRange::ALL),
        Some(rest) => match rest.split_once('-') {
            Some((first, last)) => PortRange::new(first.parse().ok()?, last.parse().ok()?),
            None => rest.parse().ok().and_then(|port| PortRange::new(port, port)),
        },
    };
    let kinds = || match rest {
        None => Some(IcmpKind::All),
        Some(rest) => match rest.split_once('/') {
            Some((kind, code)) => Some(IcmpKind::TypeAndCode(kind.parse().ok()?, code.parse().ok()?)),
            None => Some(IcmpKind::Type(rest.parse().ok()?)),
        },
    };
    Some(match (name, rest) {
        ("all" | "-1", None) => Traffic::All,
        ("tcp" | "6", _) => Traffic::Tcp(ports()?),
        ("udp" | "17", _) => Traffic::Udp(ports()?),
        ("icmp" | "1", _) => Traffic::Icmp(kinds()?),
        ("icmpv6" | "58", _) => Traffic::Icmpv6(kinds()?),
        (number, None) => Traffic::Protocol(number.parse().ok()?),
        (_, Some(_)) => return None,
    })
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Addresses; host bits are zero.
    Cidr(IpNet),
    /// What a security group of the same VPC stands for ([`Members`]).
    Group(SecurityGroupId),
    /// The addresses of a gateway service. It is a record: none of them is in a VPC here, so nothing comes from there,
    /// and no target is there.
    PrefixList(PrefixListId),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => net.fmt(f),
            Self::Group(group) => group.fmt(f),
            Self::PrefixList(list) => list.fmt(f),
        }
    }
}

impl FromStr for Peer {
    type Err = InvalidValue;

    /// Host bits are cleared, as EC2 does; an address alone is a range of one.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(group) = text.parse() {
            return Ok(Self::Group(group));
        }
        if let Ok(list) = text.parse() {
            return Ok(Self::PrefixList(list));
        }
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(|net| Self::Cidr(net.trunc())).ok_or_else(|| {
            InvalidValue::new(
                "CIDR block",
                text,
                "must be an IPv4 or IPv6 network address, a slash and a prefix length, or the id of a security group",
                "use a range like 10.0.0.0/8, 2001:db8::/32 or 0.0.0.0/0",
            )
        })
    }
}

serde_as_text!(Peer);

/// The addresses that a security group stands for as a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Of what carries the group.
    pub carriers: BTreeSet<IpAddr>,
    /// Of hosts that carry the group because nobody has named another: every VPC's default one.
    pub hosts: Option<Hosts>,
}

/// The hosts of a VPC for which nobody has named a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The VPC's.
    pub range: Ipv4Net,
    /// The VPC's IPv6 range, in which no host is an instance.
    pub ipv6: Option<Ipv6Net>,
    /// Instances in it that carry other groups.
    pub others: BTreeSet<Ipv4Addr>,
}

impl Members {
    pub fn contains(&self, ip: IpAddr) -> bool {
        let host = |hosts: &Hosts| match ip {
            IpAddr::V4(ip) => hosts.range.contains(&ip) && !hosts.others.contains(&ip),
            IpAddr::V6(ip) => hosts.ipv6.is_some_and(|range| range.contains(&ip)),
        };
        self.carriers.contains(&ip) || self.hosts.as_ref().is_some_and(host)
    }

    /// The same as inclusive ranges, which may overlap.
    pub fn ranges(&self) -> Vec<(IpAddr, IpAddr)> {
        let mut ranges: Vec<(IpAddr, IpAddr)> = self.carriers.iter().map(|ip| (*ip, *ip)).collect();
        let Some(Hosts { range, ipv6, others }) = &self.hosts else { return ranges };
        ranges.extend(ipv6.iter().map(|net| (net.network().into(), net.broadcast().into())));
        let four = |first: u32, last: u32| (Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into());
        let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
        let inside = others.iter().map(|ip| u32::from(*ip)).filter(|ip| (first..=last).contains(ip));
        // None: nothing is left behind the last address of all.
        let mut from = Some(first);
        for other in inside {
            ranges.extend(from.filter(|from| *from < other).map(|from| four(from, other - 1)));
            from = other.checked_add(1);
        }
        ranges.extend(from.filter(|from| *from <= last).map(|from| four(from, last)));
        ranges
    }
}

impl Peer {
    /// Whether `ip` is such a peer; `members` says what a group stands for.
    pub fn contains(&self, ip: IpAddr, members: &impl Fn(&SecurityGroupId) -> Members) -> bool {
        match self {
            Self::Cidr(net) => net.contains(&ip),
            Self::Group(group) => members(group).contains(ip),
            Self::PrefixList(_) => false,
        }
    }
}

/// What EC2 allows in a group's name and in descriptions: 1 to 255 letters, digits, spaces and `._-:/()#,@[]+=&;{}!$*`.
fn is_text(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c))
}

const TEXT_RULE: &str = "must be 1 to 255 of a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{}!$*";

/// A security group's name: as [`SecurityGroupText`], not starting with `sg-`, so that it is never mistaken for an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecurityGroupName(String);

impl SecurityGroupName {
    const DEFAULT: &str = "default";

    /// Whether it is the name of VPCs' default groups.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl FromStr for SecurityGroupName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |rule: &str| Err(InvalidValue::new("Group name", text, rule, "use a name like web-clients"));
        if !is_text(text) || text.trim() != text {
            return refuse(TEXT_RULE);
        }
        if text.starts_with("sg-") {
            return refuse("cannot begin with 'sg-', which is reserved");
        }
        Ok(Self(text.to_owned()))
    }
}

text_value!(SecurityGroupName);

/// The description of a security group or of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecurityGroupText(String);

impl fmt::Display for SecurityGroupText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SecurityGroupText {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if is_text(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidValue::new("Description", text, TEXT_RULE, "use a text like Web clients of the shop"))
    }
}

serde_as_text!(SecurityGroupText);

impl From<&SecurityGroupName> for SecurityGroupText {
    fn from(name: &SecurityGroupName) -> Self {
        Self(name.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ranges_of_a_default_group_leave_out_who_carries_another() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
        let any = |text: &str| text.parse::<IpAddr>().expect("an address");
        let others = ["10.0.0.0", "10.0.0.3", "10.0.0.4", "10.0.0.7", "10.1.0.0"].map(ip).into();
        let hosts = Some(Hosts {
            range: "10.0.0.0/29".parse().expect("a range"),
            ipv6: Some("fd00::/64".parse().expect("a range")),
            others,
        });
        let members = Members { carriers: [ip("10.0.0.3").into()].into(), hosts };
        let ranges = [
            ("10.0.0.3", "10.0.0.3"),
            ("fd00::", "fd00::ffff:ffff:ffff:ffff"),
            ("10.0.0.1", "10.0.0.2"),
            ("10.0.0.5", "10.0.0.6"),
        ];
        assert_eq!(members.ranges(), ranges.map(|(first, last)| (any(first), any(last))));
        for last in 0..=255 {
            let one = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
            let in_ranges = members.ranges().iter().any(|(first, last)| (*first..=*last).contains(&one));
            assert_eq!(members.contains(one), in_ranges, "{one}");
        }
    }

    fn traffic() -> impl Strategy<Value = Traffic> {
        let ports = || any::<(u16, u16)>().prop_filter_map("in order", |(first, last)| PortRange::new(first, last));
        let kinds = || {
            prop_oneof![
                Just(IcmpKind::All),
                any::<u8>().prop_map(IcmpKind::Type),
                any::<(u8, u8)>().prop_map(|(kind, code)| IcmpKind::TypeAndCode(kind, code)),
            ]
        };
        prop_oneof![
            Just(Traffic::All),
            ports().prop_map(Traffic::Tcp),
            ports().prop_map(Traffic::Udp),
            kinds().prop_map(Traffic::Icmp),
            kinds().prop_map(Traffic::Icmpv6),
            any::<u8>().prop_filter("named", |n| ![1, 6, 17, 58].contains(n)).prop_map(Traffic::Protocol),
        ]
    }

    proptest! {
        #[test]
        fn traffic_is_read_as_it_is_written(traffic in traffic()) {
            prop_assert_eq!(traffic.to_string().parse(), Ok(traffic));
        }
    }

    #[test]
    fn traffic_has_the_usual_forms() {
        let range = |first, last| PortRange::new(first, last).expect("a range");
        for (text, expected) in [
            ("all", Traffic::All),
            ("-1", Traffic::All),
            ("tcp", Traffic::Tcp(PortRange::ALL)),
            ("TCP:80", Traffic::Tcp(range(80, 80))),
            ("6:80-90", Traffic::Tcp(range(80, 90))),
            ("udp:53", Traffic::Udp(range(53, 53))),
            ("icmp:3/4", Traffic::Icmp(IcmpKind::TypeAndCode(3, 4))),
            ("47", Traffic::Protocol(47)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "tcp:", "tcp:90-80", "tcp:70000", "all:80", "47:1", "256", "icmp:3/", "icmp:300"] {
            assert!(text.parse::<Traffic>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_is_about_its_own_protocol() {
        let tcp: Traffic = "tcp:80-90".parse().expect("traffic");
        assert!(tcp.contains(Opening::Tcp(80)) && tcp.contains(Opening::Tcp(90)));
        assert!(
            !tcp.contains(Opening::Tcp(91)) && !tcp.contains(Opening::Udp(80)) && !tcp.contains(Opening::Icmp(8, 0))
        );
        assert!(Traffic::All.contains(Opening::Icmpv6(128, 0)));
        assert!("icmp:8".parse::<Traffic>().expect("traffic").contains(Opening::Icmp(8, 0)));
        assert!(!"icmp:3/4".parse::<Traffic>().expect("traffic").contains(Opening::Icmp(3, 3)));
    }

    #[test]
    fn a_peer_is_a_range_or_a_group() {
        let text = |text: &str| text.parse::<Peer>().map(|peer| peer.to_string());
        assert_eq!(text("10.1.2.3/8"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(text("10.1.2.3"), Ok("10.1.2.3/32".to_owned()));
        assert_eq!(text("2001:DB8::1/32"), Ok("2001:db8::/32".to_owned()));
        assert_eq!(text("sg-0123456789abcdef0"), Ok("sg-0123456789abcdef0".to_owned()));
        assert!(text("everyone").is_err());
    }
}
