//! TLS with targets, whose certificates are not validated: they are for names that only clients know, self-signed or
//! expired (Network Load Balancer user guide, "TLS listeners"). The network between is the provider's own VPC.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::crypto;

/// A client of TLS 1.2 and 1.3 that believes every certificate.
///
/// # Errors
///
/// When the cryptography that this was built with supports neither version.
pub fn config() -> Result<ClientConfig, rustls::Error> {
    config_of(rustls::ALL_VERSIONS)
}

/// The same of some versions only.
///
/// # Errors
///
/// When the cryptography that this was built with supports none of them.
pub fn config_of(versions: &[&'static SupportedProtocolVersion]) -> Result<ClientConfig, rustls::Error> {
    config_by(crypto::provider(), versions)
}

/// The same with other cryptography.
///
/// # Errors
///
/// When it supports none of the versions.
pub fn config_by(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(provider);
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth())
}

/// Believes every certificate and signature.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
