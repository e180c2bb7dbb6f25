//! The regions in which endpoints of a service may be, besides its own.

use std::collections::BTreeSet;

use super::{ControlError, error::RefusalKind};
use crate::model::{
    EndpointService, EndpointServiceId, Listener, ListenerAttributes, ListenerId, Protocol, Region, State,
};

/// What is refused about regions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionRefusal {
    #[error("The Region '{region}' cannot be removed from the endpoint service '{service}', which is in it")]
    Host { region: Region, service: EndpointServiceId },
    #[error("The Region '{region}' is not a supported Region of the endpoint service '{service}'")]
    NotSupported { region: Region, service: EndpointServiceId },
    #[error("The Region '{0}' cannot be added and removed at once")]
    Contradiction(Region),
    #[error(
        "The listener '{listener}' has a custom TCP idle timeout, which the endpoint service '{service}' cannot have with \
         supported Regions"
    )]
    IdleTimeout { listener: ListenerId, service: EndpointServiceId },
}

impl RegionRefusal {
    /// The error's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Host { .. } | Self::NotSupported { .. } | Self::IdleTimeout { .. } => "InvalidParameter",
            Self::Contradiction(_) => "InvalidParameterCombination",
        }
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Host { .. } | Self::NotSupported { .. } | Self::Contradiction(_) => RefusalKind::Invalid,
            Self::IdleTimeout { .. } => RefusalKind::Conflict,
        }
    }

    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::Host { .. } => "remove other Regions only".to_owned(),
            Self::NotSupported { service, .. } => {
                format!("`privatelink endpoint-service describe {service}` shows its Regions")
            }
            Self::Contradiction(_) => "give it once".to_owned(),
            Self::IdleTimeout { .. } => {
                format!("a TCP idle timeout of {} seconds is supported", ListenerAttributes::default().idle_timeout)
            }
        }
    }
}

/// Adds regions to a service's and takes others away.
pub fn change(
    service: &mut EndpointService,
    add: &BTreeSet<Region>,
    remove: &BTreeSet<Region>,
) -> Result<(), RegionRefusal> {
    if let Some(both) = add.intersection(remove).next() {
        return Err(RegionRefusal::Contradiction(both.clone()));
    }
    for region in remove {
        let (region, id) = (region.clone(), service.id.clone());
        if region == service.owner.region {
            return Err(RegionRefusal::Host { region, service: id });
        }
        if !service.supported_regions.remove(&region) {
            return Err(RegionRefusal::NotSupported { region, service: id });
        }
    }
    let own = &service.owner.region;
    service.supported_regions.extend(add.iter().filter(|region| *region != own).cloned());
    Ok(())
}

/// Refuses a service with endpoints in other regions whose listeners have an idle timeout of their own.
pub fn check_service(state: &State, service: &EndpointService) -> Result<(), ControlError> {
    let mut of_it =
        state.listeners.values().filter(|listener| service.load_balancers.contains(&listener.load_balancer));
    of_it.try_for_each(|listener| check(service, listener))
}

/// Refuses such an idle timeout of a listener whose service has endpoints in other regions.
pub fn check_listener(state: &State, listener: &Listener) -> Result<(), ControlError> {
    let mut of_it =
        state.endpoint_services.values().filter(|service| service.load_balancers.contains(&listener.load_balancer));
    of_it.try_for_each(|service| check(service, listener))
}

fn check(service: &EndpointService, listener: &Listener) -> Result<(), ControlError> {
    let of_tcp = match listener.protocol {
        Protocol::Tcp | Protocol::Tls | Protocol::TcpUdp => true,
        Protocol::Udp => false,
    };
    let custom = listener.attributes.idle_timeout != ListenerAttributes::default().idle_timeout;
    if service.supported_regions.is_empty() || !of_tcp || !custom {
        return Ok(());
    }
    Err(RegionRefusal::IdleTimeout { listener: listener.id.clone(), service: service.id.clone() }.into())
}
