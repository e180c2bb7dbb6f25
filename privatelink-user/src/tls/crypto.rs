//! The one place that says whose cryptography TLS uses here, for listeners, targets and health checks alike: AWS-LC,
//! whose assembly for the processor's newest vector units (AES-GCM) and for P-256 and X25519 is what a handshake and a
//! gigabit cost.

pub use ::aws_lc_rs::{aead, rand};
pub use rustls::crypto::aws_lc_rs::{cipher_suite, sign::any_supported_type};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup,
    aws_lc_rs::{
        self,
        kx_group::{SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768},
    },
};

/// Key exchange over elliptic curves, in the order of preference.
pub const CURVES: &[&dyn SupportedKxGroup] = &[X25519, SECP256R1, SECP384R1];
/// The same behind those that a quantum computer does not undo (ML-KEM, FIPS 203, joined with a curve).
pub const HYBRIDS: &[&dyn SupportedKxGroup] = &[X25519MLKEM768, SECP256R1MLKEM768, X25519, SECP256R1, SECP384R1];

/// Everything that it can do, with key exchange over curves.
pub fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: CURVES.to_vec(), ..aws_lc_rs::default_provider() }
}
