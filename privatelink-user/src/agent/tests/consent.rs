//! Traffic only where there is consent: what the kernel is told follows the states of endpoints.

use super::*;

const STATES: [EndpointState; 4] =
    [EndpointState::PendingAcceptance, EndpointState::Available, EndpointState::Rejected, EndpointState::Expired];

proptest! {
    /// Whatever the states of endpoints and whatever the kernel held before: an address in the consumer's VPC leads
    /// somewhere if and only if its endpoint is available and its service has listeners.
    #[test]
    fn only_available_endpoints_lead_anywhere(
        shapes in shapes(),
        states in prop::collection::vec(0usize..STATES.len(), 16),
        start in garbage(),
    ) {
        let mut inputs = inputs(&shapes);
        let mut states = states.into_iter().cycle();
        for endpoint in Arc::make_mut(&mut inputs.state).endpoints.values_mut() {
            endpoint.state = STATES[states.next().unwrap_or_default()];
        }
        let mut fake = Fake::with(CAPACITY, start);
        pass(&mut fake, &inputs).expect("no failure was asked for");
        let tables = fake.read().expect("the fake reads");
        let led: Vec<_> = tables.frontends.keys().filter(|key| key.vpc == VpcIndex(2)).map(|key| key.ip).collect();
        let mut right = 0;
        for endpoint in inputs.state.endpoints.values() {
            let service = &inputs.state.endpoint_services[&endpoint.service];
            let mut listeners = inputs.state.listeners.values();
            let listens = listeners.any(|listener| service.load_balancers.contains(&listener.load_balancer));
            let open = endpoint.state == EndpointState::Available && listens;
            for address in endpoint.addresses() {
                let found = led.iter().filter(|ip| **ip == address).count();
                prop_assert_eq!(found > 0, open, "{:?} at {}", endpoint.state, address);
                right += found;
            }
        }
        prop_assert_eq!(right, led.len(), "addresses that are nobody's lead somewhere");
    }
}
