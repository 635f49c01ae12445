//! The `traceparent` header (W3C Trace Context §3.2): `00-<trace id>-<parent id>-<flags>`.

use std::fmt;

/// The text form is always this long.
const BYTES: usize = 55;

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl Traceparent {
    /// A position from random bytes, not sampled. All zeros mean "no id", so zeros become ones.
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8]) -> Self {
        let trace_id = if trace_id == [0; 16] { [1; 16] } else { trace_id };
        let parent_id = if parent_id == [0; 8] { [1; 8] } else { parent_id };
        Self { trace_id, parent_id, flags: 0 }
    }

    /// Reads a header value. `None` means that the sender's is of no use and a fresh one is needed.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value: &[u8; BYTES] = value.try_into().ok()?;
        if (value[2], value[35], value[52]) != (b'-', b'-', b'-') {
            return None;
        }
        let [version] = hexadecimal(&value[..2])?;
        let trace_id = hexadecimal(&value[3..35])?;
        let parent_id = hexadecimal(&value[36..52])?;
        let [flags] = hexadecimal(&value[53..])?;
        let valid = version != 0xff && trace_id != [0; 16] && parent_id != [0; 8];
        valid.then_some(Self { trace_id, parent_id, flags })
    }

    /// The id of the whole trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the sender's span.
    pub fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether the sender records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, parent_id) =
            (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.parent_id));
        write!(f, "00-{trace_id:032x}-{parent_id:016x}-{:02x}", self.flags)
    }
}

fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_only_whole_positions() {
        let zeros = "0".repeat(55);
        #[rustfmt::skip]
        let rows: &[(&str, &str, bool)] = &[
            ("as in the standard",    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",  true),
            ("not sampled",           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",  true),
            ("capital letters",       "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-00",  true),
            ("a future version",      "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",  true),
            ("version ff",            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",  false),
            ("no trace id",           "00-00000000000000000000000000000000-00f067aa0ba902b7-00",  false),
            ("no parent id",          "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",  false),
            ("fifty-five zeros",      &zeros,                                                     false),
            ("dashes elsewhere",      "0-04bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0-1", false),
            ("five pieces",           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa-ba902b7-01",  false),
            ("not hexadecimal",       "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",  false),
            ("signs",                 "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",  false),
            ("too short",             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",   false),
            ("too long",              "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011", false),
            ("nothing",               "",                                                         false),
            ("55 bytes, not ASCII",   "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-010",  false),
        ];
        for (name, value, want) in rows {
            assert_eq!(Traceparent::parse(value.as_bytes()).is_some(), *want, "{name}");
        }
    }

    #[test]
    fn zeros_are_no_id() {
        let position = Traceparent::new([0; 16], [0; 8]);
        assert_eq!(Traceparent::parse(position.to_string().as_bytes()), Some(position));
        assert!(!position.is_sampled());
    }

    proptest! {
        #[test]
        fn positions_come_back(trace_id: [u8; 16], parent_id: [u8; 8]) {
            let position = Traceparent::new(trace_id, parent_id);
            prop_assert_eq!(Traceparent::parse(position.to_string().as_bytes()), Some(position));
        }

        #[test]
        fn any_bytes_are_read(value in "[0-9a-f-]{55}") {
            if let Some(position) = Traceparent::parse(value.as_bytes()) {
                prop_assert_eq!(&position.to_string()[2..], &value[2..]);
            }
        }
    }
}
