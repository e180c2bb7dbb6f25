//! Limits of one endpoint: how much of a service its consumers may use. They are the service owner's to set, for all
//! endpoints of the service and for one of them; the consumer only meets them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::InvalidValue;

macro_rules! quantities {
    ($($(#[doc = $doc:literal])+ $name:ident($t:ty) = $what:literal, $least:literal..=$most:literal, $hint:literal;)+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($t);

        impl $name {
            pub const fn get(self) -> $t {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let within = |number: &u64| ($least..=$most).contains(number);
                let number = scaled(text).filter(within).and_then(|number| <$t>::try_from(number).ok());
                number.map(Self).ok_or_else(|| {
                    let rule = concat!("must be between '", $least, "-", $most, "' inclusive, or 'none'");
                    InvalidValue::new($what, text, rule, $hint)
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&shown(u64::from(self.0)))
            }
        }
    )+ };
}

quantities! {
    /// Open connections at once.
    Connections(u32) = "Connection limit", 1..=1_000_000_000, "use a number like 1000";
    /// New connections a second.
    ConnectionRate(u32) = "Limit of new connections a second", 1..=1_000_000, "use a number like 100";
    /// Bits a second of IP packets, both directions together.
    BitRate(u64) = "Limit of bits a second", 1_000..=1_000_000_000_000, "use a number like 100M, which is 100,000,000";
}

/// The suffixes of thousands, millions and so on, largest first.
const SCALES: [(&str, u64); 4] = [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)];

/// A whole number, with or without a suffix of [`SCALES`].
fn scaled(text: &str) -> Option<u64> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (number, scale) =
        SCALES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale))).unwrap_or((text, 1));
    digits(number)?.checked_mul(scale)
}

/// The number with the largest suffix that leaves it whole.
fn shown(number: u64) -> String {
    let fitting = SCALES.iter().find(|(_, scale)| number >= *scale && number.is_multiple_of(*scale));
    fitting.map_or_else(|| number.to_string(), |(suffix, scale)| format!("{}{suffix}", number / scale))
}

/// A limit, or none. As text the number, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit<T> {
    #[default]
    None,
    AtMost(T),
}

impl<T: Copy> Limit<T> {
    pub const fn get(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(most),
        }
    }
}

impl<T: FromStr<Err = InvalidValue>> FromStr for Limit<T> {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::AtMost) }
    }
}

impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::AtMost(most) => most.fmt(f),
        }
    }
}

/// What one endpoint has in place of its service's limit. As text a [`Limit`], or `default`: the service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Override<T> {
    #[default]
    Default,
    Own(Limit<T>),
}

impl<T: Copy> Override<T> {
    /// The limit of an endpoint of a service that has `default`.
    pub const fn over(self, default: Limit<T>) -> Limit<T> {
        match self {
            Self::Default => default,
            Self::Own(limit) => limit,
        }
    }
}

impl<T: FromStr<Err = InvalidValue>> FromStr for Override<T> {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "default" { Ok(Self::Default) } else { text.parse().map(Self::Own) }
    }
}

impl<T: fmt::Display> fmt::Display for Override<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.pad("default"),
            Self::Own(limit) => limit.fmt(f),
        }
    }
}

macro_rules! generic_serde_as_text {
    ($($name:ident),+) => { $(
        impl<T: fmt::Display> Serialize for $name<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de, T: FromStr<Err = InvalidValue>> Deserialize<'de> for $name<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error: InvalidValue| D::Error::custom(format_args!("{error}; {}", error.hint)))
            }
        }
    )+ };
}

generic_serde_as_text!(Limit, Override);

/// The limits of an endpoint, as they hold; of a service those of its endpoints that have none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[schema(value_type = String)]
    pub connections: Limit<Connections>,
    #[schema(value_type = String)]
    pub connections_per_second: Limit<ConnectionRate>,
    #[schema(value_type = String)]
    pub bits_per_second: Limit<BitRate>,
}

impl Limits {
    /// With what is given in place of what was.
    #[must_use]
    pub fn with(self, change: LimitChange) -> Self {
        let LimitChange { connections, connections_per_second, bits_per_second } = change;
        Self {
            connections: connections.unwrap_or(self.connections),
            connections_per_second: connections_per_second.unwrap_or(self.connections_per_second),
            bits_per_second: bits_per_second.unwrap_or(self.bits_per_second),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, connections_per_second, bits_per_second } = self;
        let parts: Vec<String> = [
            connections.get().map(|most| format!("{most} connections")),
            connections_per_second.get().map(|most| format!("{most} new connections a second")),
            bits_per_second.get().map(|most| format!("{most} bits a second")),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.pad(&if parts.is_empty() { "none".to_owned() } else { parts.join(", ") })
    }
}

/// A change of a service's limits; what is none stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitChange {
    #[schema(value_type = Option<String>)]
    pub connections: Option<Limit<Connections>>,
    #[schema(value_type = Option<String>)]
    pub connections_per_second: Option<Limit<ConnectionRate>>,
    #[schema(value_type = Option<String>)]
    pub bits_per_second: Option<Limit<BitRate>>,
}

impl From<Limits> for LimitChange {
    fn from(limits: Limits) -> Self {
        let Limits { connections, connections_per_second, bits_per_second } = limits;
        Self {
            connections: Some(connections),
            connections_per_second: Some(connections_per_second),
            bits_per_second: Some(bits_per_second),
        }
    }
}

/// What an endpoint has in place of its service's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnLimits {
    pub connections: Override<Connections>,
    pub connections_per_second: Override<ConnectionRate>,
    pub bits_per_second: Override<BitRate>,
}

impl OwnLimits {
    /// The limits that hold for an endpoint of a service with `defaults`.
    pub fn over(self, defaults: Limits) -> Limits {
        let Self { connections, connections_per_second, bits_per_second } = self;
        Limits {
            connections: connections.over(defaults.connections),
            connections_per_second: connections_per_second.over(defaults.connections_per_second),
            bits_per_second: bits_per_second.over(defaults.bits_per_second),
        }
    }

    /// With what is given in place of what was.
    #[must_use]
    pub fn with(self, change: OwnLimitChange) -> Self {
        let OwnLimitChange { connections, connections_per_second, bits_per_second } = change;
        Self {
            connections: connections.unwrap_or(self.connections),
            connections_per_second: connections_per_second.unwrap_or(self.connections_per_second),
            bits_per_second: bits_per_second.unwrap_or(self.bits_per_second),
        }
    }
}

/// A change of what one endpoint has in place of its service's limits; what is none stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OwnLimitChange {
    #[schema(value_type = Option<String>)]
    pub connections: Option<Override<Connections>>,
    #[schema(value_type = Option<String>)]
    pub connections_per_second: Option<Override<ConnectionRate>>,
    #[schema(value_type = Option<String>)]
    pub bits_per_second: Option<Override<BitRate>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_suffixes_and_bounds() {
        let bits = |text: &str| text.parse::<Limit<BitRate>>().map(|limit| limit.get().map(BitRate::get));
        assert_eq!(bits("none"), Ok(None));
        assert_eq!(bits("100M"), Ok(Some(100_000_000)));
        assert_eq!(bits("1500k"), Ok(Some(1_500_000)));
        assert_eq!(bits("1T"), Ok(Some(1_000_000_000_000)));
        for wrong in ["", "M", "999", "2T", "-1", "+5000", "1.5G", "1g", "default", "99999999999999999999"] {
            let error = bits(wrong).expect_err(wrong);
            assert_eq!((error.what.as_str(), error.value.as_str()), ("Limit of bits a second", wrong));
        }
        assert!("0".parse::<Limit<Connections>>().is_err() && "0".parse::<Limit<ConnectionRate>>().is_err());
    }

    #[test]
    fn an_endpoint_has_its_services_limits_but_for_its_own() {
        let service = Limits { connections: "10".parse().expect("a limit"), ..Limits::default() };
        let own = OwnLimits {
            connections: "none".parse().expect("a limit"),
            bits_per_second: "1M".parse().expect("a limit"),
            ..OwnLimits::default()
        };
        assert_eq!(OwnLimits::default().over(service), service);
        assert_eq!(own.over(service).to_string(), "1M bits a second");
        let back = OwnLimitChange { connections: Some(Override::Default), ..OwnLimitChange::default() };
        assert_eq!(own.with(back).over(service).to_string(), "10 connections, 1M bits a second");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bits in 1_000u64..=1_000_000_000_000, scale in 0u32..5) {
            let bits = (bits / 10u64.pow(3 * scale)).max(1_000) * 10u64.pow(3 * scale);
            prop_assume!(bits <= 1_000_000_000_000);
            let limit: Override<BitRate> = bits.to_string().parse().expect("in range");
            prop_assert_eq!(limit.to_string().parse::<Override<BitRate>>(), Ok(limit));
            prop_assert_eq!(limit.over(Limit::None).get().map(BitRate::get), Some(bits));
        }
    }
}
