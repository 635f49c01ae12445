//! Answers made smaller: gzip (RFC 1952) and deflate (RFC 1950), as the client's `Accept-Encoding` asks.
//!
//! Both are DEFLATE in another wrapping. Scrapers and browsers all take gzip, so brotli and zstd would add two libraries
//! and save nobody anything.

use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

/// Fast, and metrics shrink to a twentieth anyway.
const LEVEL: u8 = 3;

/// Magic, DEFLATE, no flags, no time, no extra flags, made on Unix.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// How an answer is made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `gzip`.
    Gzip,
    /// `deflate`, which is zlib's format.
    Deflate,
}

impl Encoding {
    /// What a client takes that sent these `Accept-Encoding` headers, and likes best; `None`: the answer as it is.
    pub(super) fn negotiate<'a>(accepted: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut gzip, mut deflate, mut any) = (None, None, None);
        for element in accepted.into_iter().flat_map(|header| header.split(',')) {
            let mut parts = element.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .filter_map(|parameter| parameter.strip_prefix("q="))
                .find_map(|quality| quality.parse::<f32>().ok())
                .unwrap_or(1.0);
            match name.as_str() {
                "gzip" | "x-gzip" => gzip = Some(quality),
                "deflate" => deflate = Some(quality),
                "*" => any = Some(quality),
                _ => {}
            }
        }
        let wanted = |named: Option<f32>| named.or(any).unwrap_or(0.0);
        let (gzip, deflate) = (wanted(gzip), wanted(deflate));
        match () {
            () if gzip > 0.0 && gzip >= deflate => Some(Self::Gzip),
            () if deflate > 0.0 => Some(Self::Deflate),
            () => None,
        }
    }

    /// Its name in `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The bytes, smaller.
    pub(super) fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Deflate => compress_to_vec_zlib(bytes, LEVEL),
            Self::Gzip => {
                let mut gzip = GZIP_HEAD.to_vec();
                gzip.extend(compress_to_vec(bytes, LEVEL));
                gzip.extend(crc32(bytes).to_le_bytes());
                // The length is told modulo 2^32.
                gzip.extend((bytes.len() as u32).to_le_bytes());
                gzip
            }
        }
    }
}

/// The check sum of RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8);
    !bytes.iter().fold(!0, step)
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_encoding_is_the_one_asked_for() {
        use Encoding::{Deflate, Gzip};
        let rows: [(&str, &[&str], Option<Encoding>); 11] = [
            ("nothing said", &[], None),
            ("Prometheus", &["gzip"], Some(Gzip)),
            ("a browser", &["gzip, deflate, br, zstd"], Some(Gzip)),
            ("deflate only", &["deflate"], Some(Deflate)),
            ("deflate rather", &["gzip;q=0.5, deflate"], Some(Deflate)),
            ("anything", &["*"], Some(Gzip)),
            ("anything but gzip", &["gzip;q=0, *"], Some(Deflate)),
            ("nothing at all", &["*;q=0"], None),
            ("what we do not have", &["br, zstd"], None),
            ("two headers", &["br", "GZIP"], Some(Gzip)),
            ("as it is", &["identity"], None),
        ];
        for (name, accepted, want) in rows {
            assert_eq!(Encoding::negotiate(accepted.iter().copied()), want, "{name}");
        }
    }

    #[test]
    fn the_check_sum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn what_was_compressed_comes_out_again() {
        let text = "istio_tcp_connections_opened_total{reporter=\"source\"} 12\n".repeat(1000);
        let zlib = Encoding::Deflate.compress(text.as_bytes());
        assert!(zlib.len() < text.len() / 10);
        let back = miniz_oxide::inflate::decompress_to_vec_zlib(&zlib).unwrap();
        assert_eq!(back, text.as_bytes());

        // Another program's idea of gzip, check sum and length included.
        let mut gunzip = Command::new("gzip")
            .args(["-d", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gzip is a part of every system");
        let gzip = Encoding::Gzip.compress(text.as_bytes());
        let mut input = gunzip.stdin.take().unwrap();
        let writer = std::thread::spawn(move || input.write_all(&gzip));
        let output = gunzip.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, text.as_bytes());
    }
}
