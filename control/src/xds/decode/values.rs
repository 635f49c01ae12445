//! What messages are made of: addresses, ports, numbers that stand for something.

use std::net::IpAddr;

use super::Rejection;

/// The value that a number of an enum stands for: `values` has them from 0 on.
pub(super) fn value<T: Copy>(
    field: &'static str,
    number: i32,
    values: &[T],
) -> Result<T, Rejection> {
    let place = usize::try_from(number).ok();
    let value = place.and_then(|place| values.get(place)).copied();
    value.ok_or(Rejection::UnknownValue(field, number))
}

/// An address of either family, as it was told: not yet without the mapping into IPv6.
pub(super) fn ip(field: &'static str, bytes: &[u8]) -> Result<IpAddr, Rejection> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(bytes.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(Rejection::AddressLength(field, bytes.len())),
    }
}

pub(super) fn port(field: &'static str, number: u32) -> Result<u16, Rejection> {
    u16::try_from(number).map_err(|_| Rejection::Port(field, number))
}

/// The bits of a prefix.
pub(super) fn bits(field: &'static str, length: u32) -> Result<u8, Rejection> {
    u8::try_from(length).map_err(|_| Rejection::RangeLength(field, length))
}

/// A text without which nothing else makes sense.
pub(super) fn nonempty(field: &'static str, text: String) -> Result<String, Rejection> {
    if text.is_empty() { Err(Rejection::Missing(field)) } else { Ok(text) }
}
