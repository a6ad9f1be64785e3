//! Constants of the byte format, shared by [encoder](crate::encode) and [decoder](crate::decode).

/// First bytes of an image.
pub const MAGIC: [u8; 4] = *b"HDPI";

/// Version of the format this crate writes and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Bits of one cell of a bitmap. `NetworkPolicy` needs one: allow or not. Tiers with priorities will need an action a cell, and then
/// this says 8 and rows hold bytes in place of bits; index arithmetic and classifiers stay as they are.
pub const CELL_BITS: u8 = 1;

/// Stands in the list of policy classes for a number without a class.
pub(crate) const NO_CLASS: u32 = u32::MAX;
