//! Security groups and certificates as the API shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{security_group_name, vpc_name};
use crate::{
    control::security_groups,
    model::{
        Certificate, CertificateId, Direction, ListenerId, Peer, SecurityGroup, SecurityGroupId, SecurityGroupName,
        SecurityGroupRule, SecurityGroupRuleId, SecurityGroupText, State, Traffic, VpcId,
    },
    tls::certificate::{CertificateError, Facts},
};

/// A security group, with what carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupView {
    pub id: SecurityGroupId,
    pub name: SecurityGroupName,
    pub description: SecurityGroupText,
    pub vpc: VpcId,
    pub vpc_name: String,
    pub ingress: Vec<SecurityGroupRuleView>,
    pub egress: Vec<SecurityGroupRuleView>,
    /// Load balancers and endpoints that carry it, each in words.
    pub carried_by: Vec<String>,
    /// Whether open flows that the rules do not allow end.
    pub applies_to_established: bool,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// A rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupRuleView {
    pub id: SecurityGroupRuleId,
    pub traffic: Traffic,
    pub peer: Peer,
    /// The peer's name, if it is a group.
    pub peer_name: Option<String>,
    pub description: Option<SecurityGroupText>,
}

impl SecurityGroupView {
    /// As `state` has it.
    pub fn new(state: &State, group: &SecurityGroup) -> Self {
        let SecurityGroup { id, name, description, vpc, rules: _, applies_to_established, created_at } = group.clone();
        let rules = |direction| {
            let mut rules: Vec<_> = group.rules(direction).collect();
            rules.sort_by_key(|(_, rule)| (rule.traffic, rule.peer.clone()));
            let view = |(id, rule): (&SecurityGroupRuleId, &SecurityGroupRule)| SecurityGroupRuleView {
                id: id.clone(),
                traffic: rule.traffic,
                peer: rule.peer.clone(),
                peer_name: match &rule.peer {
                    Peer::Cidr(_) | Peer::PrefixList(_) => None,
                    Peer::Group(peer) => Some(security_group_name(state, peer)),
                },
                description: rule.description.clone(),
            };
            rules.into_iter().map(view).collect()
        };
        Self {
            vpc_name: vpc_name(state, &vpc),
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
            carried_by: security_groups::carriers(state, &id),
            id,
            name,
            description,
            vpc,
            applies_to_established,
            created_at,
        }
    }
}

/// A certificate, by what it says of itself. Its private key is in no view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateView {
    pub id: CertificateId,
    /// The first name that it is for.
    pub domain_name: String,
    /// The names that it is for.
    pub names: Vec<String>,
    pub subject: String,
    pub issuer: String,
    /// Hexadecimal bytes with colons.
    pub serial: String,
    /// As ACM names it, such as `EC_prime256v1`.
    pub key_algorithm: String,
    /// As ACM names it, such as `SHA256WITHECDSA`.
    pub signature_algorithm: String,
    #[schema(value_type = String)]
    pub not_before: Timestamp,
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When its present text was imported.
    #[schema(value_type = String)]
    pub imported_at: Timestamp,
    /// The listeners that have it.
    pub in_use_by: Vec<ListenerId>,
}

impl CertificateView {
    /// As `certificate` says.
    ///
    /// # Errors
    ///
    /// If its text is none.
    pub fn new(state: &State, certificate: &Certificate) -> Result<Self, CertificateError> {
        let Certificate { id, certificate, chain: _, private_key: _, created_at, imported_at } = certificate;
        let Facts { subject, issuer, serial, names, not_before, not_after, key, signature } =
            Facts::of_pem(certificate.as_bytes())?;
        Ok(Self {
            id: id.clone(),
            domain_name: names.first().cloned().unwrap_or_else(|| subject.clone()),
            names,
            subject,
            issuer,
            serial,
            key_algorithm: key.to_string(),
            signature_algorithm: signature.name.to_owned(),
            not_before,
            not_after,
            created_at: *created_at,
            imported_at: *imported_at,
            in_use_by: state.listeners_with(id).map(|listener| listener.id.clone()).collect(),
        })
    }
}
