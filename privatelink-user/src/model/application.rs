//! Listeners of load balancers of type application, and their rules. They are records: nothing serves them, so nothing
//! in the datapath follows from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU16,
    str::FromStr,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ActionOrder, ApplicationListenerId, CertificateId, FirstAction, InvalidValue, ListenerRuleId, LoadBalancerId,
    State, TargetGroupId, Weight, invalid::serde_as_text,
};
use crate::tls::policy::ListenerPolicy;

/// A port of a load balancer of type application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationListener {
    pub id: ApplicationListenerId,
    pub load_balancer: LoadBalancerId,
    /// Each of a load balancer has one listener at most.
    pub port: NonZeroU16,
    /// Of one that speaks HTTPS; none: it speaks HTTP.
    pub https: Option<HttpsSettings>,
    /// What is asked of those who send requests that no rule is for, before anything becomes of them; of an HTTPS
    /// listener only.
    #[serde(default)]
    pub authentication: Option<FirstAction>,
    /// What becomes of these requests.
    pub action: RuleAction,
    /// The action's.
    #[serde(default)]
    pub order: ActionOrder,
    pub created_at: Timestamp,
}

/// How an HTTPS listener speaks with clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsSettings {
    pub certificate: CertificateId,
    /// Shown by server name.
    pub more: BTreeSet<CertificateId>,
    pub policy: ListenerPolicy,
}

impl HttpsSettings {
    /// The default certificate, then the others.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateId> {
        std::iter::once(&self.certificate).chain(self.more.iter().filter(|id| **id != self.certificate))
    }
}

impl ApplicationListener {
    pub fn protocol(&self) -> ApplicationProtocol {
        match self.https {
            None => ApplicationProtocol::Http,
            Some(_) => ApplicationProtocol::Https,
        }
    }
}

/// What requests are spoken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApplicationProtocol {
    Http,
    Https,
}

impl fmt::Display for ApplicationProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        })
    }
}

impl FromStr for ApplicationProtocol {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "HTTP" | "http" => Ok(Self::Http),
            "HTTPS" | "https" => Ok(Self::Https),
            _ => Err(InvalidValue::new("Protocol", text, "must be one of '[HTTP, HTTPS]'", "use HTTP or HTTPS")),
        }
    }
}

serde_as_text!(ApplicationProtocol);

/// A rule of a listener beside its default one: what becomes of requests that fit all of its conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerRule {
    pub id: ListenerRuleId,
    pub listener: ApplicationListenerId,
    /// Each of a listener has one rule at most; the lowest is asked first.
    pub priority: RulePriority,
    /// At least one.
    pub conditions: Vec<RuleCondition>,
    /// Of a rule of an HTTPS listener only.
    #[serde(default)]
    pub authentication: Option<FirstAction>,
    pub action: RuleAction,
    /// The action's.
    #[serde(default)]
    pub order: ActionOrder,
    pub created_at: Timestamp,
}

/// A rule's place among its listener's: 1 to 50,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePriority(u16);

impl RulePriority {
    const MAX: u16 = 50_000;

    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for RulePriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RulePriority {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.parse().ok().filter(|priority| (1..=Self::MAX).contains(priority)).map(Self).ok_or_else(|| {
            InvalidValue::new("Priority", text, "must be between '1-50000' inclusive", "use a priority like 10")
        })
    }
}

serde_as_text!(RulePriority);

/// What a request has to be like: one of the values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RuleCondition {
    HostHeader(Patterns),
    PathPattern(Patterns),
    HttpHeader {
        name: String,
        patterns: Patterns,
    },
    /// Pairs of key and value; without a key the value may be any key's.
    QueryString(Vec<(Option<String>, String)>),
    HttpRequestMethod(Vec<String>),
    SourceIp(Vec<IpNet>),
}

/// Texts with `*` and `?`, or regular expressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Patterns {
    Values(Vec<String>),
    Regex(Vec<String>),
}

impl Patterns {
    pub fn texts(&self) -> &[String] {
        match self {
            Self::Values(texts) | Self::Regex(texts) => texts,
        }
    }
}

impl RuleCondition {
    /// As the API names it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::HostHeader(_) => "host-header",
            Self::PathPattern(_) => "path-pattern",
            Self::HttpHeader { .. } => "http-header",
            Self::QueryString(_) => "query-string",
            Self::HttpRequestMethod(_) => "http-request-method",
            Self::SourceIp(_) => "source-ip",
        }
    }

    /// Whether a rule may have several of its kind.
    pub fn may_repeat(&self) -> bool {
        match self {
            Self::HttpHeader { .. } | Self::QueryString(_) => true,
            Self::HostHeader(_) | Self::PathPattern(_) | Self::HttpRequestMethod(_) | Self::SourceIp(_) => false,
        }
    }

    /// How many values it has.
    pub fn values(&self) -> usize {
        match self {
            Self::HostHeader(patterns) | Self::PathPattern(patterns) | Self::HttpHeader { name: _, patterns } => {
                patterns.texts().len()
            }
            Self::QueryString(pairs) => pairs.len(),
            Self::HttpRequestMethod(methods) => methods.len(),
            Self::SourceIp(ranges) => ranges.len(),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RuleAction {
    Forward(RequestForward),
    Redirect(Redirect),
    FixedResponse(FixedResponse),
}

impl RuleAction {
    /// The target groups that it leads to.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroupId> {
        let forward = match self {
            Self::Forward(forward) => Some(forward),
            Self::Redirect(_) | Self::FixedResponse(_) => None,
        };
        forward.into_iter().flat_map(|forward| forward.weights.keys())
    }
}

/// Requests go to target groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestForward {
    /// At least one group, at most five.
    pub weights: BTreeMap<TargetGroupId, Weight>,
    /// Seconds for which a client stays in its group, 1 to 604,800; none: it does not.
    pub stickiness: Option<u32>,
}

impl RequestForward {
    /// The longest stickiness, a week, in seconds.
    pub const MAX_STICKINESS: u32 = 604_800;
}

/// The client is told another place. Each part may hold `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and `#{query}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    pub protocol: String,
    pub host: String,
    pub port: String,
    pub path: String,
    pub query: String,
    /// 301, else 302.
    pub permanent: bool,
}

impl Redirect {
    /// Where the request came from: what is not said stays as it is.
    pub fn to_itself(permanent: bool) -> Self {
        let part = |text: &str| text.to_owned();
        Self {
            protocol: part("#{protocol}"),
            host: part("#{host}"),
            port: part("#{port}"),
            path: part("/#{path}"),
            query: part("#{query}"),
            permanent,
        }
    }

    /// Whether the client would come back by what it is told.
    pub fn is_loop(&self) -> bool {
        let Self { protocol, host, port, path, query: _, permanent } = Self::to_itself(self.permanent);
        debug_assert_eq!(permanent, self.permanent);
        (&self.protocol, &self.host, &self.port, &self.path) == (&protocol, &host, &port, &path)
    }
}

/// The client gets this answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedResponse {
    pub status: ResponseStatus,
    pub content_type: Option<ContentType>,
    /// At most 1,024 characters.
    pub body: Option<String>,
}

impl FixedResponse {
    pub const MAX_BODY: usize = 1_024;
}

/// 2XX, 4XX or 5XX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseStatus(u16);

impl fmt::Display for ResponseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ResponseStatus {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let allowed = |code: &u16| matches!(code, 200..=299 | 400..=599);
        text.parse().ok().filter(allowed).map(Self).ok_or_else(|| {
            InvalidValue::new("Status code", text, "must match '^(2|4|5)\\d\\d$'", "use a code like 200 or 503")
        })
    }
}

serde_as_text!(ResponseStatus);

/// What a fixed answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    Plain,
    Css,
    Html,
    JavaScript,
    Json,
}

impl ContentType {
    const ALL: [Self; 5] = [Self::Plain, Self::Css, Self::Html, Self::JavaScript, Self::Json];
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "text/plain",
            Self::Css => "text/css",
            Self::Html => "text/html",
            Self::JavaScript => "application/javascript",
            Self::Json => "application/json",
        })
    }
}

impl FromStr for ContentType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|one| one.to_string() == text).ok_or_else(|| {
            let rule = format!("must be one of '[{}]'", Self::ALL.map(|one| one.to_string()).join(", "));
            InvalidValue::new("Content type", text, rule, "use text/plain")
        })
    }
}

serde_as_text!(ContentType);

impl State {
    /// The listeners of a load balancer of type application.
    pub fn application_listeners_of<'a>(
        &'a self,
        lb: &'a LoadBalancerId,
    ) -> impl Iterator<Item = &'a ApplicationListener> {
        self.application_listeners.values().filter(move |listener| listener.load_balancer == *lb)
    }

    /// The listeners of load balancers of type application that show a certificate.
    pub fn application_listeners_with<'a>(
        &'a self,
        certificate: &'a CertificateId,
    ) -> impl Iterator<Item = &'a ApplicationListener> {
        let shows = move |https: &HttpsSettings| https.certificates().any(|id| id == certificate);
        self.application_listeners.values().filter(move |listener| listener.https.as_ref().is_some_and(shows))
    }

    /// The rules of a listener beside its default one, the first that is asked first.
    pub fn rules_of(&self, listener: &ApplicationListenerId) -> Vec<&ListenerRule> {
        let mut rules: Vec<_> = self.listener_rules.values().filter(|rule| rule.listener == *listener).collect();
        rules.sort_by_key(|rule| rule.priority);
        rules
    }

    /// The listeners of load balancers of type application that lead to a group, by default or by a rule, each once.
    pub fn requests_lead_to<'a>(&'a self, group: &'a TargetGroupId) -> impl Iterator<Item = &'a ApplicationListener> {
        let leads = move |action: &RuleAction| action.groups().any(|id| id == group);
        self.application_listeners.values().filter(move |listener| {
            let mut rules = self.listener_rules.values().filter(|rule| rule.listener == listener.id);
            leads(&listener.action) || rules.any(|rule| leads(&rule.action))
        })
    }
}
