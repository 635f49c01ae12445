//! Private keys: wiped when they are done with; in PEM, read and written without leaving a copy behind.
//!
//! Our libraries' readers and writers of PEM gather the base64 text in memory that they give back as it is; whoever may
//! read the process's memory then finds the key there. Here every buffer is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use zeroize::{Zeroize, Zeroizing};

/// What the first line of a private key says it is (RFC 5958 and RFC 5915 and RFC 8017).
const LABELS: [&str; 3] = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];

/// Digits in a line.
const LINE_BYTES: usize = 64;

/// The DER of the first private key in a text; `None` when there is none, or it is cut off or no base64.
///
/// What stands around it is passed over, as RFC 7468 section 2 asks of readers.
pub(crate) fn from_pem(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(pem).ok()?;
    let body =
        LABELS.iter().filter_map(|label| body(text, label)).min_by_key(|body| body.as_ptr())?;
    // As large as the text, so that neither grows and leaves its first half behind.
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; body.len()]);
    let length = STANDARD.decode_slice(&*base64, &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

/// A private key in PKCS #8 as PEM, in lines of 64 (RFC 7468 section 10).
pub(crate) fn to_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    // None of the two grows.
    let mut base64 = Zeroizing::new(vec![0; pkcs8.len().div_ceil(3) * 4]);
    let length = STANDARD.encode_slice(pkcs8, &mut base64).expect("four digits for three bytes");
    let mut pem = Zeroizing::new(String::with_capacity(2 * length + 64));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in base64[..length].chunks(LINE_BYTES) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// A key that is wiped when it is dropped.
pub(crate) struct SecretKey(pub(crate) KeyPair);

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for SecretKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl rcgen::SigningKey for SecretKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// What stands between the first and the last line of the first block with this label.
fn body<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    Some(body)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn it_reads_and_writes_as_the_library_does() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = pair.serialize_pem();
        assert_eq!(*to_pem(pair.serialized_der()), key);
        let of_library = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        assert_eq!(**from_pem(key.as_bytes()).unwrap(), *of_library.secret_der());
        let windows = key.replace('\n', "\r\n");
        assert_eq!(**from_pem(windows.as_bytes()).unwrap(), *of_library.secret_der());
    }

    #[test]
    fn the_first_key_counts_and_what_stands_around_does_not() {
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let rows = [
            ("alone", block("PRIVATE KEY", "AQID"), Some(vec![1, 2, 3])),
            (
                "after its parameters",
                block("EC PARAMETERS", "BBBB") + &block("EC PRIVATE KEY", "AQID"),
                Some(vec![1, 2, 3]),
            ),
            (
                "after a certificate",
                block("CERTIFICATE", "BBBB") + &block("RSA PRIVATE KEY", "AQID"),
                Some(vec![1, 2, 3]),
            ),
            (
                "two",
                block("EC PRIVATE KEY", "AQID") + &block("PRIVATE KEY", "BBBB"),
                Some(vec![1, 2, 3]),
            ),
            ("over two lines", block("PRIVATE KEY", "AQ\nID"), Some(vec![1, 2, 3])),
            ("a public key", block("PUBLIC KEY", "AQID"), None),
            ("no base64", block("PRIVATE KEY", "A*ID"), None),
            ("cut off", "-----BEGIN PRIVATE KEY-----\nAQID".to_owned(), None),
            ("nothing", String::new(), None),
        ];
        for (name, text, want) in rows {
            assert_eq!(from_pem(text.as_bytes()).map(|der| der.to_vec()), want, "{name}");
        }
    }
}
