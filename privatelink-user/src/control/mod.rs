//! Use cases: what an operation does to the state. Pure: state, request, clock and identifiers come in; a change and an
//! answer, or a refusal, go out. An operation is accepted whole or not at all.
//!
//! Each operation is one type that carries its request, so that the API serves and the command line calls the same
//! thing: [`Operation`] names it and its answer, [`Mutation`] decides a change, [`Query`] reads.

pub mod accounts;
mod address;
mod aliases;
pub mod application;
pub mod apply;
pub mod cascade;
pub mod certificates;
pub mod connections;
mod declaration;
pub mod dns_targets;
pub mod endpoint_services;
pub mod endpoints;
mod error;
pub mod gateway_endpoints;
pub mod instances;
pub(crate) mod ipv6;
mod limits;
pub mod links;
pub mod listener_tls;
pub mod listeners;
pub mod load_balancers;
pub(crate) mod lookup;
pub mod network_interfaces;
pub mod notifications;
pub mod permissions;
pub mod ports;
pub mod private_dns;
pub mod publish;
pub mod regions;
pub mod route_tables;
pub mod security_groups;
pub mod status;
pub mod subnets;
pub mod tags;
pub mod target_groups;
pub mod targets;
pub mod view;
pub mod vpcs;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

pub use error::{ControlError, RefusalKind};
pub use limits::Limits;
pub use lookup::Reference;
pub use status::Installed;

use crate::model::{AccountId, Change, IdSource, Identity, Owner, Region, State};

/// What every operation may use besides the state and its request.
pub struct Context<'a> {
    /// The caller's region, which new identifiers and service names carry.
    pub region: &'a Region,
    /// The caller's account, which new ARNs carry.
    pub account: &'a AccountId,
    /// As whom the account calls.
    pub identity: &'a Identity,
    /// Everybody's resources; an operation decides on what its caller sees of them ([`State::seen_by`]) and looks here
    /// only for what owners share: the host's interfaces, the VPCs' numbers, and services that admit the caller.
    pub world: &'a State,
    pub now: Timestamp,
    pub ids: &'a mut dyn IdSource,
}

impl Context<'_> {
    /// Whose the resources are that the caller makes.
    pub fn owner(&self) -> Owner {
        Owner { account: self.account.clone(), region: self.region.clone() }
    }
}

/// An operation of the API; the type is its request.
pub trait Operation: Serialize + DeserializeOwned + ToSchema + Send + 'static {
    /// The operation's name, as in the AWS API where that has it.
    const NAME: &'static str;
    /// What it answers.
    type Response: Serialize + DeserializeOwned + ToSchema + Send + 'static;
}

/// An operation that changes the state.
pub trait Mutation: Operation {
    /// What the request does to `state`, which is what the caller sees of the world, and the answer; `state` itself
    /// stays as it is.
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Self::Response), ControlError>;
}

/// An operation that only reads the state.
pub trait Query: Operation {
    /// The answer in `state`, which is what the caller sees of `world`.
    fn answer(&self, state: &State, world: &State) -> Result<Self::Response, ControlError>;

    /// Says in an answer of `world` where the datapath stands with it, and whether its next pass changes that. Most
    /// answers are about nothing of the kind.
    fn settle(_: &mut Self::Response, _: &State, _: &Installed) -> bool {
        false
    }
}

/// Declares [`Operation`] for a request type.
macro_rules! operation {
    ($request:ident -> $response:ty) => {
        impl $crate::control::Operation for $request {
            const NAME: &'static str = stringify!($request);
            type Response = $response;
        }
    };
}
pub(crate) use operation;

/// `views` in the order in which people look for them.
fn sorted<V, K: Ord>(mut views: Vec<V>, key: impl Fn(&V) -> K) -> Vec<V> {
    views.sort_by_key(key);
    views
}

#[cfg(test)]
pub(crate) mod tests;
