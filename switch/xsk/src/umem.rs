//! Memory shared with the kernel.
//!
//! All sockets of the switch share one UMEM, so that a frame received on one can be sent on any other. In the kernel a
//! UMEM belongs to the socket it was registered with, and further sockets join by naming that socket while it is bound
//! (`xsk_bind`, `net/xdp/xsk.c`). Ports come and go, so none of them can be that socket: the **anchor** is, a socket on
//! queue 0 of `lo`, which every network namespace has. It has no XDP program and never carries a packet.
//!
//! Sockets that join inherit copy or zero-copy mode and the wake-up flag from the anchor (`xp_assign_dev_shared`,
//! `net/xdp/xsk_buff_pool.c`). `lo` can only copy, so all sockets copy.

use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::sync::Mutex;

use rustix::io::Errno;
use xsk_rs::FrameDesc;
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};

use crate::arena::DATA_OFFSET;
use crate::bind::{self, Places, Queues};
use crate::error::os_error;
use crate::{ArenaError, SocketError};

/// Size of every socket's fill and completion ring. libxdp takes it with the UMEM, the same for all sockets.
pub(crate) const RING: u32 = 1024;

/// A registered UMEM and its anchor.
#[derive(Debug)]
pub(crate) struct Umem {
    inner: xsk_rs::Umem,
    /// Descriptor of every chunk, at its place for data. xsk-rs has no other way to make one.
    descriptors: Box<[FrameDesc]>,
    places: Places,
    /// In a mutex only to be `Sync`: nobody uses these queues.
    _anchor: Mutex<Queues>,
}

impl Umem {
    pub(crate) fn new(count: u32, chunk_size: u32) -> Result<Self, ArenaError> {
        let frame_size = FrameSize::new(chunk_size).map_err(|_| ArenaError::ChunkSize(chunk_size))?;
        let frames = NonZeroU32::new(count).ok_or(ArenaError::Count(count))?;
        let config = UmemConfig::builder()
            .frame_size(frame_size)
            .frame_headroom(0)
            .fill_queue_size(power_of_two(RING))
            .comp_queue_size(power_of_two(RING))
            .build()
            .map_err(|_| ArenaError::ChunkSize(chunk_size))?;
        let bytes = u64::from(count) * u64::from(chunk_size);
        let (umem, descriptors) =
            xsk_rs::Umem::new(config, frames, false).map_err(|error| refused(&error, bytes))?;
        let anchor_config = SocketConfig::builder()
            .rx_queue_size(power_of_two(1))
            .tx_queue_size(power_of_two(1))
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let places = Places::default();
        let anchor = bind::bind(&umem, &places, "lo", 0, anchor_config).map_err(ArenaError::Anchor)?;
        Ok(Self {
            inner: umem,
            descriptors: descriptors.into_boxed_slice(),
            places,
            _anchor: Mutex::new(anchor),
        })
    }

    /// Where the memory begins.
    pub(crate) fn base(&self) -> NonNull<u8> {
        // SAFETY: the descriptor is one of this UMEM, and nobody else has access to the memory yet; the slice is empty.
        let data = unsafe { self.inner.data(&self.descriptors[0]) }.contents().as_ptr();
        debug_assert_eq!(self.descriptors[0].addr(), usize::from(DATA_OFFSET));
        // The slice's pointer may be used for the slice only. But libxdp has passed the address on as an integer, so
        // the pointer to the whole mapping can be had back from its address.
        let base = std::ptr::with_exposed_provenance_mut(data.addr() - self.descriptors[0].addr());
        NonNull::new(base).unwrap_or(NonNull::dangling())
    }

    /// Opens a socket of this UMEM.
    pub(crate) fn bind(
        &self,
        interface: &str,
        queue: u32,
        config: SocketConfig,
    ) -> Result<Queues, SocketError> {
        bind::bind(&self.inner, &self.places, interface, queue, config)
    }

    /// Descriptor of chunk `index` with nothing in it.
    #[inline]
    pub(crate) fn descriptor(&self, index: u32) -> FrameDesc {
        self.descriptors[index as usize]
    }

    /// Descriptor of chunk `index` with a packet of `len` bytes at its place for data.
    ///
    /// # Safety
    ///
    /// The caller owns the frame of the chunk.
    #[inline]
    pub(crate) unsafe fn packet_descriptor(&self, index: u32, len: usize) -> FrameDesc {
        let mut descriptor = self.descriptor(index);
        // SAFETY: the descriptor is one of this UMEM, and the caller owns the frame, so nobody else uses the memory.
        unsafe { self.inner.data_mut(&mut descriptor) }.cursor().set_pos(len);
        descriptor
    }
}

/// The size of a ring, which has to be a power of two.
pub(crate) fn power_of_two(size: u32) -> QueueSize {
    QueueSize::new(size.next_power_of_two()).expect("the next power of two is one")
}

fn refused(error: &xsk_rs::umem::UmemCreateError, bytes: u64) -> ArenaError {
    let source = os_error(error);
    match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS) => ArenaError::NotPermitted,
        Some(Errno::AFNOSUPPORT) => ArenaError::Unsupported,
        // `xdp_umem_account_pages`, net/xdp/xdp_umem.c
        Some(Errno::NOBUFS) => ArenaError::LockedMemory { bytes },
        Some(Errno::NOMEM) => ArenaError::OutOfMemory,
        _ => ArenaError::Kernel(source),
    }
}
