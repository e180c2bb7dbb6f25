//! Certificates: imported with their private keys, which no answer shows.

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, lookup, operation, sorted,
    view::{self, CertificateView},
};
use crate::{
    model::{Certificate, CertificateId, Change, SecretText, State},
    tls::certificate::Served,
};

/// Imports a certificate, or another text of one that is there: listeners that have it show the new one to their next
/// clients.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportCertificate {
    /// PEM. What follows the first certificate belongs to its chain.
    pub certificate: String,
    /// PEM: PKCS #8, PKCS #1 or SEC1, not encrypted.
    pub private_key: SecretText,
    /// PEM: the certificates between it and its root.
    #[serde(default)]
    pub chain: String,
    /// None: a new one.
    #[serde(default)]
    pub replaces: Option<Reference>,
}
operation!(ImportCertificate -> CertificateView);

impl Mutation for ImportCertificate {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, CertificateView), ControlError> {
        let Self { certificate, private_key, chain, replaces } = self;
        let (pem, key) = (certificate.as_bytes(), private_key.reveal().as_bytes());
        Served::from_pem(String::new(), pem, chain.as_bytes(), key)?;
        let present = replaces.as_ref().map(|reference| lookup::certificate(state, reference)).transpose()?;
        let imported = Certificate {
            id: present.map_or_else(
                || CertificateId::generate(context.region, context.account, context.ids),
                |present| present.id.clone(),
            ),
            certificate: certificate.clone(),
            chain: chain.clone(),
            private_key: private_key.clone(),
            created_at: present.map_or(context.now, |present| present.created_at),
            imported_at: context.now,
        };
        let view = CertificateView::new(state, &imported)?;
        Ok((Change::default().put(imported), view))
    }
}

/// Deletes a certificate that no listener has, and by which no target group knows its targets.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteCertificate {
    /// ARN, or a name that it alone is for.
    pub certificate: Reference,
}
operation!(DeleteCertificate -> ());

impl Mutation for DeleteCertificate {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let certificate = lookup::certificate(state, &self.certificate)?;
        let listeners = state.listeners_with(&certificate.id).map(|listener| view::listener_name(state, listener));
        let groups =
            state.target_groups_that_trust(&certificate.id).map(|group| format!("target group {}", group.name));
        let applications = state.application_listeners_with(&certificate.id);
        let applications = applications.map(|listener| view::application_listener_name(state, listener));
        let listeners: Vec<String> = listeners.chain(applications).chain(groups).collect();
        if !listeners.is_empty() {
            return Err(ControlError::CertificateInUse { certificate: certificate.id.clone(), listeners });
        }
        Ok((Change::default().remove(certificate.id.clone()), ()))
    }
}

/// Lists the certificates, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeCertificates {
    /// None: all.
    #[serde(default)]
    pub certificates: Option<Vec<Reference>>,
}
operation!(DescribeCertificates -> Vec<CertificateView>);

impl Query for DescribeCertificates {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<CertificateView>, ControlError> {
        match &self.certificates {
            None => {
                let views = state.certificates.values().map(|one| CertificateView::new(state, one));
                Ok(sorted(views.collect::<Result<_, _>>()?, |view| (view.domain_name.clone(), view.id.clone())))
            }
            Some(references) => references
                .iter()
                .map(|reference| Ok(CertificateView::new(state, lookup::certificate(state, reference)?)?))
                .collect(),
        }
    }
}
