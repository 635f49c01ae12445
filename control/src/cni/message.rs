//! What is said on the socket: requests of the agent, read strictly, and our greeting and answers.

use prost::Message;

use crate::proto::zds;

/// The longest packet either side takes.
pub const PACKET_BYTES_MAX: usize = 1024;

/// An answer's text is cut here: with its frame it stays below [`PACKET_BYTES_MAX`].
const ERROR_BYTES_MAX: usize = 900;

/// What stands for the rest of a text that was cut.
const CUT: &str = "…";

/// Who a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInfo {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// What the agent asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Serve a pod, whose namespace comes beside the message.
    Add(String, PodInfo),
    /// Go on serving a pod whose namespace the agent does not have at hand.
    Keep(String),
    /// Stop serving a pod.
    Del(String),
    /// All pods were named.
    SnapshotSent,
}

/// Why a packet is no request. After it the agent and we may mean different things, so the connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// It is longer than a packet may be.
    TooLong,
    /// It is not encoded as a request.
    Undecodable(String),
    /// It asks for nothing we know: the agent may be of a newer version.
    NothingAsked,
    /// No pod is named.
    NoUid,
    /// It is not said who the pod is.
    NoInfo,
    /// It brings another number of descriptors than it should.
    Descriptors {
        /// How many it should bring.
        wanted: usize,
        /// How many it brings.
        found: usize,
    },
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => write!(f, "the message is longer than {PACKET_BYTES_MAX} bytes"),
            Self::Undecodable(why) => write!(f, "the message cannot be decoded: {why}"),
            Self::NothingAsked => {
                f.write_str("the message asks for nothing this version of Ringway knows")
            }
            Self::NoUid => f.write_str("the message names no pod"),
            Self::NoInfo => f.write_str(
                "the message does not say who the pod is: name and namespace in workload_info are needed",
            ),
            Self::Descriptors { wanted, found } => {
                write!(f, "the message brings {found} descriptors, {wanted} belong to it")
            }
        }
    }
}

/// Reads a packet that came with so many descriptors.
///
/// # Errors
/// When it is no request.
pub fn read(bytes: &[u8], descriptors: usize) -> Result<Request, Malformed> {
    use zds::workload_request::Payload;
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let request = zds::WorkloadRequest::decode(bytes)
        .map_err(|error| Malformed::Undecodable(error.to_string()))?;
    let wanted = usize::from(matches!(request.payload, Some(Payload::Add(_))));
    let asked = match request.payload.ok_or(Malformed::NothingAsked)? {
        Payload::Add(add) => Request::Add(uid(add.uid)?, info(add.workload_info)?),
        Payload::Keep(keep) => Request::Keep(uid(keep.uid)?),
        Payload::Del(del) => Request::Del(uid(del.uid)?),
        Payload::SnapshotSent(zds::SnapshotSent {}) => Request::SnapshotSent,
    };
    match descriptors == wanted {
        true => Ok(asked),
        false => Err(Malformed::Descriptors { wanted, found: descriptors }),
    }
}

/// Whether the packet, as far as it is readable, brings a namespace.
pub(super) fn brings_namespace(bytes: &[u8]) -> bool {
    read(bytes, 1).is_ok()
}

fn uid(uid: String) -> Result<String, Malformed> {
    if uid.is_empty() { Err(Malformed::NoUid) } else { Ok(uid) }
}

/// Without name and namespace nobody could say which workload the pod is.
fn info(info: Option<zds::WorkloadInfo>) -> Result<PodInfo, Malformed> {
    let zds::WorkloadInfo { name, namespace, service_account } = info.ok_or(Malformed::NoInfo)?;
    match name.is_empty() || namespace.is_empty() {
        true => Err(Malformed::NoInfo),
        false => Ok(PodInfo { name, namespace, service_account }),
    }
}

/// The greeting.
pub fn hello() -> Vec<u8> {
    zds::ZdsHello { version: zds::Version::V1.into() }.encode_to_vec()
}

/// The answer to a request: what went wrong, if anything did.
pub fn answer(error: Option<&str>) -> Vec<u8> {
    use zds::workload_response::Payload;
    let error = error.map(cut).unwrap_or_default();
    let ack = zds::Ack { error };
    zds::WorkloadResponse { payload: Some(Payload::Ack(ack)) }.encode_to_vec()
}

/// The agent takes an empty text for success, and none that is too long.
fn cut(text: &str) -> String {
    if text.is_empty() {
        return "it failed".to_owned();
    }
    if text.len() <= ERROR_BYTES_MAX {
        return text.to_owned();
    }
    let most = ERROR_BYTES_MAX - CUT.len();
    let ends = text.char_indices().map(|(start, _)| start);
    let end = ends.take_while(|end| *end <= most).last().unwrap_or(0);
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_as_the_agent_writes_them() {
        let info = PodInfo {
            name: "web-0".into(),
            namespace: "shop".into(),
            service_account: "web".into(),
        };
        //  name        bytes                                                    descriptors  want
        let rows: [(&str, &[u8], usize, Request); 5] = [
            (
                "add",
                b"\x0a\x17\x0a\x01u\x12\x12\x0a\x05web-0\x12\x04shop\x1a\x03web",
                1,
                Request::Add("u".into(), info.clone()),
            ),
            (
                "add with a field that is gone",
                b"\x0a\x19\x0a\x01u\x12\x14\x0a\x05web-0\x12\x04shop\x1a\x03web\x22\x00",
                1,
                Request::Add("u".into(), info.clone()),
            ),
            ("del, whose uid is field two", b"\x12\x03\x12\x01u", 0, Request::Del("u".into())),
            ("keep, the fifth of the choices", b"\x2a\x03\x0a\x01u", 0, Request::Keep("u".into())),
            ("snapshot sent", b"\x1a\x00", 0, Request::SnapshotSent),
        ];
        for (name, bytes, descriptors, want) in rows {
            assert_eq!(read(bytes, descriptors), Ok(want), "{name}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let descriptors = |wanted, found| Malformed::Descriptors { wanted, found };
        let long = [0; PACKET_BYTES_MAX + 1];
        //  name                       bytes                              descriptors  want
        let rows: [(&str, &[u8], usize, Malformed); 11] = [
            ("nothing", b"", 0, Malformed::NothingAsked),
            ("a newer request", b"\x32\x00", 0, Malformed::NothingAsked),
            ("too long", &long, 0, Malformed::TooLong),
            ("add without info", b"\x0a\x03\x0a\x01u", 1, Malformed::NoInfo),
            ("add of nobody", b"\x0a\x07\x0a\x01u\x12\x02\x0a\x00", 1, Malformed::NoInfo),
            ("add without uid", b"\x0a\x00", 1, Malformed::NoUid),
            ("del without uid", b"\x12\x00", 0, Malformed::NoUid),
            ("add without descriptor", ADD, 0, descriptors(1, 0)),
            ("add with two", ADD, 2, descriptors(1, 2)),
            ("del with a descriptor", b"\x12\x03\x12\x01u", 1, descriptors(0, 1)),
            ("snapshot sent with one", b"\x1a\x00", 1, descriptors(0, 1)),
        ];
        for (name, bytes, descriptors, want) in rows {
            assert_eq!(read(bytes, descriptors), Err(want), "{name}");
        }
        assert!(matches!(read(b"\x0a\xff", 1), Err(Malformed::Undecodable(_))));
    }

    const ADD: &[u8] = b"\x0a\x0b\x0a\x01u\x12\x06\x0a\x01n\x12\x01s";

    #[test]
    fn greeting_and_success_are_these_bytes() {
        assert_eq!(hello(), [8, 1]);
        assert_eq!(answer(None), [0x0a, 0]);
    }

    proptest! {
        /// Whatever went wrong, the agent can read that something did.
        #[test]
        fn an_answer_fits_a_packet(error in "\\PC{0,2000}") {
            let bytes = answer(Some(&error));
            prop_assert!(bytes.len() < PACKET_BYTES_MAX);
            let payload = zds::WorkloadResponse::decode(&*bytes).unwrap().payload.unwrap();
            let zds::workload_response::Payload::Ack(ack) = payload;
            prop_assert!(!ack.error.is_empty());
            prop_assert!(error.starts_with(ack.error.trim_end_matches(CUT)) || error.is_empty());
        }

        /// What one request says, another cannot say with other bytes and be taken for a third.
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), descriptors in 0usize..3) {
            let _ = read(&bytes, descriptors);
        }
    }
}
