//! Instances: an instance is a label for a host, namespace or container. `RunInstances` adopts one: its address is
//! `PrivateIpAddress` (or `NetworkInterface.1.PrivateIpAddress`); without one it is the subnet's first free address,
//! which the host is then given by whoever runs it. No machine is started, stopped or ended.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{interfaces, one, security_groups::group_set, tag_set};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _, Reference,
        instances::{DeregisterInstances, InstanceTransition, RegisterInstance, StartInstances, StopInstances},
        lookup, subnets,
    },
    model::{Instance, InstanceState, Owner, State, derived},
};

fn state_of(state: InstanceState) -> Structure {
    Structure::new().text("code", state.code()).text("name", state)
}

/// The id under which an instance was launched: each by itself.
fn reservation_id(instance: &Instance) -> String {
    format!("r-{}", derived::hex(17, &["reservation", instance.id.as_str()]))
}

fn view(state: &State, owner: &Owner, instance: &Instance) -> Structure {
    let Instance {
        id,
        name: _,
        vpc,
        address,
        further_addresses: _,
        state: instance_state,
        security_groups,
        image_id,
        instance_type,
        created_at,
    } = instance;
    let alive = instance.is_alive();
    let subnet = state.subnet_of(vpc, *address).filter(|_| alive);
    let attached = state.network_interfaces().filter(|interface| interface.by.as_str() == id.as_str());
    let placement = Structure::new()
        .maybe("availabilityZone", subnet.map(|subnet| subnet.zone.name(&owner.region)))
        .text("groupName", "")
        .text("tenancy", "default");
    let structure = Structure::new()
        .text("instanceId", id)
        .maybe("imageId", image_id.as_ref())
        .value("instanceState", state_of(*instance_state))
        .text("amiLaunchIndex", 0)
        .maybe("instanceType", instance_type.as_ref())
        .time("launchTime", *created_at)
        .value("placement", placement)
        .value("monitoring", Structure::new().text("state", "disabled"));
    if !alive {
        return structure.list("tagSet", tag_set(state, id.as_str()));
    }
    structure
        .maybe("subnetId", subnet.map(|subnet| &subnet.id))
        .text("vpcId", vpc)
        .text("privateIpAddress", address)
        .text("sourceDestCheck", true)
        .list("groupSet", group_set(state, security_groups))
        .list("networkInterfaceSet", attached.map(|interface| interfaces::of_instance(state, owner, &interface)))
        .list("tagSet", tag_set(state, id.as_str()))
}

fn reservation(state: &State, owner: &Owner, instance: &Instance) -> Structure {
    Structure::new()
        .text("reservationId", reservation_id(instance))
        .text("ownerId", &owner.account)
        .list("groupSet", [] as [Structure; 0])
        .list("instancesSet", [view(state, owner, instance)])
}

/// Exactly one: a host that exists is one host.
fn count(scope: &Scope<'_>, name: &str) -> Result<(), Refusal> {
    let text = scope.required(name)?;
    match scope.number::<u32>(name)? {
        Some(1) => Ok(()),
        Some(_) | None => Err(Refusal::value(name, text, "must be 1: an instance is one host, which exists already")),
    }
}

/// The network of an instance: from the request itself, or from its first network interface.
fn network<'a>(scope: &Scope<'a>) -> Result<(Scope<'a>, &'static str), Refusal> {
    let interfaces = scope.structures("NetworkInterface");
    match interfaces.as_slice() {
        [] => Ok((scope.clone(), "SecurityGroupId")),
        [first] => {
            let index = first.number::<u32>("DeviceIndex")?.unwrap_or(0);
            if index != 0 {
                return Err(Refusal::value("NetworkInterface.DeviceIndex", &index.to_string(), "must be 0"));
            }
            first.boolean("DeleteOnTermination")?;
            first.text("Description");
            if first.boolean("AssociatePublicIpAddress")?.unwrap_or(false) {
                return Err(Refusal::coded("UnsupportedOperation", "there are no public addresses"));
            }
            Ok((first.clone(), "SecurityGroupId"))
        }
        more => Err(Refusal::value(
            "NetworkInterface",
            &more.len().to_string(),
            "must be one; further addresses of a host are given with `privatelink instance register`",
        )),
    }
}

fn default_subnet(state: &State) -> Result<Reference, Refusal> {
    let subnet = state.subnets.values().filter(|subnet| subnet.is_default).min_by_key(|subnet| subnet.zone);
    subnet.map(|subnet| Reference::from(&subnet.id)).ok_or_else(|| Refusal::missing("SubnetId"))
}

pub fn run(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    count(&scope, "MinCount")?;
    count(&scope, "MaxCount")?;
    let (network, groups) = network(&scope)?;
    let address = |text: &str| {
        text.parse::<Ipv4Addr>().map_err(|_| Refusal::value("PrivateIpAddress", text, "must be an IPv4 address"))
    };
    let addresses: Vec<Ipv4Addr> = network.text("PrivateIpAddress").map(address).transpose()?.into_iter().collect();
    let subnet = network.text("SubnetId").map(Reference::from);
    let ids = network.list(groups).into_iter().chain(scope.list("SecurityGroup"));
    let groups: Vec<Reference> = ids.map(Reference::from).collect();
    let (image_id, instance_type) = (scope.parsed("ImageId")?, scope.parsed("InstanceType")?);
    let tags = tag_specification(&scope, "instance")?;
    let id = call.create(|state, context| {
        let subnet = subnet.map_or_else(|| default_subnet(state), Ok)?;
        // Nobody has named a group: the VPC's default one, as with AWS.
        let default = || {
            let vpc = &subnets::find(state, &subnet).ok()?.vpc;
            state.default_group(vpc).map(|group| Reference::from(&group.id))
        };
        let security_groups = if groups.is_empty() { default().into_iter().collect() } else { groups };
        let request = RegisterInstance {
            subnet: Some(subnet),
            addresses,
            security_groups,
            image_id,
            instance_type,
            ..RegisterInstance::default()
        };
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id.to_string()))
    })?;
    call.read(|state, _| Ok(reservation(state, call.owner(), lookup::instance(state, &id.as_str().into())?)))
}

/// The instances that `ids` name.
fn named<'a>(state: &'a State, ids: &[&str]) -> Result<BTreeSet<&'a str>, Refusal> {
    let find = |id: &&str| {
        let found = id.parse().ok().and_then(|id| state.instances.get(&id));
        found
            .map(|instance: &Instance| instance.id.as_str())
            .ok_or_else(|| ControlError::InstanceNotFound((*id).to_owned()).into())
    };
    ids.iter().map(find).collect()
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("InstanceId"));
    // Nothing is managed by others here.
    scope.boolean("IncludeManagedResources")?;
    let owner = call.owner();
    call.read(|state, _| {
        let wanted = named(state, &ids)?;
        let mut found = Vec::new();
        for instance in state.instances.values() {
            let subnet = state.subnet_of(&instance.vpc, instance.address).filter(|_| instance.is_alive());
            let alive = |value: String| Some(instance.is_alive().then_some(value).into_iter().collect());
            let label = |value: Option<&crate::model::InstanceLabel>| {
                Some(value.map(ToString::to_string).into_iter().collect())
            };
            let values = |name: &str| match name {
                "instance-id" => one(&instance.id),
                "instance-state-name" => one(instance.state),
                "instance-state-code" => one(instance.state.code()),
                "vpc-id" | "network-interface.vpc-id" => alive(instance.vpc.to_string()),
                "subnet-id" | "network-interface.subnet-id" => {
                    Some(subnet.map(|subnet| subnet.id.to_string()).into_iter().collect())
                }
                "availability-zone" => Some(subnet.map(|s| s.zone.name(&owner.region)).into_iter().collect()),
                "private-ip-address" => alive(instance.address.to_string()),
                "network-interface.addresses.private-ip-address" => {
                    Some(instance.addresses().filter(|_| instance.is_alive()).map(|ip| ip.to_string()).collect())
                }
                "instance.group-id" | "network-interface.group-id" => {
                    Some(instance.security_groups.iter().map(ToString::to_string).collect())
                }
                "image-id" => label(instance.image_id.as_ref()),
                "instance-type" => label(instance.instance_type.as_ref()),
                "owner-id" => one(&owner.account),
                "reservation-id" => one(reservation_id(instance)),
                _ => None,
            };
            let asked = wanted.is_empty() || wanted.contains(instance.id.as_str());
            if filters.admit(state, instance.id.as_str(), values)? && asked {
                found.push((instance.id.to_string(), reservation(state, owner, instance)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("reservationSet", items).maybe("nextToken", token))
    })
}

/// The ids of a request about instances; names do not count here.
fn ids(call: &Call<'_>) -> Result<Vec<Reference>, Refusal> {
    let ids = call.scope().list("InstanceId");
    if ids.is_empty() {
        return Err(Refusal::missing("InstanceId"));
    }
    call.read(|state, _| named(state, &ids).map(drop))?;
    Ok(ids.into_iter().map(Reference::from).collect())
}

fn transitions(done: Vec<InstanceTransition>) -> Structure {
    let row = |InstanceTransition { id, name: _, previous, current }| {
        Structure::new()
            .text("instanceId", id)
            .value("currentState", state_of(current))
            .value("previousState", state_of(previous))
    };
    Structure::new().list("instancesSet", done.into_iter().map(row))
}

/// A target that is terminated drains.
pub fn terminate(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    scope.boolean("Force")?;
    scope.boolean("SkipOsShutdown")?;
    Ok(transitions(call.mutate(&DeregisterInstances { instances: ids(call)?, force: true })?))
}

pub fn stop(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    scope.boolean("Force")?;
    scope.boolean("SkipOsShutdown")?;
    Ok(transitions(call.mutate(&StopInstances { instances: ids(call)? })?))
}

pub fn start(call: &Call<'_>) -> Result<Structure, Refusal> {
    Ok(transitions(call.mutate(&StartInstances { instances: ids(call)? })?))
}
