//! From a request to its answer.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Json,
    extract::{State as Shared, rejection::JsonRejection},
};
use jiff::Timestamp;

use super::{
    Api, ApiError, Caller, DescribeFlows, DescribeStats, ExplainPacket, FlowView, RandomIds, settling::Settling,
};
use crate::{
    control::{
        Context, ControlError, Mutation, Operation as _, Query,
        apply::{ApplyDeclaration, Plan},
        certificates::ImportCertificate,
        lookup,
        notifications::{self, CreateConnectionNotification, ModifyConnectionNotification},
        ports::{AttachPort, AttachedPort, DescribePorts},
        private_dns::{DomainVerification, VerifyDomain},
        tags,
        targets::DescribeTargetHealth,
        view::{self, CertificateView, PortView, TargetHealthView},
    },
    dns::verification,
    model::{Change, ConnectionNotification, Identity, NotificationTarget, Owner, State, TargetAddress, TargetGroup},
    runtime::{Explanation, FlowFilter, Question, Stats, TargetHealth, TargetHealthReport},
};

type Answer<T> = Result<Json<T>, ApiError>;
type Request<T> = Result<Json<T>, JsonRejection>;

impl Api {
    /// Decides on what `owner` sees of `world`: refused for what `control` says, or for want of room in the datapath.
    pub(super) fn decide<R, E: From<ControlError>>(
        &self,
        world: &State,
        owner: &Owner,
        identity: &Identity,
        decide: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, R), E>,
    ) -> Result<(Change, R), E> {
        let Owner { account, region } = owner;
        let mut context = Context { region, account, identity, world, now: Timestamp::now(), ids: &mut RandomIds };
        let (change, answer) = decide(&world.seen_by(owner), &mut context)?;
        let change = tags::with_removed_tags(world, change);
        let (change, lost) = notifications::with_notices(world, change, Timestamp::now(), &mut RandomIds);
        if lost > 0 {
            tracing::warn!(lost, "messages found no room: a target of connection notifications does not answer");
        }
        let mut next = world.clone();
        next.apply(&change);
        self.runtime.limits().check(world, &next)?;
        Ok((change, answer))
    }

    /// Decides, and commits nothing.
    fn consider<R>(
        &self,
        owner: &Owner,
        decide: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, R), ControlError>,
    ) -> Result<R, ControlError> {
        self.decide(&self.store.state(), owner, &Identity::Root, decide).map(|(_, answer)| answer)
    }

    /// Decides and commits on a thread that may wait for the disk.
    async fn update<R: Send + 'static>(
        self: &Arc<Self>,
        Caller(owner): Caller,
        decide: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, R), ControlError> + Send + 'static,
    ) -> Result<R, ApiError> {
        let api = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            api.store.update(|world| api.decide(world, &owner, &Identity::Root, decide))
        });
        let result = done.await.map_err(|error| ApiError::internal(format!("the operation was aborted: {error}")))?;
        Ok(result?)
    }
}

/// Any operation that changes the state.
pub async fn mutation<M: Mutation + Sync>(
    Shared(api): Shared<Arc<Api>>,
    caller: Caller,
    request: Request<M>,
) -> Answer<M::Response> {
    let Json(request) = request?;
    let asked = asked(&request);
    let account = caller.0.account.to_string();
    let answer = api.update(caller, move |state, context| request.decide(state, context)).await?;
    tracing::info!(operation = M::NAME, account, request = %asked, "done");
    Ok(Json(answer))
}

/// As [`mutation`], but the log shows nothing of the request, which holds a private key.
pub async fn import_certificate(
    Shared(api): Shared<Arc<Api>>,
    caller: Caller,
    request: Request<ImportCertificate>,
) -> Answer<CertificateView> {
    let Json(request) = request?;
    let account = caller.0.account.to_string();
    let imported = api.update(caller, move |state, context| request.decide(state, context)).await?;
    tracing::info!(operation = ImportCertificate::NAME, account, certificate = %imported.id, "done");
    Ok(Json(imported))
}

/// The request as the log shows it.
fn asked<T: serde::Serialize>(request: &T) -> String {
    const MOST: usize = 400;
    let mut text = serde_json::to_string(request).unwrap_or_default();
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Refuses a target of connection notifications that the agent's operator has not allowed.
fn check_target(api: &Api, target: &NotificationTarget) -> Result<(), ControlError> {
    if api.notify.allows(target) { Ok(()) } else { Err(ControlError::NotificationTargetNotAllowed(target.clone())) }
}

/// The target may be a secret, and so the request is not logged.
pub async fn create_notification(
    Shared(api): Shared<Arc<Api>>,
    caller: Caller,
    request: Request<CreateConnectionNotification>,
) -> Answer<ConnectionNotification> {
    let Json(request) = request?;
    check_target(&api, &request.target)?;
    let made = api.update(caller, move |state, context| request.decide(state, context)).await?;
    tracing::info!(operation = CreateConnectionNotification::NAME, notification = %made.id, "done");
    Ok(Json(made))
}

pub async fn modify_notification(
    Shared(api): Shared<Arc<Api>>,
    caller: Caller,
    request: Request<ModifyConnectionNotification>,
) -> Answer<ConnectionNotification> {
    let Json(request) = request?;
    request.target.as_ref().map_or(Ok(()), |target| check_target(&api, target))?;
    let changed = api.update(caller, move |state, context| request.decide(state, context)).await?;
    tracing::info!(operation = ModifyConnectionNotification::NAME, notification = %changed.id, "done");
    Ok(Json(changed))
}

/// Any operation that only reads the state.
pub async fn query<Q: Query + Sync>(
    Shared(api): Shared<Arc<Api>>,
    Caller(owner): Caller,
    request: Request<Q>,
) -> Answer<Q::Response> {
    let Json(request) = request?;
    let mut settling = Settling::new(&*api.runtime);
    loop {
        let world = api.store.state();
        let mut answer = request.answer(&world.seen_by(&owner), &world)?;
        let passing = Q::settle(&mut answer, &world, &settling.installed(&world));
        if !passing || !settling.wait().await {
            return Ok(Json(answer));
        }
    }
}

pub async fn attach_port(
    Shared(api): Shared<Arc<Api>>,
    caller: Caller,
    request: Request<AttachPort>,
) -> Answer<AttachedPort> {
    let Json(request) = request?;
    // Refused for what the state says before the interface is looked at.
    api.consider(&caller.0, |state, context| request.decide_change(state, context))?;
    let facts = api.runtime.inspect_interface(&request.interface, request.hook, request.shared).await?;
    let asked = asked(&request);
    let attached = api.update(caller, move |state, context| request.decide(facts, state, context)).await?;
    tracing::info!(operation = AttachPort::NAME, request = %asked, "done");
    Ok(Json(attached))
}

pub async fn describe_ports(
    Shared(api): Shared<Arc<Api>>,
    Caller(owner): Caller,
    request: Request<DescribePorts>,
) -> Answer<Vec<PortView>> {
    let Json(DescribePorts {}) = request?;
    let mut status: BTreeMap<_, _> =
        api.runtime.ports().await.into_iter().map(|status| (status.interface.clone(), status)).collect();
    let world = api.store.state();
    let state = world.seen_by(&owner);
    Ok(Json(state.ports.values().map(|port| PortView::new(&state, port, status.remove(&port.interface))).collect()))
}

/// Asks DNS, then notes what came of it.
pub async fn verify_domain(
    Shared(api): Shared<Arc<Api>>,
    caller: Caller,
    request: Request<VerifyDomain>,
) -> Answer<DomainVerification> {
    let Json(request) = request?;
    let (service, private) = request.wanted(&api.store.state().seen_by(&caller.0))?;
    let places = verification::ask(&api.domain_resolvers, &private).await;
    let outcome = DomainVerification::new(service, private, places);
    let noted = outcome.clone();
    api.update(caller, move |state, context| Ok((noted.noted(state, context.world), ()))).await?;
    tracing::info!(operation = VerifyDomain::NAME, name = %outcome.name, state = %outcome.state, "done");
    Ok(Json(outcome))
}

pub async fn describe_target_health(
    Shared(api): Shared<Arc<Api>>,
    Caller(owner): Caller,
    request: Request<DescribeTargetHealth>,
) -> Answer<Vec<TargetHealthView>> {
    let Json(DescribeTargetHealth { target_group, targets }) = request?;
    let world = api.store.state();
    let state = world.seen_by(&owner);
    let group = lookup::target_group(&state, &target_group)?;
    if let Some(view) = registered_view(&state, group) {
        return Ok(Json(vec![view]));
    }
    let reports = api.runtime.target_health(&state, &group.id).await;
    let mut views: BTreeMap<TargetAddress, TargetHealthView> =
        reports.into_iter().map(|report| (report.address, health_view(report))).collect();
    let Some(targets) = targets else {
        return Ok(Json(views.into_values().collect()));
    };
    let answer = targets.into_iter().map(|spec| {
        if let Some(view) = spec.registered(&state, group)?.and_then(|address| views.remove(&address)) {
            return Ok(view);
        }
        let (address, instance) = spec.resolve(&state, group)?;
        let health_check_port = group.health_check.port.resolve(address.port);
        Ok(TargetHealthView { instance, ..bare_view(address, health_check_port, &TargetHealth::NotRegistered) })
    });
    Ok(Json(answer.collect::<Result<_, ControlError>>()?))
}

/// The load balancer that is a group's target.
fn registered_view(state: &State, group: &TargetGroup) -> Option<TargetHealthView> {
    let lb = state.load_balancers.get(&group.load_balancer.as_ref()?.id)?;
    let address = TargetAddress { ip: (*lb.addresses.first()?).into(), port: group.port };
    let bare = bare_view(address, group.health_check.port.resolve(group.port), &TargetHealth::NotServed);
    Some(TargetHealthView { load_balancer: Some(lb.id.clone()), ..bare })
}

fn health_view(report: TargetHealthReport) -> TargetHealthView {
    let TargetHealthReport { address, instance, health_check_port, health, next_hop } = report;
    TargetHealthView { instance, next_hop: Some(next_hop), ..bare_view(address, health_check_port, &health) }
}

/// A target's health, and nothing else of it.
fn bare_view(address: TargetAddress, health_check_port: u16, health: &TargetHealth) -> TargetHealthView {
    TargetHealthView {
        address,
        instance: None,
        load_balancer: None,
        health_check_port,
        state: health.state().to_owned(),
        reason: health.reason().map(str::to_owned),
        description: health.description(),
        next_hop: None,
    }
}

pub async fn describe_flows(
    Shared(api): Shared<Arc<Api>>,
    Caller(owner): Caller,
    request: Request<DescribeFlows>,
) -> Answer<Vec<FlowView>> {
    let Json(DescribeFlows { vpc, endpoint }) = request?;
    let world = api.store.state();
    let state = world.seen_by(&owner);
    let filter = FlowFilter {
        vpc: vpc.map(|reference| lookup::vpc(&state, &reference).map(|vpc| vpc.id.clone())).transpose()?,
        endpoint: endpoint
            .map(|reference| lookup::endpoint(&state, &reference).map(|endpoint| endpoint.id.clone()))
            .transpose()?,
    };
    let flows = api.runtime.flows(&filter).await?;
    // A provider sees the flows of its services' consumers as well as its own.
    let concerns = |flow: &crate::runtime::FlowRecord| {
        let consumer = flow.vpc.as_ref().is_some_and(|vpc| state.vpcs.contains_key(vpc));
        let service = flow.endpoint.as_ref().and_then(|id| world.endpoints.get(id)).map(|endpoint| &endpoint.service);
        consumer || service.is_some_and(|service| state.endpoint_services.contains_key(service))
    };
    let view = |flow: crate::runtime::FlowRecord| FlowView {
        vpc_name: flow.vpc.as_ref().map(|vpc| view::vpc_name(&state, vpc)),
        flow,
    };
    Ok(Json(flows.into_iter().filter(concerns).map(view).collect()))
}

pub async fn describe_stats(Shared(api): Shared<Arc<Api>>, request: Request<DescribeStats>) -> Answer<Stats> {
    let Json(DescribeStats {}) = request?;
    Ok(Json(api.runtime.stats().await?))
}

/// The packet's VPC is one of the caller's; the answer names the provider's objects too, for the host's operator.
pub async fn explain_packet(
    Shared(api): Shared<Arc<Api>>,
    Caller(owner): Caller,
    request: Request<ExplainPacket>,
) -> Answer<Explanation> {
    /// The ports that a client's system chooses from (RFC 6335 section 6).
    const EPHEMERAL: std::ops::RangeInclusive<u16> = 49_152..=65_535;
    let Json(ExplainPacket { vpc, port, from, from_port, to, protocol }) = request?;
    let state = api.store.state();
    let seen = state.seen_by(&owner);
    let vpc = lookup::vpc(&seen, &vpc)?.id.clone();
    let port = port.map(|port| match lookup::port(&seen, &port)? {
        found if found.vpc == vpc => Ok(found.interface.clone()),
        _ => Err(ControlError::PortNotFound(port.as_str().to_owned())),
    });
    let question = Question {
        vpc,
        port: port.transpose()?,
        from: SocketAddr::new(from, from_port.unwrap_or_else(|| rand::random_range(EPHEMERAL))),
        to,
        protocol,
        sequence: rand::random(),
    };
    Ok(Json(api.runtime.explain(&state, &question).await?))
}

pub async fn apply(Shared(api): Shared<Arc<Api>>, caller: Caller, request: Request<ApplyDeclaration>) -> Answer<Plan> {
    let Json(request) = request?;
    let seen = api.store.state().seen_by(&caller.0);
    let ports: Vec<_> = request.ports_to_inspect(&seen).collect();
    if request.dry_run || !ports.is_empty() {
        // Refused for what the state says before any interface is looked at.
        let plan = api.consider(&caller.0, |state, context| request.decide(state, context))?;
        for port in ports {
            api.runtime.inspect_interface(&port.interface, port.hook, port.shared).await?;
        }
        if request.dry_run {
            return Ok(Json(plan));
        }
    }
    let plan = api.update(caller, move |state, context| request.decide(state, context)).await?;
    tracing::info!(operation = ApplyDeclaration::NAME, changes = plan.steps.len(), "done");
    Ok(Json(plan))
}
