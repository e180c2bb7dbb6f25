//! The native API: JSON over HTTP on a Unix socket. `POST /v1/<operation>` with the request as body; the operations and
//! their requests are the types of `control` and of this module.
//!
//! Decisions are `control`'s; facts are the running agent's. This module owns HTTP, JSON and the socket's file.

mod caller;
mod error;
mod handler;
mod operation;
pub mod query;
mod socket;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path},
    routing::post,
};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

pub use caller::{ACCOUNT_HEADER, Caller, REGION_HEADER};
pub use error::{ApiError, ErrorBody};
pub use operation::{DescribeFlows, DescribeStats, ExplainPacket, FlowView};
pub use socket::{SocketError, SocketFile};

use crate::{
    control::{
        Mutation, Operation, Query, connections::*, endpoint_services::*, endpoints::*, instances::*, listeners::*,
        load_balancers::*, permissions::*, security_groups::*, target_groups::*, targets::*, vpcs::*,
    },
    dns::upstream::Upstreams,
    model::{IdSource, Owner},
    runtime::Runtime,
    store::Store,
};

/// The path prefix of every operation; raised when an operation changes its meaning.
pub const PREFIX: &str = "/v1/";

/// The greatest request, in bytes: a declaration of some ten thousand targets.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// What the API works on.
pub struct Api {
    /// Where accepted operations are committed.
    pub store: Arc<Store>,
    /// Who knows the facts that the state does not hold.
    pub runtime: Arc<dyn Runtime>,
    /// Who calls when a request does not say it.
    pub default_owner: Owner,
    /// Who is asked for the TXT records that verify private DNS names.
    pub domain_resolvers: Upstreams,
}

/// Identifiers from the operating system's randomness.
pub struct RandomIds;

impl IdSource for RandomIds {
    fn hex(&mut self, digits: usize) -> String {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let digit = |_| DIGITS.get(usize::from(rand::random::<u8>() & 15)).copied().unwrap_or('0');
        (0..digits).map(digit).collect()
    }
}

/// Adds the routes of operations that are decided on the state alone.
trait Routes: Sized {
    fn mutation<M: Mutation + Sync>(self) -> Self;
    fn query<Q: Query + Sync>(self) -> Self;
}

fn path<O: Operation>() -> String {
    format!("{PREFIX}{}", O::NAME)
}

impl Routes for Router<Arc<Api>> {
    fn mutation<M: Mutation + Sync>(self) -> Self {
        self.route(&path::<M>(), post(handler::mutation::<M>))
    }

    fn query<Q: Query + Sync>(self) -> Self {
        self.route(&path::<Q>(), post(handler::query::<Q>))
    }
}

/// Every operation.
pub fn router(api: Arc<Api>) -> Router {
    use crate::control::links::*;
    use crate::control::{apply::ApplyDeclaration, ports::*, private_dns::VerifyDomain, publish::PublishTargets};
    Router::new()
        .mutation::<CreateVpc>()
        .mutation::<ModifyVpc>()
        .mutation::<DeleteVpc>()
        .query::<DescribeVpcs>()
        .route(&path::<AttachPort>(), post(handler::attach_port))
        .mutation::<DetachPort>()
        .route(&path::<DescribePorts>(), post(handler::describe_ports))
        .mutation::<CreateTargetGroup>()
        .mutation::<ModifyTargetGroup>()
        .mutation::<DeleteTargetGroup>()
        .query::<DescribeTargetGroups>()
        .mutation::<RegisterTargets>()
        .mutation::<DeregisterTargets>()
        .route(&path::<DescribeTargetHealth>(), post(handler::describe_target_health))
        .mutation::<CreateLoadBalancer>()
        .mutation::<ModifyLoadBalancer>()
        .mutation::<SetSecurityGroups>()
        .mutation::<DeleteLoadBalancer>()
        .query::<DescribeLoadBalancers>()
        .mutation::<CreateListener>()
        .mutation::<ModifyListener>()
        .mutation::<DeleteListener>()
        .query::<DescribeListeners>()
        .mutation::<CreateEndpointService>()
        .mutation::<PublishTargets>()
        .mutation::<ModifyEndpointService>()
        .mutation::<DeleteEndpointService>()
        .query::<DescribeEndpointServices>()
        .route(&path::<VerifyDomain>(), post(handler::verify_domain))
        .mutation::<ModifyPermissions>()
        .query::<DescribePermissions>()
        .mutation::<AcceptConnections>()
        .mutation::<RejectConnections>()
        .mutation::<LimitConnections>()
        .query::<DescribeConnections>()
        .mutation::<CreateEndpoint>()
        .mutation::<ModifyEndpoint>()
        .mutation::<DeleteEndpoint>()
        .query::<DescribeEndpoints>()
        .mutation::<CreateLink>()
        .mutation::<DeleteLink>()
        .query::<DescribeLinks>()
        .mutation::<CreateSecurityGroup>()
        .mutation::<AuthorizeSecurityGroup>()
        .mutation::<RevokeSecurityGroup>()
        .mutation::<DeleteSecurityGroup>()
        .query::<DescribeSecurityGroups>()
        .mutation::<RegisterInstance>()
        .mutation::<ModifyInstance>()
        .mutation::<StartInstances>()
        .mutation::<StopInstances>()
        .mutation::<DeregisterInstances>()
        .query::<DescribeInstances>()
        .route(&path::<DescribeFlows>(), post(handler::describe_flows))
        .route(&path::<DescribeStats>(), post(handler::describe_stats))
        .route(&path::<ExplainPacket>(), post(handler::explain_packet))
        .route(&path::<ApplyDeclaration>(), post(handler::apply))
        .route(
            &format!("{PREFIX}{{operation}}"),
            post(async |Path(name): Path<String>| ApiError::unknown_operation(&name)),
        )
        .fallback(async |uri: axum::http::Uri| ApiError::unknown_operation(uri.path()))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(api)
}

/// Serves the API on `listener` until `shutdown`; requests that are under way are answered first.
pub async fn serve(listener: UnixListener, api: Arc<Api>, shutdown: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(api)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

#[cfg(test)]
mod tests;
