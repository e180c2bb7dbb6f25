//! Whether a TLS target group's connections and checks ask who its targets are: an extension of ours, which a Network
//! Load Balancer lacks.

use std::{fmt, str::FromStr};

use super::{CertificateId, InvalidValue, serde_as_text};

/// Whose certificates targets may show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TargetTrust {
    /// Anybody's: they are not validated, as with a Network Load Balancer.
    #[default]
    Off,
    /// Of the authorities that the host with the agent trusts.
    System,
    /// Of the authorities in this certificate's chain; of itself if it has none.
    Certificate(CertificateId),
}

impl TargetTrust {
    /// The certificate that it names.
    pub fn certificate(&self) -> Option<&CertificateId> {
        match self {
            Self::Off | Self::System => None,
            Self::Certificate(id) => Some(id),
        }
    }
}

impl fmt::Display for TargetTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::System => f.write_str("system"),
            Self::Certificate(id) => id.fmt(f),
        }
    }
}

impl FromStr for TargetTrust {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "off" => Ok(Self::Off),
            "system" => Ok(Self::System),
            _ => text.parse().map(Self::Certificate),
        }
    }
}

serde_as_text!(TargetTrust);

/// For which name a target's certificate has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TargetName {
    /// The one that the client asks for. A check has no client: for it any name will do.
    #[default]
    Client,
    /// This one, for clients and checks.
    Fixed(String),
}

impl TargetName {
    /// The name, if it is not each client's own.
    pub fn fixed(&self) -> Option<&str> {
        match self {
            Self::Client => None,
            Self::Fixed(name) => Some(name),
        }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fixed().unwrap_or("sni"))
    }
}

impl FromStr for TargetName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "sni" {
            return Ok(Self::Client);
        }
        let name = text.to_ascii_lowercase();
        let is_name = name.contains('.') && rustls::pki_types::DnsName::try_from(name.as_str()).is_ok();
        if is_name {
            return Ok(Self::Fixed(name));
        }
        Err(InvalidValue::new(
            "Target name",
            text,
            "must be 'sni' or a DNS name with a dot",
            "use the name that the targets' certificates are for",
        ))
    }
}

serde_as_text!(TargetName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_is_shown() {
        let arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef";
        for text in ["off", "system", arn] {
            assert_eq!(text.parse::<TargetTrust>().expect(text).to_string(), text);
        }
        assert_eq!("Web.Example".parse::<TargetName>().expect("a name"), TargetName::Fixed("web.example".to_owned()));
        assert_eq!("sni".parse::<TargetName>().expect("the client's").to_string(), "sni");
        for wrong in ["on", "arn:aws:acm", ""] {
            wrong.parse::<TargetTrust>().expect_err(wrong);
        }
        for wrong in ["", "web", "a b.c", "*.example.org", "10.0.0.5"] {
            wrong.parse::<TargetName>().expect_err(wrong);
        }
    }
}
