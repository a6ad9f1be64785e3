//! The bitmaps: one row a port class, one column a peer class.

use std::sync::Arc;

use crate::{Bitmap, PeerClass};

/// One row before it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Every peer, also those whose class does not exist yet.
    All,
    /// These peer classes.
    Classes(Bitmap),
}

impl Row {
    /// The words that are stored of it.
    fn words(&self) -> (u32, &[u64]) {
        if let Self::Classes(classes) = self { classes.words() } else { (0, &[]) }
    }
}

/// `allow[port class][peer class]`, laid out in one allocation.
///
/// Rows store the columns from `64 * start` to `64 * (start + width)` only; in front of them each row has a word that
/// stands for all columns outside: zero, or all ones for [`Row::All`]. So a row whose peers live in one namespace is a word or two,
/// and a new peer class changes only the rows that allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    words: Arc<[u64]>,
    start: u32,
    width: u32,
}

impl Rows {
    /// Lays rows out, by port class.
    pub fn new(rows: &[Row]) -> Self {
        let used = || rows.iter().map(Row::words).filter(|(_, words)| !words.is_empty());
        let start = used().map(|(first, _)| first).min().unwrap_or(0);
        let width = used().map(|(first, words)| first + words.len() as u32).max().unwrap_or(start) - start;
        let stride = width as usize + 1;
        let mut laid_out = vec![0; rows.len() * stride];
        for (row, place) in rows.iter().zip(laid_out.chunks_exact_mut(stride)) {
            let (first, words) = row.words();
            if matches!(row, Row::All) {
                place.fill(u64::MAX);
            } else if !words.is_empty() {
                let at = (first - start) as usize + 1;
                place[at..at + words.len()].copy_from_slice(words);
            }
        }
        Self { words: laid_out.into(), start, width }
    }

    /// Rows that came from elsewhere, if the layout is one [`Rows::new`] makes.
    pub(crate) fn from_words(words: Vec<u64>, start: u32, width: u32) -> Option<Self> {
        let stride = width as usize + 1;
        let whole = words.len().is_multiple_of(stride) && start.checked_add(width).is_some();
        let fills = words.iter().step_by(stride);
        let plain = fills.clone().all(|fill| *fill == 0 || *fill == u64::MAX);
        (whole && plain).then(|| Self { words: words.into(), start, width })
    }

    /// True when the row of `port_class` allows `peer`. A row that does not exist allows nothing.
    #[inline]
    pub fn allows(&self, port_class: u16, peer: PeerClass) -> bool {
        let offset = (peer.0 / 64).wrapping_sub(self.start);
        let column = if offset < self.width { offset as usize + 1 } else { 0 };
        let at = usize::from(port_class) * (self.width as usize + 1) + column;
        self.words.get(at).is_some_and(|word| word >> (peer.0 % 64) & 1 == 1)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.words.len() / (self.width as usize + 1)
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Bytes of the bitmaps.
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    pub(crate) fn words(&self) -> &Arc<[u64]> {
        &self.words
    }

    pub(crate) fn window(&self) -> (u32, u32) {
        (self.start, self.width)
    }
}

#[cfg(test)]
mod tests {
    //! The layout answers what the rows say, also outside the stored columns.
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Row> {
        let classes = prop::collection::vec(0u32..3000, 0..20);
        prop_oneof![1 => Just(Row::All), 4 => classes.prop_map(|members| Row::Classes(members.into_iter().collect()))]
    }

    proptest! {
        #[test]
        fn agrees_with_its_rows(rows in prop::collection::vec(row(), 0..6)) {
            let laid_out = Rows::new(&rows);
            for (port_class, row) in (0..).zip(&rows) {
                for peer in (0..3100).chain([u32::MAX]) {
                    let expected = match row { Row::All => true, Row::Classes(map) => map.contains(peer) };
                    prop_assert_eq!(laid_out.allows(port_class, PeerClass(peer)), expected);
                }
            }
            prop_assert!(!laid_out.allows(rows.len() as u16, PeerClass(0)));
            let (start, width) = laid_out.window();
            prop_assert_eq!(Rows::from_words(laid_out.words().to_vec(), start, width), Some(laid_out));
        }
    }
}
