//! Stickiness, and target groups whose weight becomes 0.

use super::*;
use crate::{
    abi::{
        Counter,
        flow::FlowState,
        service::{Listener, ListenerFlags, Parted},
    },
    testing::script::*,
};

pub fn cases() -> Vec<Case> {
    let web = A.to_port(HTTPS);
    let ports = || (1..=24).map(|port| syn(web.from_port(port)).opens());
    vec![
        case("without stickiness a client's connections are spread").frames(ports()).check(Check::TargetsUsed(3)),
        case("Katran: source-ip hashing; all connections of a client go to one target")
            .world(|world| listener(world).flags = ListenerFlags::STICKY)
            .frames(ports())
            .check(Check::TargetsUsed(1)),
        case("clients are spread although each is sticky")
            .world(|world| listener(world).flags = ListenerFlags::STICKY)
            .frames((1..=24).map(|last| syn(web.at([10, 0, 7, last])).opens()))
            .check(Check::TargetsUsed(3)),
        case("a client stays in the row of a target group and is spread within it")
            .world(|world| {
                // Rows of target 1 alone, and rows of targets 2 to 4.
                let ring: Vec<u32> = (0..4)
                    .flat_map(|row| (0..Listener::COLUMNS).map(move |column| if row == 3 { 1 } else { 2 + column % 3 }))
                    .collect();
                world.listener(2, 350, &ring);
                listener(world).flags = ListenerFlags::STICKY_ROWS;
            })
            .frames(ports())
            .check(Check::TargetsUsed(3)),
        case("clients are spread over the rows")
            .world(|world| {
                let ring: Vec<u32> = (0..4).flat_map(|row| (0..Listener::COLUMNS).map(move |_| 1 + row)).collect();
                world.listener(2, 350, &ring);
                listener(world).flags = ListenerFlags::STICKY_ROWS;
            })
            .frames((1..=24).map(|last| syn(web.at([10, 0, 7, last])).opens()))
            .check(Check::TargetsUsed(4))
            .frames((1..=24).map(|last| syn(web.at([10, 0, 7, last]).from_port(2)).opens()))
            .check(Check::TargetsUsed(4)),
        case("flows to a target whose weight became 0 end at the next sweep")
            .handshake(A)
            .handshake(A.from_port(2))
            .handshake(web)
            .change(|world| _ = world.parted.insert(Parted { listener: 1, target: 1 }))
            .frame(data(A, 10))
            .collect(&[(Counter::FlowEndedByWeight, 2)])
            .check(Check::Flows(1))
            .check(Check::PoolUsed(0, 0))
            .check(Check::State(web, FlowState::Established))
            .frame(data(A, 10).reset(Counter::NoFlow)),
        case("another listener's flows to the same target go on")
            .handshake(A)
            .handshake(A.to_port(SHORT))
            .change(|world| _ = world.parted.insert(Parted { listener: 7, target: 1 }))
            .collect(&[(Counter::FlowEndedByWeight, 1)])
            .check(Check::State(A, FlowState::Established)),
    ]
}

fn listener(world: &mut World) -> &mut Listener {
    world.listeners.get_mut(&2).expect("the listener with several targets")
}
