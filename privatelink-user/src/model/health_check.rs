//! How the health of a target group's targets is checked: settings, defaults and ranges of the Network Load Balancer.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    InvalidValue,
    invalid::{serde_as_text, text_value},
};

/// A target group's health check settings. Built and changed through [`HealthCheck::validate`] only; times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    pub protocol: HealthCheckProtocol,
    pub port: HealthCheckPort,
    /// What an HTTP or HTTPS check asks for.
    pub path: HttpPath,
    /// 5 to 300, 30 if not given.
    pub interval: u32,
    /// 2 to 120 and at most the interval; 10 for TCP and HTTPS and 6 for HTTP if not given.
    pub timeout: u32,
    /// Checks in a row that must pass before an unhealthy target counts as healthy; 2 to 10, 5 if not given.
    pub healthy_threshold: u32,
    /// Checks in a row that must fail before a healthy target counts as unhealthy; 2 to 10, 2 if not given.
    pub unhealthy_threshold: u32,
    /// The HTTP status codes that pass.
    pub matcher: Matcher,
}

impl HealthCheck {
    pub const INTERVAL: RangeInclusive<u32> = 5..=300;
    pub const TIMEOUT: RangeInclusive<u32> = 2..=120;
    pub const THRESHOLD: RangeInclusive<u32> = 2..=10;

    /// The settings of a group that names none but the protocol.
    pub fn defaults(protocol: HealthCheckProtocol) -> Self {
        Self {
            protocol,
            port: HealthCheckPort::TrafficPort,
            path: HttpPath::default(),
            interval: 30,
            timeout: protocol.default_timeout(),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::default(),
        }
    }

    /// The same of a group whose targets speak HTTP, as Application Load Balancers have them.
    pub fn of_requests(self) -> Self {
        Self { timeout: 5, matcher: Matcher::ok(), ..self }
    }

    /// Checks every setting's range and that the timeout does not exceed the interval.
    pub fn validate(self) -> Result<Self, InvalidValue> {
        let within = |what: &str, value: u32, range: RangeInclusive<u32>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = range.into_inner();
            Err(InvalidValue::new(
                what,
                value.to_string(),
                format!("must be between '{least}-{most}' inclusive"),
                format!("use a number from {least} to {most}"),
            ))
        };
        within("Health check interval", self.interval, Self::INTERVAL)?;
        within("Health check timeout", self.timeout, Self::TIMEOUT)?;
        within("Healthy threshold count", self.healthy_threshold, Self::THRESHOLD)?;
        within("Unhealthy threshold count", self.unhealthy_threshold, Self::THRESHOLD)?;
        if self.timeout > self.interval {
            return Err(InvalidValue::new(
                "Health check timeout",
                self.timeout.to_string(),
                format!("must be smaller than or equal to the interval '{}'", self.interval),
                format!("use a timeout of at most {} seconds, or a longer interval", self.interval),
            ));
        }
        Ok(self)
    }
}

/// What a health check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthCheckProtocol {
    /// A connection that is accepted passes.
    #[default]
    Tcp,
    /// An answer with a matching status code passes.
    Http,
    /// The same over TLS; certificates are not validated.
    Https,
}

impl HealthCheckProtocol {
    /// The timeout if none is given, in seconds.
    pub fn default_timeout(self) -> u32 {
        match self {
            Self::Tcp | Self::Https => 10,
            Self::Http => 6,
        }
    }
}

impl fmt::Display for HealthCheckProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        })
    }
}

impl FromStr for HealthCheckProtocol {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "TCP" | "tcp" => Ok(Self::Tcp),
            "HTTP" | "http" => Ok(Self::Http),
            "HTTPS" | "https" => Ok(Self::Https),
            _ => Err(InvalidValue::new(
                "Health check protocol",
                text,
                "must be one of '[TCP, HTTP, HTTPS]'",
                "use TCP to check that the port accepts, HTTP or HTTPS to check a page",
            )),
        }
    }
}

serde_as_text!(HealthCheckProtocol);

/// The port that a health check goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthCheckPort {
    /// The port with which the target is registered.
    #[default]
    TrafficPort,
    /// The same port on every target; 1 to 65,535.
    Number(u16),
}

impl HealthCheckPort {
    /// The port to check on a target that is registered with `traffic_port`.
    pub fn resolve(self, traffic_port: u16) -> u16 {
        match self {
            Self::TrafficPort => traffic_port,
            Self::Number(port) => port,
        }
    }
}

impl fmt::Display for HealthCheckPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrafficPort => f.pad("traffic-port"),
            Self::Number(port) => f.pad(&port.to_string()),
        }
    }
}

impl FromStr for HealthCheckPort {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "traffic-port" {
            return Ok(Self::TrafficPort);
        }
        match text.parse() {
            Ok(0) | Err(_) => Err(InvalidValue::new(
                "Health check port",
                text,
                "must be 'traffic-port' or a number between '1-65535' inclusive",
                "use traffic-port to check each target on the port that it serves",
            )),
            Ok(port) => Ok(Self::Number(port)),
        }
    }
}

serde_as_text!(HealthCheckPort);

/// The path and query of an HTTP check: 1 to 1,024 visible ASCII characters, beginning with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPath(String);

impl Default for HttpPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl FromStr for HttpPath {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let rule = if !text.starts_with('/') {
            "must begin with '/'"
        } else if text.len() > 1024 {
            "cannot be longer than '1024' characters"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "can contain only visible ASCII characters"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(InvalidValue::new("Health check path", text, rule, "use a path like /health"))
    }
}

text_value!(HttpPath);

/// The HTTP status codes that pass a check: codes and ranges between 200 and 599, such as `200,202` or `200-299`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher(Vec<(u16, u16)>);

impl Matcher {
    /// 200 alone.
    pub fn ok() -> Self {
        Self(vec![(200, 200)])
    }

    /// Whether an answer with status `code` passes.
    pub fn matches(&self, code: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&code))
    }
}

impl Default for Matcher {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self
            .0
            .iter()
            .map(|&(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        f.pad(&texts.join(","))
    }
}

impl FromStr for Matcher {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let code = |text: &str| text.parse().ok().filter(|code| (200..=599).contains(code));
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((code(first)?, code(last)?)).filter(|(first, last)| first <= last)
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self).ok_or_else(|| {
            InvalidValue::new(
                "Matcher",
                text,
                "must be HTTP codes or ranges of them between '200-599' inclusive, separated by commas",
                "use codes like 200, 200,202 or 200-299",
            )
        })
    }
}

serde_as_text!(Matcher);
