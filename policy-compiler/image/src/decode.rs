//! Bytes to an image. Any bytes may come in: nothing is believed before it is checked, and nothing is allocated that is much
//! larger than the bytes it was read from.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use thiserror::Error;

use crate::format::{CELL_BITS, FORMAT_VERSION, MAGIC, NO_CLASS};
use crate::{
    Image, Outside, Paged, PeerClass, PolicyClass, PolicyClassNumber, PortTable, Rows, Rulebook, SharedMap,
};

/// Why bytes are not an image this crate can use. Positions are in bytes from the beginning.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// Something else, or not the beginning.
    #[error("not a policy image: it does not begin with {MAGIC:?}")]
    Magic,
    /// Written by another version of the compiler.
    #[error(
        "policy image of format version {0}, this is {FORMAT_VERSION}: run compiler and switch of the same release"
    )]
    Version(u16),
    /// Written for tiers, which this crate does not know.
    #[error(
        "policy image with cells of {0} bits, this reads {CELL_BITS}: run compiler and switch of the same release"
    )]
    CellBits(u8),
    /// Bytes are missing.
    #[error("policy image ends inside {what} at byte {at}: send it again")]
    Truncated {
        /// What should have been there.
        what: &'static str,
        /// Where it begins.
        at: usize,
    },
    /// A value is impossible.
    #[error("policy image is damaged: {what}, before byte {at}: send it again")]
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// Just behind the value.
        at: usize,
    },
    /// Bytes follow the end.
    #[error("policy image goes on behind its end at byte {0}: send it again")]
    TooLong(usize),
}

impl Image {
    /// Reads what [`Image::encode`] wrote. Every number is checked, so that lookups in the image cannot go astray.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { bytes, at: 0 };
        reader.header()?;
        let policy_classes = reader.policy_classes()?;
        let image = Self {
            endpoints: reader.endpoints(&policy_classes)?,
            policy_classes,
            pods_v4: reader.pods("IPv4 pod addresses", Ipv4Addr::from_octets)?,
            pods_v6: reader.pods("IPv6 pod addresses", Ipv6Addr::from_octets)?,
            outside_v4: reader.outside("IPv4 ranges", u32::from_be_bytes)?,
            outside_v6: reader.outside("IPv6 ranges", u128::from_be_bytes)?,
        };
        if reader.at == bytes.len() { Ok(image) } else { Err(DecodeError::TooLong(reader.at)) }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let truncated = DecodeError::Truncated { what, at: self.at };
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(truncated)?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `size` bytes each: more than the rest can hold is refused before anything is
    /// allocated for them.
    fn count(&mut self, size: usize, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.u32(what)? as usize;
        if count > (self.bytes.len() - self.at) / size {
            return Err(DecodeError::Truncated { what, at: self.at });
        }
        Ok(count)
    }

    fn invalid(&self, what: &'static str) -> DecodeError {
        DecodeError::Invalid { what, at: self.at }
    }

    fn header(&mut self) -> Result<(), DecodeError> {
        if self.array("magic")? != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = u16::from_le_bytes(self.array("version")?);
        if version != FORMAT_VERSION {
            return Err(DecodeError::Version(version));
        }
        let [cell_bits, reserved] = self.array("cell width")?;
        if cell_bits != CELL_BITS {
            return Err(DecodeError::CellBits(cell_bits));
        }
        if reserved == 0 { Ok(()) } else { Err(self.invalid("the reserved octet is not zero")) }
    }

    fn policy_classes(&mut self) -> Result<Paged<Arc<PolicyClass>>, DecodeError> {
        let tables: Vec<_> =
            (0..self.count(4, "port tables")?).map(|_| self.port_table()).collect::<Result<_, _>>()?;
        let rows: Vec<_> = (0..self.count(12, "rows")?).map(|_| self.rows()).collect::<Result<_, _>>()?;
        let mut classes = Paged::default();
        for number in 0..self.count(16, "policy classes")? {
            let mut references = [0; 4];
            for reference in &mut references {
                *reference = self.u32("policy class")?;
            }
            if references == [NO_CLASS; 4] {
                continue;
            }
            let [ingress_ports, ingress_rows, egress_ports, egress_rows] = references;
            let ingress = self.rulebook(&tables, &rows, ingress_ports, ingress_rows)?;
            let egress = self.rulebook(&tables, &rows, egress_ports, egress_rows)?;
            classes.set(number as u32, Arc::new(PolicyClass { ingress, egress }));
        }
        Ok(classes)
    }

    /// The number of port classes is kept beside the table: counting them for each reference would make hostile bytes slow.
    fn port_table(&mut self) -> Result<(PortTable, usize), DecodeError> {
        let count = self.count(2, "port table")?;
        let octets = self.take(count * 2, "port table")?;
        let words: Vec<_> = octets.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        let table = PortTable::from_words(&words)
            .ok_or_else(|| self.invalid("a port table refers to a page it does not have"))?;
        let classes = table.classes();
        Ok((table, classes))
    }

    fn rows(&mut self) -> Result<Rows, DecodeError> {
        let (start, width) = (self.u32("rows")?, self.u32("rows")?);
        let count = self.count(8, "rows")?;
        let octets = self.take(count * 8, "rows")?;
        let words = octets.as_chunks().0.iter().map(|octets| u64::from_le_bytes(*octets)).collect();
        Rows::from_words(words, start, width)
            .ok_or_else(|| self.invalid("rows that are not laid out as rows"))
    }

    fn rulebook(
        &self,
        tables: &[(PortTable, usize)],
        rows: &[Rows],
        table: u32,
        row: u32,
    ) -> Result<Rulebook, DecodeError> {
        let (ports, classes) = tables
            .get(table as usize)
            .ok_or_else(|| self.invalid("a policy class refers to a port table that is not there"))?;
        let rows = rows
            .get(row as usize)
            .ok_or_else(|| self.invalid("a policy class refers to rows that are not there"))?;
        if *classes > rows.len() {
            return Err(self.invalid("a port class has no row"));
        }
        Ok(Rulebook { ports: ports.clone(), rows: rows.clone() })
    }

    fn endpoints(
        &mut self,
        classes: &Paged<Arc<PolicyClass>>,
    ) -> Result<SharedMap<Arc<str>, PolicyClassNumber>, DecodeError> {
        let mut endpoints = SharedMap::default();
        let mut last = "";
        for index in 0..self.count(8, "endpoints")? {
            let length = self.count(1, "endpoint name")?;
            let name = self.take(length, "endpoint name")?;
            let name =
                std::str::from_utf8(name).map_err(|_| self.invalid("an endpoint name that is not UTF-8"))?;
            if index > 0 && name <= last {
                return Err(self.invalid("endpoints out of order"));
            }
            last = name;
            let class = PolicyClassNumber(self.u32("endpoint")?);
            if classes.get(class.0).is_none() {
                return Err(self.invalid("an endpoint refers to a policy class that is not there"));
            }
            endpoints.insert(name.into(), class);
        }
        Ok(endpoints)
    }

    fn pods<const N: usize, A>(
        &mut self,
        what: &'static str,
        address: fn([u8; N]) -> A,
    ) -> Result<SharedMap<A, PeerClass>, DecodeError>
    where
        A: std::hash::Hash + Eq + Clone,
    {
        let mut pods = SharedMap::default();
        let mut last = None;
        for _ in 0..self.count(N + 4, what)? {
            let octets = self.array(what)?;
            if last.is_some_and(|last| last >= octets) {
                return Err(self.invalid("pod addresses out of order"));
            }
            last = Some(octets);
            pods.insert(address(octets), PeerClass(self.u32(what)?));
        }
        Ok(pods)
    }

    fn outside<const N: usize, A>(
        &mut self,
        what: &'static str,
        start: fn([u8; N]) -> A,
    ) -> Result<Outside<A>, DecodeError>
    where
        A: Copy + Ord + From<u8>,
    {
        let mut ranges = Vec::new();
        for _ in 0..self.count(N + 4, what)? {
            ranges.push((start(self.array(what)?), PeerClass(self.u32(what)?)));
        }
        Outside::new(&ranges).map_err(|_| self.invalid("ranges out of order"))
    }
}
