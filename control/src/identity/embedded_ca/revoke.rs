//! Takes certificates back: the authority's revocation list, `crl.pem`, beside its certificate.
//!
//! The list is its own memory: what was revoked before is read from it, and every revocation signs it
//! anew. After a rotation there is one list for each authority that is still trusted, all in the one file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::EmbeddedCa;
use super::authority::{Authority, AuthorityError};
use super::error::CaError;
use super::files::{PUBLIC, load_authority};
use super::succession::Role;
use crate::identity::certificate;

/// The authority's list, in its directory.
pub const REVOCATION_LIST: &str = "crl.pem";

/// Certificates one directory's list may name: no file of an authority is larger than 256 KiB. Leaves live
/// for a day; who must shut out more than this changes the root.
const REVOKED_MAX: usize = 4096;

/// The longest serial number there is (RFC 5280 §4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoke {
    /// Big-endian, without leading zeros.
    serial: Vec<u8>,
    /// The name of who signed it, where that is known; else every authority lists it.
    issuer: Option<Vec<u8>>,
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revoked {
    /// The serial number, lower-case hex.
    pub serial: String,
    /// When it was revoked, RFC 3339.
    pub since: String,
}

impl Revoke {
    /// A serial number as people have it: decimal, hex behind `0x`, or hex with colons.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |digits: &str| {
            let digits =
                if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
            let pairs = digits.as_bytes().chunks(2);
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            pairs.map(byte).collect::<Option<Vec<u8>>>()
        };
        let bytes = match text.strip_prefix("0x") {
            Some(digits) => hex(digits)?,
            None if text.contains(':') => hex(&text.replace(':', ""))?,
            None => from_decimal(text)?,
        };
        let serial = normal(&bytes);
        let fits = !text.is_empty() && !serial.is_empty() && serial.len() <= SERIAL_BYTES_MAX;
        fits.then_some(Self { serial, issuer: None })
    }

    /// The first certificate of a PEM text.
    pub fn certificate(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        Some(Self {
            serial: normal(parsed.raw_serial()),
            issuer: Some(parsed.issuer().as_raw().to_vec()),
        })
    }

    /// The serial number, lower-case hex.
    pub fn serial(&self) -> String {
        certificate::hex(&self.serial)
    }
}

impl EmbeddedCa {
    /// Adds certificates to the list and publishes it.
    ///
    /// # Errors
    /// When one is not of this authority, or is the authority itself, the list would be too long, the authority may not sign lists, or
    /// the directory cannot be written.
    pub fn revoke(&mut self, what: &[Revoke], now: SystemTime) -> Result<(), CaError> {
        let lock = self.directory.lock()?;
        // Another process may have rotated or revoked since we last looked.
        *self = Self::load(self.directory.clone(), self.options.clone(), now)?;
        if let Some(own) = what.iter().find(|one| self.is_own(one)) {
            return Err(CaError::Itself(own.serial()));
        }
        let mut before = self.read_list()?;
        let mut unclaimed: Vec<&Revoke> = what.iter().collect();
        let mut pem = String::new();
        let mut total = 0;
        for (role, entry) in self.succession.roles(now) {
            if role == Role::Retired {
                continue;
            }
            let authority = load_authority(&self.directory, entry)?;
            let name = authority.subject();
            let mut revoked = before.remove(&name).unwrap_or_default();
            for one in what {
                if one.issuer.as_ref().is_none_or(|issuer| *issuer == name) {
                    revoked.entry(one.serial.clone()).or_insert(now);
                    unclaimed.retain(|other| *other != one);
                }
            }
            total += revoked.len();
            let path = self.directory.path().join(&entry.key);
            let list = authority.sign_list(&revoked, now);
            pem += &list.map_err(|error| CaError::Authority(path, error))?;
        }
        if let Some(foreign) = unclaimed.first() {
            return Err(CaError::NotOurs(foreign.serial()));
        }
        if total > REVOKED_MAX {
            return Err(CaError::TooManyRevoked(REVOKED_MAX));
        }
        self.directory.write(&lock, REVOCATION_LIST, pem.as_bytes(), PUBLIC)?;
        Ok(())
    }

    /// Whether it is what signs, or leads from there to a root.
    fn is_own(&self, what: &Revoke) -> bool {
        let authorities = self.members.iter().flat_map(|member| {
            member.roots.iter().chain(member.authority.as_ref().map(Authority::certificate))
        });
        let mut parsed = authorities.filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
        parsed.any(|own| {
            let issuer = own.issuer().as_raw();
            normal(own.raw_serial()) == what.serial
                && what.issuer.as_ref().is_none_or(|given| given == issuer)
        })
    }

    /// What was revoked so far, each once.
    ///
    /// # Errors
    /// When the list is there and cannot be read.
    pub fn revoked(&self) -> Result<Vec<Revoked>, CaError> {
        let mut all: Vec<Revoked> = self
            .read_list()?
            .into_values()
            .flatten()
            .map(|(serial, since)| Revoked {
                serial: certificate::hex(&serial),
                since: certificate::rfc3339_seconds(since),
            })
            .collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Where the list is published.
    pub fn revocation_list(&self) -> PathBuf {
        self.directory.path().join(REVOCATION_LIST)
    }

    /// The serial numbers of the list, by the name of who signed it.
    fn read_list(&self) -> Result<BTreeMap<Vec<u8>, Serials>, CaError> {
        let mut lists: BTreeMap<Vec<u8>, Serials> = BTreeMap::new();
        let Some(pem) = self.directory.read(REVOCATION_LIST)? else { return Ok(lists) };
        let unusable = || CaError::List(self.revocation_list());
        for der in CertificateRevocationListDer::pem_slice_iter(&pem) {
            let der = der.map_err(|_| unusable())?;
            let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| unusable())?;
            let serials = lists.entry(list.issuer().as_raw().to_vec()).or_default();
            for revoked in list.iter_revoked_certificates() {
                let seconds = u64::try_from(revoked.revocation_date.timestamp()).unwrap_or(0);
                let since = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                serials.insert(normal(revoked.raw_serial()), since);
            }
        }
        Ok(lists)
    }
}

/// Serial numbers, and since when they are revoked.
type Serials = BTreeMap<Vec<u8>, SystemTime>;

impl Authority {
    /// Signs the list of these certificates, PEM. It is good for as long as the authority: a list that is
    /// not renewed must not end anything.
    fn sign_list(&self, revoked: &Serials, now: SystemTime) -> Result<String, AuthorityError> {
        self.check_validity(now)?;
        let number = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let entry = |(serial, since): (&Vec<u8>, &SystemTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: OffsetDateTime::from(*since),
            reason_code: None,
            invalidity_date: None,
        };
        let parameters = CertificateRevocationListParams {
            this_update: OffsetDateTime::from(now),
            next_update: OffsetDateTime::from(self.not_after()),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = parameters.signed_by(self.issuer());
        let list = list.map_err(|error| AuthorityError::Signing(error.to_string()))?;
        Ok(certificate::encode_pem("X509 CRL", list.der()))
    }

    /// Its name as it stands in what it signs.
    fn subject(&self) -> Vec<u8> {
        let parsed = X509Certificate::from_der(self.certificate());
        parsed.map(|(_, parsed)| parsed.subject().as_raw().to_vec()).unwrap_or_default()
    }
}

fn normal(serial: &[u8]) -> Vec<u8> {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial[zeros..].to_vec()
}

fn from_decimal(text: &str) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    for digit in text.bytes() {
        let mut carry = u32::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
        if bytes.len() > SERIAL_BYTES_MAX {
            return None;
        }
    }
    Some(bytes)
}
