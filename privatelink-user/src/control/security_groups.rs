//! Security groups and their rules.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, lookup, operation, sorted,
    view::{self, SecurityGroupView},
};
use crate::model::{
    Change, Direction, Instance, Peer, SecurityGroup, SecurityGroupId, SecurityGroupName, SecurityGroupRule,
    SecurityGroupRuleId, SecurityGroupText, SecurityGroups, State, Traffic, VpcId,
};

/// Makes a security group. It lets nobody in, and out everywhere.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSecurityGroup {
    pub name: SecurityGroupName,
    pub vpc: Reference,
    /// None: the name.
    #[serde(default)]
    pub description: Option<SecurityGroupText>,
}
operation!(CreateSecurityGroup -> SecurityGroupView);

impl Mutation for CreateSecurityGroup {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, SecurityGroupView), ControlError> {
        let Self { name, vpc, description } = self;
        let vpc = lookup::vpc(state, vpc)?;
        if name.is_default() {
            return Err(ControlError::SecurityGroupNameReserved);
        }
        if state.security_groups.values().any(|group| group.vpc == vpc.id && group.name == *name) {
            return Err(ControlError::DuplicateSecurityGroup { name: name.clone(), vpc: vpc.id.clone() });
        }
        let outbound = SecurityGroupRule::allow_all_outbound();
        let group = SecurityGroup {
            id: SecurityGroupId::generate(context.ids),
            name: name.clone(),
            description: description.clone().unwrap_or_else(|| name.into()),
            vpc: vpc.id.clone(),
            rules: [(SecurityGroupRuleId::generate(context.ids), outbound)].into(),
            applies_to_established: false,
            created_at: context.now,
        };
        let view = SecurityGroupView::new(state, &group);
        Ok((Change::default().put(group), view))
    }
}

/// Deletes a security group that nothing carries and no other group's rule names. A VPC's default group goes with the
/// VPC.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteSecurityGroup {
    pub security_group: Reference,
}
operation!(DeleteSecurityGroup -> ());

impl Mutation for DeleteSecurityGroup {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let group = lookup::security_group(state, &self.security_group, None)?;
        if group.is_default() {
            return Err(ControlError::DefaultSecurityGroup(group.id.clone()));
        }
        let dependants = dependants(state, &group.id);
        if !dependants.is_empty() {
            return Err(ControlError::SecurityGroupInUse { security_group: group.id.clone(), dependants });
        }
        Ok((Change::default().remove(group.id.clone()), ()))
    }
}

/// What keeps a security group from being deleted, each in words.
fn dependants(state: &State, id: &SecurityGroupId) -> Vec<String> {
    let named = |rule: &SecurityGroupRule| rule.peer == Peer::Group(id.clone());
    let groups = state.security_groups.values().filter(|group| group.id != *id && group.rules.values().any(named));
    let rules = groups.map(|group| format!("a rule of security group {}", group.name));
    carriers(state, id).into_iter().chain(rules).collect()
}

/// The load balancers and endpoints that carry a security group, each in words.
pub(super) fn carriers(state: &State, id: &SecurityGroupId) -> Vec<String> {
    let lbs = state.load_balancers.values().filter(|lb| lb.security_groups.groups.contains(id));
    let endpoints = state.endpoints.values().filter(|endpoint| endpoint.security_groups.groups.contains(id));
    let carries = |instance: &&Instance| instance.is_alive() && instance.security_groups.contains(id);
    let instances = state.instances.values().filter(carries);
    lbs.map(|lb| format!("load balancer {}", lb.name))
        .chain(endpoints.map(|endpoint| format!("endpoint {}", endpoint.id)))
        .chain(instances.map(|instance| format!("instance {}", instance.name)))
        .collect()
}

/// A rule as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    pub traffic: Traffic,
    /// A CIDR block, a security group of the same VPC by id or name, or the id of a prefix list.
    pub peer: Reference,
    #[serde(default)]
    pub description: Option<SecurityGroupText>,
}

impl RuleSpec {
    fn resolve(&self, state: &State, vpc: &VpcId, direction: Direction) -> Result<SecurityGroupRule, ControlError> {
        let Self { traffic, peer, description } = self;
        let peer = match peer.as_str().parse::<Peer>() {
            Ok(cidr @ Peer::Cidr(_)) => cidr,
            Ok(Peer::PrefixList(list)) => match state.vpcs.get(vpc) {
                Some(vpc) if list.exists(&vpc.owner.region) => Peer::PrefixList(list),
                Some(_) | None => return Err(ControlError::PrefixListNotFound(list)),
            },
            other => {
                let group = lookup::security_group(state, peer, Some(vpc)).map_err(|error| match other {
                    // What begins like an address is meant as one.
                    Err(invalid) if peer.as_str().starts_with(|c: char| c.is_ascii_digit()) => invalid.into(),
                    Ok(_) | Err(_) => error,
                })?;
                if group.vpc != *vpc {
                    return Err(ControlError::SecurityGroupOfOtherVpc { group: group.id.clone(), vpc: vpc.clone() });
                }
                Peer::Group(group.id.clone())
            }
        };
        Ok(SecurityGroupRule { direction, traffic: *traffic, peer, description: description.clone() })
    }
}

/// Adds rules to a security group.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeSecurityGroup {
    pub security_group: Reference,
    pub direction: Direction,
    pub rules: Vec<RuleSpec>,
    /// End open flows that the rules do not allow; otherwise they count for new flows only.
    #[serde(default)]
    pub apply_to_established: bool,
}
operation!(AuthorizeSecurityGroup -> SecurityGroupView);

impl Mutation for AuthorizeSecurityGroup {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, SecurityGroupView), ControlError> {
        let Self { security_group, direction, rules, apply_to_established } = self;
        let group = lookup::security_group(state, security_group, None)?;
        let mut changed = SecurityGroup { applies_to_established: *apply_to_established, ..group.clone() };
        if rules.is_empty() {
            return Err(ControlError::RuleMissing);
        }
        for spec in rules {
            let rule = spec.resolve(state, &group.vpc, *direction)?;
            if changed.rules.values().any(|present| present.same(&rule)) {
                return Err(ControlError::DuplicateRule { rule: rule.to_string() });
            }
            changed.rules.insert(SecurityGroupRuleId::generate(context.ids), rule);
        }
        if changed.rules(*direction).count() > SecurityGroup::MAX_RULES {
            return Err(ControlError::TooManyRules { limit: SecurityGroup::MAX_RULES });
        }
        let view = SecurityGroupView::new(state, &changed);
        Ok((Change::default().put(changed), view))
    }
}

/// Takes rules away from a security group: by id, or as they were authorized.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeSecurityGroup {
    pub security_group: Reference,
    #[serde(default)]
    pub rule_ids: Vec<SecurityGroupRuleId>,
    pub direction: Direction,
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
    /// End open flows that the rules do not allow any more; otherwise they count for new flows only.
    #[serde(default)]
    pub apply_to_established: bool,
}
operation!(RevokeSecurityGroup -> SecurityGroupView);

impl Mutation for RevokeSecurityGroup {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, SecurityGroupView), ControlError> {
        let Self { security_group, rule_ids, direction, rules, apply_to_established } = self;
        let group = lookup::security_group(state, security_group, None)?;
        let mut changed = SecurityGroup { applies_to_established: *apply_to_established, ..group.clone() };
        if rules.is_empty() && rule_ids.is_empty() {
            return Err(ControlError::RuleMissing);
        }
        for id in rule_ids {
            if changed.rules.remove(id).is_none() {
                return Err(ControlError::RuleNotFound { rule: id.to_string() });
            }
        }
        for spec in rules {
            let rule = spec.resolve(state, &group.vpc, *direction)?;
            let found = changed.rules.iter().find(|(_, present)| present.same(&rule)).map(|(id, _)| id.clone());
            let Some(id) = found else { return Err(ControlError::RuleNotFound { rule: rule.to_string() }) };
            changed.rules.remove(&id);
        }
        let view = SecurityGroupView::new(state, &changed);
        Ok((Change::default().put(changed), view))
    }
}

/// Makes a security group's rules exactly these. For declarations.
pub(super) fn with_rules(
    state: &State,
    group: &SecurityGroup,
    ingress: &[RuleSpec],
    egress: Option<&[RuleSpec]>,
    context: &mut Context<'_>,
) -> Result<SecurityGroup, ControlError> {
    let mut wanted = Vec::new();
    for spec in ingress {
        wanted.push(spec.resolve(state, &group.vpc, Direction::Ingress)?);
    }
    match egress {
        None => wanted.push(SecurityGroupRule::allow_all_outbound()),
        Some(specs) => {
            for spec in specs {
                wanted.push(spec.resolve(state, &group.vpc, Direction::Egress)?);
            }
        }
    }
    let mut rules: BTreeMap<SecurityGroupRuleId, SecurityGroupRule> = BTreeMap::new();
    for rule in wanted {
        if rules.values().any(|present| present.same(&rule)) {
            return Err(ControlError::DuplicateRule { rule: rule.to_string() });
        }
        let known = group.rules.iter().find(|(_, present)| present.same(&rule)).map(|(id, _)| id.clone());
        rules.insert(known.unwrap_or_else(|| SecurityGroupRuleId::generate(context.ids)), rule);
    }
    let changed = SecurityGroup { rules, ..group.clone() };
    let most = changed.rules(Direction::Ingress).count().max(changed.rules(Direction::Egress).count());
    if most > SecurityGroup::MAX_RULES {
        return Err(ControlError::TooManyRules { limit: SecurityGroup::MAX_RULES });
    }
    Ok(changed)
}

/// Lists the security groups, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeSecurityGroups {
    /// None: all.
    #[serde(default)]
    pub security_groups: Option<Vec<Reference>>,
}
operation!(DescribeSecurityGroups -> Vec<SecurityGroupView>);

impl Query for DescribeSecurityGroups {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<SecurityGroupView>, ControlError> {
        match &self.security_groups {
            None => Ok(sorted(
                state.security_groups.values().map(|group| SecurityGroupView::new(state, group)).collect(),
                |group| (group.vpc_name.clone(), group.name.clone()),
            )),
            Some(references) => references
                .iter()
                .map(|reference| {
                    lookup::security_group(state, reference, None).map(|group| SecurityGroupView::new(state, group))
                })
                .collect(),
        }
    }
}

/// The groups that a resource of `vpc` is to carry.
pub(super) fn resolve(
    state: &State,
    vpc: &VpcId,
    references: &[Reference],
) -> Result<BTreeSet<SecurityGroupId>, ControlError> {
    let mut groups = BTreeSet::new();
    for reference in references {
        let group = lookup::security_group(state, reference, Some(vpc))
            .map_err(|_| ControlError::InvalidSecurityGroup(reference.as_str().to_owned()))?;
        if group.vpc != *vpc {
            return Err(ControlError::SecurityGroupOfOtherVpc { group: group.id.clone(), vpc: vpc.clone() });
        }
        groups.insert(group.id.clone());
    }
    if groups.len() > SecurityGroup::MAX_PER_RESOURCE {
        return Err(ControlError::TooManySecurityGroups { limit: SecurityGroup::MAX_PER_RESOURCE });
    }
    Ok(groups)
}

/// The names of the groups that a resource carries, in order.
pub(super) fn names(state: &State, groups: &SecurityGroups) -> Vec<String> {
    let mut names: Vec<String> = groups.groups.iter().map(|id| view::security_group_name(state, id)).collect();
    names.sort();
    names
}
