//! Security groups, as far as the kernel knows them: who may open a connection where.

use super::*;
use crate::{
    abi::{
        Counter,
        flow::FlowState,
        service::{AddressKind, ListenerFlags},
    },
    testing::script::*,
};

pub fn cases() -> Vec<Case> {
    let outside = A.at([10, 0, 2, 10]);
    vec![
        case("the security groups let a source in")
            .world(office_only)
            .handshake(A)
            .frame(data(A, 100))
            .frame(reply(A, 100))
            .check(Check::EndpointDenied(1, 0)),
        case("a source that no rule names gets no answer")
            .world(office_only)
            .frame(syn(outside).dropped(Counter::SecurityGroupDenied))
            .frame(syn(outside).dropped(Counter::SecurityGroupDenied))
            .check(Check::EndpointRefused(1, 2))
            .check(Check::EndpointDenied(1, 2))
            .check(Check::ListenerDenied(1, 2, 0))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .check(Check::HalfOpenVpc(1, 0)),
        case("whom the security groups refuse, a stray segment tells nothing")
            .world(office_only)
            .frame(data(outside, 10).dropped(Counter::SecurityGroupDenied))
            .frame(fin(outside).dropped(Counter::SecurityGroupDenied))
            .frame(rst(outside).dropped(Counter::SecurityGroupDenied))
            .frame(data(A, 10).reset(Counter::NoFlow)),
        case("the first and the last address of a range are in it")
            .world(office_only)
            .frame(syn(A.at([10, 0, 1, 0])).opens())
            .frame(syn(A.at([10, 0, 1, 255])).opens())
            .frame(syn(A.at([10, 0, 0, 255])).dropped(Counter::SecurityGroupDenied))
            .frame(syn(A.at([10, 0, 2, 0])).dropped(Counter::SecurityGroupDenied)),
        case("many ranges")
            .world(|world| {
                let odd: Vec<_> = (0..100).map(|n| ([10, 0, 9, 2 * n + 1], [10, 0, 9, 2 * n + 1])).collect();
                world.policy(1, &odd, false);
                world.guard(1, ENDPOINT, HTTP, 1);
            })
            .frames([1, 3, 99, 101, 197, 199].map(|last| syn(A.at([10, 0, 9, last])).opens()))
            .frames(
                [0, 2, 100, 102, 198, 200, 201]
                    .map(|last| syn(A.at([10, 0, 9, last])).dropped(Counter::SecurityGroupDenied)),
            ),
        case("every address")
            .world(|world| {
                world.policy(1, &[([0; 4], [255; 4])], false);
                world.guard(1, ENDPOINT, HTTP, 1);
            })
            .frame(syn(A.at([1, 0, 0, 1])).opens())
            .frame(syn(A.at([223, 255, 255, 254])).opens()),
        case("a security group without rules lets nobody in")
            .world(|world| {
                world.policy(1, &[], false);
                world.guard(1, ENDPOINT, HTTP, 1);
            })
            .frame(syn(A).dropped(Counter::SecurityGroupDenied)),
        case("a policy that is not there lets nobody in")
            .world(|world| world.guard(1, ENDPOINT, HTTP, 99))
            .frame(syn(A).dropped(Counter::SecurityGroupDenied)),
        case("an endpoint's security groups are its own")
            .world(office_only)
            .frame(syn(outside).dropped(Counter::SecurityGroupDenied))
            .frame(syn(outside.to(LIMITED)).opens())
            .frame(syn(outside.to_port(HTTPS)).opens()),
        case("an equal address of another VPC is another source")
            .world(|world| {
                world.policy(1, &[], false);
                world.guard(1, ENDPOINT, HTTP, 1);
            })
            .frame(syn(A).dropped(Counter::SecurityGroupDenied))
            .handshake(B)
            .check(Check::EndpointDenied(2, 0)),
        case("rules count for new flows: an open one goes on")
            .world(office_only)
            .handshake(A)
            .change(nobody)
            .frame(data(A, 100))
            .frame(reply(A, 100))
            .frame(syn(A.from_port(2)).dropped(Counter::SecurityGroupDenied))
            .collect(&[])
            .check(Check::State(A, FlowState::Established)),
        case("a handshake that began under other rules ends well")
            .world(office_only)
            .frame(syn(A).opens())
            .change(nobody)
            .frame(syn(A))
            .frame(syn_ack(A))
            .frame(ack(A).establishes()),
        case("rules that let more in count at the next packet")
            .world(office_only)
            .frame(syn(outside).dropped(Counter::SecurityGroupDenied))
            .change(|world| world.policy(1, &[([10, 0, 0, 0], [10, 0, 255, 255])], false))
            .frame(syn(outside).opens()),
        case("security groups taken off let everybody in")
            .world(office_only)
            .frame(syn(outside).dropped(Counter::SecurityGroupDenied))
            .change(|world| world.guard(1, ENDPOINT, HTTP, 0))
            .frame(syn(outside).opens()),
        case("rules that end open flows do so at the next sweep")
            .world(office_only)
            .handshake(A)
            .handshake(A.from_port(2))
            .handshake(B)
            .change(|world| world.policy(1, &[], true))
            .collect(&[(Counter::FlowEndedBySecurityGroup, 2)])
            .check(Check::Flows(1))
            .check(Check::PoolUsed(0, 1))
            .frame(data(A, 10).dropped(Counter::SecurityGroupDenied))
            .frame(data(B, 10)),
        case("rules that end open flows leave those that they allow")
            .world(office_only)
            .handshake(A)
            .handshake(A.at([10, 0, 1, 20]))
            .change(|world| world.policy(1, &[(CLIENT, CLIENT)], true))
            .collect(&[(Counter::FlowEndedBySecurityGroup, 1)])
            .check(Check::State(A, FlowState::Established))
            .collect(&[]),
        case("half-open flows end too, and give their budgets back")
            .world(office_only)
            .frame(syn(A).opens())
            .change(|world| world.policy(1, &[], true))
            .collect(&[(Counter::FlowEndedBySecurityGroup, 1)])
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::HalfOpenEndpoint(1, 0))
            .check(Check::Entries(0)),
        case("a load balancer's own address is guarded as well")
            .world(|world| {
                world.address(1, NODE_IN_A, AddressKind::Node);
                world.frontend(1, NODE_IN_A, HTTP, 1, 0);
                world.policy(1, &[([10, 0, 1, 0], [10, 0, 1, 255])], false);
                world.guard(1, NODE_IN_A, HTTP, 1);
            })
            .frame(syn(A.to(NODE_IN_A)).opens())
            .frame(syn(outside.to(NODE_IN_A)).dropped(Counter::SecurityGroupDenied))
            .check(Check::ListenerDenied(1, 1, 0)),
        case("health checks pass by the inbound rules")
            .world(|world| {
                world.policy(1, &[], false);
                for vpc in [1, 2, 4, 5, 6, 7, 8] {
                    world.guard(vpc, ENDPOINT, HTTP, 1);
                }
            })
            .handshake(ON_HOST),
        case("a load balancer that may connect to no target refuses by name")
            .world(|world| {
                world.listeners.get_mut(&3).expect("listener").flags = ListenerFlags::OUTBOUND_DENIED;
            })
            .frame(syn(A.to_port(EMPTY)).dropped(Counter::SecurityGroupDeniedOutbound))
            .check(Check::ListenerDenied(3, 0, 1))
            .check(Check::EndpointRefused(1, 1)),
    ]
}

/// A load balancer's address in VPC 1.
const NODE_IN_A: [u8; 4] = [10, 0, 0, 6];

/// The endpoint of VPC 1 lets in 10.0.1.0/24.
fn office_only(world: &mut World) {
    world.policy(1, &[([10, 0, 1, 0], [10, 0, 1, 255])], false);
    world.guard(1, ENDPOINT, HTTP, 1);
}

fn nobody(world: &mut World) {
    world.policy(1, &[], false);
}
