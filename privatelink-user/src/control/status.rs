//! Where resources stand in the datapath: what the state wants and the kernel's tables do not have yet, or still have.
//!
//! ```text
//!  store ── state ──► views: consent            ┐
//!  reconciler ── Installed, a pass behind ──────┴─► pending, provisioning, failed, deleting
//! ```

use std::{borrow::Cow, collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{
    Endpoint, EndpointId, EndpointService, EndpointState, Listener, ListenerId, LoadBalancer, LoadBalancerId, State,
    Table,
};

/// What the kernel's tables say since the last pass of the reconciler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The state that the pass began with.
    pub state: Arc<State>,
    /// What found no room in the tables.
    pub crowded_out: CrowdedOut,
}

/// What found no room in the kernel's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrowdedOut {
    pub listeners: BTreeSet<ListenerId>,
    pub endpoints: BTreeSet<EndpointId>,
}

impl Installed {
    /// What the tables still have of `before`, which is a part of [`Installed::state`], and `now` has not.
    pub fn leaving<'a, K: Ord + Clone, V: Clone>(
        now: &'a Table<K, V>,
        before: &'a Table<K, V>,
    ) -> impl Iterator<Item = &'a V> {
        let changed = !now.same(before);
        before.iter().filter(move |(id, _)| changed && !now.contains_key(id)).map(|(_, gone)| gone)
    }

    /// `now`, which is what its caller sees, and what of `before` the tables still have that is the caller's.
    pub fn with_leaving<'a, K: Ord + Clone, V: Clone>(
        now: &'a Table<K, V>,
        before: &Table<K, V>,
        id: impl Fn(&V) -> K,
        is_callers: impl Fn(&V) -> bool,
    ) -> Cow<'a, Table<K, V>> {
        let mut all = Cow::Borrowed(now);
        for gone in Self::leaving(now, before).filter(|one| is_callers(one)) {
            all.to_mut().insert(id(gone), gone.clone());
        }
        all
    }
}

/// Where an endpoint stands. Traffic flows in `available` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndpointStatus {
    /// The service's owner has not answered yet.
    PendingAcceptance,
    /// It is accepted, and the datapath does not carry it yet.
    Pending,
    Available,
    /// The service's owner has said no.
    Rejected,
    /// The service's owner has not answered in time.
    Expired,
    /// It is accepted, and the datapath has no room for it.
    Failed,
    /// It is deleted, and the datapath has not taken it out yet.
    Deleting,
}

impl EndpointStatus {
    /// Why one has failed, as [`EndpointStatus::Failed`] means it: code and message.
    pub const NO_ROOM: (&str, &str) = ("InsufficientCapacity", "The datapath has no room for the endpoint");

    /// Of `endpoint`, in `now` or still in `installed`.
    pub fn new(now: &State, installed: &Installed, endpoint: &Endpoint) -> Self {
        if !now.endpoints.contains_key(&endpoint.id) {
            return Self::Deleting;
        }
        let carried = installed.state.endpoints.get(&endpoint.id).is_some_and(|before| {
            before.state == EndpointState::Available && before.addresses().eq(endpoint.addresses())
        });
        match endpoint.state {
            EndpointState::Available if installed.crowded_out.endpoints.contains(&endpoint.id) => Self::Failed,
            EndpointState::Available if !carried => Self::Pending,
            state @ (EndpointState::Available
            | EndpointState::PendingAcceptance
            | EndpointState::Rejected
            | EndpointState::Expired) => state.into(),
        }
    }

    /// Whether the reconciler's next pass changes it.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Pending | Self::Deleting => true,
            Self::PendingAcceptance | Self::Available | Self::Rejected | Self::Expired | Self::Failed => false,
        }
    }
}

/// As far as consent goes.
impl From<EndpointState> for EndpointStatus {
    fn from(state: EndpointState) -> Self {
        match state {
            EndpointState::PendingAcceptance => Self::PendingAcceptance,
            EndpointState::Available => Self::Available,
            EndpointState::Rejected => Self::Rejected,
            EndpointState::Expired => Self::Expired,
        }
    }
}

impl PartialEq<EndpointState> for EndpointStatus {
    fn eq(&self, state: &EndpointState) -> bool {
        *self == Self::from(*state)
    }
}

impl fmt::Display for EndpointStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PendingAcceptance => "pendingAcceptance",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        })
    }
}

/// Where a load balancer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancerStatus {
    /// The datapath does not answer for its addresses yet.
    Provisioning,
    Active,
    /// Nothing serves one of its type.
    NotServed,
    /// The datapath has no room for one of its listeners.
    NoRoom,
}

impl LoadBalancerStatus {
    /// Of `lb`.
    pub fn new(installed: &Installed, lb: &LoadBalancer) -> Self {
        if lb.id.kind().unserved().is_some() {
            return Self::NotServed;
        }
        let of_lb = |id: &ListenerId| installed.state.listeners.get(id).is_some_and(|one| one.load_balancer == lb.id);
        match installed.state.load_balancers.get(&lb.id) {
            Some(_) if installed.crowded_out.listeners.iter().any(of_lb) => Self::NoRoom,
            Some(before) if before.addresses == lb.addresses => Self::Active,
            Some(_) | None => Self::Provisioning,
        }
    }

    /// Whether the reconciler's next pass changes it.
    pub fn is_passing(self) -> bool {
        self == Self::Provisioning
    }

    /// The code of the state, as the Elastic Load Balancing API names it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::NotServed | Self::NoRoom => "failed",
        }
    }

    /// Why it has failed; none if it has not.
    pub fn reason(self, id: &LoadBalancerId) -> Option<&'static str> {
        match self {
            Self::Provisioning | Self::Active => None,
            Self::NotServed => id.kind().unserved(),
            Self::NoRoom => Some("The datapath has no room for all listeners"),
        }
    }
}

impl fmt::Display for LoadBalancerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// Where an endpoint service stands: where its load balancers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub enum ServiceStatus {
    Pending,
    Available,
    Failed,
    /// It is deleted, and the datapath has not taken it out yet.
    Deleting,
}

impl ServiceStatus {
    /// Of `service`, in `now` or still in `installed`.
    pub fn new(now: &State, installed: &Installed, service: &EndpointService) -> Self {
        if !now.endpoint_services.contains_key(&service.id) {
            return Self::Deleting;
        }
        let lbs = service.load_balancers.iter().filter_map(|id| now.load_balancers.get(id));
        let worst = lbs.map(|lb| match LoadBalancerStatus::new(installed, lb) {
            LoadBalancerStatus::Active => Self::Available,
            LoadBalancerStatus::Provisioning => Self::Pending,
            LoadBalancerStatus::NotServed | LoadBalancerStatus::NoRoom => Self::Failed,
        });
        worst.fold(Self::Available, |worst, one| match (worst, one) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Pending, _) | (_, Self::Pending) => Self::Pending,
            (Self::Available | Self::Deleting, Self::Available | Self::Deleting) => Self::Available,
        })
    }

    /// Whether the reconciler's next pass changes it.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Pending | Self::Deleting => true,
            Self::Available | Self::Failed => false,
        }
    }
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Available => "Available",
            Self::Failed => "Failed",
            Self::Deleting => "Deleting",
        })
    }
}

impl CrowdedOut {
    /// What of `state` is wanted in the tables and `has_listener` or `has_endpoint` do not know. An endpoint is wanted
    /// once it is available and its service has a listener.
    pub fn new(
        state: &State,
        has_listener: impl Fn(&ListenerId) -> bool,
        has_endpoint: impl Fn(&EndpointId) -> bool,
    ) -> Self {
        let listens = |lb: &LoadBalancerId| state.listeners.values().any(|listener| listener.load_balancer == *lb);
        let serves = |endpoint: &Endpoint| {
            let service = state.endpoint_services.get(&endpoint.service);
            service.is_some_and(|service| service.load_balancers.iter().any(listens))
        };
        let wanted = |endpoint: &&Endpoint| endpoint.state == EndpointState::Available && serves(endpoint);
        let out = |listener: &&Listener| !has_listener(&listener.id);
        Self {
            listeners: state.listeners.values().filter(out).map(|listener| listener.id.clone()).collect(),
            endpoints: state
                .endpoints
                .values()
                .filter(wanted)
                .filter(|endpoint| !has_endpoint(&endpoint.id))
                .map(|endpoint| endpoint.id.clone())
                .collect(),
        }
    }
}
