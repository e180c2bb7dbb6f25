//! The native API: JSON over HTTP on a Unix socket. `POST /v1/<operation>` with the request as body; the operations and
//! their requests are the types of `control` and of this module.
//!
//! Decisions are `control`'s; facts are the running agent's. This module owns HTTP, JSON and the socket's file.

mod caller;
mod error;
mod handler;
mod openapi;
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
pub use openapi::PATH as OPENAPI_PATH;
pub use operation::{DescribeFlows, DescribeStats, ExplainPacket, FlowView};
pub use socket::{SocketError, SocketFile};

use self::openapi::Surface;
use crate::{
    control::{
        certificates::*,
        connections::*,
        endpoint_services::*,
        endpoints::*,
        instances::*,
        listener_tls::*,
        listeners::*,
        load_balancers::*,
        network_interfaces::*,
        permissions::*,
        route_tables::*,
        security_groups::*,
        subnets::*,
        tags::{CreateTags, DeleteTags, DescribeTags},
        target_groups::*,
        targets::*,
        vpcs::*,
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

/// Every operation.
fn surface() -> Surface {
    use crate::control::links::*;
    use crate::control::{apply::ApplyDeclaration, ports::*, private_dns::VerifyDomain, publish::PublishTargets};
    Surface::default()
        .mutation::<CreateVpc>()
        .mutation::<ModifyVpc>()
        .mutation::<DeleteVpc>()
        .query::<DescribeVpcs>()
        .mutation::<CreateSubnet>()
        .mutation::<DeleteSubnet>()
        .query::<DescribeSubnets>()
        .mutation::<CreateRouteTable>()
        .mutation::<DeleteRouteTable>()
        .mutation::<AssociateRouteTable>()
        .mutation::<DisassociateRouteTable>()
        .mutation::<CreateRoute>()
        .mutation::<ReplaceRoute>()
        .mutation::<DeleteRoute>()
        .query::<DescribeRouteTables>()
        .query::<DescribeNetworkInterfaces>()
        .mutation::<CreateTags>()
        .mutation::<DeleteTags>()
        .query::<DescribeTags>()
        .handled::<AttachPort>(post(handler::attach_port))
        .mutation::<DetachPort>()
        .handled::<DescribePorts>(post(handler::describe_ports))
        .mutation::<CreateTargetGroup>()
        .mutation::<ModifyTargetGroup>()
        .mutation::<DeleteTargetGroup>()
        .query::<DescribeTargetGroups>()
        .mutation::<RegisterTargets>()
        .mutation::<DeregisterTargets>()
        .handled::<DescribeTargetHealth>(post(handler::describe_target_health))
        .mutation::<CreateLoadBalancer>()
        .mutation::<ModifyLoadBalancer>()
        .mutation::<SetSecurityGroups>()
        .mutation::<DeleteLoadBalancer>()
        .query::<DescribeLoadBalancers>()
        .handled::<ImportCertificate>(post(handler::import_certificate))
        .mutation::<DeleteCertificate>()
        .query::<DescribeCertificates>()
        .mutation::<CreateListener>()
        .mutation::<ModifyListener>()
        .mutation::<DeleteListener>()
        .mutation::<AddListenerCertificates>()
        .mutation::<RemoveListenerCertificates>()
        .query::<DescribeListeners>()
        .mutation::<CreateEndpointService>()
        .mutation::<PublishTargets>()
        .mutation::<ModifyEndpointService>()
        .mutation::<DeleteEndpointService>()
        .mutation::<ModifyServicePayer>()
        .mutation::<ModifyEndpointPayer>()
        .query::<DescribeEndpointServices>()
        .handled::<VerifyDomain>(post(handler::verify_domain))
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
        .handled::<DescribeFlows>(post(handler::describe_flows))
        .handled::<DescribeStats>(post(handler::describe_stats))
        .handled::<ExplainPacket>(post(handler::explain_packet))
        .handled::<ApplyDeclaration>(post(handler::apply))
}

/// What the native API offers.
pub fn openapi() -> utoipa::openapi::OpenApi {
    surface().document()
}

/// The API as it is served.
pub fn router(api: Arc<Api>) -> Router {
    surface()
        .router()
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
