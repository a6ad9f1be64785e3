//! An image to bytes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::format::{CELL_BITS, FORMAT_VERSION, MAGIC, NO_CLASS};
use crate::{Image, PolicyClass};

impl Image {
    /// The image in the format of docs/policy.md. Decoding these bytes and encoding again gives the same.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(FORMAT_VERSION.to_le_bytes());
        out.extend([CELL_BITS, 0]);
        self.encode_policy_classes(&mut out);
        self.encode_endpoints(&mut out);
        self.encode_peers(&mut out);
        out
    }

    /// Port tables and rows once each, then the classes that refer to them.
    fn encode_policy_classes(&self, out: &mut Vec<u8>) {
        let (mut ports, mut rows) = (Pool::default(), Pool::default());
        let mut classes: Vec<[u32; 4]> = Vec::new();
        for (number, class) in self.policy_classes.iter() {
            classes.resize(number as usize, [NO_CLASS; 4]);
            classes.push(Self::refer(class, &mut ports, &mut rows));
        }
        put_u32(out, ports.items.len());
        for table in ports.items {
            put_u32(out, table.words().len());
            out.extend(table.words().iter().flat_map(|word| word.to_le_bytes()));
        }
        put_u32(out, rows.items.len());
        for rows in rows.items {
            let (start, width) = rows.window();
            out.extend(start.to_le_bytes());
            out.extend(width.to_le_bytes());
            put_u32(out, rows.words().len());
            out.extend(rows.words().iter().flat_map(|word| word.to_le_bytes()));
        }
        put_u32(out, classes.len());
        out.extend(classes.iter().flatten().flat_map(|reference| reference.to_le_bytes()));
    }

    fn refer<'a>(
        class: &'a PolicyClass,
        ports: &mut Pool<'a, crate::PortTable>,
        rows: &mut Pool<'a, crate::Rows>,
    ) -> [u32; 4] {
        let (ingress, egress) = (&class.ingress, &class.egress);
        [
            ports.number(Arc::as_ptr(ingress.ports.words()).addr(), &ingress.ports),
            rows.number(Arc::as_ptr(ingress.rows.words()).addr(), &ingress.rows),
            ports.number(Arc::as_ptr(egress.ports.words()).addr(), &egress.ports),
            rows.number(Arc::as_ptr(egress.rows.words()).addr(), &egress.rows),
        ]
    }

    fn encode_endpoints(&self, out: &mut Vec<u8>) {
        let mut endpoints: Vec<_> = self.endpoints.iter().collect();
        endpoints.sort_unstable();
        put_u32(out, endpoints.len());
        for (name, class) in endpoints {
            put_u32(out, name.len());
            out.extend(name.as_bytes());
            out.extend(class.0.to_le_bytes());
        }
    }

    fn encode_peers(&self, out: &mut Vec<u8>) {
        let mut v4: Vec<_> = self.pods_v4.iter().collect();
        v4.sort_unstable();
        put_u32(out, v4.len());
        for (address, class) in v4 {
            out.extend(address.octets());
            out.extend(class.0.to_le_bytes());
        }
        let mut v6: Vec<_> = self.pods_v6.iter().collect();
        v6.sort_unstable();
        put_u32(out, v6.len());
        for (address, class) in v6 {
            out.extend(address.octets());
            out.extend(class.0.to_le_bytes());
        }
        put_u32(out, self.outside_v4.iter().len());
        for (start, class) in self.outside_v4.iter() {
            out.extend(start.to_be_bytes());
            out.extend(class.0.to_le_bytes());
        }
        put_u32(out, self.outside_v6.iter().len());
        for (start, class) in self.outside_v6.iter() {
            out.extend(start.to_be_bytes());
            out.extend(class.0.to_le_bytes());
        }
    }
}

/// Things stored once, numbered in order of first use. Told apart by where they are in memory.
struct Pool<'a, T> {
    items: Vec<&'a T>,
    numbers: HashMap<usize, u32>,
}

impl<T> Default for Pool<'_, T> {
    fn default() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }
}

impl<'a, T> Pool<'a, T> {
    fn number(&mut self, address: usize, item: &'a T) -> u32 {
        *self.numbers.entry(address).or_insert_with(|| {
            self.items.push(item);
            self.items.len() as u32 - 1
        })
    }
}

fn put_u32(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_le_bytes());
}
