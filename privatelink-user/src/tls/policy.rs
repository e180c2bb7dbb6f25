//! Security policies by their AWS names: which versions and cipher suites a TLS listener offers.
//!
//! Source: the table of security policies in the Network Load Balancer's user guide. A policy is a set of protocol
//! versions and of classes of cipher suites. rustls has neither versions below 1.2 nor CBC nor key exchange by RSA, on
//! purpose. A policy whose oldest version rustls lacks is refused: who asks for it has clients that would be turned
//! away. Suites that rustls lacks are left out of what is offered, and of what is shown, which only makes a listener
//! stricter.

use std::{fmt, str::FromStr};

use rustls::{
    ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::SupportedKxGroup,
    version::{TLS12, TLS13},
};
use thiserror::Error;

use super::crypto::{
    self,
    cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    },
};
use crate::model::{InvalidValue, serde_as_text};

/// A version of TLS, from the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl Version {
    const ALL: [Self; 4] = [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];

    /// As `DescribeSSLPolicies` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls10 => "TLSv1",
            Self::Tls11 => "TLSv1.1",
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }

    const fn supported(self) -> Option<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls10 | Self::Tls11 => None,
            Self::Tls12 => Some(&TLS12),
            Self::Tls13 => Some(&TLS13),
        }
    }
}

/// What cipher suites have in common as far as policies tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// TLS 1.3.
    Tls13,
    /// TLS 1.3, ChaCha20: not FIPS.
    Tls13ChaCha,
    /// Forward secrecy, AES-GCM.
    EphemeralGcm,
    /// Forward secrecy, AES-CBC with SHA-2.
    EphemeralSha2,
    /// Forward secrecy, AES-CBC with SHA-1.
    EphemeralSha1,
    /// Key exchange by RSA, AES-GCM or AES-CBC with SHA-2.
    RsaSha2,
    /// Key exchange by RSA, AES-CBC with SHA-1.
    RsaSha1,
}

/// Every suite that a policy names, in the order of preference.
const SUITES: [(&str, Class, Option<SupportedCipherSuite>); 21] = {
    use Class::{EphemeralGcm, EphemeralSha1, EphemeralSha2, RsaSha1, RsaSha2, Tls13, Tls13ChaCha};
    [
        ("TLS_AES_128_GCM_SHA256", Tls13, Some(TLS13_AES_128_GCM_SHA256)),
        ("TLS_AES_256_GCM_SHA384", Tls13, Some(TLS13_AES_256_GCM_SHA384)),
        ("TLS_CHACHA20_POLY1305_SHA256", Tls13ChaCha, Some(TLS13_CHACHA20_POLY1305_SHA256)),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", EphemeralGcm, Some(TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
        ("ECDHE-RSA-AES128-GCM-SHA256", EphemeralGcm, Some(TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
        ("ECDHE-ECDSA-AES128-SHA256", EphemeralSha2, None),
        ("ECDHE-RSA-AES128-SHA256", EphemeralSha2, None),
        ("ECDHE-ECDSA-AES128-SHA", EphemeralSha1, None),
        ("ECDHE-RSA-AES128-SHA", EphemeralSha1, None),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", EphemeralGcm, Some(TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
        ("ECDHE-RSA-AES256-GCM-SHA384", EphemeralGcm, Some(TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
        ("ECDHE-ECDSA-AES256-SHA384", EphemeralSha2, None),
        ("ECDHE-RSA-AES256-SHA384", EphemeralSha2, None),
        ("ECDHE-RSA-AES256-SHA", EphemeralSha1, None),
        ("ECDHE-ECDSA-AES256-SHA", EphemeralSha1, None),
        ("AES128-GCM-SHA256", RsaSha2, None),
        ("AES128-SHA256", RsaSha2, None),
        ("AES128-SHA", RsaSha1, None),
        ("AES256-GCM-SHA384", RsaSha2, None),
        ("AES256-SHA256", RsaSha2, None),
        ("AES256-SHA", RsaSha1, None),
    ]
};

/// A suite by its name in the table.
pub fn suite_name(suite: SupportedCipherSuite) -> String {
    let row = SUITES.iter().find(|(_, _, own)| own.is_some_and(|own| own.suite() == suite.suite()));
    row.map_or_else(|| format!("{:?}", suite.suite()), |(name, _, _)| (*name).to_owned())
}

/// A version as access logs write it.
pub fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("tlsv12"),
        ProtocolVersion::TLSv1_3 => Some("tlsv13"),
        _ => None,
    }
}

/// A security policy.
#[derive(Debug, PartialEq, Eq)]
pub struct SslPolicy {
    pub name: &'static str,
    oldest: Version,
    newest: Version,
    classes: &'static [Class],
    /// It prefers a post-quantum key exchange; clients that know none have one over curves.
    post_quantum: bool,
}

const CLASSES_13: &[Class] = &[Class::Tls13, Class::Tls13ChaCha];
const CLASSES_RES: &[Class] = &[Class::Tls13, Class::Tls13ChaCha, Class::EphemeralGcm];
const CLASSES_SHA2: &[Class] = &[Class::Tls13, Class::Tls13ChaCha, Class::EphemeralGcm, Class::EphemeralSha2];
const CLASSES_EXT1: &[Class] =
    &[Class::Tls13, Class::Tls13ChaCha, Class::EphemeralGcm, Class::EphemeralSha2, Class::RsaSha2];
const CLASSES_ALL: &[Class] = &[
    Class::Tls13,
    Class::Tls13ChaCha,
    Class::EphemeralGcm,
    Class::EphemeralSha2,
    Class::EphemeralSha1,
    Class::RsaSha2,
    Class::RsaSha1,
];
const FIPS_13: &[Class] = &[Class::Tls13];
const FIPS_RES: &[Class] = &[Class::Tls13, Class::EphemeralGcm];
const FIPS_SHA2: &[Class] = &[Class::Tls13, Class::EphemeralGcm, Class::EphemeralSha2];
const FIPS_EXT0: &[Class] = &[Class::Tls13, Class::EphemeralGcm, Class::EphemeralSha2, Class::EphemeralSha1];
const FIPS_EXT1: &[Class] = &[Class::Tls13, Class::EphemeralGcm, Class::EphemeralSha2, Class::RsaSha2];
const FIPS_ALL: &[Class] =
    &[Class::Tls13, Class::EphemeralGcm, Class::EphemeralSha2, Class::EphemeralSha1, Class::RsaSha2, Class::RsaSha1];
const FS_RES: &[Class] = &[Class::EphemeralGcm];
const FS_SHA2: &[Class] = &[Class::EphemeralGcm, Class::EphemeralSha2];
const FS_ALL: &[Class] = &[Class::EphemeralGcm, Class::EphemeralSha2, Class::EphemeralSha1];
const OLD_SHA2: &[Class] = &[Class::EphemeralGcm, Class::EphemeralSha2, Class::RsaSha2];
const OLD_ALL: &[Class] =
    &[Class::EphemeralGcm, Class::EphemeralSha2, Class::EphemeralSha1, Class::RsaSha2, Class::RsaSha1];

const fn policy(name: &'static str, oldest: Version, newest: Version, classes: &'static [Class]) -> SslPolicy {
    SslPolicy { name, oldest, newest, classes, post_quantum: false }
}

const fn quantum(name: &'static str, oldest: Version, classes: &'static [Class]) -> SslPolicy {
    SslPolicy { name, oldest, newest: Version::Tls13, classes, post_quantum: true }
}

/// Every policy, as `DescribeSSLPolicies` lists them.
pub const POLICIES: &[SslPolicy] = {
    use Version::{Tls10, Tls11, Tls12, Tls13};
    &[
        policy("ELBSecurityPolicy-TLS13-1-3-2021-06", Tls13, Tls13, CLASSES_13),
        policy("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", Tls12, Tls13, CLASSES_RES),
        policy("ELBSecurityPolicy-TLS13-1-2-2021-06", Tls12, Tls13, CLASSES_SHA2),
        policy("ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06", Tls12, Tls13, CLASSES_EXT1),
        policy("ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", Tls12, Tls13, CLASSES_ALL),
        policy("ELBSecurityPolicy-TLS13-1-1-2021-06", Tls11, Tls13, CLASSES_ALL),
        policy("ELBSecurityPolicy-TLS13-1-0-2021-06", Tls10, Tls13, CLASSES_ALL),
        quantum("ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", Tls13, CLASSES_13),
        quantum("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", Tls12, CLASSES_RES),
        quantum("ELBSecurityPolicy-TLS13-1-2-PQ-2025-09", Tls12, CLASSES_SHA2),
        quantum("ELBSecurityPolicy-TLS13-1-2-Ext1-PQ-2025-09", Tls12, CLASSES_EXT1),
        quantum("ELBSecurityPolicy-TLS13-1-2-Ext2-PQ-2025-09", Tls12, CLASSES_ALL),
        quantum("ELBSecurityPolicy-TLS13-1-0-PQ-2025-09", Tls10, CLASSES_ALL),
        policy("ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04", Tls13, Tls13, FIPS_13),
        policy("ELBSecurityPolicy-TLS13-1-2-Res-FIPS-2023-04", Tls12, Tls13, FIPS_RES),
        policy("ELBSecurityPolicy-TLS13-1-2-FIPS-2023-04", Tls12, Tls13, FIPS_SHA2),
        policy("ELBSecurityPolicy-TLS13-1-2-Ext0-FIPS-2023-04", Tls12, Tls13, FIPS_EXT0),
        policy("ELBSecurityPolicy-TLS13-1-2-Ext1-FIPS-2023-04", Tls12, Tls13, FIPS_EXT1),
        policy("ELBSecurityPolicy-TLS13-1-2-Ext2-FIPS-2023-04", Tls12, Tls13, FIPS_ALL),
        policy("ELBSecurityPolicy-TLS13-1-1-FIPS-2023-04", Tls11, Tls13, FIPS_ALL),
        policy("ELBSecurityPolicy-TLS13-1-0-FIPS-2023-04", Tls10, Tls13, FIPS_ALL),
        policy("ELBSecurityPolicy-FS-1-2-Res-2020-10", Tls12, Tls12, FS_RES),
        policy("ELBSecurityPolicy-FS-1-2-Res-2019-08", Tls12, Tls12, FS_SHA2),
        policy("ELBSecurityPolicy-FS-1-2-2019-08", Tls12, Tls12, FS_ALL),
        policy("ELBSecurityPolicy-FS-1-1-2019-08", Tls11, Tls12, FS_ALL),
        policy("ELBSecurityPolicy-FS-2018-06", Tls10, Tls12, FS_ALL),
        policy("ELBSecurityPolicy-TLS-1-2-2017-01", Tls12, Tls12, OLD_SHA2),
        policy("ELBSecurityPolicy-TLS-1-2-Ext-2018-06", Tls12, Tls12, OLD_ALL),
        policy("ELBSecurityPolicy-TLS-1-1-2017-01", Tls11, Tls12, OLD_ALL),
        policy("ELBSecurityPolicy-2016-08", Tls10, Tls12, OLD_ALL),
    ]
};

/// What a listener has that names no policy: the console's default. The API's own, `ELBSecurityPolicy-2016-08`, begins
/// at TLS 1.0.
pub const DEFAULT: &str = "ELBSecurityPolicy-TLS13-1-2-2021-06";

/// What rustls offers for a policy.
#[derive(Clone, Debug)]
pub struct Offer {
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub suites: Vec<SupportedCipherSuite>,
    /// Key exchanges.
    pub groups: &'static [&'static dyn SupportedKxGroup],
}

/// Why a policy cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    #[error("asks for {}, which is not offered here for its weaknesses (RFC 8996)", .0.name())]
    Version(Version),
    #[error("asks for cryptography that is validated by FIPS 140-3, which is not what is built in here")]
    Fips,
}

impl SslPolicy {
    /// The policy of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        POLICIES.iter().find(|policy| policy.name == name)
    }

    /// Its versions, the newest first.
    pub fn versions(&self) -> impl Iterator<Item = Version> + use<> {
        let (oldest, newest) = (self.oldest, self.newest);
        Version::ALL.into_iter().rev().filter(move |version| (oldest..=newest).contains(version))
    }

    /// The names of its cipher suites in the order of preference; `true` for those that are offered here.
    pub fn suites(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let chosen = SUITES.iter().filter(|(_, class, _)| self.classes.contains(class));
        chosen.map(|(name, _, suite)| (*name, suite.is_some()))
    }

    /// What rustls offers for it.
    ///
    /// # Errors
    ///
    /// If its oldest version, or who has validated its cryptography, is not what there is here.
    pub fn offer(&self) -> Result<Offer, PolicyError> {
        if self.name.contains("-FIPS-") {
            return Err(PolicyError::Fips);
        }
        let supported = |version: Version| version.supported().ok_or(PolicyError::Version(version));
        // The oldest is what is missing if any is.
        supported(self.oldest)?;
        let versions = self.versions().map(supported).collect::<Result<_, _>>()?;
        let chosen = SUITES.iter().filter(|(_, class, _)| self.classes.contains(class));
        let groups = if self.post_quantum { crypto::HYBRIDS } else { crypto::CURVES };
        Ok(Offer { versions, suites: chosen.filter_map(|(_, _, suite)| *suite).collect(), groups })
    }
}

/// A policy that a listener can have: one that is honoured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ListenerPolicy(&'static SslPolicy);

impl ListenerPolicy {
    /// Every one, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        POLICIES.iter().filter(|policy| policy.offer().is_ok()).map(Self)
    }

    /// The policy itself.
    pub fn policy(self) -> &'static SslPolicy {
        self.0
    }
}

impl Default for ListenerPolicy {
    fn default() -> Self {
        Self(SslPolicy::named(DEFAULT).unwrap_or(&POLICIES[0]))
    }
}

impl fmt::Debug for ListenerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for ListenerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name)
    }
}

impl FromStr for ListenerPolicy {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refused = |rule: String| InvalidValue::new("SSL policy", text, rule, format!("use {DEFAULT}"));
        let policy =
            SslPolicy::named(text).ok_or_else(|| refused("is not the name of a security policy".to_owned()))?;
        policy.offer().map_err(|error| refused(error.to_string()))?;
        Ok(Self(policy))
    }
}

serde_as_text!(ListenerPolicy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_default_can_be_honoured() {
        for (n, policy) in POLICIES.iter().enumerate() {
            assert!(POLICIES[..n].iter().all(|other| other.name != policy.name), "{}", policy.name);
        }
        SslPolicy::named(DEFAULT).expect("in the table").offer().expect("honoured");
    }

    #[test]
    fn what_is_offered_is_of_the_policy_and_never_empty() {
        for policy in POLICIES {
            let Ok(offer) = policy.offer() else { continue };
            assert_eq!(offer.versions.len(), policy.versions().count(), "{}", policy.name);
            assert_eq!(offer.suites.len(), policy.suites().filter(|(_, offered)| *offered).count());
            for version in offer.versions {
                assert!(offer.suites.iter().any(|suite| suite.version() == version), "{}: {version:?}", policy.name);
            }
        }
    }

    #[test]
    fn old_versions_and_fips_are_refused_by_name() {
        let refusal = |name: &str| name.parse::<ListenerPolicy>().expect_err("refused").to_string();
        assert!(refusal("ELBSecurityPolicy-2016-08").contains("TLSv1"));
        assert!(refusal("ELBSecurityPolicy-TLS13-1-1-2021-06").contains("TLSv1.1"));
        assert!(refusal("ELBSecurityPolicy-TLS13-1-0-PQ-2025-09").contains("TLSv1"));
        assert!(refusal("ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04").contains("FIPS"));
        assert!(refusal("ELBSecurityPolicy-TLS13-1-4").contains("is not the name"));
        assert_eq!(ListenerPolicy::default().to_string(), DEFAULT);
    }

    #[test]
    fn a_policy_lists_its_suites_in_order() {
        let policy = SslPolicy::named("ELBSecurityPolicy-TLS13-1-2-Res-2021-06").expect("in the table");
        let names: Vec<_> = policy.suites().collect();
        assert_eq!(names.len(), 7);
        assert!(names.iter().all(|(_, offered)| *offered));
        assert_eq!(names[3].0, "ECDHE-ECDSA-AES128-GCM-SHA256");
    }
}
