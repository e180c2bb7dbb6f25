//! Server certificates: read from PEM, matched with their keys, and chosen by server name.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, public_key::PublicKey,
};

use super::crypto::any_supported_type;

/// Why PEM text is no certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    #[error("the certificate is no PEM text with a CERTIFICATE block")]
    NoCertificate,
    #[error("the private key is no PEM text with a PRIVATE KEY block (PKCS #8, PKCS #1 or SEC1, not encrypted)")]
    NoKey,
    #[error("the certificate does not parse: {0}")]
    Malformed(String),
    #[error(
        "the private key is of no kind that can be used (RSA of at least 2048 bits, ECDSA P-256 or P-384, Ed25519)"
    )]
    KeyUnusable,
    #[error("the private key does not belong to the certificate")]
    KeyOfOther,
}

impl CertificateError {
    /// The way out.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoCertificate | Self::Malformed(_) => {
                "give the file that begins with -----BEGIN CERTIFICATE-----, the server's own certificate first"
            }
            Self::NoKey => "take its passphrase off with `openssl pkey -in KEY.pem -out PLAIN.pem`",
            Self::KeyUnusable => "make a key with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
            Self::KeyOfOther => {
                "`openssl x509 -in CERT.pem -noout -pubkey` and `openssl pkey -in KEY.pem -pubout` must agree"
            }
        }
    }
}

/// How a certificate is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// As `DescribeCertificate` writes it.
    pub name: &'static str,
    /// How strong the digest is, in bits.
    pub digest_bits: u16,
}

impl Signature {
    const fn new(name: &'static str, digest_bits: u16) -> Self {
        Self { name, digest_bits }
    }

    /// By the algorithm's object identifier (RFC 8017, RFC 5758, RFC 8410).
    fn of(identifier: &str) -> Self {
        match identifier {
            "1.2.840.113549.1.1.11" => Self::new("SHA256WITHRSA", 256),
            "1.2.840.113549.1.1.12" => Self::new("SHA384WITHRSA", 384),
            "1.2.840.113549.1.1.13" => Self::new("SHA512WITHRSA", 512),
            "1.2.840.10045.4.3.2" => Self::new("SHA256WITHECDSA", 256),
            "1.2.840.10045.4.3.3" => Self::new("SHA384WITHECDSA", 384),
            "1.2.840.10045.4.3.4" => Self::new("SHA512WITHECDSA", 512),
            "1.3.101.112" => Self::new("ED25519", 512),
            _ => Self::new("OTHER", 160),
        }
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's common name, or the whole subject where it has none.
    pub subject: String,
    pub issuer: String,
    /// Big-endian bytes in hexadecimal, with colons.
    pub serial: String,
    /// The DNS names it is for, lower case; a common name counts if there are no alternative names.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub key: KeyKind,
    pub signature: Signature,
}

/// A kind of key, with its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    Rsa(u16),
    Ecdsa(u16),
    Ed25519,
}

impl KeyKind {
    /// The bits by which certificates are compared.
    pub const fn bits(self) -> u16 {
        match self {
            Self::Rsa(bits) | Self::Ecdsa(bits) => bits,
            Self::Ed25519 => 256,
        }
    }
}

impl fmt::Display for KeyKind {
    /// As `DescribeCertificate` writes `KeyAlgorithm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA_{bits}"),
            Self::Ecdsa(256) => f.write_str("EC_prime256v1"),
            Self::Ecdsa(bits) => write!(f, "EC_secp{bits}r1"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

impl Facts {
    /// Reads the first certificate of PEM text.
    ///
    /// # Errors
    ///
    /// [`CertificateError::NoCertificate`] and [`CertificateError::Malformed`].
    pub fn of_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::read(&CertificateDer::from_pem_slice(pem).map_err(|_| CertificateError::NoCertificate)?)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`] with what is wrong.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let malformed = |what: &dyn fmt::Display| CertificateError::Malformed(what.to_string());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        let common = |name: &x509_parser::x509::X509Name<'_>| {
            let text = name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
            text.unwrap_or_else(|| name.to_string())
        };
        let subject = common(certificate.subject());
        let alternative = certificate.subject_alternative_name().map_err(|error| malformed(&error))?;
        let names = match alternative {
            Some(names) => {
                let dns = names.value.general_names.iter().filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                    _ => None,
                });
                dns.collect()
            }
            None => vec![subject.to_ascii_lowercase()],
        };
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| malformed(&error))
        };
        let bits = |bits: usize| u16::try_from(bits).unwrap_or(u16::MAX);
        let key = match certificate.public_key().parsed().map_err(|error| malformed(&error))? {
            PublicKey::RSA(key) => KeyKind::Rsa(bits(key.key_size())),
            PublicKey::EC(point) => KeyKind::Ecdsa(bits(point.key_size())),
            _ => KeyKind::Ed25519,
        };
        Ok(Self {
            subject,
            issuer: common(certificate.issuer()),
            serial: certificate.raw_serial_as_string(),
            names,
            not_before: at(certificate.validity().not_before)?,
            not_after: at(certificate.validity().not_after)?,
            key,
            signature: Signature::of(&certificate.signature_algorithm.algorithm.to_id_string()),
        })
    }

    /// Whether it is for `name`, which is lower case; a wildcard stands for one label (RFC 6125 section 6.4.3).
    pub fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => own == name,
        })
    }
}

/// A certificate that connections can be served with.
#[derive(Clone, Debug)]
pub struct Served {
    pub arn: String,
    pub facts: Facts,
    key: Arc<CertifiedKey>,
}

impl Served {
    /// From PEM: the certificate, its chain (may be empty), its private key.
    ///
    /// # Errors
    ///
    /// When a part is no PEM, does not parse, or the key is not the certificate's.
    pub fn from_pem(arn: String, certificate: &[u8], chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let read = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let mut certificates = read(certificate).map_err(|_| CertificateError::NoCertificate)?;
        let first = certificates.first().ok_or(CertificateError::NoCertificate)?;
        let facts = Facts::read(first)?;
        certificates.extend(read(chain).map_err(|_| CertificateError::NoCertificate)?);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let key = any_supported_type(&key).map_err(|_| CertificateError::KeyUnusable)?;
        let key = CertifiedKey::new(certificates, key);
        match key.keys_match() {
            Ok(()) => Ok(Self { arn, facts, key: Arc::new(key) }),
            Err(_) => Err(CertificateError::KeyOfOther),
        }
    }

    /// What connections are served with.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// The certificates of a listener.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Served to those who name none, or one that no other is for.
    pub default: Served,
    /// Served by name.
    pub by_name: Vec<Served>,
}

impl Certificates {
    /// The certificate for a server name: of those that are for it the one with the strongest digest, then the longest
    /// key, then the latest end, as a Network Load Balancer chooses (user guide, "Server certificates").
    pub fn choose(&self, name: Option<&str>) -> &Served {
        let Some(name) = name.map(str::to_ascii_lowercase) else { return &self.default };
        let all = std::iter::once(&self.default).chain(&self.by_name);
        all.filter(|served| served.facts.is_for(&name))
            .max_by_key(|Served { facts, .. }| (facts.signature.digest_bits, facts.key.bits(), facts.not_after))
            .unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()).certified())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A self-signed certificate for `names` with its key.
    pub fn self_signed(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    pub fn served(arn: &str, names: &[&str]) -> Served {
        let (certificate, key) = self_signed(names);
        Served::from_pem(arn.to_owned(), certificate.as_bytes(), b"", key.as_bytes()).expect("a certificate")
    }

    #[test]
    fn the_certificate_is_chosen_by_name_and_wildcards_stand_for_one_label() {
        let all = Certificates {
            default: served("default", &["default.test"]),
            by_name: vec![served("exact", &["www.example.test"]), served("wild", &["*.example.org"])],
        };
        for (name, arn) in [
            (None, "default"),
            (Some("www.example.test"), "exact"),
            (Some("WWW.Example.Test"), "exact"),
            (Some("a.www.example.test"), "default"),
            (Some("a.example.org"), "wild"),
            (Some("a.b.example.org"), "default"),
            (Some("example.org"), "default"),
            (Some(".example.org"), "default"),
            (Some("default.test"), "default"),
        ] {
            assert_eq!(all.choose(name).arn, arn, "{name:?}");
        }
    }

    #[test]
    fn the_later_end_wins_between_equals() {
        let early = served("early", &["a.test"]);
        let mut late = served("late", &["a.test"]);
        late.facts.not_after = early.facts.not_after + jiff::SignedDuration::from_secs(1);
        let other = served("other", &["b.test"]);
        for by_name in [vec![early.clone(), late.clone()], vec![late.clone(), early.clone()]] {
            assert_eq!(Certificates { default: other.clone(), by_name }.choose(Some("a.test")).arn, "late");
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (certificate, key) = self_signed(&["a.test"]);
        let (_, other) = self_signed(&["b.test"]);
        let from = |certificate: &str, key: &str| {
            Served::from_pem(String::new(), certificate.as_bytes(), b"", key.as_bytes()).expect_err("refused")
        };
        assert!(matches!(from(&certificate, &other), CertificateError::KeyOfOther));
        assert!(matches!(from("", &key), CertificateError::NoCertificate));
        assert!(matches!(from(&certificate, ""), CertificateError::NoKey));
        assert!(matches!(from(&certificate, &certificate), CertificateError::NoKey));
        let mangled = certificate.replacen("MII", "MIJ", 1);
        assert!(matches!(from(&mangled, &key), CertificateError::Malformed(_) | CertificateError::NoCertificate));
    }
}
