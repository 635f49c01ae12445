//! Header blocks to fields.

use super::huffman;
use super::table::DynamicTable;
use super::{Error, FIELD_OVERHEAD_BYTES, TABLE_BYTES_MAX};

/// The largest integer taken for an index, length or size. Far above every bound on a block, far
/// below overflow.
const INTEGER_MAX: u32 = 1 << 24;

/// Scratch beyond this is given back after a block, so that one large block does not cost memory
/// for ever.
const SCRATCH_BYTES_KEPT: usize = 512;

/// The decoding end of one connection.
#[derive(Debug)]
pub struct Decoder {
    pub(super) table: DynamicTable,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// A decoder whose table is bounded by the default that our SETTINGS leave in place.
    pub fn new() -> Self {
        Self { table: DynamicTable::new(TABLE_BYTES_MAX), name: Vec::new(), value: Vec::new() }
    }

    /// Decodes one whole block and lends its fields, in order, to `deliver`.
    ///
    /// Returns the size of the header list (RFC 9113 §6.5.2: names, values and 32 bytes for each
    /// field). Fields that lie beyond `list_bytes_max` keep the table right but are not delivered.
    ///
    /// # Errors
    /// [`Error`] when the block is invalid; the connection must be given up (RFC 9113 §4.3).
    pub fn decode(
        &mut self,
        block: &[u8],
        list_bytes_max: usize,
        mut deliver: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize, Error> {
        let mut list_bytes = 0;
        let mut deliver = |name: &[u8], value: &[u8]| {
            list_bytes += name.len() + value.len() + FIELD_OVERHEAD_BYTES;
            if list_bytes <= list_bytes_max {
                deliver(name, value);
            }
        };
        let mut reader = Reader { rest: block };
        let mut fields_seen = false;
        while let Some(&first) = reader.rest.first() {
            if first & 0b1110_0000 == 0b0010_0000 {
                if fields_seen {
                    return Err(Error::TableSizeMisplaced);
                }
                self.resize(reader.integer(5)?)?;
            } else if first & 0b1000_0000 != 0 {
                let (name, value) =
                    self.table.lookup(reader.integer(7)?).ok_or(Error::IndexUnknown)?;
                deliver(name, value);
                fields_seen = true;
            } else {
                self.literal(&mut reader, first, &mut deliver)?;
                fields_seen = true;
            }
        }
        self.name.clear();
        self.value.clear();
        self.name.shrink_to(SCRATCH_BYTES_KEPT);
        self.value.shrink_to(SCRATCH_BYTES_KEPT);
        Ok(list_bytes)
    }

    /// Heap this decoder holds on to between blocks.
    pub fn retained_bytes(&self) -> usize {
        self.table.retained_bytes() + self.name.capacity() + self.value.capacity()
    }

    /// A dynamic table size update (RFC 7541 §6.3).
    fn resize(&mut self, size: usize) -> Result<(), Error> {
        if size > TABLE_BYTES_MAX {
            return Err(Error::TableSizeTooLarge);
        }
        self.table.set_size_max(size);
        Ok(())
    }

    /// A literal (RFC 7541 §6.2): with incremental indexing (`01`), without (`0000`) or never
    /// indexed (`0001`).
    fn literal(
        &mut self,
        reader: &mut Reader<'_>,
        first: u8,
        deliver: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Error> {
        let remember = first & 0b0100_0000 != 0;
        let index = reader.integer(if remember { 6 } else { 4 })?;
        let name = if index == 0 { Some(reader.string(&mut self.name)?) } else { None };
        let value = reader.string(&mut self.value)?;
        match name {
            Some(name) => {
                deliver(name, value);
                if remember {
                    self.table.insert(name, value);
                }
            }
            None => {
                deliver(self.table.lookup(index).ok_or(Error::IndexUnknown)?.0, value);
                if remember {
                    self.table.insert_with_name_of(index, value);
                }
            }
        }
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// A cursor over one block.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// An integer with a prefix of `prefix_bits` (RFC 7541 §5.1).
    fn integer(&mut self, prefix_bits: u32) -> Result<usize, Error> {
        let prefix_max = (1_u32 << prefix_bits) - 1;
        let mut value = u32::from(self.byte()?) & prefix_max;
        if value < prefix_max {
            return Ok(value as usize);
        }
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            // Four continuation bytes hold every value below the bound; more are only there to
            // overflow somebody.
            if shift > 21 {
                return Err(Error::IntegerTooLarge);
            }
            value += u32::from(byte & 0x7f) << shift;
            if value > INTEGER_MAX {
                return Err(Error::IntegerTooLarge);
            }
            if byte & 0x80 == 0 {
                return Ok(value as usize);
            }
            shift += 7;
        }
    }

    /// A string literal (RFC 7541 §5.2), lent from the block or, if it is Huffman code, from
    /// `scratch`.
    fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Error>
    where
        'a: 's,
    {
        let huffman = self.rest.first().ok_or(Error::Truncated)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        if !huffman {
            return Ok(string);
        }
        scratch.clear();
        huffman::decode(string, scratch).map_err(|_| Error::HuffmanInvalid)?;
        Ok(scratch)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let (&byte, rest) = self.rest.split_first().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }
}
