//! Gateway endpoints: in AWS the way of a VPC's routes to S3 and DynamoDB. They are records, so that what makes one
//! beside other things goes on; no packet goes by one.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndpointId, InvalidValue, PolicyDocument, Region, RouteTableId, VpcId, derived, invalid::text_value};

/// What gateway endpoints lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayService {
    S3,
    DynamoDb,
}

impl GatewayService {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::DynamoDb, Self::S3];

    /// Its name in a region: `com.amazonaws.us-east-1.s3`.
    pub fn name(self, region: &Region) -> String {
        format!("com.amazonaws.{region}.{self}")
    }

    /// The id of the list of its prefixes in a region, which routes name as their destination and rules of security
    /// groups as their peer.
    pub fn prefix_list(self, region: &Region) -> PrefixListId {
        PrefixListId(format!("pl-{}", derived::hex(8, &["prefix list", &self.name(region)])))
    }

    /// Its id: services of AWS have some too.
    pub fn service_id(self, region: &Region) -> String {
        format!("vpce-svc-{}", derived::hex(17, &["gateway service", &self.name(region)]))
    }

    /// The one with this name in a region.
    pub fn find(region: &Region, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name(region) == name)
    }
}

impl fmt::Display for GatewayService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::S3 => "s3",
            Self::DynamoDb => "dynamodb",
        })
    }
}

/// The id of a prefix list, `pl-` + 8 hex digits. There is one for each gateway service in a region, and no other. The
/// service's own addresses are in it, so none that a VPC has here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixListId(String);

impl PrefixListId {
    /// Whether there is such a list in a region.
    pub fn exists(&self, region: &Region) -> bool {
        GatewayService::ALL.into_iter().any(|service| service.prefix_list(region) == *self)
    }
}

impl FromStr for PrefixListId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix("pl-") {
            Some(digits) if digits.len() == 8 && digits.bytes().all(hex) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(InvalidValue::new(
                "prefix list id",
                text,
                "must be 'pl-' and 8 lower-case hexadecimal digits",
                "routes to gateway endpoints show the ids that there are",
            )),
        }
    }
}

text_value!(PrefixListId);

/// A gateway endpoint. It belongs to its VPC's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayEndpoint {
    pub id: EndpointId,
    pub vpc: VpcId,
    pub service: GatewayService,
    /// Tables of the VPC that have a route to it. One that is gone has none any more.
    pub route_tables: BTreeSet<RouteTableId>,
    /// None: the default one.
    pub policy: Option<PolicyDocument>,
    pub created_at: Timestamp,
}
