//! Security groups and their rules.

use std::collections::BTreeSet;

use super::{chosen, done, one, tag_set};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _, Reference, lookup,
        security_groups::{
            AuthorizeSecurityGroup, CreateSecurityGroup, DeleteSecurityGroup, RevokeSecurityGroup, RuleSpec,
        },
    },
    model::{
        Direction, IcmpKind, Owner, Peer, SecurityGroup, SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId,
        SecurityGroupText, State, Traffic, Vpc,
    },
};

fn arn(owner: &Owner, kind: &str, id: impl std::fmt::Display) -> String {
    let Owner { account, region } = owner;
    format!("arn:aws:ec2:{region}:{account}:{kind}/{id}")
}

/// Protocol and the two port fields, as the API has them: ICMP's type and code stand in the port fields, -1 for all.
fn wire(traffic: Traffic) -> (String, Option<(i32, i32)>) {
    let kinds = |kind: IcmpKind| match kind {
        IcmpKind::All => (-1, -1),
        IcmpKind::Type(kind) => (i32::from(kind), -1),
        IcmpKind::TypeAndCode(kind, code) => (i32::from(kind), i32::from(code)),
    };
    match traffic {
        Traffic::All => ("-1".to_owned(), None),
        Traffic::Tcp(ports) => ("tcp".to_owned(), Some((ports.first().into(), ports.last().into()))),
        Traffic::Udp(ports) => ("udp".to_owned(), Some((ports.first().into(), ports.last().into()))),
        Traffic::Icmp(kind) => ("icmp".to_owned(), Some(kinds(kind))),
        Traffic::Icmpv6(kind) => ("icmpv6".to_owned(), Some(kinds(kind))),
        Traffic::Protocol(number) => (number.to_string(), None),
    }
}

fn with_ports(structure: Structure, ports: Option<(i32, i32)>) -> Structure {
    structure.maybe("fromPort", ports.map(|(from, _)| from)).maybe("toPort", ports.map(|(_, to)| to))
}

/// One rule, as `ipPermissions` has it.
fn permission(owner: &Owner, rule: &SecurityGroupRule) -> Structure {
    let (protocol, ports) = wire(rule.traffic);
    let described = |structure: Structure| structure.maybe("description", rule.description.as_ref());
    let (mut groups, mut v4, mut v6, mut lists) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    match &rule.peer {
        Peer::Group(group) => {
            groups.push(described(Structure::new().text("groupId", group).text("userId", &owner.account)));
        }
        Peer::Cidr(ipnet::IpNet::V4(net)) => v4.push(described(Structure::new().text("cidrIp", net))),
        Peer::Cidr(ipnet::IpNet::V6(net)) => v6.push(described(Structure::new().text("cidrIpv6", net))),
        Peer::PrefixList(list) => lists.push(described(Structure::new().text("prefixListId", list))),
    }
    with_ports(Structure::new().text("ipProtocol", protocol), ports)
        .list("groups", groups)
        .list("ipRanges", v4)
        .list("ipv6Ranges", v6)
        .list("prefixListIds", lists)
}

fn view(state: &State, owner: &Owner, group: &SecurityGroup) -> Structure {
    let rules = |direction| group.rules(direction).map(|(_, rule)| permission(owner, rule)).collect::<Vec<_>>();
    Structure::new()
        .text("groupId", &group.id)
        .list("ipPermissionsEgress", rules(Direction::Egress))
        .list("tagSet", tag_set(state, group.id.as_str()))
        .text("vpcId", &group.vpc)
        .text("securityGroupArn", arn(owner, "security-group", &group.id))
        .text("ownerId", &owner.account)
        .text("groupName", &group.name)
        .text("groupDescription", &group.description)
        .list("ipPermissions", rules(Direction::Ingress))
}

/// One rule by itself.
fn rule_view(
    state: &State,
    owner: &Owner,
    group: &SecurityGroup,
    id: &SecurityGroupRuleId,
    rule: &SecurityGroupRule,
) -> Structure {
    let structure = rule_head(&group.id, id, rule).text("groupOwnerId", &owner.account);
    let structure = match &rule.peer {
        Peer::Cidr(_) | Peer::PrefixList(_) => structure,
        Peer::Group(peer) => {
            let info = Structure::new().text("groupId", peer).text("userId", &owner.account);
            structure.value("referencedGroupInfo", info)
        }
    };
    structure
        .list("tagSet", tag_set(state, id.as_str()))
        .text("securityGroupRuleArn", arn(owner, "security-group-rule", id))
}

/// One rule that is gone.
fn revoked_view(group: &SecurityGroupId, id: &SecurityGroupRuleId, rule: &SecurityGroupRule) -> Structure {
    let structure = rule_head(group, id, rule);
    match &rule.peer {
        Peer::Cidr(_) | Peer::PrefixList(_) => structure,
        Peer::Group(peer) => structure.text("referencedGroupId", peer),
    }
}

/// What a rule by itself and one that is gone have in common: all but a group that is the peer.
fn rule_head(group: &SecurityGroupId, id: &SecurityGroupRuleId, rule: &SecurityGroupRule) -> Structure {
    let (protocol, ports) = wire(rule.traffic);
    let structure = Structure::new()
        .text("securityGroupRuleId", id)
        .text("groupId", group)
        .text("isEgress", rule.direction == Direction::Egress)
        .text("ipProtocol", protocol);
    // Where there are no ports the API has -1.
    let structure = with_ports(structure, ports.or(Some((-1, -1))));
    let structure = match &rule.peer {
        Peer::Cidr(ipnet::IpNet::V4(net)) => structure.text("cidrIpv4", net),
        Peer::Cidr(ipnet::IpNet::V6(net)) => structure.text("cidrIpv6", net),
        Peer::PrefixList(list) => structure.text("prefixListId", list),
        Peer::Group(_) => structure,
    };
    structure.maybe("description", rule.description.as_ref())
}

fn unknown(id: &str) -> Refusal {
    ControlError::SecurityGroupNotFound(id.to_owned()).into()
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let name = scope.required("GroupName")?.parse()?;
    let description: SecurityGroupText = scope.required("GroupDescription")?.parse()?;
    let tags = tag_specification(&scope, "security-group")?;
    let vpc: Option<Reference> = scope.text("VpcId").map(Into::into);
    let id = call.update(|state, context| {
        let default = || state.vpcs.values().find(|vpc| vpc.attributes.is_default).map(|vpc: &Vpc| (&vpc.id).into());
        let vpc = vpc.clone().or_else(default).ok_or_else(|| Refusal::missing("VpcId"))?;
        let request = CreateSecurityGroup { name, vpc, description: Some(description) };
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id))
    })?;
    call.read(|state, _| {
        Ok(Structure::new()
            .text("groupId", &id)
            .list("tagSet", tag_set(state, id.as_str()))
            .text("securityGroupArn", arn(call.owner(), "security-group", &id)))
    })
}

/// What the rules of a direction have under a filter's name, such as `cidr`; none if filters have no such name.
fn of_rules(
    state: &State,
    owner: &Owner,
    group: &SecurityGroup,
    direction: Direction,
    of: &str,
) -> Option<Vec<String>> {
    let of_rule: fn(&State, &Owner, &SecurityGroupRule) -> Option<String> = match of {
        "protocol" => |_, _, rule| Some(wire(rule.traffic).0),
        "from-port" => |_, _, rule| wire(rule.traffic).1.map(|(from, _)| from.to_string()),
        "to-port" => |_, _, rule| wire(rule.traffic).1.map(|(_, to)| to.to_string()),
        "cidr" => |_, _, rule| match &rule.peer {
            Peer::Cidr(ipnet::IpNet::V4(net)) => Some(net.to_string()),
            Peer::Cidr(ipnet::IpNet::V6(_)) | Peer::Group(_) | Peer::PrefixList(_) => None,
        },
        "ipv6-cidr" => |_, _, rule| match &rule.peer {
            Peer::Cidr(ipnet::IpNet::V6(net)) => Some(net.to_string()),
            Peer::Cidr(ipnet::IpNet::V4(_)) | Peer::Group(_) | Peer::PrefixList(_) => None,
        },
        "prefix-list-id" => |_, _, rule| match &rule.peer {
            Peer::PrefixList(list) => Some(list.to_string()),
            Peer::Cidr(_) | Peer::Group(_) => None,
        },
        "group-id" => |_, _, rule| peer_group(rule).map(ToString::to_string),
        "group-name" => |state, _, rule| state.security_groups.get(peer_group(rule)?).map(|peer| peer.name.to_string()),
        "user-id" => |_, owner, rule| peer_group(rule).map(|_| owner.account.to_string()),
        _ => return None,
    };
    Some(group.rules(direction).filter_map(|(_, rule)| of_rule(state, owner, rule)).collect())
}

fn peer_group(rule: &SecurityGroupRule) -> Option<&SecurityGroupId> {
    match &rule.peer {
        Peer::Group(group) => Some(group),
        Peer::Cidr(_) | Peer::PrefixList(_) => None,
    }
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page) = (Filters::read(&scope)?, Page::ec2(&scope)?);
    let (ids, names) = (scope.list("GroupId"), scope.list("GroupName"));
    let owner = call.owner();
    call.read(|state, _| {
        let known = |name: &&&str| state.security_groups.values().any(|group| group.name.as_str() == **name);
        if let Some(name) = names.iter().find(|name| !known(name)) {
            return Err(unknown(name));
        }
        let mut found = Vec::new();
        for group in chosen(&state.security_groups, &ids, unknown)? {
            let values = |name: &str| match name {
                "group-id" => one(&group.id),
                "group-name" => one(&group.name),
                "description" => one(&group.description),
                "vpc-id" => one(&group.vpc),
                "owner-id" => one(&owner.account),
                other => match other.strip_prefix("egress.ip-permission.") {
                    Some(of) => of_rules(state, owner, group, Direction::Egress, of),
                    None => of_rules(state, owner, group, Direction::Ingress, other.strip_prefix("ip-permission.")?),
                },
            };
            let asked = names.is_empty() || names.contains(&group.name.as_str());
            if filters.admit(state, group.id.as_str(), values)? && asked {
                found.push((group.id.to_string(), view(state, owner, group)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("securityGroupInfo", items).maybe("nextToken", token))
    })
}

pub fn describe_rules(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("SecurityGroupRuleId"));
    call.read(|state, _| {
        let all = || state.security_groups.values().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let known = |wanted: &&&str| all().any(|(_, (id, _))| id.as_str() == **wanted);
        if let Some(id) = ids.iter().find(|wanted| !known(wanted)) {
            let message = format!("The security group rule ID '{id}' does not exist");
            return Err(Refusal::coded("InvalidSecurityGroupRuleId.NotFound", message));
        }
        let mut found = Vec::new();
        for (group, (id, rule)) in all() {
            let values = |name: &str| match name {
                "group-id" => one(&group.id),
                "security-group-rule-id" => one(id),
                _ => None,
            };
            let asked = ids.is_empty() || ids.contains(&id.as_str());
            if filters.admit(state, id.as_str(), values)? && asked {
                found.push((id.to_string(), rule_view(state, call.owner(), group, id, rule)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("securityGroupRuleSet", items).maybe("nextToken", token))
    })
}

/// The group that a request names by id, or by name.
fn named(call: &Call<'_>) -> Result<SecurityGroupId, Refusal> {
    let scope = call.scope();
    let text = scope.text("GroupId").or_else(|| scope.text("GroupName")).ok_or_else(|| Refusal::missing("GroupId"))?;
    // A name means a group of the default VPC.
    let by_name = scope.text("GroupId").is_none();
    call.read(|state, _| {
        let default = state.vpcs.values().find(|vpc| by_name && vpc.attributes.is_default).map(|vpc| &vpc.id);
        Ok(lookup::security_group(state, &text.into(), default)?.id.clone())
    })
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id = named(call)?;
    call.mutate(&DeleteSecurityGroup { security_group: (&id).into() })?;
    Ok(done().text("groupId", id))
}

/// Protocol and ports of a rule that is asked for, in the form that [`Traffic`] reads.
fn traffic(scope: &Scope<'_>) -> Result<Traffic, Refusal> {
    let protocol = scope.required("IpProtocol")?;
    let (from, to) = (scope.number::<i32>("FromPort")?, scope.number::<i32>("ToPort")?);
    let icmp = matches!(protocol, "icmp" | "1" | "icmpv6" | "58");
    let text = match (from, to) {
        (None, None) | (Some(-1), None | Some(-1)) => protocol.to_owned(),
        (_, _) if matches!(protocol, "-1" | "all") => protocol.to_owned(),
        (Some(kind), None | Some(-1)) if icmp => format!("{protocol}:{kind}"),
        (Some(kind), Some(code)) if icmp => format!("{protocol}:{kind}/{code}"),
        (Some(from), Some(to)) if from > to || from < 0 || to > 65_535 => {
            let name = protocol.to_ascii_uppercase();
            let message = format!("Invalid {name} port range ({from}:{to})");
            return Err(Refusal::coded("InvalidParameterValue", message));
        }
        (Some(from), Some(to)) => format!("{protocol}:{from}-{to}"),
        (Some(_), None) => return Err(Refusal::missing("ToPort")),
        (None, Some(_)) => return Err(Refusal::missing("FromPort")),
    };
    Ok(text.parse()?)
}

/// Refuses what is no range, in EC2's words.
fn check_cidr(text: &str) -> Result<(), Refusal> {
    match text.parse::<ipnet::IpNet>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::coded("InvalidParameterValue", format!("CIDR block {text} is malformed"))),
    }
}

/// Groups of other accounts are no peers here: their VPCs are not reached but through endpoints.
fn check_account(owner: &Owner, named: Option<&str>) -> Result<(), Refusal> {
    match named {
        Some(other) if other != owner.account.as_str() => {
            Err(Refusal::coded("InvalidGroup.NotFound", format!("You have no security group of the account '{other}'")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The rules of a request: a list of permissions, or a single one in the request's own parameters.
fn specs(owner: &Owner, scope: &Scope<'_>) -> Result<Vec<RuleSpec>, Refusal> {
    let mut specs = Vec::new();
    for permission in scope.structures("IpPermissions") {
        let traffic = traffic(&permission)?;
        let before = specs.len();
        for (list, member) in [
            ("IpRanges", "CidrIp"),
            ("Ipv6Ranges", "CidrIpv6"),
            ("Groups", "GroupId"),
            ("PrefixListIds", "PrefixListId"),
        ] {
            for one in permission.structures(list) {
                check_account(owner, one.text("UserId"))?;
                // A group may be named instead, by a name that its VPC has once.
                let name = one.text("GroupName").filter(|_| member == "GroupId");
                let peer = name.map_or_else(|| one.required(member), Ok)?;
                if member.starts_with("Cidr") {
                    check_cidr(peer)?;
                }
                let peer = peer.into();
                specs.push(RuleSpec { traffic, peer, description: one.parsed("Description")? });
            }
        }
        if specs.len() == before {
            return Err(Refusal::missing("IpPermissions.IpRanges"));
        }
    }
    if let Some(cidr) = scope.text("CidrIp") {
        check_cidr(cidr)?;
        specs.push(RuleSpec { traffic: traffic(scope)?, peer: cidr.into(), description: None });
    }
    if let Some(name) = scope.text("SourceSecurityGroupName") {
        check_account(owner, scope.text("SourceSecurityGroupOwnerId"))?;
        // With a group alone everything is meant.
        let traffic = if scope.text("IpProtocol").is_some() { traffic(scope)? } else { Traffic::All };
        specs.push(RuleSpec { traffic, peer: name.into(), description: None });
    }
    Ok(specs)
}

fn authorize(call: &Call<'_>, direction: Direction) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = named(call)?;
    let rules = specs(call.owner(), &scope)?;
    if rules.is_empty() {
        return Err(Refusal::missing("IpPermissions"));
    }
    let before: BTreeSet<SecurityGroupRuleId> =
        call.read(|state, _| Ok(group(state, &id)?.rules.keys().cloned().collect()))?;
    let request =
        AuthorizeSecurityGroup { security_group: (&id).into(), direction, rules, apply_to_established: false };
    let tags = tag_specification(&scope, "security-group-rule")?;
    call.update(|state, context| {
        let (mut change, made) = request.decide(state, context)?;
        let rules = match direction {
            Direction::Ingress => made.ingress,
            Direction::Egress => made.egress,
        };
        for rule in rules.iter().filter(|rule| !before.contains(&rule.id)) {
            change = with_tags(state, change, rule.id.as_str(), &tags)?;
        }
        Ok((change, ()))
    })?;
    call.read(|state, _| {
        let group = group(state, &id)?;
        let fresh = group.rules.iter().filter(|(id, _)| !before.contains(*id));
        let rows: Vec<_> = fresh.map(|(id, rule)| rule_view(state, call.owner(), group, id, rule)).collect();
        Ok(done().list("securityGroupRuleSet", rows))
    })
}

fn group<'a>(state: &'a State, id: &SecurityGroupId) -> Result<&'a SecurityGroup, Refusal> {
    state.security_groups.get(id).ok_or_else(|| unknown(id.as_str()))
}

fn revoke(call: &Call<'_>, direction: Direction) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = named(call)?;
    let rules = specs(call.owner(), &scope)?;
    let rule_ids: Vec<SecurityGroupRuleId> = scope
        .list("SecurityGroupRuleId")
        .into_iter()
        .map(|text| text.parse().map_err(Refusal::from))
        .collect::<Result<_, _>>()?;
    if rules.is_empty() && rule_ids.is_empty() {
        return Err(Refusal::missing("IpPermissions"));
    }
    let before = call.read(|state, _| Ok(group(state, &id)?.clone()))?;
    let of_direction =
        |rule: &SecurityGroupRuleId| before.rules.get(rule).is_some_and(|rule| rule.direction == direction);
    if let Some(missing) = rule_ids.iter().find(|rule| !of_direction(rule)) {
        return Err(ControlError::RuleNotFound { rule: missing.to_string() }.into());
    }
    let security_group = (&id).into();
    call.mutate(&RevokeSecurityGroup { security_group, rule_ids, direction, rules, apply_to_established: false })?;
    call.read(|state, _| {
        let after = group(state, &id)?;
        let gone = before.rules.iter().filter(|(id, _)| !after.rules.contains_key(*id));
        let row = |(rule_id, rule)| revoked_view(&id, rule_id, rule);
        let rows: Vec<_> = gone.map(row).collect();
        Ok(done().list("unknownIpPermissionSet", [] as [Structure; 0]).list("revokedSecurityGroupRuleSet", rows))
    })
}

pub fn authorize_ingress(call: &Call<'_>) -> Result<Structure, Refusal> {
    authorize(call, Direction::Ingress)
}

pub fn authorize_egress(call: &Call<'_>) -> Result<Structure, Refusal> {
    authorize(call, Direction::Egress)
}

pub fn revoke_ingress(call: &Call<'_>) -> Result<Structure, Refusal> {
    revoke(call, Direction::Ingress)
}

pub fn revoke_egress(call: &Call<'_>) -> Result<Structure, Refusal> {
    revoke(call, Direction::Egress)
}

/// The groups that something carries, as `groupSet`.
pub fn group_set(state: &State, groups: &BTreeSet<SecurityGroupId>) -> Vec<Structure> {
    let row = |id: &SecurityGroupId| {
        let name = state.security_groups.get(id).map(|group| &group.name);
        Structure::new().text("groupId", id).maybe("groupName", name)
    };
    groups.iter().map(row).collect()
}
