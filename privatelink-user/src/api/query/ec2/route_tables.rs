//! Route tables.

use ipnet::IpNet;

use super::{chosen, done, gateways, one, tag_set};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _,
        route_tables::{
            AssociateRouteTable, CreateRoute, CreateRouteTable, DeleteRoute, DeleteRouteTable, DisassociateRouteTable,
            ReplaceRoute, RouteTargetSpec,
        },
    },
    model::{
        IpFamily, Owner, PrefixListId, RouteDestination, RouteState, RouteTable, RouteTableId, RouteTarget, State, Vpc,
    },
};

fn association(table: &RouteTable, id: String) -> Structure {
    Structure::new()
        .text("main", false)
        .text("routeTableAssociationId", id)
        .text("routeTableId", &table.id)
        .value("associationState", Structure::new().text("state", "associated"))
}

fn associations(table: &RouteTable) -> Vec<Structure> {
    let main = table.is_main().then(|| {
        Structure::new()
            .text("main", true)
            .text("routeTableAssociationId", table.main_association())
            .text("routeTableId", &table.id)
            .value("associationState", Structure::new().text("state", "associated"))
    });
    let subnets =
        table.subnets.iter().map(|subnet| association(table, table.association(subnet)).text("subnetId", subnet));
    main.into_iter().chain(subnets).collect()
}

/// The routes that every table of a VPC has: for its own ranges.
fn local(vpc: &Vpc) -> impl Iterator<Item = Structure> {
    let route = |member, cidr: String| {
        Structure::new()
            .text(member, cidr)
            .text("gatewayId", "local")
            .text("origin", "CreateRouteTable")
            .text("state", RouteState::Active)
    };
    let six = vpc.ipv6.map(|ipv6| route("destinationIpv6CidrBlock", ipv6.cidr.to_string()));
    std::iter::once(route("destinationCidrBlock", vpc.cidr.to_string())).chain(six)
}

fn route(
    state: &State,
    owner: &Owner,
    table: &RouteTable,
    destination: RouteDestination,
    target: &RouteTarget,
) -> Structure {
    let member = match destination.net() {
        IpNet::V4(_) => "destinationCidrBlock",
        IpNet::V6(_) => "destinationIpv6CidrBlock",
    };
    let structure = Structure::new().text(member, destination);
    let structure = match target {
        RouteTarget::NetworkInterface(id) => {
            structure.text("instanceOwnerId", &owner.account).text("networkInterfaceId", id)
        }
        // EC2 shows a route to an endpoint as one to a gateway.
        RouteTarget::Endpoint(id) => structure.text("gatewayId", id),
    };
    structure.text("origin", "CreateRoute").text("state", state.route_state(&table.vpc, target))
}

fn view(state: &State, owner: &Owner, table: &RouteTable) -> Structure {
    let local = state.vpcs.get(&table.vpc).into_iter().flat_map(local);
    let routes = table.routes.iter().map(|(destination, target)| route(state, owner, table, *destination, target));
    Structure::new()
        .list("associationSet", associations(table))
        .list("propagatingVgwSet", [] as [Structure; 0])
        .text("routeTableId", &table.id)
        .list("routeSet", local.chain(routes).chain(gateways::routes(state, &owner.region, &table.id)))
        .list("tagSet", tag_set(state, table.id.as_str()))
        .text("vpcId", &table.vpc)
        .text("ownerId", &owner.account)
}

fn unknown(id: &str) -> Refusal {
    ControlError::RouteTableNotFound(id.to_owned()).into()
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let request = CreateRouteTable { vpc: scope.required("VpcId")?.into() };
    let tags = tag_specification(&scope, "route-table")?;
    let token = scope.text("ClientToken");
    let id = call.create(|state, context| {
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id.to_string()))
    })?;
    call.read(|state, _| {
        let found = id.parse().ok().and_then(|id: RouteTableId| state.route_tables.get(&id));
        let table = found.ok_or_else(|| unknown(&id))?;
        Ok(Structure::new().value("routeTable", view(state, call.owner(), table)).maybe("clientToken", token))
    })
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("RouteTableId"));
    let owner = call.owner();
    call.read(|state, _| {
        let mut found = Vec::new();
        for table in chosen(&state.route_tables, &ids, unknown)? {
            let subnets = || table.subnets.iter().map(ToString::to_string).collect();
            let vpc = state.vpcs.get(&table.vpc);
            let cidr = vpc.map(|vpc| vpc.cidr.net());
            // In the order of [`view`]: the local ones, the table's own, those to gateway endpoints.
            let gateways = || {
                let of = state.gateway_endpoints.values();
                of.filter(|endpoint| endpoint.route_tables.contains(&table.id))
            };
            let locals = vpc.map_or(0, |vpc| local(vpc).count());
            let target = |wanted: fn(&RouteTarget) -> Option<String>| {
                table.routes.values().filter_map(wanted).collect::<Vec<_>>()
            };
            let values = |name: &str| match name {
                "route-table-id" | "association.route-table-id" => one(&table.id),
                "vpc-id" => one(&table.vpc),
                "owner-id" => one(&owner.account),
                "association.main" => one(table.is_main()),
                "association.subnet-id" => Some(subnets()),
                "association.route-table-association-id" => {
                    let subnets = table.subnets.iter().map(|subnet| table.association(subnet));
                    Some(table.is_main().then(|| table.main_association()).into_iter().chain(subnets).collect())
                }
                "route.destination-cidr-block" => {
                    let routes = table.routes.keys().filter_map(|destination| destination.ipv4());
                    Some(cidr.into_iter().chain(routes).map(|net| net.to_string()).collect())
                }
                "route.state" => {
                    let states = table.routes.values().map(|target| state.route_state(&table.vpc, target).to_string());
                    Some(states.chain([RouteState::Active.to_string()]).collect())
                }
                "route.destination-ipv6-cidr-block" => {
                    let own = vpc.and_then(|vpc| vpc.ipv6).map(|ipv6| ipv6.cidr.to_string());
                    let routes = table.routes.keys().filter(|destination| destination.ipv4().is_none());
                    Some(own.into_iter().chain(routes.map(ToString::to_string)).collect())
                }
                "route.destination-prefix-list-id" => {
                    Some(gateways().map(|endpoint| endpoint.service.prefix_list(&owner.region).to_string()).collect())
                }
                "route.origin" => {
                    let made = std::iter::repeat_n("CreateRouteTable", locals);
                    let routes = std::iter::repeat_n("CreateRoute", table.routes.len() + gateways().count());
                    Some(made.chain(routes).map(str::to_owned).collect())
                }
                "route.gateway-id" => {
                    let named = target(|target| match target {
                        RouteTarget::Endpoint(id) => Some(id.to_string()),
                        RouteTarget::NetworkInterface(_) => None,
                    });
                    let made = std::iter::repeat_n("local".to_owned(), locals);
                    Some(made.chain(named).chain(gateways().map(|one| one.id.to_string())).collect())
                }
                "route.network-interface-id" => Some(target(|target| match target {
                    RouteTarget::NetworkInterface(id) => Some(id.to_string()),
                    RouteTarget::Endpoint(_) => None,
                })),
                _ => None,
            };
            if filters.admit(state, table.id.as_str(), values)? {
                found.push((table.id.to_string(), view(state, owner, table)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("routeTableSet", items).maybe("nextToken", token))
    })
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id: RouteTableId = table(&call.scope())?;
    call.mutate(&DeleteRouteTable { route_table: (&id).into(), force: false })?;
    Ok(done())
}

/// The route table that a request names, by id only.
fn table(scope: &Scope<'_>) -> Result<RouteTableId, Refusal> {
    let text = scope.required("RouteTableId")?;
    text.parse().map_err(|_| unknown(text))
}

pub fn associate(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (table, subnet) = (table(&scope)?, scope.required("SubnetId")?);
    let made = call.mutate(&AssociateRouteTable { route_table: (&table).into(), subnet: subnet.into() })?;
    let association =
        made.associations.into_iter().find(|one| one.subnet.as_ref().is_some_and(|s| s.as_str() == subnet));
    Ok(Structure::new()
        .maybe("associationId", association.map(|one| one.id))
        .value("associationState", Structure::new().text("state", "associated")))
}

pub fn disassociate(call: &Call<'_>) -> Result<Structure, Refusal> {
    let text = call.scope().required("AssociationId")?;
    if !text.starts_with("rtbassoc-") {
        return Err(ControlError::AssociationNotFound(text.to_owned()).into());
    }
    call.mutate(&DisassociateRouteTable { association: text.into() })?;
    Ok(done())
}

/// The range that a route is for, by the member of its family.
fn destination(call: &Call<'_>) -> Result<RouteDestination, Refusal> {
    let scope = call.scope();
    if let Some(list) = scope.text("DestinationPrefixListId") {
        return Err(prefix_list(call, list));
    }
    let parse = |member: &str, text: &str, family: IpFamily| {
        let found = text.parse().ok().filter(|net: &IpNet| IpFamily::of(net.addr()) == family);
        found.map(RouteDestination::from).ok_or_else(|| {
            let message = format!("Value ({text}) for parameter {member} is invalid. This is not a valid CIDR block.");
            Refusal::coded("InvalidParameterValue", message)
        })
    };
    match (scope.text("DestinationCidrBlock"), scope.text("DestinationIpv6CidrBlock")) {
        (Some(four), None) => parse("destinationCidrBlock", four, IpFamily::Ipv4),
        (None, Some(six)) => parse("destinationIpv6CidrBlock", six, IpFamily::Ipv6),
        (Some(_), Some(_)) => Err(Refusal::coded(
            "InvalidParameterCombination",
            "Exactly one of DestinationCidrBlock and DestinationIpv6CidrBlock must be specified",
        )),
        (None, None) => Err(Refusal::missing("DestinationCidrBlock")),
    }
}

/// Why no route is for a prefix list: those that there are belong to the gateway services, whose endpoints make the
/// routes.
fn prefix_list(call: &Call<'_>, text: &str) -> Refusal {
    let list = text.parse::<PrefixListId>().ok().filter(|list| list.exists(&call.owner().region));
    match list {
        Some(list) => Refusal::coded(
            "UnsupportedOperation",
            format!("{list} is a gateway service's: ModifyVpcEndpoint of its gateway endpoint makes the route"),
        ),
        None => Refusal::coded("InvalidPrefixListID.NotFound", format!("The prefix list ID '{text}' does not exist")),
    }
}

/// What a route may lead to elsewhere and not here, with the code of what does not exist and EC2's word for it.
const ELSEWHERE: [(&str, &str, &str); 5] = [
    ("GatewayId", "InvalidGatewayID.NotFound", "gateway"),
    ("NatGatewayId", "NatGatewayNotFound", "natGateway"),
    ("TransitGatewayId", "InvalidTransitGatewayID.NotFound", "transitGateway"),
    ("VpcPeeringConnectionId", "InvalidVpcPeeringConnectionID.NotFound", "vpcPeeringConnection"),
    ("EgressOnlyInternetGatewayId", "InvalidGatewayID.NotFound", "egressOnlyInternetGateway"),
];

fn target(scope: &Scope<'_>) -> Result<RouteTargetSpec, Refusal> {
    let endpoint = scope.text("VpcEndpointId").or_else(|| endpoint_as_gateway(scope));
    let interface = scope.text("NetworkInterfaceId").map(|id| RouteTargetSpec::NetworkInterface(id.into()));
    let endpoint = endpoint.map(|id| RouteTargetSpec::Endpoint(id.into()));
    let instance = scope.text("InstanceId").map(|id| RouteTargetSpec::Instance(id.into()));
    let mut given = [interface, endpoint, instance].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(target), None) => Ok(target),
        (Some(_), Some(_)) => Err(Refusal::coded(
            "InvalidParameterCombination",
            "Exactly one of NetworkInterfaceId, VpcEndpointId and InstanceId must be specified",
        )),
        (None, _) => {
            let named = ELSEWHERE.iter().find_map(|(name, code, word)| Some((scope.text(name)?, *code, *word)));
            Err(named.map_or_else(
                || Refusal::missing("NetworkInterfaceId"),
                |(id, code, word)| Refusal::coded(code, format!("The {word} ID '{id}' does not exist")),
            ))
        }
    }
}

/// EC2 takes an endpoint's id as a gateway's too.
fn endpoint_as_gateway<'a>(scope: &Scope<'a>) -> Option<&'a str> {
    scope.text("GatewayId").filter(|id| id.starts_with("vpce-"))
}

pub fn create_route(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (table, destination, target) = (table(&scope)?, destination(call)?, target(&scope)?);
    call.mutate(&CreateRoute { route_table: (&table).into(), destination, target })?;
    Ok(done())
}

pub fn replace_route(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (table, destination, target) = (table(&scope)?, destination(call)?, target(&scope)?);
    call.mutate(&ReplaceRoute { route_table: (&table).into(), destination, target })?;
    Ok(done())
}

pub fn delete_route(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (table, destination) = (table(&scope)?, destination(call)?);
    call.mutate(&DeleteRoute { route_table: (&table).into(), destination })?;
    Ok(done())
}
