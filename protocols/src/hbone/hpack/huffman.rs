//! The static Huffman code of HPACK (RFC 7541 Appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their
//! symbols. So the lengths are the whole table, and everything else is computed from them when this
//! is compiled.

/// The end-of-string symbol. It pads the last byte and must never appear whole (RFC 7541 §5.2).
const EOS: u16 = 256;
const SYMBOLS: usize = 257;
const LENGTH_MAX: usize = 30;

/// Bits of the code of each byte, and of EOS.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const CODE: Code = Code::from_lengths();
static SHORT: [(u8, u8); 256] = CODE.short();

/// Appends the bytes that `input` encodes to `out`.
///
/// # Errors
/// When the code contains EOS, or its padding is not one to seven one-bits (RFC 7541 §5.2).
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    out.reserve(input.len() * 8 / 5);
    let mut rest = input.iter();
    let mut buffer = 0_u64;
    let mut bits = 0_u32;
    loop {
        while bits <= 56 {
            let Some(&byte) = rest.next() else { break };
            buffer = (buffer << 8) | u64::from(byte);
            bits += 8;
        }
        if bits == 0 {
            return Ok(());
        }
        // The next 32 bits, continued with ones: then proper padding reads as a code that is longer
        // than what is left.
        let window = (((u128::from(buffer) << 32 | 0xffff_ffff) >> bits) & 0xffff_ffff) as u32;
        let (symbol, length) = next_symbol(window);
        if length > bits {
            let ones = (1_u64 << bits) - 1;
            return if bits < 8 && buffer & ones == ones { Ok(()) } else { Err(Invalid) };
        }
        if symbol == EOS {
            return Err(Invalid);
        }
        out.push(symbol as u8);
        bits -= length;
        buffer &= (1_u64 << bits) - 1;
    }
}

/// The input is not what an encoder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// The symbol at the top of `window`, and its length.
fn next_symbol(window: u32) -> (u16, u32) {
    let (symbol, length) = SHORT[(window >> 24) as usize];
    if length != 0 {
        return (u16::from(symbol), u32::from(length));
    }
    let mut length = 9;
    loop {
        let code = window >> (32 - length);
        let above = code.wrapping_sub(CODE.first_code[length]);
        if above < CODE.count[length] {
            return (CODE.symbols[(CODE.first_symbol[length] + above) as usize], length as u32);
        }
        length += 1;
        debug_assert!(
            length <= LENGTH_MAX,
            "the code is complete, so every window begins with a symbol"
        );
    }
}

/// The canonical code: for each length, where its codes and its symbols begin.
struct Code {
    first_code: [u32; LENGTH_MAX + 1],
    first_symbol: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    symbols: [u16; SYMBOLS],
}

impl Code {
    const fn from_lengths() -> Self {
        let mut code = Self {
            first_code: [0; LENGTH_MAX + 1],
            first_symbol: [0; LENGTH_MAX + 1],
            count: [0; LENGTH_MAX + 1],
            symbols: [0; SYMBOLS],
        };
        let mut filled = 0;
        let mut next_code = 0;
        let mut length = 1;
        while length <= LENGTH_MAX {
            next_code <<= 1;
            code.first_code[length] = next_code;
            code.first_symbol[length] = filled as u32;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[filled] = symbol as u16;
                    code.count[length] += 1;
                    next_code += 1;
                    filled += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        assert!(filled == SYMBOLS && next_code == 1 << LENGTH_MAX, "the code must be complete");
        code
    }

    /// For each first byte of a window the symbol it holds and its length; length 0 where the code
    /// is longer.
    const fn short(&self) -> [(u8, u8); 256] {
        let mut short = [(0, 0); 256];
        let mut length = 1;
        while length <= 8 {
            let mut nth = 0;
            while nth < self.count[length] {
                let code = (self.first_code[length] + nth) << (8 - length);
                let symbol = self.symbols[(self.first_symbol[length] + nth) as usize];
                let mut tail = 0;
                while tail < 1 << (8 - length) {
                    short[(code + tail) as usize] = (symbol as u8, length as u8);
                    tail += 1;
                }
                nth += 1;
            }
            length += 1;
        }
        short
    }
}

/// Encodes as a peer does; our own encoder has no use for it.
#[cfg(test)]
pub(super) fn encode(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut buffer, mut bits) = (0_u64, 0_u32);
    for &byte in input {
        let length = LENGTHS[usize::from(byte)] as usize;
        let nth = CODE.symbols[CODE.first_symbol[length] as usize..]
            .iter()
            .position(|&s| s == u16::from(byte));
        let code = CODE.first_code[length] + nth.expect("every byte has a code") as u32;
        buffer = (buffer << length) | u64::from(code);
        bits += length as u32;
        while bits >= 8 {
            bits -= 8;
            out.push((buffer >> bits) as u8);
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(((buffer << (8 - bits)) | (0xff >> bits)) as u8);
    }
    out
}
