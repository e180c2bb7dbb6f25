//! Operations on states, through one door that checks what must hold after every one of them.

mod accounts;
mod aliases;
mod cascade;
mod consent;
mod declarations;
mod dns_targets;
mod forward;
mod instances;
mod nodes;
mod notes;
mod notifications;
mod private_dns;
mod protocols;
mod publish;
mod refusals;
mod routes;
mod rules;
mod security_groups;
mod tls;
mod walk;

use jiff::Timestamp;

use super::{
    endpoint_services::*, endpoints::*, listeners::*, load_balancers::*, ports::*, target_groups::*, targets::*,
    vpcs::*, *,
};
use crate::model::{AccountId, IdSource, Identity, Owner, Region, State};

/// Identifiers in a row.
#[derive(Default)]
struct Counter(u64);

impl IdSource for Counter {
    fn hex(&mut self, digits: usize) -> String {
        self.0 += 1;
        format!("{:0digits$x}", self.0)
    }
}

/// A state, its clock and its identifiers; every accepted change must keep the invariants, every refused one the state.
pub(crate) struct World {
    pub(crate) state: State,
    /// Who calls.
    account: AccountId,
    region: Region,
    identity: Identity,
    ids: Counter,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self {
            state: State::default(),
            account: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            identity: Identity::Root,
            ids: Counter::default(),
            now: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn with_context<T>(
        &mut self,
        run: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, T), ControlError>,
    ) -> Result<T, ControlError> {
        let owner = self.owner();
        let (before, world) = (self.state.clone(), self.state.clone());
        let (region, account, ids) = (&owner.region, &owner.account, &mut self.ids);
        let mut context = Context { region, account, identity: &self.identity, world: &world, now: self.now, ids };
        let result = run(&self.state.seen_by(&owner), &mut context);
        assert_eq!(self.state, before, "deciding changes nothing");
        let (change, answer) = result?;
        self.state.apply(&change);
        if let Err(violation) = self.state.check_invariants() {
            panic!("{violation}");
        }
        Ok(answer)
    }

    fn run<M: Mutation>(&mut self, request: M) -> Result<M::Response, ControlError> {
        self.with_context(|state, context| request.decide(state, context))
    }

    /// The same world, called by another account.
    fn by(&mut self, account: &str) -> &mut Self {
        self.account = account.parse().expect("an account");
        self
    }

    /// The same world, called in another region.
    fn in_region(&mut self, region: &str) -> &mut Self {
        self.region = region.parse().expect("a region");
        self
    }

    fn owner(&self) -> Owner {
        Owner { account: self.account.clone(), region: self.region.clone() }
    }

    /// What the caller reads.
    fn ask<Q: Query>(&self, request: Q) -> Result<Q::Response, ControlError> {
        let owner = self.owner();
        request.answer(&self.state.seen_by(&owner), &self.state)
    }

    /// Runs a request that is written as JSON.
    fn json<M: Mutation>(&mut self, request: serde_json::Value) -> Result<M::Response, ControlError> {
        self.run(serde_json::from_value::<M>(request).expect("a request"))
    }

    fn attach(&mut self, request: serde_json::Value) -> Result<(), ControlError> {
        let request: AttachPort = serde_json::from_value(request).expect("a request");
        self.with_context(|state, context| request.decide_change(state, context)).map(drop)
    }

    /// Two VPCs with equal addresses, a published web service in `provider`, and an endpoint in `consumer`.
    pub(crate) fn published() -> Self {
        let mut world = Self::new();
        world.json::<CreateVpc>(serde_json::json!({"name": "provider", "cidr": "10.0.0.0/16"})).unwrap();
        world
            .json::<CreateVpc>(serde_json::json!({"name": "consumer", "cidr": "10.0.0.0/16", "gateway": "10.0.0.1"}))
            .unwrap();
        world.attach(serde_json::json!({"interface": "veth-c", "vpc": "consumer"})).unwrap();
        world
            .json::<CreateTargetGroup>(
                serde_json::json!({"name": "web", "vpc": "provider", "protocol": "TCP", "port": 80}),
            )
            .unwrap();
        world
            .json::<RegisterTargets>(
                serde_json::json!({"target_group": "web", "targets": ["10.0.1.10", "10.0.1.11:81"]}),
            )
            .unwrap();
        world
            .json::<CreateLoadBalancer>(serde_json::json!({"name": "lb", "vpc": "provider", "addresses": ["10.0.0.5"]}))
            .unwrap();
        world
            .json::<CreateListener>(
                serde_json::json!({"load_balancer": "lb", "protocol": "TCP", "port": 80, "target_group": "web"}),
            )
            .unwrap();
        world.json::<CreateEndpointService>(serde_json::json!({"load_balancers": ["lb"], "name": "shop"})).unwrap();
        world
            .json::<CreateEndpoint>(
                serde_json::json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.50"}),
            )
            .unwrap();
        world
    }
}

fn refusal<T>(result: Result<T, ControlError>) -> (String, String) {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => {
            assert!(!error.hint().is_empty(), "{error} names no way out");
            (error.code().to_owned(), error.to_string())
        }
    }
}
