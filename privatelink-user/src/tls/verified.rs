//! TLS with targets whose certificates are validated, where a target group asks for it (RFC 5280, RFC 9525).

use std::{fs, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::crypto;

/// Whom targets' certificates have to be from, and for which name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verify {
    pub roots: Roots,
    /// None: the name that the client asks for.
    pub name: Option<String>,
}

impl Verify {
    /// The name that certificates must have, if it is always the same.
    ///
    /// # Errors
    ///
    /// If it is neither a host's name nor an address.
    pub fn server_name(&self) -> Result<Option<ServerName<'static>>, rustls::Error> {
        let name = self.name.clone().map(ServerName::try_from).transpose();
        name.map_err(|_| rustls::Error::General(format!("{:?} is no name of a server", self.name)))
    }
}

/// Authorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Roots {
    /// Those that this host trusts.
    System,
    /// Those in this PEM text.
    Pem(String),
}

/// Where distributions keep what the host trusts.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

impl Roots {
    /// The authorities; what is none is left out, so that nobody is trusted for it.
    fn store(&self) -> RootCertStore {
        let pem = match self {
            Self::System => SYSTEM.iter().find_map(|file| fs::read(file).ok()).unwrap_or_default(),
            Self::Pem(text) => text.as_bytes().to_vec(),
        };
        let mut store = RootCertStore::empty();
        let (_, _) = store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        store
    }
}

/// Why a target is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Distrust {
    #[error("its certificate is of no authority that is trusted")]
    UnknownIssuer,
    #[error("its certificate is for another name")]
    OtherName,
    #[error("its certificate has expired")]
    Expired,
    #[error("its certificate is not valid yet")]
    NotYetValid,
    #[error("its certificate cannot be validated")]
    Invalid,
    #[error("the client asked for no name that its certificate could be for")]
    NoName,
}

impl Distrust {
    /// As the access log writes it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "TargetCertificateUnknownIssuer",
            Self::OtherName => "TargetCertificateOtherName",
            Self::Expired => "TargetCertificateExpired",
            Self::NotYetValid => "TargetCertificateNotYetValid",
            Self::Invalid => "TargetCertificateInvalid",
            Self::NoName => "TargetCertificateNoName",
        }
    }

    /// What a handshake's error says of the certificate, if it is about that.
    pub fn of(error: &io::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error.get_ref()?.downcast_ref()? else { return None };
        Some(match error {
            // One of the authority's name, and not of its key, is not of it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            _ => Self::Invalid,
        })
    }
}

/// Whether a certificate's name counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// It has to be the one that is asked for.
    Matter,
    /// Any will do: a check without a name.
    AnyWillDo,
}

/// A client of TLS 1.2 and 1.3 that believes certificates of `roots`.
///
/// # Errors
///
/// When the cryptography that this was built with supports neither version.
pub fn config(roots: &Roots, names: Names) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(crypto::provider());
    let verifier = Verifier { roots: roots.store(), names, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    names: Names,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        match self.names {
            Names::Matter => verify_server_name(&certificate, server_name)?,
            Names::AnyWillDo => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
