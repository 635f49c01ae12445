//! JSON Web Key Sets (RFC 7517): what signatures are verified with.

use std::fmt;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;

use super::TokenError;

/// Keys of a set that are looked at.
const KEYS_MAX: usize = 256;

/// Keys that one signature is tried with. Who rotates keys has two; a token without a key's id must not cost the time of
/// hundreds.
const TRIES_MAX: usize = 8;

/// Bits of an RSA modulus at least (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 2048 / 8;

/// The keys of a set that verify signatures; others are left out.
pub struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    /// What the key is for, whatever a token says.
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

/// Why a text is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysError {
    /// It is no JSON with a list `keys`.
    Malformed,
    /// None of its keys verifies signatures of an algorithm that is understood.
    NoneUsable,
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeysError::Malformed => "this is no JSON Web Key Set: an object with a list `keys`",
            KeysError::NoneUsable => {
                "none of the keys of this set can verify a signature: understood are public keys of the types RSA \
                 (from 2048 bits), EC (P-256, P-384) and OKP (Ed25519)"
            }
        })
    }
}

impl std::error::Error for KeysError {}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// It is none, or there is nothing in it that could be used.
    pub fn parse(text: &str) -> Result<KeySet, KeysError> {
        let set: Value = serde_json::from_str(text).map_err(|_| KeysError::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeysError::Malformed)?;
        let keys: Vec<Key> = keys.iter().take(KEYS_MAX).filter_map(Key::of).collect();
        if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(KeySet(keys)) }
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &str,
        signature: &str,
    ) -> Result<(), TokenError> {
        let of_algorithm = || self.0.iter().filter(|key| key.algorithms.contains(&algorithm));
        if of_algorithm().next().is_none() {
            return Err(TokenError::WrongAlgorithm);
        }
        let mut failure = TokenError::UnknownKey;
        for key in of_algorithm().filter(|key| key.may_be(id)).take(TRIES_MAX) {
            match crypto::verify(signature, signed.as_bytes(), &key.key, algorithm) {
                Ok(true) => return Ok(()),
                _ => failure = TokenError::WrongSignature,
            }
        }
        Err(failure)
    }
}

impl Key {
    /// None: it is not for verifying, or not understood.
    fn of(value: &Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let is_for_signatures = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let verifies = jwk
            .common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures || !verifies {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let algorithms = algorithms(&jwk, &key)?;
        Some(Key { id: jwk.common.key_id, algorithms, key })
    }

    /// A key without an id may be any.
    fn may_be(&self, id: Option<&str>) -> bool {
        match (&self.id, id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        }
    }
}

/// What a key is for: by its own word, else by its type.
fn algorithms(jwk: &Jwk, key: &DecodingKey) -> Option<&'static [Algorithm]> {
    const RSA: &[Algorithm] = &[
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ];
    let of_type: &'static [Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) if modulus_bytes(key) >= RSA_BYTES_MIN => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        _ => return None,
    };
    let Some(said) = jwk.common.key_algorithm else { return Some(of_type) };
    let said = of_word(said)?;
    let place = of_type.iter().position(|algorithm| *algorithm == said)?;
    Some(&of_type[place..=place])
}

fn of_word(algorithm: KeyAlgorithm) -> Option<Algorithm> {
    Some(match algorithm {
        KeyAlgorithm::RS256 => Algorithm::RS256,
        KeyAlgorithm::RS384 => Algorithm::RS384,
        KeyAlgorithm::RS512 => Algorithm::RS512,
        KeyAlgorithm::PS256 => Algorithm::PS256,
        KeyAlgorithm::PS384 => Algorithm::PS384,
        KeyAlgorithm::PS512 => Algorithm::PS512,
        KeyAlgorithm::ES256 => Algorithm::ES256,
        KeyAlgorithm::ES384 => Algorithm::ES384,
        KeyAlgorithm::EdDSA => Algorithm::EdDSA,
        _ => return None,
    })
}

fn modulus_bytes(key: &DecodingKey) -> usize {
    match key.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => {
            n.iter().skip_while(|byte| **byte == 0).count()
        }
        jsonwebtoken::DecodingKeyKind::SecretOrDer(_) => 0,
    }
}
