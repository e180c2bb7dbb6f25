//! Subnets.

use super::{
    chosen, done, one, tag_set,
    vpcs::{canonical, ipv4_range, ipv6_association},
};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _,
        subnets::{self, CreateSubnet, DeleteSubnet, ModifySubnet},
    },
    model::{Owner, State, Subnet, SubnetCidr, SubnetId},
};

fn view(state: &State, owner: &Owner, subnet: &Subnet) -> Structure {
    let Subnet { id, vpc, cidr, ipv6_cidr, zone, is_default, public_ip_on_launch, created_at: _ } = subnet;
    let Owner { account, region } = owner;
    let ipv6 = ipv6_cidr.map(|cidr| ipv6_association("subnet-cidr-assoc", id.as_str(), &cidr));
    let names = Structure::new()
        .text("hostnameType", "ip-name")
        .text("enableResourceNameDnsARecord", false)
        .text("enableResourceNameDnsAAAARecord", false);
    Structure::new()
        .text("availabilityZoneId", zone.id(region))
        .text("mapCustomerOwnedIpOnLaunch", false)
        .text("ownerId", account)
        .text("assignIpv6AddressOnCreation", false)
        .list("ipv6CidrBlockAssociationSet", ipv6)
        .list("tagSet", tag_set(state, id.as_str()))
        .text("subnetArn", arn(owner, id))
        .text("enableDns64", false)
        .text("ipv6Native", false)
        .value("privateDnsNameOptionsOnLaunch", names)
        .text("subnetId", id)
        .text("state", "available")
        .text("vpcId", vpc)
        .text("cidrBlock", cidr)
        .text("availableIpAddressCount", subnets::free(state, subnet))
        .text("availabilityZone", zone.name(region))
        .text("defaultForAz", is_default)
        .text("mapPublicIpOnLaunch", public_ip_on_launch)
}

fn arn(owner: &Owner, id: &SubnetId) -> String {
    let Owner { account, region } = owner;
    format!("arn:aws:ec2:{region}:{account}:subnet/{id}")
}

fn unknown(id: &str) -> Refusal {
    ControlError::SubnetNotFound(id.to_owned()).into()
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let cidr: SubnetCidr = ipv4_range(scope.required("CidrBlock")?, "InvalidSubnet.Range")?;
    let zone = scope.text("AvailabilityZone").or_else(|| scope.text("AvailabilityZoneId")).map(str::to_owned);
    let ipv6_cidr = scope.text("Ipv6CidrBlock").map(|text| canonical(text).parse()).transpose()?;
    let request = CreateSubnet { vpc: scope.required("VpcId")?.into(), cidr, ipv6_cidr, zone };
    let tags = tag_specification(&scope, "subnet")?;
    let subnet = call.update(|state, context| {
        let (change, subnet) = request.decide(state, context)?;
        Ok((with_tags(state, change, subnet.id.as_str(), &tags)?, subnet))
    })?;
    call.read(|state, _| {
        let found = state.subnets.get(&subnet.id).ok_or_else(|| unknown(subnet.id.as_str()))?;
        Ok(Structure::new().value("subnet", view(state, call.owner(), found)))
    })
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("SubnetId"));
    let Owner { account, region } = call.owner();
    call.read(|state, _| {
        let mut found = Vec::new();
        for subnet in chosen(&state.subnets, &ids, unknown)? {
            let values = |name: &str| match name {
                "subnet-id" => one(&subnet.id),
                "vpc-id" => one(&subnet.vpc),
                "availability-zone" | "availabilityZone" => one(subnet.zone.name(region)),
                "availability-zone-id" | "availabilityZoneId" => one(subnet.zone.id(region)),
                "cidr" | "cidr-block" | "cidrBlock" => one(subnet.cidr),
                "ipv6-cidr-block-association.ipv6-cidr-block" => subnet.ipv6_cidr.and_then(one),
                "ipv6-cidr-block-association.state" => subnet.ipv6_cidr.and_then(|_| one("associated")),
                "default-for-az" | "defaultForAz" => one(subnet.is_default),
                "available-ip-address-count" => one(subnets::free(state, subnet)),
                "owner-id" => one(account),
                "subnet-arn" => one(arn(call.owner(), &subnet.id)),
                "ipv6-native" | "enable-dns64" | "map-customer-owned-ip-on-launch" => one(false),
                "map-public-ip-on-launch" | "mapPublicIpOnLaunch" => one(subnet.public_ip_on_launch),
                "state" => one("available"),
                _ => None,
            };
            if filters.admit(state, subnet.id.as_str(), values)? {
                found.push((subnet.id.to_string(), subnet));
            }
        }
        let (items, token) = page.cut(found);
        let items = items.into_iter().map(|subnet| view(state, call.owner(), subnet));
        Ok(Structure::new().list("subnetSet", items).maybe("nextToken", token))
    })
}

/// Whether instances get public addresses is kept and shown; what else can be changed keeps the only value that it has
/// here.
pub fn modify_attribute(call: &Call<'_>) -> Result<Structure, Refusal> {
    const OFF: [&str; 6] = [
        "AssignIpv6AddressOnCreation",
        "MapCustomerOwnedIpOnLaunch",
        "EnableDns64",
        "EnableResourceNameDnsARecordOnLaunch",
        "EnableResourceNameDnsAAAARecordOnLaunch",
        "DisableLniAtDeviceIndex",
    ];
    let scope = call.scope();
    let unsupported = |name: &str| Refusal::coded("UnsupportedOperation", format!("{name} cannot be changed here"));
    for name in OFF {
        if scope.structure(name).boolean("Value")? == Some(true) {
            return Err(unsupported(name));
        }
    }
    if scope.text("PrivateDnsHostnameTypeOnLaunch").is_some_and(|kind| kind != "ip-name") {
        return Err(unsupported("PrivateDnsHostnameTypeOnLaunch"));
    }
    let public_ip_on_launch = scope.structure("MapPublicIpOnLaunch").boolean("Value")?;
    call.mutate(&ModifySubnet { subnet: scope.required("SubnetId")?.into(), public_ip_on_launch })?;
    Ok(done())
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let subnet = call.scope().required("SubnetId")?.into();
    call.mutate(&DeleteSubnet { subnet })?;
    Ok(done())
}
