//! A list of named things that is filled once and emptied once, and takes no more memory than what is in it.
//!
//! A vector of 150,000 workloads would have been copied a dozen times while it grew, would be a third empty, and would
//! be freed only as a whole, when what is made of it is there already. A small allocation for each name would leave as
//! many small holes.

/// Elements of a chunk. Small ones, because allocators have a place for each size: what a chunk of a few KiB leaves
/// can be used for the small things that are made of it, what a chunk of many leaves cannot.
const CHUNK_ELEMENTS: usize = 64;

/// The list.
pub(crate) struct Chunks<T>(Vec<Chunk<T>>);

struct Chunk<T> {
    /// Each with the end of its name in `names`; it begins where the one before ends.
    elements: Vec<(T, usize)>,
    names: String,
}

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(crate) fn push(&mut self, name: &str, element: T) {
        if self.0.last().is_none_or(|chunk| chunk.elements.len() == CHUNK_ELEMENTS) {
            let elements = Vec::with_capacity(CHUNK_ELEMENTS);
            self.0.push(Chunk { elements, names: String::new() });
        }
        if let Some(chunk) = self.0.last_mut() {
            chunk.names.push_str(name);
            chunk.elements.push((element, chunk.names.len()));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|chunk| chunk.elements.len()).sum()
    }

    /// The element at an index, which there must be.
    pub(crate) fn at(&self, index: usize) -> (&str, &T) {
        self.0[index / CHUNK_ELEMENTS].at(index % CHUNK_ELEMENTS)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().flat_map(|chunk| (0..chunk.elements.len()).map(|index| chunk.at(index)))
    }

    /// Goes through the elements in order, and frees each chunk when it is through with it.
    pub(crate) fn consume(self, mut each: impl FnMut(&str, &T)) {
        for chunk in self.0 {
            (0..chunk.elements.len()).map(|index| chunk.at(index)).for_each(|(name, element)| {
                each(name, element);
            });
        }
    }
}

impl<T> Chunk<T> {
    fn at(&self, index: usize) -> (&str, &T) {
        let start = if index == 0 { 0 } else { self.elements[index - 1].1 };
        let (element, end) = &self.elements[index];
        (&self.names[start..*end], element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_order_and_their_names() {
        let mut chunks = Chunks::default();
        let name = |number: usize| "x".repeat(number % 7);
        for number in 0..3 * CHUNK_ELEMENTS + 1 {
            chunks.push(&name(number), number);
        }
        assert_eq!(chunks.len(), 3 * CHUNK_ELEMENTS + 1);
        assert_eq!(
            chunks.at(CHUNK_ELEMENTS + 5),
            (&*name(CHUNK_ELEMENTS + 5), &(CHUNK_ELEMENTS + 5))
        );
        assert!(chunks.iter().all(|(text, number)| text == name(*number)));
        let mut next = 0;
        chunks.consume(|text, number| {
            assert_eq!((text, *number), (&*name(next), next));
            next += 1;
        });
        assert_eq!(next, 3 * CHUNK_ELEMENTS + 1);
    }
}
