//! Fields of a policy, or of a route's matches, that we have no word for.
//!
//! A decoder passes them over, and a policy would then say less than it was meant to: an ALLOW without one of its
//! conditions lets in more, and so does a match. So they are looked for in the bytes themselves, message by message.

use super::Rejection;

/// A message: its fields by their numbers, and what is in those that are messages themselves.
struct Message {
    name: &'static str,
    fields: &'static [(u32, Option<&'static Message>)],
}

const AUTHORIZATION: Message = Message {
    name: "Authorization",
    // 7: notes for others about the policy as a whole.
    fields: &[(1, None), (2, None), (3, None), (4, None), (5, Some(&RULE)), (6, None), (7, None)],
};
const RULE: Message = Message { name: "Rule", fields: &[(1, Some(&CLAUSE))] };
const CLAUSE: Message = Message { name: "Clause", fields: &[(2, Some(&MATCH))] };
const MATCH: Message = Message {
    name: "Match",
    // 13, extensions, is known and not understood: they are conditions of somebody else's making.
    fields: &[
        (1, Some(&STRING_MATCH)),
        (2, Some(&STRING_MATCH)),
        (3, Some(&STRING_MATCH)),
        (4, Some(&STRING_MATCH)),
        (5, Some(&ADDRESS)),
        (6, Some(&ADDRESS)),
        (7, Some(&ADDRESS)),
        (8, Some(&ADDRESS)),
        (9, None),
        (10, None),
        (11, Some(&SERVICE_ACCOUNT)),
        (12, Some(&SERVICE_ACCOUNT)),
    ],
};
const STRING_MATCH: Message =
    Message { name: "StringMatch", fields: &[(1, None), (2, None), (3, None), (4, Some(&EMPTY))] };
const EMPTY: Message = Message { name: "presence", fields: &[] };
const ADDRESS: Message = Message { name: "Address", fields: &[(1, None), (2, None)] };
const SERVICE_ACCOUNT: Message =
    Message { name: "ServiceAccountMatch", fields: &[(1, None), (2, None)] };

/// Looks through an `istio.security.Authorization` that was decoded before.
pub(super) fn in_authorization(bytes: &[u8]) -> Result<(), Rejection> {
    look(bytes, &AUTHORIZATION)
}

#[cfg(feature = "waypoint")]
mod route;

#[cfg(feature = "waypoint")]
pub(in crate::xds) use self::route::in_route;

/// As deep as messages nest, which the tables above bound.
fn look(mut bytes: &[u8], message: &Message) -> Result<(), Rejection> {
    while !bytes.is_empty() {
        let (number, content, rest) = field(bytes).ok_or(Rejection::Truncated)?;
        let known = message.fields.iter().find(|(known, _)| u64::from(*known) == number);
        let Some((_, inner)) = known else {
            return Err(Rejection::UnknownField(message.name, number));
        };
        if let (Some(inner), Some(content)) = (inner, content) {
            look(content, inner)?;
        }
        bytes = rest;
    }
    Ok(())
}

/// The number of a field, what is in it if that has a length, and what follows.
type Field<'b> = (u64, Option<&'b [u8]>, &'b [u8]);

/// The first field.
fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let (tag, bytes) = varint(bytes)?;
    let (content, rest) = match tag & 7 {
        0 => (None, varint(bytes)?.1),
        1 => (None, bytes.get(8..)?),
        2 => {
            let (length, bytes) = varint(bytes)?;
            let (content, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(content), rest)
        }
        5 => (None, bytes.get(4..)?),
        // Groups are of a language before this one; nobody makes them.
        _ => return None,
    };
    Some((tag >> 3, content, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    const BYTES_MAX: usize = 10;
    let last = bytes.iter().take(BYTES_MAX).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(last + 1);
    let value = number.iter().rev().fold(0u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::security as told;
    use crate::xds::decode::read_authorization;

    /// The numbers of a message's fields, as they stand in the file that the decoder is made from.
    fn numbers(message: &str) -> Vec<u32> {
        let text = include_str!("../../../proto/security.proto");
        let start = text.find(&format!("message {message} {{")).unwrap();
        let body = &text[start..start + text[start..].find("\n}").unwrap()];
        let ends = body.lines().filter_map(|line| line.trim().strip_suffix(';'));
        ends.filter_map(|line| line.rsplit_once(" = ")?.1.parse().ok()).collect()
    }

    #[test]
    fn the_tables_know_every_field_of_the_messages() {
        for message in
            [&AUTHORIZATION, &RULE, &CLAUSE, &MATCH, &STRING_MATCH, &ADDRESS, &SERVICE_ACCOUNT]
        {
            let known: Vec<u32> = message.fields.iter().map(|(number, _)| *number).collect();
            let mut numbers = numbers(message.name);
            // Known, and refused.
            numbers.retain(|number| (message.name, *number) != ("Match", 13));
            assert_eq!(known, numbers, "{}", message.name);
        }
    }

    /// A policy with something in every message, and in its innermost ones a field more.
    fn policy() -> told::Authorization {
        let exact = told::string_match::MatchType::Exact("a".to_owned());
        let range = told::Address { address: vec![10, 0, 0, 0], length: 8 };
        let account = told::ServiceAccountMatch {
            namespace: "a".to_owned(),
            service_account: "b".to_owned(),
        };
        let one = told::Match {
            namespaces: vec![told::StringMatch { match_type: Some(exact) }],
            source_ips: vec![range],
            destination_ports: vec![80, 8080],
            service_accounts: vec![account],
            ..told::Match::default()
        };
        let clause = told::Clause { matches: vec![one] };
        told::Authorization {
            name: "p".to_owned(),
            namespace: "shop".to_owned(),
            rules: vec![told::Rule { clauses: vec![clause] }],
            ..told::Authorization::default()
        }
    }

    /// A field with a number and some bytes.
    fn extra(number: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut bytes);
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn a_field_we_have_no_word_for_refuses_the_policy_wherever_it_stands() {
        let good = policy().encode_to_vec();
        assert!(read_authorization(&good).is_ok());
        let within = |path: &[u32], number| {
            let innermost = extra(number, &[]);
            let nested =
                path.iter().rev().fold(innermost, |content, number| extra(*number, &content));
            [good.clone(), nested].concat()
        };
        //  fields down to it     number  whose
        let rows: [(&[u32], u32, &str); 9] = [
            (&[], 8, "Authorization"),
            (&[], 20_000, "Authorization"),
            (&[5], 2, "Rule"),
            (&[5, 1], 1, "Clause"),
            (&[5, 1, 2], 14, "Match"),
            (&[5, 1, 2], 13, "Match"),
            (&[5, 1, 2, 5], 3, "Address"),
            (&[5, 1, 2, 11], 3, "ServiceAccountMatch"),
            (&[5, 1, 2, 1, 4], 1, "presence"),
        ];
        for (path, number, message) in rows {
            let refused = read_authorization(&within(path, number)).unwrap_err();
            assert_eq!(refused, Rejection::UnknownField(message, u64::from(number)), "{path:?}");
        }
        // Notes about the policy as a whole are nothing that decides.
        assert!(read_authorization(&within(&[], 7)).is_ok());
    }
}
