//! What connection tracking needs of a TCP header.

/// Flag bits of the TCP header (RFC 9293, section 3.1).
pub mod flags {
    /// The sender has no more data.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is meant.
    pub const ACK: u8 = 0x10;
}

/// Length of a header without options, RFC 9293.
const HEADER: usize = 20;
/// Option kinds (RFC 9293, section 3.2; RFC 7323, section 2.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
/// Larger shifts count as this (RFC 7323, section 2.3).
pub(super) const MAX_SCALE: u8 = 14;

/// One TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// Number of the first byte, or of the SYN.
    pub sequence: u32,
    /// Next number expected from the other end.
    pub acknowledgement: u32,
    /// Bytes of data.
    pub payload: u32,
    /// As in the header, not scaled.
    pub window: u16,
    /// See [`flags`].
    pub flags: u8,
    /// The window scale option, read in segments with SYN only, at most 14.
    pub scale: Option<u8>,
}

/// What the flags make of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Reset,
    /// Acknowledges, and may carry data or FIN.
    Data,
    /// Flags no sender combines: SYN with FIN or RST, FIN with RST or alone, none at all.
    Impossible,
}

impl Segment {
    /// Reads the header at the start of `transport`. `len` is the length of header and data as the IP header says it,
    /// which may be more than is there (in a first fragment).
    ///
    /// Nothing when the header is cut off or impossible.
    pub fn parse(transport: &[u8], len: usize) -> Option<Self> {
        let header: &[u8; HEADER] = transport.first_chunk()?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *header;
        let header_len = usize::from(offset >> 4) * 4;
        let options = transport.get(HEADER..header_len)?;
        Some(Self {
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
            payload: u32::try_from(len.checked_sub(header_len)?).ok()?,
            window: u16::from_be_bytes([w0, w1]),
            flags,
            scale: if flags & flags::SYN == 0 { None } else { window_scale(options) },
        })
    }

    /// One that says nothing: no data, and numbers that nobody goes by.
    pub(super) fn plain() -> Self {
        Self { flags: flags::ACK, ..Self::default() }
    }

    /// True when the segment can open a connection.
    #[inline]
    pub fn is_opening(&self) -> bool {
        self.kind() == Kind::Syn
    }

    #[inline]
    pub(super) const fn kind(&self) -> Kind {
        const SYN_ACK: u8 = flags::SYN | flags::ACK;
        const RST_ACK: u8 = flags::RST | flags::ACK;
        const FIN_ACK: u8 = flags::FIN | flags::ACK;
        match self.flags & (flags::FIN | flags::SYN | flags::RST | flags::ACK) {
            flags::SYN => Kind::Syn,
            SYN_ACK => Kind::SynAck,
            flags::RST | RST_ACK => Kind::Reset,
            flags::ACK | FIN_ACK => Kind::Data,
            _ => Kind::Impossible,
        }
    }

    #[inline]
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number after that of its SYN.
    #[inline]
    pub(super) const fn after_syn(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// The number after the segment's last: SYN and FIN count as a byte each.
    #[inline]
    pub(super) const fn end(&self) -> u32 {
        let controls = self.has(flags::SYN) as u32 + self.has(flags::FIN) as u32;
        self.sequence.wrapping_add(self.payload).wrapping_add(controls)
    }
}

/// Walks the options. Broken ones end the walk, as in the receiver.
fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        options = match *options {
            [] | [END, ..] => return None,
            [NO_OPERATION, ref rest @ ..] => rest,
            [WINDOW_SCALE, 3, shift, ..] => return Some(shift.min(MAX_SCALE)),
            // The length counts itself and the kind.
            [_, len, ..] if len >= 2 => options.get(usize::from(len)..)?,
            _ => return None,
        };
    }
}
