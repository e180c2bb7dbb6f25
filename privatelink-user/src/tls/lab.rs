//! A certification authority for labs: certificates that clients can validate without anybody outside.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use thiserror::Error;

use crate::model::SecretText;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum LabError {
    #[error("'{0}' is no DNS name that a certificate can be for")]
    Name(String),
    #[error("the authority's private key does not parse")]
    Key,
    #[error("the certificate cannot be made: {0}")]
    Sign(rcgen::Error),
}

const NAME: &str = "privatelink lab authority";
/// As long as a lab lives.
const VALID: SignedDuration = SignedDuration::from_hours(24 * 3_650);

/// The authority: what it signs with follows from its key alone.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    private_key: SecretText,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// [`LabError::Sign`].
    pub fn generate(now: Timestamp) -> Result<Self, LabError> {
        Self::with(KeyPair::generate().map_err(LabError::Sign)?, now)
    }

    /// The one that has this key, in PEM.
    ///
    /// # Errors
    ///
    /// [`LabError::Key`].
    pub fn from_key(pem: &str, now: Timestamp) -> Result<Self, LabError> {
        Self::with(KeyPair::from_pem(pem).map_err(|_| LabError::Key)?, now)
    }

    fn with(key: KeyPair, now: Timestamp) -> Result<Self, LabError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now, VALID);
        let certificate = params.self_signed(&key).map_err(LabError::Sign)?.pem();
        let private_key = key.serialize_pem().into();
        Ok(Self { issuer: Issuer::new(params, key), certificate, private_key })
    }

    /// What clients are to trust, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// In PEM.
    pub fn private_key(&self) -> &SecretText {
        &self.private_key
    }
}

/// A certificate with its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub private_key: SecretText,
}

/// A certificate for `names`, valid from the beginning of the day of `now` and for as long as `valid` from now on.
///
/// # Errors
///
/// [`LabError::Name`], [`LabError::Sign`].
pub fn issue(
    authority: &Authority,
    names: &[String],
    now: Timestamp,
    valid: SignedDuration,
) -> Result<Issued, LabError> {
    let bare = |name: &str| name.strip_prefix("*.").unwrap_or(name).parse::<crate::model::PrivateDnsName>();
    if let Some(wrong) = names.iter().find(|name| bare(name).is_err()) {
        return Err(LabError::Name(wrong.clone()));
    }
    let key = KeyPair::generate().map_err(LabError::Sign)?;
    let mut params = CertificateParams::new(names).map_err(LabError::Sign)?;
    params.distinguished_name = named(names.first().map_or("", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, valid);
    let certificate = params.signed_by(&key, &authority.issuer).map_err(LabError::Sign)?;
    Ok(Issued { certificate: certificate.pem(), private_key: key.serialize_pem().into() })
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// The days between which a certificate is valid. A day is all that a lab's clocks need to agree on; the last one
/// counts whole.
fn validity(params: &mut CertificateParams, now: Timestamp, valid: SignedDuration) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(now);
    params.not_after = day(now + valid + SignedDuration::from_hours(24));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificate::{Facts, Served};

    #[test]
    fn certificates_name_their_authority_and_fit_their_keys() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let authority = Authority::generate(now).expect("an authority");
        let again = Authority::from_key(authority.private_key().reveal(), now).expect("the same one");
        let names = ["*.lab.example".to_owned(), "lab.example".to_owned()];
        let day = SignedDuration::from_hours(24);
        for authority in [&authority, &again] {
            let Issued { certificate, private_key } = issue(authority, &names, now, day * 30).expect("a certificate");
            let key = private_key.reveal().as_bytes();
            let served = Served::from_pem(String::new(), certificate.as_bytes(), b"", key).expect("a pair");
            let of_authority = Facts::of_pem(authority.certificate().as_bytes()).expect("a certificate");
            assert_eq!(served.facts.issuer, of_authority.subject);
            assert_eq!(served.facts.names, names);
            assert!(served.facts.not_before <= now && served.facts.not_after >= now + day * 30);
        }
        assert!(matches!(issue(&authority, &["a b".to_owned()], now, day), Err(LabError::Name(_))));
    }
}
