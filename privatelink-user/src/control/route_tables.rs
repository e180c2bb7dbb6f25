//! Route tables and their routes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, lookup, operation, sorted, subnets, view::RouteTableView,
};
use crate::model::{
    Change, RouteDestination, RouteTable, RouteTableId, RouteTarget, State, SubnetId, Vpc, VpcId, derived,
};

/// Makes a route table, for no subnet yet.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRouteTable {
    pub vpc: Reference,
}
operation!(CreateRouteTable -> RouteTableView);

impl Mutation for CreateRouteTable {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, RouteTableView), ControlError> {
        let vpc = lookup::vpc(state, &self.vpc)?;
        let table = RouteTable {
            id: RouteTableId::generate(context.ids),
            vpc: vpc.id.clone(),
            routes: BTreeMap::new(),
            subnets: BTreeSet::new(),
            created_at: context.now,
        };
        let view = RouteTableView::new(state, &table);
        Ok((Change::default().put(table), view))
    }
}

/// Deletes a route table that no subnet has. The main one goes with its VPC.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRouteTable {
    pub route_table: Reference,
    /// Give its subnets the main table first.
    #[serde(default)]
    pub force: bool,
}
operation!(DeleteRouteTable -> ());

impl Mutation for DeleteRouteTable {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let Self { route_table, force } = self;
        let table = lookup::route_table(state, route_table)?;
        if table.is_main() {
            return Err(ControlError::MainRouteTable(table.id.clone()));
        }
        if !table.subnets.is_empty() && !force {
            let dependants = table.subnets.iter().map(|subnet| format!("subnet {subnet}")).collect();
            return Err(ControlError::RouteTableInUse { route_table: table.id.clone(), dependants });
        }
        Ok((Change::default().remove(table.id.clone()), ()))
    }
}

/// Gives a subnet a route table of its own instead of the main one. One that it has already changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssociateRouteTable {
    pub route_table: Reference,
    pub subnet: Reference,
}
operation!(AssociateRouteTable -> RouteTableView);

impl Mutation for AssociateRouteTable {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, RouteTableView), ControlError> {
        let Self { route_table, subnet } = self;
        let table = lookup::route_table(state, route_table)?;
        let subnet = subnets::find(state, subnet)?;
        if subnet.vpc != table.vpc {
            let (route_table, other) = (table.id.clone(), format!("subnet {}", subnet.id));
            return Err(ControlError::RouteTableOfOtherVpc { route_table, other });
        }
        match state.route_tables.values().find(|other| other.subnets.contains(&subnet.id)) {
            Some(present) if present.id == table.id => {
                return Ok((Change::default(), RouteTableView::new(state, table)));
            }
            Some(present) => {
                let (route_table, present) = (table.id.clone(), present.id.clone());
                return Err(ControlError::SubnetAssociated { route_table, present });
            }
            None => {}
        }
        let mut changed = table.clone();
        changed.subnets.insert(subnet.id.clone());
        let view = RouteTableView::new(state, &changed);
        Ok((Change::default().put(changed), view))
    }
}

/// Gives a subnet the main route table again.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisassociateRouteTable {
    /// The association's id, `rtbassoc-…`, or the subnet's.
    pub association: Reference,
}
operation!(DisassociateRouteTable -> ());

impl Mutation for DisassociateRouteTable {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let text = self.association.as_str();
        if state.route_tables.values().any(|table| table.is_main() && table.main_association() == text) {
            return Err(ControlError::MainAssociation(text.to_owned()));
        }
        let named =
            |table: &RouteTable, subnet: &SubnetId| subnet.as_str() == text || table.association(subnet) == text;
        let pairs = state.route_tables.values().flat_map(|table| table.subnets.iter().map(move |one| (table, one)));
        let (table, subnet) = pairs
            .into_iter()
            .find(|(table, subnet)| named(table, subnet))
            .ok_or_else(|| ControlError::AssociationNotFound(text.to_owned()))?;
        let mut changed = table.clone();
        changed.subnets.remove(subnet);
        Ok((Change::default().put(changed), ()))
    }
}

/// Where a request lets a route lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTargetSpec {
    /// A network interface by id, or as `VPC/ADDRESS`.
    NetworkInterface(Reference),
    /// An endpoint by id, or as `VPC/ADDRESS`.
    Endpoint(Reference),
    /// The primary interface of an instance by id or name.
    Instance(Reference),
}

impl RouteTargetSpec {
    /// What it means for a route of `table` for `destination`. Endpoints answer for ranges of IPv4 only.
    fn resolve(
        &self,
        state: &State,
        table: &RouteTable,
        destination: RouteDestination,
    ) -> Result<RouteTarget, ControlError> {
        let (target, vpc, other) = match self {
            Self::NetworkInterface(reference) => {
                let found = lookup::network_interface(state, reference)?;
                let other = format!("interface {}", found.id);
                (RouteTarget::NetworkInterface(found.id), found.vpc, other)
            }
            Self::Endpoint(reference) => {
                let found = lookup::endpoint(state, reference)?;
                (RouteTarget::Endpoint(found.id.clone()), &found.vpc, format!("endpoint {}", found.id))
            }
            Self::Instance(reference) => {
                let found = lookup::instance(state, reference)?;
                let primary = derived::interface_id(&found.vpc, found.address.into(), found.id.as_str());
                let other = format!("interface {primary}");
                (RouteTarget::NetworkInterface(primary), &found.vpc, other)
            }
        };
        if *vpc != table.vpc {
            return Err(ControlError::RouteTableOfOtherVpc { route_table: table.id.clone(), other });
        }
        match state.routed_endpoint(&target) {
            Some(endpoint) if destination.ipv4().is_none() => {
                Err(ControlError::EndpointRouteFamily { destination, endpoint: endpoint.clone() })
            }
            Some(_) | None => Ok(target),
        }
    }
}

/// The table of a request, and its VPC.
fn found<'a>(state: &'a State, reference: &Reference) -> Result<(&'a RouteTable, &'a Vpc), ControlError> {
    let table = lookup::route_table(state, reference)?;
    let vpc = state.vpcs.get(&table.vpc).ok_or_else(|| ControlError::VpcNotFound(table.vpc.to_string()))?;
    Ok((table, vpc))
}

/// Adds a route.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRoute {
    /// By id; a VPC means its main one.
    pub route_table: Reference,
    /// Host bits are cleared, as EC2 does.
    pub destination: RouteDestination,
    pub target: RouteTargetSpec,
}
operation!(CreateRoute -> RouteTableView);

impl Mutation for CreateRoute {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, RouteTableView), ControlError> {
        let Self { route_table, destination, target } = self;
        let (table, vpc) = found(state, route_table)?;
        let (destination, target) = (*destination, target.resolve(state, table, *destination)?);
        if destination.is_local(vpc) || table.routes.get(&destination).is_some_and(|present| *present != target) {
            return Err(ControlError::RouteExists(destination));
        }
        let mut changed = table.clone();
        let known = changed.routes.insert(destination, target).is_some();
        let view = RouteTableView::new(state, &changed);
        Ok((if known { Change::default() } else { Change::default().put(changed) }, view))
    }
}

/// Lets a route lead elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceRoute {
    pub route_table: Reference,
    pub destination: RouteDestination,
    pub target: RouteTargetSpec,
}
operation!(ReplaceRoute -> RouteTableView);

impl Mutation for ReplaceRoute {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, RouteTableView), ControlError> {
        let Self { route_table, destination, target } = self;
        let (table, _) = found(state, route_table)?;
        let (destination, target) = (*destination, target.resolve(state, table, *destination)?);
        let mut changed = table.clone();
        match changed.routes.get_mut(&destination) {
            Some(present) => *present = target,
            None => return Err(ControlError::NoRouteToReplace(destination)),
        }
        let view = RouteTableView::new(state, &changed);
        Ok((Change::replace(table, changed), view))
    }
}

/// Takes a route away.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRoute {
    pub route_table: Reference,
    pub destination: RouteDestination,
}
operation!(DeleteRoute -> RouteTableView);

impl Mutation for DeleteRoute {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, RouteTableView), ControlError> {
        let Self { route_table, destination } = self;
        let (table, vpc) = found(state, route_table)?;
        let (destination, route_table) = (*destination, table.id.clone());
        if destination.is_local(vpc) {
            return Err(ControlError::LocalRoute { destination, route_table });
        }
        let mut changed = table.clone();
        if changed.routes.remove(&destination).is_none() {
            return Err(ControlError::RouteNotFound { destination, route_table });
        }
        let view = RouteTableView::new(state, &changed);
        Ok((Change::default().put(changed), view))
    }
}

/// The route tables from which `subnet` goes, without it.
pub(super) fn without_subnet(state: &State, subnet: &SubnetId) -> Change {
    let tables = state.route_tables.values().filter(|table| table.subnets.contains(subnet));
    tables.fold(Change::default(), |change, table| {
        let mut changed = table.clone();
        changed.subnets.remove(subnet);
        change.put(changed)
    })
}

/// The route tables of a VPC beside its main one, each in words.
pub(super) fn dependants(state: &State, vpc: &VpcId) -> Vec<String> {
    let tables = state.route_tables.values().filter(|table| table.vpc == *vpc && !table.is_main());
    tables.map(|table| format!("route table {}", table.id)).collect()
}

/// Lists the route tables, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeRouteTables {
    /// None: all. A VPC means its main one.
    #[serde(default)]
    pub route_tables: Option<Vec<Reference>>,
    /// Only those of this VPC.
    #[serde(default)]
    pub vpc: Option<Reference>,
}
operation!(DescribeRouteTables -> Vec<RouteTableView>);

impl Query for DescribeRouteTables {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<RouteTableView>, ControlError> {
        let Self { route_tables, vpc } = self;
        let vpc = vpc.as_ref().map(|reference| lookup::vpc(state, reference)).transpose()?;
        let chosen = match route_tables {
            None => state.route_tables.values().collect(),
            Some(references) => references
                .iter()
                .map(|reference| lookup::route_table(state, reference))
                .collect::<Result<Vec<_>, ControlError>>()?,
        };
        let of_vpc = chosen.into_iter().filter(|table| vpc.is_none_or(|vpc| vpc.id == table.vpc));
        let views = of_vpc.map(|table| RouteTableView::new(state, table)).collect();
        Ok(sorted(views, |table: &RouteTableView| (table.vpc_name.clone(), !table.main, table.id.clone())))
    }
}
