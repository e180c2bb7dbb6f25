//! Names: of resources, and of interfaces.

use std::str::FromStr;

use super::{InstanceId, InvalidValue, invalid::text_value};

/// The name of a VPC, load balancer, target group or instance, or the alias of an endpoint service: 1 to 32 letters,
/// digits and hyphens, not starting or ending with a hyphen, without two hyphens in a row, not starting with
/// `internal-` or with the prefix of an id (`vpc-`, `vpce-`), and no instance's id, so that a name is never mistaken
/// for an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 32;
}

impl FromStr for ResourceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const HINT: &str = "use 1 to 32 letters, digits and inner hyphens, like web-1";
        let rule = if text.is_empty() {
            "cannot be empty".to_owned()
        } else if text.len() > Self::MAX_LEN {
            format!("cannot be longer than '{}' characters", Self::MAX_LEN)
        } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            "can contain only alphanumeric characters and hyphens".to_owned()
        } else if text.starts_with('-') || text.ends_with('-') {
            "cannot begin or end with a hyphen".to_owned()
        } else if text.contains("--") {
            "cannot contain two hyphens in a row".to_owned()
        } else if let Some(prefix) = ["internal-", "vpc-", "vpce-"].iter().find(|prefix| text.starts_with(**prefix)) {
            format!("cannot begin with '{prefix}', which is reserved")
        } else if text.parse::<InstanceId>().is_ok() {
            "cannot have the form of an instance's id".to_owned()
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(InvalidValue::new("name", text, rule, HINT))
    }
}

text_value!(ResourceName);

/// The name of a network interface of the host, as the kernel allows it: 1 to 15 bytes, no `/`, no `:`, no white
/// space, neither `.` nor `..` (`dev_valid_name` in the kernel's net/core/dev.c; IFNAMSIZ is 16 with the final NUL).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 15;
}

impl FromStr for InterfaceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let rule = if text.is_empty() {
            "cannot be empty".to_owned()
        } else if text.len() > Self::MAX_LEN {
            format!("cannot be longer than '{}' bytes, the kernel's limit", Self::MAX_LEN)
        } else if text == "." || text == ".." {
            "is reserved by the kernel".to_owned()
        } else if text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
            "cannot contain '/', ':' or white space".to_owned()
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(InvalidValue::new("interface name", text, rule, "`ip link` lists this host's interfaces"))
    }
}

text_value!(InterfaceName);
