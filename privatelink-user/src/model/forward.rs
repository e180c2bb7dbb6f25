//! Where a listener leads: target groups with weights.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidValue, TargetGroupId, invalid::serde_as_text};

/// A listener's forward action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// At least one group, at most [`Forward::MAX_GROUPS`].
    pub weights: BTreeMap<TargetGroupId, Weight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    pub stickiness: bool,
}

impl Forward {
    /// Target groups of one listener.
    pub const MAX_GROUPS: usize = 5;

    /// All connections to one group.
    pub fn to(group: TargetGroupId) -> Self {
        Self { weights: [(group, Weight::default())].into(), stickiness: false }
    }

    /// Every group, also those of weight 0.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroupId> {
        self.weights.keys()
    }

    /// The groups that take new connections.
    pub fn live(&self) -> impl Iterator<Item = (&TargetGroupId, u32)> {
        self.weights.iter().map(|(group, weight)| (group, weight.get())).filter(|(_, weight)| *weight > 0)
    }
}

/// A target group's share of new connections relative to the others; 0 takes none, and its open ones end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// AWS's greatest weight.
    pub const MAX: u16 = 999;

    pub fn get(self) -> u32 {
        self.0.into()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Weight {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.parse().ok().filter(|weight| *weight <= Self::MAX).map(Self).ok_or_else(|| {
            InvalidValue::new("Weight", text, "must be between '0-999' inclusive", "use a weight like 70")
        })
    }
}

serde_as_text!(Weight);
