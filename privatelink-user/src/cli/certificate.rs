//! `privatelink certificate`.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    CliError, Session,
    output::{list, table},
    value,
};
use crate::{
    control::{
        Reference,
        certificates::{DeleteCertificate, DescribeCertificates, ImportCertificate},
        view::CertificateView,
    },
    tls::lab::{self, Authority, LabError},
};

#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Import a server certificate with its private key, for TLS listeners.
    Import(ImportArgs),
    /// List the certificates.
    List,
    /// Show one certificate. Its private key is never shown.
    Describe {
        /// ARN, or a name that it alone is for.
        #[arg(value_parser = value::reference)]
        certificate: Reference,
    },
    /// Delete a certificate that no listener has.
    Delete {
        /// ARN, or a name that it alone is for.
        #[arg(value_parser = value::reference)]
        certificate: Reference,
    },
    /// Make a certificate for labs, signed by a certification authority of one's own, and import it.
    CreateLab(CreateLabArgs),
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The certificate: a PEM file. What follows the first certificate belongs to its chain.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its private key: a PEM file (PKCS #8, PKCS #1 or SEC1) without passphrase.
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// The certificates between it and its root: a PEM file.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// Replace this certificate, by ARN or a name that it alone is for: listeners that have it show the new one to
    /// their next clients; open connections stay.
    #[arg(long, value_name = "CERTIFICATE", value_parser = value::reference)]
    replace: Option<Reference>,
}

#[derive(Debug, Args)]
pub struct CreateLabArgs {
    /// What it is for: DNS names, also as *.example.com.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Where the authority is kept: ca.pem, which clients are to trust, and ca-key.pem, its owner's only. They are made
    /// if they are missing.
    #[arg(long, value_name = "DIR", default_value = "privatelink-lab-ca")]
    ca: PathBuf,
    /// For how many days it is valid.
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = value::number)]
    days: u32,
    /// Replace this certificate, as `import` does.
    #[arg(long, value_name = "CERTIFICATE", value_parser = value::reference)]
    replace: Option<Reference>,
}

impl CertificateCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Import(ImportArgs { certificate, private_key, chain, replace }) => {
                let request = ImportCertificate {
                    certificate: read(&certificate)?,
                    private_key: read(&private_key)?.into(),
                    chain: chain.map(|chain| read(&chain)).transpose()?.unwrap_or_default(),
                    replaces: replace,
                };
                let imported = session.client.call(&request).await?;
                session.output.show(&imported, |imported| rows([imported]))
            }
            Self::List => {
                let certificates = session.client.call(&DescribeCertificates::default()).await?;
                session.output.show(&certificates, |certificates| rows(certificates))
            }
            Self::Describe { certificate } => {
                let request = DescribeCertificates { certificates: Some(vec![certificate]) };
                let mut found = session.client.call(&request).await?;
                match found.pop() {
                    Some(found) => session.output.show(&found, described),
                    None => session.output.line(""),
                }
            }
            Self::Delete { certificate } => {
                session.client.call(&DeleteCertificate { certificate: certificate.clone() }).await?;
                session.output.done(&format!("deleted certificate {}", certificate.as_str()))
            }
            Self::CreateLab(CreateLabArgs { names, ca, days, replace }) => {
                let now = Timestamp::now();
                let authority = authority(&ca, now)?;
                let made = lab::issue(&authority, &names, now, SignedDuration::from_hours(24 * i64::from(days)))?;
                let lab::Issued { certificate, private_key } = made;
                let request = ImportCertificate { certificate, private_key, chain: String::new(), replaces: replace };
                let made = Lab { certificate: session.client.call(&request).await?, authority: ca.join(CA) };
                session.output.show(&made, |made| {
                    format!("{}\nclients are to trust {}", rows([&made.certificate]), made.authority.display())
                })
            }
        }
    }
}

/// A lab's certificate, and whom its clients are to trust.
#[derive(Serialize)]
struct Lab {
    #[serde(flatten)]
    certificate: CertificateView,
    authority: PathBuf,
}

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";

/// The authority in `directory`, made if there is none.
fn authority(directory: &Path, now: Timestamp) -> Result<Authority, CliError> {
    let (certificate, key) = (directory.join(CA), directory.join(CA_KEY));
    if key.exists() {
        return Ok(Authority::from_key(&read(&key)?, now)?);
    }
    let authority = Authority::generate(now)?;
    fs::create_dir_all(directory).map_err(|error| unusable(directory, &error))?;
    // The key comes last: where it is, the certificate is.
    fs::write(&certificate, authority.certificate()).map_err(|error| unusable(&certificate, &error))?;
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(&key);
    file.and_then(|mut file| file.write_all(authority.private_key().reveal().as_bytes()))
        .map_err(|error| unusable(&key, &error))?;
    Ok(authority)
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Input {
        message: format!("{}: {error}", path.display()),
        hint: "name a file or directory that you may use".to_owned(),
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

impl From<LabError> for CliError {
    fn from(error: LabError) -> Self {
        let hint = match error {
            LabError::Name(_) => "use a name like www.example.com",
            LabError::Key => "move the authority's directory away; another one is made",
            LabError::Sign(_) => "try again",
        };
        Self::Input { message: error.to_string(), hint: hint.to_owned() }
    }
}

fn validity(certificate: &CertificateView) -> String {
    let days = certificate.not_after.duration_since(Timestamp::now()).as_hours() / 24;
    let until = certificate.not_after.strftime("%Y-%m-%d");
    if certificate.not_after < Timestamp::now() { format!("{until}, EXPIRED") } else { format!("{until}, {days} days") }
}

fn rows<'a>(certificates: impl IntoIterator<Item = &'a CertificateView>) -> String {
    table(
        ["NAMES", "KEY", "VALID UNTIL", "LISTENERS", "ARN"],
        certificates.into_iter().map(|certificate| {
            [
                list(&certificate.names),
                certificate.key_algorithm.clone(),
                validity(certificate),
                certificate.in_use_by.len().to_string(),
                certificate.id.to_string(),
            ]
        }),
    )
}

fn described(certificate: &CertificateView) -> String {
    let CertificateView {
        id,
        domain_name: _,
        names,
        subject,
        issuer,
        serial,
        key_algorithm,
        signature_algorithm,
        not_before,
        not_after: _,
        created_at: _,
        imported_at,
        in_use_by,
    } = certificate;
    table(
        ["CERTIFICATE", ""],
        [
            ["ARN".to_owned(), id.to_string()],
            ["names".to_owned(), list(names)],
            ["subject".to_owned(), subject.clone()],
            ["issuer".to_owned(), issuer.clone()],
            ["serial".to_owned(), serial.clone()],
            ["key".to_owned(), key_algorithm.clone()],
            ["signature".to_owned(), signature_algorithm.clone()],
            ["valid from".to_owned(), not_before.strftime("%Y-%m-%d").to_string()],
            ["valid until".to_owned(), validity(certificate)],
            ["imported".to_owned(), imported_at.to_string()],
            ["listeners".to_owned(), list(in_use_by)],
        ],
    )
}
