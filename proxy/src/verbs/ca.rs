//! `ringway ca`: the embedded certificate authority, by hand.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ringway_control::identity::certificate;
use ringway_control::identity::embedded_ca::directory::CaDirectory;
use ringway_control::identity::embedded_ca::{AuthorityDescription, Import, Revoke, Rotation};
use ringway_control::identity::{CaError, CaOptions, EmbeddedCa};
use ringway_protocols::identity::Identity;
use serde_json::json;

use crate::cli::{CaArguments, CaVerb, PemArguments};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Does what is asked of the authority.
pub(crate) fn run(arguments: &CaArguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    match &arguments.verb {
        CaVerb::Show { output } => show(directory, *output)?,
        CaVerb::Create { lifetime } => create(directory, *lifetime)?,
        CaVerb::Rotate { new_signs_after, old_trusted_for, certificate, key, root } => {
            let rotation =
                Rotation { new_signs_after: *new_signs_after, old_trusted_for: *old_trusted_for };
            let successor = match (certificate, key) {
                (Some(certificate), Some(key)) => {
                    Some(Files::read(certificate, key, root.as_deref())?)
                }
                _ => None,
            };
            rotate(directory, &rotation, successor.as_ref())?;
        }
        CaVerb::Revoke { what } => revoke(directory, what)?,
        CaVerb::Import(files) => import(directory, files)?,
        CaVerb::Issue { identity, out, lifetime, replace } => {
            issue(directory, identity, out, *lifetime, *replace)?;
        }
    }
    Ok(Exit::Ok)
}

fn show(directory: &Path, format: Format) -> Result<(), Failure> {
    let now = SystemTime::now();
    let ca = EmbeddedCa::open_existing(directory, CaOptions::default(), now)?;
    let authorities = ca.describe(now);
    let bundle: String = ca.trust_bundle(now).iter().map(certificate::to_pem).collect();
    match format {
        Format::Json => {
            let value = json!({
                "directory": directory,
                "authorities": authorities,
                "trustBundle": bundle,
                "revoked": ca.revoked()?.into_iter().map(|one| one.serial).collect::<Vec<_>>(),
            });
            output::json(&value)?;
        }
        Format::Table => {
            let heading = [
                "role",
                "subject",
                "fingerprint",
                "valid from",
                "expires",
                "signs from",
                "trusted until",
            ];
            output::table(&heading, &authorities.iter().map(row).collect::<Vec<_>>())?;
            output::print(&format!("\n{bundle}"))?;
        }
    }
    Ok(())
}

fn row(authority: &AuthorityDescription) -> Vec<String> {
    let certificate = &authority.certificate;
    vec![
        authority.role.to_string(),
        certificate.subject.clone(),
        certificate.fingerprint.clone(),
        certificate.valid_from.clone(),
        certificate.expiration_time.clone(),
        authority.signs_from.clone(),
        authority.trusted_until.clone(),
    ]
}

fn create(directory: &Path, root_lifetime: Duration) -> Result<(), Failure> {
    let options = CaOptions { root_lifetime, ..CaOptions::default() };
    EmbeddedCa::create(directory, options, SystemTime::now())?;
    eprintln!("made a new authority in {}", directory.display());
    show(directory, Format::Table)
}

fn rotate(directory: &Path, rotation: &Rotation, successor: Option<&Files>) -> Result<(), Failure> {
    let now = SystemTime::now();
    let mut ca = EmbeddedCa::open_existing(directory, CaOptions::default(), now)?;
    let import = successor.map(Files::import);
    ca.rotate(rotation, import.as_ref(), now)?;
    eprintln!(
        "the new root is trusted from now on and signs from {}; the old one is trusted until {}",
        certificate::rfc3339_seconds(now + rotation.new_signs_after),
        certificate::rfc3339_seconds(now + rotation.new_signs_after + rotation.old_trusted_for),
    );
    show(directory, Format::Table)
}

fn revoke(directory: &Path, what: &[String]) -> Result<(), Failure> {
    let what: Vec<Revoke> = what.iter().map(|one| revocable(one)).collect::<Result<_, _>>()?;
    let now = SystemTime::now();
    let mut ca = EmbeddedCa::open_existing(directory, CaOptions::default(), now)?;
    ca.revoke(&what, now)?;
    let list = ca.revocation_list();
    eprintln!(
        "published in {}; nodes that read this directory take it at once, others need a copy of the file",
        list.display()
    );
    let rows: Vec<_> = ca.revoked()?.into_iter().map(|one| vec![one.serial, one.since]).collect();
    output::table(&["revoked", "since"], &rows)?;
    Ok(())
}

/// A file's certificate, where there is such a file; else a serial number.
fn revocable(text: &str) -> Result<Revoke, Failure> {
    let path = Path::new(text);
    if !path.is_file() {
        return Revoke::parse(text).ok_or_else(|| {
            let why =
                "neither a file nor a serial number (decimal, hex behind 0x, or hex with colons)";
            Failure::new(Exit::Usage, format!("{text:?} is {why}"))
        });
    }
    let pem = fs::read(path)
        .map_err(|error| Failure::new(Exit::Unavailable, format!("cannot read {text}: {error}")))?;
    Revoke::certificate(&pem)
        .ok_or_else(|| Failure::new(Exit::Data, format!("there is no PEM certificate in {text}")))
}

fn import(directory: &Path, files: &PemArguments) -> Result<(), Failure> {
    let files = Files::read(&files.certificate, &files.key, files.root.as_deref())?;
    EmbeddedCa::import(directory, CaOptions::default(), &files.import(), SystemTime::now())?;
    eprintln!("imported into {}", directory.display());
    show(directory, Format::Table)
}

/// An end that comes this much sooner than was asked for is told: times in certificates are whole seconds.
const CUT_NOTICED: Duration = Duration::from_secs(2);

/// What `ringway ca issue` writes.
const ISSUED: [&str; 3] = ["key.pem", "cert-chain.pem", "root-cert.pem"];

fn issue(
    directory: &Path,
    identity: &str,
    out: &Path,
    lifetime: Duration,
    replace: bool,
) -> Result<(), Failure> {
    let identity = Identity::parse(identity).map_err(|error| {
        Failure::new(Exit::Usage, format!("{identity:?} is no identity: {error}"))
    })?;
    if lifetime.is_zero() {
        let message = "a certificate that is valid for no time at all is good for nothing";
        return Err(
            Failure::new(Exit::Usage, message).next("give `--lifetime` a time, such as 24h")
        );
    }
    if let Some(name) = ISSUED.iter().find(|name| !replace && out.join(name).exists()) {
        let message = format!("{} is there already, and would be lost", out.join(name).display());
        return Err(Failure::new(Exit::Failed, message)
            .next("name another directory, or add `--replace` to issue anew into this one"));
    }
    let now = SystemTime::now();
    let ca = EmbeddedCa::open_existing(directory, CaOptions::default(), now)?;
    let material = ca.issue_for(&identity, lifetime, now)?;
    let pem =
        |certificates: &[_]| -> String { certificates.iter().map(certificate::to_pem).collect() };
    let key = certificate::encode_pem("PRIVATE KEY", material.key.secret_der());
    let target = CaDirectory::open_or_create(out).map_err(CaError::from)?;
    let lock = target.lock().map_err(CaError::from)?;
    let contents =
        [(key, 0o600), (pem(&material.chain), 0o644), (pem(&material.trust_anchors), 0o644)];
    for (name, (content, mode)) in ISSUED.into_iter().zip(contents) {
        target.write(&lock, name, content.as_bytes(), mode).map_err(CaError::from)?;
    }
    let validity = material.chain.first().and_then(certificate::validity);
    let end = validity.map_or(now, |(_, end)| end);
    let until = certificate::rfc3339_seconds(end);
    eprintln!("wrote {} to {}; valid until {until}", ISSUED.join(", "), out.display());
    if end + CUT_NOTICED < now + lifetime {
        eprintln!(
            "that is sooner than was asked for: the authority itself is not valid for longer"
        );
    }
    Ok(())
}

/// The files of an authority that is brought.
struct Files {
    certificates: Vec<u8>,
    key: Vec<u8>,
    roots: Option<Vec<u8>>,
}

impl Files {
    fn read(certificate: &Path, key: &Path, root: Option<&Path>) -> Result<Self, Failure> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| {
                Failure::new(Exit::Unavailable, format!("cannot read {}: {error}", path.display()))
            })
        };
        Ok(Self {
            certificates: read(certificate)?,
            key: read(key)?,
            roots: root.map(read).transpose()?,
        })
    }

    fn import(&self) -> Import<'_> {
        Import { certificates: &self.certificates, key: &self.key, roots: self.roots.as_deref() }
    }
}

impl From<CaError> for Failure {
    fn from(error: CaError) -> Self {
        let exit = match &error {
            CaError::Absent(_) | CaError::FileMissing(_) => Exit::Unavailable,
            CaError::Given(_) | CaError::Authority(..) | CaError::State(..) => Exit::Data,
            CaError::Gap | CaError::NotOurs(_) | CaError::Itself(_) => Exit::Usage,
            CaError::List(_) => Exit::Data,
            CaError::TooManyRevoked(_) => Exit::Failed,
            CaError::Directory(_) | CaError::Exists(_) | CaError::Replaced(_) => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}
