//! An instance: a host, namespace or container with a name and an address in a VPC.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    InstanceId, InvalidValue, ResourceName, SecurityGroupId, State, SubnetId, Target, VpcId, invalid::serde_as_text,
};

/// A named host. That it exists and has its addresses is whoever registers it to see to; a record is not a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub id: InstanceId,
    /// Unique among its owner's instances that are not terminated.
    pub name: ResourceName,
    pub vpc: VpcId,
    /// The primary address: where it is a target.
    #[schema(value_type = String)]
    pub address: Ipv4Addr,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub further_addresses: Vec<Ipv4Addr>,
    pub state: InstanceState,
    /// Groups whose rules mean its addresses when they name a group as peer. What it lets in itself is its own
    /// firewall's.
    #[serde(default)]
    pub security_groups: BTreeSet<SecurityGroupId>,
    #[serde(default)]
    pub image_id: Option<InstanceLabel>,
    #[serde(default)]
    pub instance_type: Option<InstanceLabel>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// Whether an instance can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    Running,
    /// It keeps its registrations and takes no traffic.
    Stopped,
    /// It is gone; the record is shown for a while.
    Terminated {
        #[schema(value_type = String)]
        at: Timestamp,
    },
}

impl InstanceState {
    /// EC2's number for it.
    pub const fn code(self) -> u16 {
        match self {
            Self::Running => 16,
            Self::Terminated { at: _ } => 48,
            Self::Stopped => 80,
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Terminated { at: _ } => "terminated",
        })
    }
}

impl Instance {
    /// How long a terminated instance is shown, as in EC2.
    const SHOWN_AFTER_TERMINATION: SignedDuration = SignedDuration::from_hours(1);

    /// Its addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.address).chain(self.further_addresses.iter().copied())
    }

    /// Whether it has not been terminated: only then its name, addresses and groups are its own.
    pub const fn is_alive(&self) -> bool {
        match self.state {
            InstanceState::Running | InstanceState::Stopped => true,
            InstanceState::Terminated { at: _ } => false,
        }
    }

    /// When the record of a terminated instance goes.
    pub fn forgotten_at(&self) -> Option<Timestamp> {
        match self.state {
            InstanceState::Running | InstanceState::Stopped => None,
            InstanceState::Terminated { at } => {
                Some(at.checked_add(Self::SHOWN_AFTER_TERMINATION).unwrap_or(Timestamp::MAX))
            }
        }
    }
}

/// What EC2 notes of an instance and nothing here depends on: an image's id, an instance type. 1 to 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceLabel(String);

impl fmt::Display for InstanceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for InstanceLabel {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let letters = |c: char| c.is_ascii_graphic();
        if (1..=255).contains(&text.len()) && text.chars().all(letters) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(
                "Label",
                text,
                "must be 1 to 255 visible ASCII characters",
                "use a text like ami-0123456789abcdef0 or t3.micro",
            ))
        }
    }
}

serde_as_text!(InstanceLabel);

impl State {
    /// The instances of `vpc` that are not terminated.
    pub fn instances_of<'a>(&'a self, vpc: &'a VpcId) -> impl Iterator<Item = &'a Instance> {
        self.instances.values().filter(move |instance| instance.vpc == *vpc && instance.is_alive())
    }

    /// Whether `target` is a stopped instance, which takes no traffic.
    pub fn is_stopped(&self, target: &Target) -> bool {
        let instance = target.instance.as_ref().and_then(|id| self.instances.get(id));
        instance.is_some_and(|instance| instance.state == InstanceState::Stopped)
    }

    /// The subnet that an instance's primary address lies in.
    pub fn subnet_of_instance(&self, instance: &Instance) -> Option<&SubnetId> {
        self.subnet_of(&instance.vpc, instance.address).map(|subnet| &subnet.id)
    }
}
