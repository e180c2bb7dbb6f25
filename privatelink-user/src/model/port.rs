//! A port: a host interface that belongs to exactly one VPC.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InterfaceName, InvalidValue, VpcId, invalid::serde_as_text};

/// A host interface that belongs to exactly one VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The interface, and the port's identity.
    pub interface: InterfaceName,
    pub vpc: VpcId,
    /// Where the datapath attaches.
    pub hook: Hook,
    /// Shared: frames that are not ours go on to the host's own stack. Otherwise the port is isolated and the host's
    /// stack never sees its frames.
    pub shared: bool,
    pub created_at: Timestamp,
}

/// Where the datapath attaches to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hook {
    /// The agent probes what the interface can do, chooses and says why.
    #[default]
    Auto,
    /// Traffic control only: tcx from kernel 6.6, clsact below.
    Tc,
    /// Native XDP in front of traffic control.
    Xdp,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        })
    }
}

impl FromStr for Hook {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "auto" => Ok(Self::Auto),
            "tc" => Ok(Self::Tc),
            "xdp" => Ok(Self::Xdp),
            _ => Err(InvalidValue::new(
                "hook",
                text,
                "must be one of '[auto, tc, xdp]'",
                "use auto: the agent picks by what the interface can do and says why",
            )),
        }
    }
}

serde_as_text!(Hook);
