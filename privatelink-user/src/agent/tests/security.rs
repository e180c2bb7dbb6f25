//! Security groups, from the state to what the kernel finds.

use privatelink_ebpf::abi::{Ip4, security::Bound, service::ListenerFlags};

use super::*;
use crate::agent::desired::first_check_listener;
use crate::model::{
    Direction, EndpointId, LoadBalancerId, SecurityGroup, SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId,
};

/// A group of VPC `vpc` with these rules: direction, traffic, peer.
fn group(number: usize, vpc_number: u16, rules: &[(Direction, &str, &str)]) -> SecurityGroup {
    let rule = |(index, (direction, traffic, peer)): (usize, &(Direction, &str, &str))| {
        let id: SecurityGroupRuleId = format!("sgr-{}", hex(number * 100 + index, 17)).parse().expect("an id");
        let traffic = traffic.parse().expect("traffic");
        let peer = peer.parse().expect("a peer");
        (id, SecurityGroupRule { direction: *direction, traffic, peer, description: None })
    };
    SecurityGroup {
        id: group_ref(number),
        name: format!("group {number}").parse().expect("a name"),
        description: "a group".parse().expect("a text"),
        vpc: vpc(vpc_number).id,
        rules: rules.iter().enumerate().map(rule).collect(),
        applies_to_established: false,
        created_at: now(),
    }
}

fn group_ref(number: usize) -> SecurityGroupId {
    format!("sg-{}", hex(number, 17)).parse().expect("an id")
}

fn carry(groups: &[usize]) -> SecurityGroups {
    SecurityGroups { groups: groups.iter().copied().map(group_ref).collect(), applies_to_established: false }
}

/// One load balancer with a healthy target, one listener on port 8000, one endpoint.
struct Bed {
    inputs: Inputs,
    fake: Fake,
    endpoint: EndpointId,
    lb: LoadBalancerId,
}

impl Bed {
    fn new() -> Self {
        let mut shape = one_group(&[(7, Shape::Healthy, false)]);
        shape[0].endpoints = 1;
        let inputs = inputs(&shape);
        let endpoint = inputs.state.endpoints.keys().next().expect("an endpoint").clone();
        let lb = inputs.state.load_balancers.keys().next().expect("a load balancer").clone();
        Self { inputs, fake: Fake::new(CAPACITY), endpoint, lb }
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(Arc::make_mut(&mut self.inputs.state));
        self.inputs.state.check_invariants().expect("a state that may be");
        pass(&mut self.fake, &self.inputs).expect("no failure was asked for");
        let (_, operations) = pass(&mut self.fake, &self.inputs).expect("no failure was asked for");
        assert_eq!(operations, 0, "one pass is enough");
    }

    fn frontend(&self, vpc: u16, ip: Ipv4Addr) -> Frontend {
        let key = FrontendAt::new(VpcIndex(vpc), ip, 8_000, Proto::Tcp);
        self.fake.read().expect("the fake reads").frontends[&key]
    }

    /// What the kernel would say.
    fn admits(&self, frontend: Frontend, source: [u8; 4]) -> bool {
        if frontend.policy == 0 {
            return true;
        }
        let tables = self.fake.read().expect("the fake reads");
        let source = Bound::v4(Ip4::from_wire(source));
        tables.policies[&frontend.policy].bounds.iter().filter(|bound| **bound <= source).count() % 2 == 1
    }

    fn at_endpoint(&self, source: [u8; 4]) -> bool {
        let address = self.inputs.state.endpoints[&self.endpoint].address;
        self.admits(self.frontend(2, address), source)
    }

    fn at_node(&self, source: [u8; 4]) -> bool {
        let address = self.inputs.state.load_balancers[&self.lb].addresses[0];
        self.admits(self.frontend(1, address), source)
    }

    fn endpoint_carries(&mut self, groups: &[usize]) {
        let (endpoint, groups) = (self.endpoint.clone(), carry(groups));
        self.change(|state| state.endpoints.get_mut(&endpoint).expect("it").security_groups = groups);
    }

    fn lb_carries(&mut self, groups: &[usize]) {
        let (lb, groups) = (self.lb.clone(), carry(groups));
        self.change(|state| state.load_balancers.get_mut(&lb).expect("it").security_groups = groups);
    }
}

const OFFICE: [u8; 4] = [10, 9, 0, 1];
const OTHER: [u8; 4] = [10, 8, 0, 1];

#[test]
fn an_endpoint_lets_in_what_one_of_its_groups_allows() {
    let mut bed = Bed::new();
    bed.change(|state| {
        state.put(group(1, 2, &[(Direction::Ingress, "tcp:8000", "10.9.0.0/16")]).into());
        state.put(group(2, 2, &[(Direction::Ingress, "tcp:7000-9000", "10.7.0.0/16")]).into());
        state.put(group(3, 2, &[(Direction::Ingress, "udp:8000", "0.0.0.0/0")]).into());
    });
    assert!(bed.at_endpoint(OTHER), "without a group everything may pass");
    bed.endpoint_carries(&[1]);
    assert!(bed.at_endpoint(OFFICE) && !bed.at_endpoint(OTHER) && !bed.at_endpoint([10, 7, 0, 1]));
    bed.endpoint_carries(&[1, 2]);
    assert!(bed.at_endpoint(OFFICE) && !bed.at_endpoint(OTHER) && bed.at_endpoint([10, 7, 0, 1]));
    bed.endpoint_carries(&[3]);
    assert!(!bed.at_endpoint(OFFICE), "a rule for UDP says nothing about TCP");
    bed.endpoint_carries(&[]);
    assert!(bed.at_endpoint(OTHER));
}

#[test]
fn a_change_of_rules_switches_the_policy_and_leaves_the_frontend() {
    let mut bed = Bed::new();
    bed.change(|state| state.put(group(1, 2, &[(Direction::Ingress, "all", "10.9.0.0/16")]).into()));
    bed.endpoint_carries(&[1]);
    bed.fake.log.clear();
    bed.change(|state| state.put(group(1, 2, &[(Direction::Ingress, "all", "10.8.0.0/16")]).into()));
    assert!(!bed.at_endpoint(OFFICE) && bed.at_endpoint(OTHER));
    let tables: Vec<&str> = bed.fake.log.iter().map(Op::table).collect();
    // Of the listener, and of echo requests, which share the set.
    assert_eq!(tables, ["SOURCE_BOUNDS", "POLICIES", "POLICIES"], "written beside the old, then switched");
}

#[test]
fn a_load_balancer_s_rules_count_behind_endpoints_while_they_are_enforced() {
    let mut bed = Bed::new();
    bed.change(|state| {
        let group_of_provider =
            [(Direction::Ingress, "tcp:8000", "10.9.0.0/16"), (Direction::Egress, "all", "0.0.0.0/0")];
        state.put(group(1, 1, &group_of_provider).into());
        state.put(
            group(2, 2, &[(Direction::Ingress, "all", "10.9.0.0/24"), (Direction::Ingress, "all", "10.8.0.0/16")])
                .into(),
        );
    });
    bed.lb_carries(&[1]);
    assert!(bed.at_node(OFFICE) && !bed.at_node(OTHER));
    assert!(bed.at_endpoint(OFFICE) && !bed.at_endpoint(OTHER));
    bed.endpoint_carries(&[2]);
    assert!(bed.at_endpoint(OFFICE) && !bed.at_endpoint(OTHER) && !bed.at_endpoint([10, 9, 1, 1]), "both must allow");
    let lb = bed.lb.clone();
    bed.change(|state| state.load_balancers.get_mut(&lb).expect("it").enforce_on_private_link = false);
    assert!(bed.at_endpoint(OTHER) && !bed.at_endpoint([10, 9, 1, 1]) && !bed.at_node(OTHER));
}

#[test]
fn a_group_stands_for_what_carries_it_in_its_own_vpc_only() {
    let mut bed = Bed::new();
    let (node, address) = {
        let state = &bed.inputs.state;
        (state.load_balancers[&bed.lb].addresses[0], state.endpoints[&bed.endpoint].address)
    };
    bed.change(|state| {
        let itself = group_ref(1).to_string();
        state.put(group(1, 1, &[(Direction::Ingress, "all", &itself), (Direction::Egress, "all", "0.0.0.0/0")]).into());
    });
    bed.lb_carries(&[1]);
    assert!(bed.at_node(node.octets()) && !bed.at_node(OFFICE));
    assert!(!bed.at_endpoint(node.octets()), "an equal address of the consumer's VPC is somebody else");
    bed.lb_carries(&[]);
    bed.change(|state| {
        let itself = group_ref(2).to_string();
        state.put(group(2, 2, &[(Direction::Ingress, "all", &itself)]).into());
    });
    bed.endpoint_carries(&[2]);
    assert!(bed.at_endpoint(address.octets()) && !bed.at_endpoint(OFFICE));
}

#[test]
fn the_default_group_stands_for_the_hosts_of_its_vpc_as_well() {
    let mut bed = Bed::new();
    let range = bed.inputs.state.vpcs[&vpc(2).id].cidr.net();
    let inside = Ipv4Addr::from(u32::from(range.network()) + 77).octets();
    let outside = [192, 168, 0, 1];
    assert!(!range.contains(&Ipv4Addr::from(outside)));
    bed.change(|state| {
        let default = SecurityGroup::default_of(&state.vpcs[&vpc(2).id]);
        let id = default.id.clone();
        state.put(default.into());
        let endpoint = state.endpoints.values_mut().next().expect("an endpoint");
        endpoint.security_groups.groups = [id].into();
    });
    assert!(bed.at_endpoint(inside) && !bed.at_endpoint(outside));
    bed.change(|state| state.security_groups.values_mut().for_each(|group| group.rules.clear()));
    assert!(!bed.at_endpoint(inside), "its rules can be taken away");
}

#[test]
fn outbound_rules_decide_about_targets_and_their_checks() {
    let mut bed = Bed::new();
    let listener = |bed: &Bed| {
        let address = bed.inputs.state.endpoints[&bed.endpoint].address;
        bed.fake.read().expect("the fake reads").listeners[&bed.frontend(2, address).listener].clone()
    };
    bed.change(|state| state.put(group(1, 1, &[(Direction::Egress, "tcp:80", "10.0.1.0/24")]).into()));
    bed.lb_carries(&[1]);
    assert_eq!((listener(&bed).ring.len(), listener(&bed).record.flags), (1, ListenerFlags::default()));
    bed.change(|state| state.put(group(1, 1, &[(Direction::Egress, "tcp:81", "10.0.1.0/24")]).into()));
    assert_eq!((listener(&bed).ring.len(), listener(&bed).record.flags), (0, ListenerFlags::OUTBOUND_DENIED));
    let tables = bed.fake.read().expect("the fake reads");
    let checks: Vec<_> = tables.listeners.range(first_check_listener(CAPACITY)..).collect();
    assert!(!checks.is_empty() && checks.iter().all(|(_, found)| found.record.flags == ListenerFlags::OUTBOUND_DENIED));
}

#[test]
fn open_flows_end_where_the_rules_or_their_choice_say_so() {
    let mut bed = Bed::new();
    let established = |bed: &Bed| {
        let address = bed.inputs.state.endpoints[&bed.endpoint].address;
        bed.fake.read().expect("the fake reads").policies[&bed.frontend(2, address).policy].record.established()
    };
    bed.change(|state| state.put(group(1, 2, &[]).into()));
    bed.endpoint_carries(&[1]);
    assert!(!established(&bed));
    bed.change(|state| {
        state.security_groups.get_mut(&group_ref(1)).expect("it").applies_to_established = true;
    });
    assert!(established(&bed));
}

#[test]
fn sources_without_room_keep_a_frontend_closed() {
    let mut bed = Bed::new();
    let nets: Vec<String> = (0..250).map(|n| format!("10.{n}.0.0/24")).collect();
    let rules: Vec<_> = nets.iter().map(|net| (Direction::Ingress, "all", net.as_str())).collect();
    let state = Arc::make_mut(&mut bed.inputs.state);
    state.put(group(1, 2, &rules).into());
    state.endpoints.get_mut(&bed.endpoint).expect("it").security_groups = carry(&[1]);
    let error = pass(&mut bed.fake, &bed.inputs).expect_err("500 bounds where there is room for 399");
    assert!(error.to_string().contains("SOURCE_BOUNDS is full"), "{error}");
    let address = bed.inputs.state.endpoints[&bed.endpoint].address;
    let key = FrontendAt::new(VpcIndex(2), address, 8_000, Proto::Tcp);
    assert!(!bed.fake.read().expect("the fake reads").frontends.contains_key(&key));
}
