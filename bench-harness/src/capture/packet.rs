//! Ethernet, IPv4 and TCP headers, as far as a capture needs them.

use std::net::{Ipv4Addr, SocketAddrV4};

const ETHERNET_BYTES: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_TCP: u8 = 6;

/// One TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'f> {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) syn: bool,
    pub(super) payload: &'f [u8],
}

impl<'f> Segment<'f> {
    /// `None` for what is not TCP over IPv4 over Ethernet.
    pub(super) fn parse(frame: &'f [u8]) -> Option<Segment<'f>> {
        let ethertype = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
        if ethertype != ETHERTYPE_IPV4 {
            return None;
        }
        let ip = frame.get(ETHERNET_BYTES..)?;
        let ip_header = usize::from(ip.first()? & 0x0f) * 4;
        // A length of zero means a packet larger than the field can say (BIG TCP).
        let total = match u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]) {
            0 => ip.len(),
            total => usize::from(total),
        };
        if ip.first()? >> 4 != 4 || ip_header < 20 || *ip.get(9)? != PROTOCOL_TCP {
            return None;
        }
        let address = |at: usize| {
            let bytes: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes))
        };
        let tcp = ip.get(ip_header..total.min(ip.len()))?;
        let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
        let tcp_header = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Segment {
            source: SocketAddrV4::new(address(12)?, port(0)?),
            destination: SocketAddrV4::new(address(16)?, port(2)?),
            sequence: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
            syn: tcp.get(13)? & 0x02 != 0,
            payload: tcp.get(tcp_header..)?,
        })
    }
}

/// A frame from 10.1.0.1:40000 to 10.2.0.2, for tests.
#[cfg(test)]
pub(super) fn frame(port: u16, sequence: u32, syn: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET_BYTES];
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    let mut ip = vec![0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(40 + payload.len() as u16).to_be_bytes());
    ip[9] = PROTOCOL_TCP;
    ip[12..16].copy_from_slice(&[10, 1, 0, 1]);
    ip[16..20].copy_from_slice(&[10, 2, 0, 2]);
    let mut tcp = vec![0; 20];
    tcp[0..2].copy_from_slice(&40000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = if syn { 0x02 } else { 0x10 };
    frame.extend(ip);
    frame.extend(tcp);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_after_the_packet_is_no_payload() {
        let mut bytes = frame(80, 7, false, b"abc");
        bytes.extend([0; 9]);
        let segment = Segment::parse(&bytes).unwrap();
        assert_eq!((segment.payload, segment.sequence), (&b"abc"[..], 7));
        assert_eq!(segment.destination, "10.2.0.2:80".parse().unwrap());
    }

    #[test]
    fn a_frame_cut_anywhere_is_no_segment_or_a_shorter_one() {
        let bytes = frame(80, 7, true, b"abc");
        for end in 0..bytes.len() {
            if let Some(segment) = Segment::parse(&bytes[..end]) {
                assert!(segment.payload.len() < 3);
            }
        }
    }
}
