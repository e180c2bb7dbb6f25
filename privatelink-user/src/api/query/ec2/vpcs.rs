//! VPCs.

use super::{chosen, done, one, tag_set};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::{ControlError, lookup, vpcs},
    model::{Owner, State, Vpc, VpcAttributes, VpcCidr, VpcIpv6, VpcIpv6Cidr, derived},
};

fn view(state: &State, vpc: &Vpc) -> Structure {
    let Vpc { id, owner, name: _, cidr, gateway: _, ipv6, index: _, attributes, created_at: _ } = vpc;
    let association = Structure::new()
        .text("associationId", association_id("vpc-cidr-assoc", id.as_str()))
        .text("cidrBlock", cidr)
        .value("cidrBlockState", Structure::new().text("state", "associated"));
    let ipv6_association = ipv6.map(|ipv6| ipv6_association("vpc-cidr-assoc", id.as_str(), &ipv6.cidr));
    Structure::new()
        .text("ownerId", &owner.account)
        .text("instanceTenancy", "default")
        .list("ipv6CidrBlockAssociationSet", ipv6_association)
        .list("cidrBlockAssociationSet", [association])
        .text("isDefault", attributes.is_default)
        .list("tagSet", tag_set(state, id.as_str()))
        .text("vpcId", id)
        .text("state", "available")
        .text("cidrBlock", cidr)
        .text("dhcpOptionsId", dhcp_options(owner))
}

/// An IPv6 range as EC2 shows it; `kind` begins the association's id.
pub fn ipv6_association(kind: &str, resource: &str, cidr: &dyn std::fmt::Display) -> Structure {
    Structure::new()
        .text("associationId", ipv6_association_id(kind, resource))
        .text("ipv6CidrBlock", cidr)
        .value("ipv6CidrBlockState", Structure::new().text("state", "associated"))
}

/// The IPv4 range of a request; one that is none, or no VPC's or subnet's, is refused in EC2's words, by the code
/// `outside`.
pub fn ipv4_range<T: std::str::FromStr>(text: &str, outside: &'static str) -> Result<T, Refusal> {
    if text.parse::<ipnet::Ipv4Net>().is_err() {
        let message = format!("Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.");
        return Err(Refusal::coded("InvalidParameterValue", message));
    }
    canonical(text).parse().map_err(|_| Refusal::coded(outside, format!("The CIDR '{text}' is invalid.")))
}

/// A range as EC2 takes it: without host bits, whether the request has some or not.
pub fn canonical(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), |net: ipnet::IpNet| net.trunc().to_string())
}

fn association_id(kind: &str, resource: &str) -> String {
    format!("{kind}-{}", derived::hex(17, &["association", resource]))
}

fn ipv6_association_id(kind: &str, resource: &str) -> String {
    format!("{kind}-{}", derived::hex(17, &["IPv6 association", resource]))
}

fn dhcp_options(owner: &Owner) -> String {
    let Owner { account, region } = owner;
    format!("dopt-{}", derived::hex(17, &["dhcp options", account.as_str(), region.as_str()]))
}

fn unknown(id: &str) -> Refusal {
    ControlError::VpcNotFound(id.to_owned()).into()
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let text = scope.required("CidrBlock")?;
    let cidr: VpcCidr = ipv4_range(text, "InvalidVpc.Range")?;
    if !(16..=28).contains(&cidr.net().prefix_len()) {
        return Err(Refusal::coded("InvalidVpc.Range", format!("The CIDR '{text}' is invalid.")));
    }
    if scope.text("InstanceTenancy").is_some_and(|tenancy| tenancy != "default") {
        return Err(Refusal::value("InstanceTenancy", scope.required("InstanceTenancy")?, "must be default"));
    }
    let given = scope.text("Ipv6CidrBlock").map(|text| canonical(text).parse::<VpcIpv6Cidr>()).transpose()?;
    let provided = scope.boolean("AmazonProvidedIpv6CidrBlock")?.unwrap_or(false);
    if given.is_some() && provided {
        let message = "The parameters Ipv6CidrBlock and AmazonProvidedIpv6CidrBlock cannot be used together";
        return Err(Refusal::coded("InvalidParameterCombination", message));
    }
    let tags = tag_specification(&scope, "vpc")?;
    let id = call.update(|state, context| {
        let vpc = vpcs::nameless(state, context, cidr, VpcAttributes::default())?;
        let ipv6_cidr = if provided { Some(vpcs::provided_ipv6(&vpc)?) } else { given };
        let vpc = Vpc { ipv6: ipv6_cidr.map(|cidr| VpcIpv6 { cidr, gateway: None }), ..vpc };
        let id = vpc.id.clone();
        Ok((with_tags(state, vpcs::made(vpc), id.as_str(), &tags)?, id))
    })?;
    call.read(|state, _| {
        let vpc = state.vpcs.get(&id).ok_or_else(|| unknown(id.as_str()))?;
        Ok(Structure::new().value("vpc", view(state, vpc)))
    })
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("VpcId"));
    call.read(|state, _| {
        let mut found = Vec::new();
        for vpc in chosen(&state.vpcs, &ids, unknown)? {
            let values = |name: &str| match name {
                "vpc-id" => one(&vpc.id),
                "cidr" | "cidr-block" | "cidrBlock" | "cidr-block-association.cidr-block" => one(vpc.cidr),
                "cidr-block-association.state" => one("associated"),
                "ipv6-cidr-block-association.ipv6-cidr-block" => vpc.ipv6.and_then(|ipv6| one(ipv6.cidr)),
                "ipv6-cidr-block-association.state" => vpc.ipv6.and_then(|_| one("associated")),
                "cidr-block-association.association-id" => one(association_id("vpc-cidr-assoc", vpc.id.as_str())),
                "ipv6-cidr-block-association.association-id" => {
                    vpc.ipv6.and_then(|_| one(ipv6_association_id("vpc-cidr-assoc", vpc.id.as_str())))
                }
                "dhcp-options-id" => one(dhcp_options(&vpc.owner)),
                "is-default" | "isDefault" => one(vpc.attributes.is_default),
                "owner-id" => one(&vpc.owner.account),
                "state" => one("available"),
                _ => None,
            };
            if filters.admit(state, vpc.id.as_str(), values)? {
                found.push((vpc.id.to_string(), view(state, vpc)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("vpcSet", items).maybe("nextToken", token))
    })
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let vpc = call.scope().required("VpcId")?.into();
    call.mutate(&vpcs::DeleteVpc { vpc })?;
    Ok(done())
}

pub fn modify_attribute(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = scope.required("VpcId")?.into();
    let hostnames = scope.structure("EnableDnsHostnames").boolean("Value")?;
    let support = scope.structure("EnableDnsSupport").boolean("Value")?;
    if scope.structure("EnableNetworkAddressUsageMetrics").boolean("Value")?.is_some() {
        let message = "EnableNetworkAddressUsageMetrics cannot be changed here";
        return Err(Refusal::coded("UnsupportedOperation", message));
    }
    if hostnames.is_some() == support.is_some() {
        return Err(Refusal::coded(
            "InvalidParameterCombination",
            "Exactly one of EnableDnsHostnames and EnableDnsSupport must be specified",
        ));
    }
    let change = vpcs::ModifyVpc { vpc: id, dns_support: support, dns_hostnames: hostnames, ..Default::default() };
    call.mutate(&change)?;
    Ok(done())
}

pub fn describe_attribute(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (id, attribute) = (scope.required("VpcId")?.into(), scope.required("Attribute")?);
    call.read(|state, _| {
        let vpc = lookup::vpc(state, &id)?;
        let VpcAttributes { dns_support, dns_hostnames, is_default: _ } = vpc.attributes;
        let (name, value) = match attribute {
            "enableDnsSupport" => ("enableDnsSupport", dns_support),
            "enableDnsHostnames" => ("enableDnsHostnames", dns_hostnames),
            "enableNetworkAddressUsageMetrics" => ("enableNetworkAddressUsageMetrics", false),
            other => {
                let rule = "must be one of '[enableDnsSupport, enableDnsHostnames, enableNetworkAddressUsageMetrics]'";
                return Err(Refusal::value("Attribute", other, rule));
            }
        };
        Ok(Structure::new().text("vpcId", &vpc.id).value(name, Structure::new().text("value", value)))
    })
}
