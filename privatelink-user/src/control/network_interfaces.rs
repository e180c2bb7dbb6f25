//! Network interfaces: what follows from load balancers and endpoints.

use serde::{Deserialize, Serialize};

use super::{ControlError, Query, Reference, lookup, operation, sorted, view::NetworkInterfaceView};
use crate::model::State;

/// Lists the network interfaces, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeNetworkInterfaces {
    /// None: all. By id, or as `VPC/ADDRESS`.
    #[serde(default)]
    pub network_interfaces: Option<Vec<Reference>>,
    /// Only those of this VPC.
    #[serde(default)]
    pub vpc: Option<Reference>,
}
operation!(DescribeNetworkInterfaces -> Vec<NetworkInterfaceView>);

impl Query for DescribeNetworkInterfaces {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<NetworkInterfaceView>, ControlError> {
        let Self { network_interfaces, vpc } = self;
        let vpc = vpc.as_ref().map(|reference| lookup::vpc(state, reference)).transpose()?;
        let chosen = match network_interfaces {
            None => state.network_interfaces().collect(),
            Some(references) => references
                .iter()
                .map(|reference| lookup::network_interface(state, reference))
                .collect::<Result<Vec<_>, ControlError>>()?,
        };
        let of_vpc = chosen.into_iter().filter(|found| vpc.is_none_or(|vpc| vpc.id == *found.vpc));
        let views = of_vpc.map(|found| NetworkInterfaceView::new(state, &found)).collect();
        Ok(sorted(views, |one: &NetworkInterfaceView| (one.vpc_name.clone(), one.address)))
    }
}
