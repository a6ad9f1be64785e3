//! VXLAN (RFC 7348).

use super::{Defect, ethernet, field, udp};

/// Bytes of a header.
pub const HEADER: usize = 8;

/// Bytes by which an outer IP packet is longer than the inner one, with an outer IP header of `ip_header` bytes: the inner
/// packet keeps its Ethernet header.
pub const fn overhead(ip_header: usize) -> u16 {
    (ip_header + udp::HEADER + HEADER + ethernet::HEADER) as u16
}

/// The I flag: the VNI is valid. It must be set; all other bits are reserved and ignored (section 5).
const VNI_VALID: u8 = 0x08;

/// A view of what a UDP datagram to the VXLAN port carries.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan<'a> {
    header: &'a [u8; HEADER],
    /// The inner Ethernet frame.
    pub payload: &'a [u8],
}

impl<'a> Vxlan<'a> {
    /// Needs a whole header with a valid VNI.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Defect> {
        let (header, payload) = bytes.split_first_chunk::<HEADER>().ok_or(Defect::Truncated)?;
        if header[0] & VNI_VALID == 0 {
            return Err(Defect::Malformed);
        }
        Ok(Self { header, payload })
    }

    /// The overlay the inner frame belongs to.
    #[inline]
    pub fn vni(&self) -> u32 {
        u32::from_be_bytes(field::<4, 4, HEADER>(self.header)) >> 8
    }
}

/// A header. `vni` has 24 bits.
#[inline]
pub fn header(vni: u32) -> [u8; HEADER] {
    let [high, mid, low, reserved] = (vni << 8).to_be_bytes();
    [VNI_VALID, 0, 0, 0, high, mid, low, reserved]
}
