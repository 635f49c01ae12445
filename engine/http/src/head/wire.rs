//! What of HTTP/1 does not show any more once it is parsed, and on which servers disagree: looked for in the bytes.
//!
//! ```text
//!  head ── its empty line ──▶ body of a length ──▶ head
//!   ▲                    └──▶ chunk's size ──▶ its data ──▶ … ──▶ trailers ─┐
//!   └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A parser that is lenient takes a lone line feed for the end of a line (RFC 9112 §2.2), and one of two framings for the body
//! (§6.1). Somebody behind it may take the other. Everything else that is wrong is left to the parser behind.

/// A line is looked at up to here: what is looked for is shorter.
const LINE_BYTES_MAX: usize = 128;

/// Why bytes cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguous {
    /// Something in a head.
    Head,
    /// Something in a body.
    Body,
}

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub struct Wire {
    part: Part,
    /// The line that has begun, as far as it is looked at.
    line: Vec<u8>,
    /// It is longer.
    is_cut: bool,
    /// What the head has said of its body.
    length: Option<u64>,
    is_chunked: bool,
    /// A line of the head has come.
    has_begun: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    /// So many bytes are left of a body.
    Body(u64),
    Size,
    /// So many are left of a chunk, its line end included.
    Chunk(u64),
    Trailers,
    /// Where the next request begins is not known: the parser behind ends the connection.
    Lost,
}

impl Wire {
    /// Looks at the next bytes.
    ///
    /// # Errors
    /// At which of them nothing may be passed on any more.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(), (usize, Ambiguous)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.part {
                Part::Lost => return Ok(()),
                Part::Body(left) => {
                    at += take(left, rest.len());
                    if *left == 0 {
                        self.part = Part::Head;
                    }
                }
                Part::Chunk(left) => {
                    at += take(left, rest.len());
                    if *left == 0 {
                        self.part = Part::Size;
                    }
                }
                Part::Head | Part::Size | Part::Trailers => {
                    let end = rest.iter().position(|byte| *byte == b'\n');
                    self.add(&rest[..end.unwrap_or(rest.len())]);
                    let Some(end) = end else { return Ok(()) };
                    self.line_ended().map_err(|why| (at + end, why))?;
                    at += end + 1;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        if part.len() <= room {
            self.line.extend_from_slice(part);
            return;
        }
        self.line.extend_from_slice(&part[..room]);
        self.is_cut = true;
        // Only whether the line ends as it should is still to be seen.
        if let (Some(last), Some(seen)) = (part.last(), self.line.last_mut()) {
            *seen = *last;
        }
    }

    fn line_ended(&mut self) -> Result<(), Ambiguous> {
        let in_head = self.part == Part::Head;
        let why = if in_head { Ambiguous::Head } else { Ambiguous::Body };
        if self.line.pop() != Some(b'\r') {
            return Err(why);
        }
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        let outcome = match self.part {
            Part::Head => self.head_line(&line, is_cut),
            Part::Size => {
                self.size_line(&line);
                Ok(())
            }
            _ => {
                if line.is_empty() && !is_cut {
                    self.part = Part::Head;
                }
                Ok(())
            }
        };
        self.line = line;
        self.line.clear();
        outcome
    }

    fn head_line(&mut self, line: &[u8], is_cut: bool) -> Result<(), Ambiguous> {
        if line.is_empty() && !is_cut {
            // Before a request there may be empty lines.
            if self.has_begun {
                self.head_ended();
            }
            return Ok(());
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if is_cut {
                return Err(Ambiguous::Head);
            }
            let digits = std::str::from_utf8(value).ok();
            // What is none is refused by the parser behind, and ends the connection.
            self.length = Some(digits.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
        match self.is_chunked && self.length.is_some() {
            true => Err(Ambiguous::Head),
            false => Ok(()),
        }
    }

    fn head_ended(&mut self) {
        self.has_begun = false;
        self.part = match (std::mem::take(&mut self.is_chunked), self.length.take()) {
            (true, _) => Part::Size,
            (false, Some(length @ 1..)) => Part::Body(length),
            (false, _) => Part::Head,
        };
    }

    fn size_line(&mut self, line: &[u8]) {
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        self.part = match u64::from_str_radix(digits, 16) {
            Ok(0) => Part::Trailers,
            Ok(size) => size.checked_add(2).map_or(Part::Lost, Part::Chunk),
            // The parser behind says so.
            Err(_) => Part::Lost,
        };
    }
}

/// So many of `left` as there are.
fn take(left: &mut u64, bytes: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes);
    *left -= taken as u64;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Passes the bytes in pieces of such a size; where nothing is passed on any more.
    fn stopped(text: &[u8], piece: usize) -> Option<(usize, Ambiguous)> {
        let (mut wire, mut before) = (Wire::default(), 0);
        for piece in text.chunks(piece) {
            if let Err((at, why)) = wire.pass(piece) {
                return Some((before + at, why));
            }
            before += piece.len();
        }
        None
    }

    /// What it is called, what comes, and what of it passes until when.
    type Row<'a> = (&'a str, &'a str, Option<(&'a str, Ambiguous)>);

    #[test]
    fn what_is_ambiguous() {
        use Ambiguous::{Body, Head};
        let long = format!("GET / HTTP/1.1\r\nx: {}\r\nhost: a\n\r\n", "y".repeat(500));
        #[rustfmt::skip]
        let rows: [Row<'_>; 19] = [
            ("a request",              "GET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
            ("two, and empty lines",   "GET / HTTP/1.1\r\nhost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
            ("a lone line feed",       "GET / HTTP/1.1\nhost: a\r\n\r\n", Some(("GET / HTTP/1.1", Head))),
            ("in a header",            "GET / HTTP/1.1\r\nhost: a\n\r\n", Some(("GET / HTTP/1.1\r\nhost: a", Head))),
            ("at the end",             "GET / HTTP/1.1\r\nhost: a\r\n\n", Some(("GET / HTTP/1.1\r\nhost: a\r\n", Head))),
            ("before it",              "\nGET / HTTP/1.1\r\n\r\n", Some(("", Head))),
            ("after a long line",      &long, Some((&long[..long.len() - 3], Head))),
            ("both framings",          "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                Some(("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r", Head))),
            ("the other way round",    "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:5\r\n\r\n",
                Some(("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:5\r", Head))),
            ("one each",               "POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nxPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", None),
            ("a body is not read",     "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n\na\n\nGET / HTTP/1.1\r\n\r\n", None),
            ("after a body",           "POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nxGET / HTTP/1.1\n",
                Some(("POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nxGET / HTTP/1.1", Head))),
            ("without a body",         "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n\n", Some(("POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", Head))),
            ("chunks",                 "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\n\n\n\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\n\r\n", None),
            ("a chunk's size",         "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\nab\r\n", Some(("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2", Body))),
            ("what stands behind it",  "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;\nab\r\n", Some(("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;", Body))),
            ("trailers",               "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n", Some(("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y", Body))),
            ("the parser's to refuse", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\n\n", None),
            ("a name that is like one", "POST / HTTP/1.1\r\nx-content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", None),
        ];
        for (name, text, want) in rows {
            let want = want.map(|(passed, why)| (passed.len(), why));
            for piece in [1, 2, 3, 7, text.len()] {
                // A piece that ends before the line feed has passed.
                assert_eq!(stopped(text.as_bytes(), piece), want, "{name}, by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in prop::collection::vec(
                prop_oneof!["\r\n", "\n", "\r", "GET / HTTP/1.1", "content-length: 3", "transfer-encoding: chunked", "[ -~]{0,9}", "a"],
                0..30,
            ),
            piece in 1usize..20,
        ) {
            let text = text.concat();
            prop_assert_eq!(stopped(text.as_bytes(), piece), stopped(text.as_bytes(), text.len().max(1)));
        }
    }
}
