//! Sealed records of a good session on their way through somebody who alters, cuts, repeats and reorders them.
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::*;

/// Client and server, for each record layer.
static PAIRS: LazyLock<[[Arc<Credentials>; 2]; 2]> =
    LazyLock::new(|| [RecordLayer::Own, RecordLayer::Rustls].map(pair));

fn pair(records: RecordLayer) -> [Arc<Credentials>; 2] {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    ["a", "b"].map(|account| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let identity = identity(account).to_string();
        params.subject_alt_names = vec![SanType::URI(identity.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &root).unwrap();
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: key.serialize_der().try_into().unwrap(),
            trust_anchors: vec![root.der().clone()],
        };
        // Few records a key: renewing it is part of what is tried.
        let options = Options { records, records_per_key: 4, ..Options::default() };
        Arc::new(Credentials::new(material, &options).unwrap())
    })
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "fuzz", account).unwrap()
}

/// Both ends after an honest handshake, each with nothing under way.
fn session([client, server]: &[Arc<Credentials>; 2]) -> (Records, Records) {
    let mut client = Handshake::client(client, [identity("b")].into()).unwrap();
    let mut server = Handshake::server(server).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        let one = client.advance(&mut to_client, &mut to_server).unwrap();
        let other = server.advance(&mut to_server, &mut to_client).unwrap();
        if matches!((one, other), (Progress::Complete, Progress::Complete)) {
            return (client.finish().unwrap(), server.finish().unwrap());
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// The client seals these bytes.
    Seal(&'a [u8]),
    /// So many bytes get through.
    Deliver(u16),
    /// A byte under way is altered.
    Alter(u16, u8),
    /// Bytes under way are lost.
    Lose(u16, u8),
    /// The first bytes under way come twice.
    Repeat(u8),
    /// Bytes from nowhere.
    Invent(&'a [u8]),
    /// The client closes in order.
    Close,
}

fuzz_target!(|input: (bool, Vec<Step<'_>>)| {
    let (library, steps) = input;
    let (mut client, mut server) = session(&PAIRS[usize::from(library)]);
    let (mut wire, mut arrived) = (Vec::new(), Vec::new());
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for step in steps.iter().take(64) {
        match step {
            Step::Seal(bytes) if !bytes.is_empty() => {
                client.take_output(&mut wire);
                let plaintext = &bytes[..bytes.len().min(RECORD_PLAINTEXT_BYTES_MAX)];
                let mut record = vec![0; RECORD_HEADER_BYTES];
                record.extend_from_slice(plaintext);
                record.resize(record.len() + RECORD_TRAILER_BYTES, 0);
                if client.seal(&mut record).is_ok() {
                    sent.extend_from_slice(plaintext);
                    wire.extend(record);
                }
            }
            Step::Seal(_) => {}
            Step::Deliver(bytes) => {
                let bytes = usize::from(*bytes).min(wire.len());
                arrived.extend(wire.drain(..bytes));
                if !open_all(&mut server, &mut arrived, &mut received) {
                    break;
                }
            }
            Step::Alter(at, with) => {
                if let Some(byte) = wire.get_mut(usize::from(*at)) {
                    *byte ^= with;
                }
            }
            Step::Lose(at, count) => {
                let at = usize::from(*at).min(wire.len());
                let end = (at + usize::from(*count)).min(wire.len());
                wire.drain(at..end);
            }
            Step::Repeat(count) => {
                let first = wire[..usize::from(*count).min(wire.len())].to_vec();
                wire.splice(..0, first);
            }
            Step::Invent(bytes) => wire.splice(..0, bytes.iter().copied()).for_each(drop),
            Step::Close => client.close_notify(&mut wire),
        }
        assert!(sent.starts_with(&received), "what was not sent has arrived");
    }
    assert!(sent.starts_with(&received), "what was not sent has arrived");
});

/// Opens whatever is there; false when the session is over.
fn open_all(server: &mut Records, arrived: &mut Vec<u8>, received: &mut Vec<u8>) -> bool {
    loop {
        let consumed = match server.open(arrived) {
            Err(_) => {
                // A session that has failed opens nothing more, whatever comes.
                assert!(server.open(arrived).is_err());
                return false;
            }
            Ok(Opened::Incomplete { needed }) => {
                assert!(needed > arrived.len());
                return true;
            }
            Ok(Opened::Closed { .. }) => return false,
            Ok(Opened::Data { consumed, plaintext }) => {
                assert!(plaintext.end <= consumed);
                received.extend_from_slice(&arrived[plaintext]);
                consumed
            }
            Ok(Opened::Control { consumed }) => consumed,
        };
        arrived.drain(..consumed);
    }
}
