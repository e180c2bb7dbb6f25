//! What a TLS listener shows to its clients.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Reference, lookup, operation, view::ListenerView};
use crate::{
    model::{CertificateId, Change, Listener, Protocol, State, TlsSettings},
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

/// What a request says of a listener's TLS.
pub(super) struct TlsChoice<'a> {
    pub certificate: Option<&'a Reference>,
    /// None: as they are.
    pub more_certificates: Option<&'a [Reference]>,
    pub ssl_policy: Option<ListenerPolicy>,
    pub alpn_policy: Option<AlpnPolicy>,
}

impl TlsChoice<'_> {
    /// The settings of a listener of `protocol` that has had `present`.
    pub fn settings(
        &self,
        state: &State,
        protocol: Protocol,
        present: Option<&TlsSettings>,
    ) -> Result<Option<TlsSettings>, ControlError> {
        let Self { certificate, more_certificates, ssl_policy, alpn_policy } = self;
        if protocol != Protocol::Tls {
            let more = more_certificates.is_some_and(|more| !more.is_empty());
            let given = certificate.is_some() || more || ssl_policy.is_some() || alpn_policy.is_some();
            return if given { Err(ControlError::NotTls(protocol)) } else { Ok(None) };
        }
        let named = certificate.map(|reference| lookup::certificate(state, reference)).transpose()?;
        let default =
            named.map(|named| named.id.clone()).or_else(|| present.map(|present| present.certificate.clone()));
        let more = more_certificates.map(|references| ids(state, references)).transpose()?;
        Ok(Some(TlsSettings {
            certificate: default.ok_or(ControlError::CertificateMissing)?,
            more: more.or_else(|| present.map(|present| present.more.clone())).unwrap_or_default(),
            policy: ssl_policy.or_else(|| present.map(|present| present.policy)).unwrap_or_default(),
            alpn: alpn_policy.or_else(|| present.map(|present| present.alpn)).unwrap_or_default(),
        }))
    }
}

fn ids(state: &State, references: &[Reference]) -> Result<BTreeSet<CertificateId>, ControlError> {
    references.iter().map(|reference| Ok(lookup::certificate(state, reference)?.id.clone())).collect()
}

/// A TLS listener and its settings.
fn tls<'a>(state: &'a State, reference: &Reference) -> Result<(&'a Listener, &'a TlsSettings), ControlError> {
    let listener = lookup::listener(state, reference)?;
    let tls = listener.tls.as_ref().ok_or(ControlError::NotTls(listener.protocol))?;
    Ok((listener, tls))
}

fn changed(state: &State, listener: &Listener, tls: TlsSettings) -> Result<(Change, ListenerView), ControlError> {
    let after = Listener { tls: Some(tls), ..listener.clone() };
    check_certificates(state, &after)?;
    let view = ListenerView::new(state, &after);
    let change = Change::replace(listener, after);
    Ok((change, view))
}

/// Checks that the load balancer of `listener` shows no more certificates by server name than it may. What several of
/// its listeners show counts once.
///
/// # Errors
///
/// [`ControlError::TooManyCertificates`]
pub(super) fn check_certificates(state: &State, listener: &Listener) -> Result<(), ControlError> {
    const LIMIT: usize = TlsSettings::MAX_CERTIFICATES;
    // Most have few, and need no look at the others.
    let Some(tls) = listener.tls.as_ref().filter(|tls| !tls.more.is_empty()) else { return Ok(()) };
    let others = state.listeners.values();
    let others = others.filter(|other| other.load_balancer == listener.load_balancer && other.id != listener.id);
    let shown = others.filter_map(|other| other.tls.as_ref()).chain([tls]);
    let named: BTreeSet<&CertificateId> = shown.flat_map(|tls| tls.certificates().skip(1)).collect();
    if named.len() > LIMIT { Err(ControlError::TooManyCertificates { limit: LIMIT }) } else { Ok(()) }
}

/// Adds certificates that a TLS listener shows by server name. One that it has already stays.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddListenerCertificates {
    pub listener: Reference,
    pub certificates: Vec<Reference>,
}
operation!(AddListenerCertificates -> ListenerView);

impl Mutation for AddListenerCertificates {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ListenerView), ControlError> {
        let (listener, tls) = tls(state, &self.listener)?;
        let more = tls.more.iter().cloned().chain(ids(state, &self.certificates)?).collect();
        changed(state, listener, TlsSettings { more, ..tls.clone() })
    }
}

/// Takes certificates away that a TLS listener shows by server name; its default one stays.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveListenerCertificates {
    pub listener: Reference,
    pub certificates: Vec<Reference>,
}
operation!(RemoveListenerCertificates -> ListenerView);

impl Mutation for RemoveListenerCertificates {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ListenerView), ControlError> {
        let (listener, tls) = tls(state, &self.listener)?;
        let gone = ids(state, &self.certificates)?;
        if gone.contains(&tls.certificate) && !tls.more.contains(&tls.certificate) {
            return Err(ControlError::DefaultCertificate(tls.certificate.clone()));
        }
        let more = tls.more.difference(&gone).cloned().collect();
        changed(state, listener, TlsSettings { more, ..tls.clone() })
    }
}
