//! The two calls of libbpf that libbpf-rs 0.25 has no safe form of, and nothing else: attaching to tcx, and reading a hash map
//! in batches (its own iterator ends at the first batch that is not full, which is not the end of a hash map).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};

use libbpf_rs::{AsRawLibbpf, Link, MapCore, MapHandle, ProgramMut, libbpf_sys};

/// Attaches a program for tcx ingress to an interface, behind those that are there.
pub(crate) fn attach_tcx(program: &ProgramMut<'_>, ifindex: u32) -> io::Result<Link> {
    // SAFETY: the program outlives the call, which keeps no pointer to it; without options the defaults hold.
    let link = unsafe {
        libbpf_sys::bpf_program__attach_tcx(
            program.as_libbpf_object().as_ptr(),
            ifindex.cast_signed(),
            ptr::null(),
        )
    };
    // libbpf says why by errno (since 1.0), and the pointer is null then.
    let link = NonNull::new(link).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the pointer comes from libbpf, initialised, and is nobody else's.
    Ok(unsafe { Link::from_ptr(link) })
}

/// Where a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    /// So many entries were read, and there are more, which begin at the position.
    More(u32, u32),
    /// So many entries were read, and they are the last.
    Last(u32),
    /// The next bucket has more entries than there is room for.
    NoRoom,
}

/// Reads entries of a hash map from a position on, as many as there is room for.
pub(crate) fn read_batch(
    map: &MapHandle,
    position: Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
) -> io::Result<Batch> {
    let room = (keys.len() / map.key_size() as usize).min(values.len() / map.value_size() as usize);
    let mut count = u32::try_from(room).unwrap_or(u32::MAX);
    let mut next = 0_u32;
    let options = libbpf_sys::bpf_map_batch_opts {
        sz: size_of::<libbpf_sys::bpf_map_batch_opts>() as libbpf_sys::size_t,
        ..libbpf_sys::bpf_map_batch_opts::default()
    };
    let from = position.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the kernel writes at most `count` keys and values of the map's sizes, for which there is room, and reads and
    // writes a position of 32 bits (`__htab_map_lookup_and_delete_batch`, kernel/bpf/hashtab.c).
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_fd().as_raw_fd(),
            from.cast_mut().cast(),
            ptr::from_mut(&mut next).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            ptr::from_mut(&mut count),
            ptr::from_ref(&options),
        )
    };
    if result == 0 {
        return Ok(Batch::More(count, next));
    }
    let error = io::Error::from_raw_os_error(-result);
    match error.kind() {
        io::ErrorKind::NotFound => Ok(Batch::Last(count)),
        io::ErrorKind::StorageFull => Ok(Batch::NoRoom),
        _ => Err(error),
    }
}
