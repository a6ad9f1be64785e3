//! Protocol and destination port to port class.

use std::sync::Arc;

/// The protocols whose ports `NetworkPolicy` can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = 0,
    /// UDP.
    Udp = 1,
    /// SCTP.
    Sctp = 2,
    /// Everything else: it has no ports, and only a rule without ports allows it.
    Other = 3,
}

impl Protocol {
    /// From the number in the IP header (IANA protocol numbers).
    #[inline]
    pub const fn from_ip_number(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            132 => Self::Sctp,
            _ => Self::Other,
        }
    }
}

/// Position of a protocol and port on the line that [`PortTable::new`] cuts into runs.
pub const fn port_key(protocol: Protocol, port: u16) -> u32 {
    match protocol {
        Protocol::Other => OTHER_KEY,
        _ => (protocol as u32) << 16 | port as u32,
    }
}

/// Where [`Protocol::Other`] lies on that line: behind all ports, one position for all of it.
pub const OTHER_KEY: u32 = (Protocol::Other as u32) << 16;

/// Ports of one second-level page.
pub(crate) const PAGE: usize = 256;
/// Entries of the first level: 256 pages for each of three protocols, and one for the rest.
pub(crate) const FIRST_LEVEL: usize = 3 * 256 + 1;

/// A two-level table: the first level has a page number for each protocol and high octet of the port, a page a port class for
/// each low octet. Pages that are equal all over are stored once, so a table with a few ports takes 3 kB.
///
/// One allocation: the first level, then the pages. Tables of many rulebooks share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTable {
    words: Arc<[u16]>,
}

impl PortTable {
    /// A table from runs: each begins at a [`port_key`], has a port class, and ends where the next begins.
    ///
    /// # Panics
    /// If the first run does not begin at 0 or the runs are not in order.
    pub fn new(runs: &[(u32, u16)]) -> Self {
        assert!(runs.first().is_some_and(|run| run.0 == 0), "runs begin at 0");
        assert!(runs.is_sorted_by(|a, b| a.0 < b.0), "runs are in order");
        let mut words = vec![0; FIRST_LEVEL];
        let mut uniform: Vec<(u16, u16)> = Vec::new();
        let mut run = 0;
        for page in 0..FIRST_LEVEL {
            let (first, last) = ((page * PAGE) as u32, (page * PAGE + PAGE - 1) as u32);
            let begins_by = |run: usize, key: u32| runs.get(run).is_some_and(|next| next.0 <= key);
            while begins_by(run + 1, first) {
                run += 1;
            }
            let next_page = ((words.len() - FIRST_LEVEL) / PAGE) as u16;
            let class = runs[run].1;
            if begins_by(run + 1, last) {
                words[page] = next_page;
                for key in first..=last {
                    run += usize::from(begins_by(run + 1, key));
                    words.push(runs[run].1);
                }
            } else if let Some((_, same)) = uniform.iter().find(|(of, _)| *of == class) {
                words[page] = *same;
            } else {
                words[page] = next_page;
                uniform.push((class, next_page));
                words.extend([class; PAGE]);
            }
        }
        Self { words: words.into() }
    }

    /// The words of a table that came from elsewhere, if every lookup in it stays inside it.
    pub(crate) fn from_words(words: &[u16]) -> Option<Self> {
        let (first_level, pages) = words.split_at_checked(FIRST_LEVEL)?;
        let count = pages.len() / PAGE;
        let fits = pages.len() % PAGE == 0 && first_level.iter().all(|page| usize::from(*page) < count);
        fits.then(|| Self { words: words.into() })
    }

    /// The port class. The port is ignored for [`Protocol::Other`].
    #[inline]
    pub fn class(&self, protocol: Protocol, port: u16) -> u16 {
        let key = port_key(protocol, port) as usize;
        let page = usize::from(self.words[key / PAGE]);
        self.words[FIRST_LEVEL + page * PAGE + key % PAGE]
    }

    /// Number of port classes, counting up to the highest in use.
    pub fn classes(&self) -> usize {
        self.words[FIRST_LEVEL..].iter().max().map_or(0, |highest| usize::from(*highest) + 1)
    }

    pub(crate) fn words(&self) -> &Arc<[u16]> {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    //! A table answers what its runs say, for every protocol and port.
    use proptest::prelude::*;

    use super::*;

    const ALL: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Other];

    proptest! {
        #[test]
        fn agrees_with_its_runs(cuts in prop::collection::btree_map(1..=OTHER_KEY, 0u16..9, 0..12), first in 0u16..9,
                                ports in prop::collection::vec(any::<u16>(), 50)) {
            let runs: Vec<_> = std::iter::once((0, first)).chain(cuts.clone()).collect();
            let table = PortTable::new(&runs);
            let near = cuts.keys().flat_map(|key| [key.saturating_sub(1) as u16, *key as u16]);
            for port in near.chain(ports) {
                for protocol in ALL {
                    let key = port_key(protocol, port);
                    let expected = runs.iter().rfind(|run| run.0 <= key).map(|run| run.1);
                    prop_assert_eq!(Some(table.class(protocol, port)), expected);
                }
            }
            prop_assert_eq!(PortTable::from_words(table.words()), Some(table.clone()));
        }
    }

    #[test]
    fn a_plain_table_is_small() {
        let table = PortTable::new(&[(0, 0), (80, 1), (81, 0)]);
        assert_eq!(table.words().len(), FIRST_LEVEL + 2 * PAGE);
        assert_eq!(table.classes(), 2);
    }

    #[test]
    fn protocols_have_their_iana_numbers() {
        assert_eq!([6, 17, 132, 1].map(Protocol::from_ip_number), ALL);
    }
}
