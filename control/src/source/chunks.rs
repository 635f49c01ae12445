//! A list that is filled once and emptied once, and takes no more memory than what is in it.
//!
//! A vector of 150,000 workloads would have been copied a dozen times while it grew, would be a third empty, and would
//! be freed only as a whole, when what is made of it is there already.

/// Elements of a chunk.
const CHUNK_ELEMENTS: usize = 8192;

/// The list.
pub(crate) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(crate) fn push(&mut self, element: T) {
        match self.0.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_ELEMENTS => chunk.push(element),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK_ELEMENTS);
                chunk.push(element);
                self.0.push(chunk);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// The element at an index, which there must be.
    pub(crate) fn at(&self, index: u32) -> &T {
        let index = index as usize;
        &self.0[index / CHUNK_ELEMENTS][index % CHUNK_ELEMENTS]
    }

    /// The elements in order; the memory of each chunk is free as soon as its last element was taken.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = T> {
        self.0.into_iter().flatten()
    }
}
