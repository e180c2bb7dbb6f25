//! The one place that says whose cryptography TLS uses here, for listeners, targets and health checks alike.

use std::sync::Arc;

pub use rustls::crypto::ring::{cipher_suite, sign::any_supported_type};
use rustls::{
    crypto::{CryptoProvider, ring},
    server::ProducesTickets,
};

/// Everything that it can do.
pub fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// Keys for session tickets, which change every six hours.
///
/// # Errors
///
/// If there is no randomness.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    ring::Ticketer::new()
}
