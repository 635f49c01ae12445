//! What an operator wants to know of a certificate: whose, from when to when, and its fingerprint.
//!
//! The same summary feeds `ringway ca show`, the configuration dump and the expiry metric.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// One certificate, as shown to people and tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSummary {
    /// The subject's name, empty for workloads.
    pub subject: String,
    /// The name of who signed it.
    pub issuer: String,
    /// Its URI names: for a workload exactly one, the SPIFFE id.
    pub uris: Vec<String>,
    /// Serial number, decimal: `istioctl` prints it in hex and accepts no other form.
    pub serial_number: String,
    /// First moment it is valid, RFC 3339 in seconds.
    pub valid_from: String,
    /// Last moment it is valid, RFC 3339 in seconds.
    pub expiration_time: String,
    /// SHA-256 of the DER form, lower-case hex.
    pub fingerprint: String,
}

impl CertificateSummary {
    /// Reads `certificate`; `None` if it is not an X.509 certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let (not_before, not_after) = validity_of(&parsed);
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            uris: uris_of(&parsed),
            serial_number: parsed.tbs_certificate.serial.to_string(),
            valid_from: rfc3339_seconds(not_before),
            expiration_time: rfc3339_seconds(not_after),
            fingerprint: fingerprint(certificate),
        })
    }
}

/// SHA-256 of the DER form, lower-case hex.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(digest::digest(&digest::SHA256, certificate).as_ref())
}

/// The moments between which `certificate` is valid; `None` if it is not an X.509 certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(validity_of(&parsed))
}

/// The PEM form, as `openssl` writes it.
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    encode_pem("CERTIFICATE", certificate)
}

/// Any DER value in PEM armour, 64 characters a line.
pub fn encode_pem(label: &str, der: &[u8]) -> String {
    let encoded = base64(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    let _ = writeln!(pem, "-----END {label}-----");
    pem
}

/// Standard base64 with padding (RFC 4648 §4).
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .chain(std::iter::repeat(&0))
            .take(3)
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        for position in 0..4 {
            if position <= chunk.len() {
                let index = group >> (18 - 6 * position) & 0x3f;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// RFC 3339 in UTC with whole seconds, the form every tool around us parses.
pub fn rfc3339_seconds(moment: SystemTime) -> String {
    let moment = OffsetDateTime::from(moment).replace_nanosecond(0).expect("zero is a nanosecond");
    moment.format(&Rfc3339).unwrap_or_else(|_| "unknown".to_owned())
}

/// The inverse of [`rfc3339_seconds`], for dates people and state files write.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn validity_of(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    (from_unix(validity.not_before.timestamp()), from_unix(validity.not_after.timestamp()))
}

fn from_unix(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
    }
}

fn uris_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        // RFC 4648 §10.
        let rows = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, want) in rows {
            assert_eq!(base64(plain.as_bytes()), want, "{plain}");
        }
    }

    #[test]
    fn dates_are_whole_seconds_in_utc() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        assert_eq!(rfc3339_seconds(moment), "2023-11-14T22:13:20Z");
        assert_eq!(
            parse_rfc3339("2023-11-14T22:13:20Z"),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        );
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }

    #[test]
    fn garbage_has_no_summary() {
        assert_eq!(CertificateSummary::of(&CertificateDer::from(vec![0x30, 0x80, 1])), None);
        assert_eq!(validity(&CertificateDer::from(Vec::new())), None);
    }

    proptest! {
        #[test]
        fn pem_gives_back_what_it_was_made_from(der in proptest::collection::vec(any::<u8>(), 1..400)) {
            let pem = encode_pem("CERTIFICATE", &der);
            let read = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der.as_slice());
        }

        #[test]
        fn no_bytes_panic_the_reader(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            let certificate = CertificateDer::from(der);
            let _ = CertificateSummary::of(&certificate);
            let _ = validity(&certificate);
        }
    }
}
