//! The policy image: `NetworkPolicy` compiled to bitmaps, ready to be looked up by packet.
//!
//! A verdict asks three things of an [`Image`], none of which takes longer with more policies, rules or pods:
//! 1. the **peer class** of the other side's address ([`Image::peer_class`]), which a forwarding entry can remember;
//! 2. the **port class** of protocol and destination port, in the [`Rulebook`] of the endpoint's **policy class** for
//!    the packet's [`Direction`]: two loads in a [`PortTable`];
//! 3. one bit of [`Rows`]: row port class, column peer class.
//!
//! Images are built by `heddle-policy`, sent as bytes ([`Image::encode`], [`Image::decode`]) and never do I/O. Cloning one
//! shares everything; a change copies the page it is on. docs/policy.md has the byte format.
//!
//! Two verdicts are not the image's to give, because they do not depend on policies: a pod always reaches itself, and
//! the node always reaches its own pods.
#![forbid(unsafe_code)]

mod bitmap;
mod class;
mod decode;
mod encode;
mod format;
mod image;
mod ports;
mod ranges;
mod rows;
mod shared_map;

pub use bitmap::Bitmap;
pub use class::{Direction, PeerClass, PolicyClass, PolicyClassNumber, Rulebook};
pub use decode::DecodeError;
pub use format::{CELL_BITS, FORMAT_VERSION, MAGIC};
pub use heddle_paged::Paged;
pub use image::{Image, ImageSize};
pub use ports::{OTHER_KEY, PortTable, Protocol, port_key};
pub use ranges::{Outside, RangeError};
pub use rows::{Row, Rows};
pub use shared_map::SharedMap;
