//! Fields to header blocks.

use super::TABLE_BYTES_MAX;
use super::table::{DynamicTable, STATIC};

/// Fields longer than this are not worth a place in a table of four kilobytes.
const REMEMBERED_BYTES_MAX: usize = 1024;

/// Whether a field is to go into the dynamic table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// It will hardly come again on this connection.
    No,
    /// It is the same on every stream of this connection.
    Yes,
}

/// The encoding end of one connection.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    /// The least table size asked for since the last block, if there was any (RFC 7541 §4.2).
    smallest_size: Option<usize>,
}

impl Encoder {
    /// An encoder for a peer that has not sent SETTINGS yet.
    pub fn new() -> Self {
        Self { table: DynamicTable::new(TABLE_BYTES_MAX), smallest_size: None }
    }

    /// Obeys the peer's SETTINGS_HEADER_TABLE_SIZE, as far as we want a table at all.
    pub fn set_table_bytes_max(&mut self, bytes_max: u32) {
        let size = (bytes_max as usize).min(TABLE_BYTES_MAX);
        if size != self.table.size_max() {
            self.smallest_size =
                Some(self.smallest_size.map_or(size, |smallest| smallest.min(size)));
            self.table.set_size_max(size);
        }
    }

    /// Begins a block: says first what changed about the table.
    pub fn begin(&mut self, block: &mut Vec<u8>) {
        let Some(smallest) = self.smallest_size.take() else { return };
        if smallest < self.table.size_max() {
            write_integer(block, 0b0010_0000, 5, smallest);
        }
        write_integer(block, 0b0010_0000, 5, self.table.size_max());
    }

    /// Appends one field to a block that [`Encoder::begin`] began.
    pub fn field(&mut self, name: &[u8], value: &[u8], remember: Remember, block: &mut Vec<u8>) {
        let whole =
            STATIC.iter().position(|&entry| entry == (name, value)).map(|position| position + 1);
        if let Some(index) = whole.or_else(|| self.table.find(name, value)) {
            write_integer(block, 0b1000_0000, 7, index);
            return;
        }
        let fits = name.len() + value.len() <= REMEMBERED_BYTES_MAX.min(self.table.size_max());
        let (pattern, prefix_bits) =
            if remember == Remember::Yes && fits { (0b0100_0000, 6) } else { (0b0000_0000, 4) };
        match STATIC.iter().position(|&(entry, _)| entry == name) {
            Some(position) => write_integer(block, pattern, prefix_bits, position + 1),
            None => {
                block.push(pattern);
                write_string(block, name);
            }
        }
        write_string(block, value);
        if pattern != 0 {
            self.table.insert(name, value);
        }
    }

    /// Heap this encoder holds on to between blocks.
    pub fn retained_bytes(&self) -> usize {
        self.table.retained_bytes()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends an integer (RFC 7541 §5.1) whose first byte also carries `pattern`.
fn write_integer(block: &mut Vec<u8>, pattern: u8, prefix_bits: u32, value: usize) {
    let prefix_max = (1 << prefix_bits) - 1;
    if value < prefix_max {
        block.push(pattern | value as u8);
        return;
    }
    block.push(pattern | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Appends a string literal as it is (RFC 7541 §5.2).
fn write_string(block: &mut Vec<u8>, string: &[u8]) {
    write_integer(block, 0, 7, string.len());
    block.extend_from_slice(string);
}
