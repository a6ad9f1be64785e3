//! Attaching a program to an interface, or taking over one that is attached.

use std::os::fd::AsFd;

use libbpf_rs::{Link, Xdp, XdpFlags};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::SteeringError;
use crate::maps::{Maps, Role};
use crate::pins::{Pins, check_name, fd_info, pin_error, unpin};

/// `XDP_ATTACHED_SKB`, `include/uapi/linux/if_link.h`
const XDP_ATTACHED_SKB: u8 = 2;

/// How a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the packet has a buffer of the stack.
    Native,
    /// In the stack: slower, but works for every interface.
    Generic,
}

/// A program on an interface.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) interface: String,
    pub(crate) ifindex: u32,
    pub(crate) mode: XdpMode,
    /// `None` for a program without a link.
    link: Option<Link>,
}

impl Attachment {
    /// Takes the program off. Finding it gone already, with its interface, is fine.
    pub(crate) fn detach(self, pins: &Pins) -> Result<(), SteeringError> {
        let Some(link) = self.link else {
            return detach_generic(pins, &self.interface, self.ifindex);
        };
        detach_link(pins, &self.interface, &link)
    }
}

/// Attaches the program, natively if the driver does that. A link that an earlier switch left on the interface gets the
/// new program without a gap.
pub(crate) fn attach(
    maps: &Maps,
    pins: &Pins,
    role: Role,
    interface: &str,
) -> Result<Attachment, SteeringError> {
    let ifindex = ifindex(interface)?;
    let link = match adopt(maps, pins, role, interface, ifindex)? {
        Some(link) => Some(link),
        None => create(maps, pins, role, interface, ifindex)?,
    };
    let mode = match query(pins, ifindex)?.attach_mode {
        XDP_ATTACHED_SKB => XdpMode::Generic,
        _ => XdpMode::Native,
    };
    Ok(Attachment { interface: interface.to_owned(), ifindex, mode, link })
}

/// Takes everything off that is pinned for `interface`, whoever attached it.
pub(crate) fn clear(pins: &Pins, interface: &str) -> Result<(), SteeringError> {
    if let Some(link) = pins.link(interface) {
        detach_link(pins, interface, &link)?;
    }
    match ifindex(interface) {
        Ok(ifindex) => detach_generic(pins, interface, ifindex),
        Err(_) => unpin(&pins.generic_path(interface)),
    }
}

/// Index of an interface of the calling thread's network namespace.
pub(crate) fn ifindex(interface: &str) -> Result<u32, SteeringError> {
    check_name(interface)?;
    let missing = |_| SteeringError::NoInterface(interface.to_owned());
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).map_err(missing)?;
    netdevice::name_to_index(any, interface).map_err(missing)
}

/// True when the link's interface is gone: the kernel keeps the link, empty, as long as it is pinned.
pub(crate) fn is_dead(link: &Link) -> bool {
    fd_info(link, "ifindex").unwrap_or(0) == 0
}

/// Takes over the link pinned for `interface`. One that is left from another interface of that name is removed.
fn adopt(
    maps: &Maps,
    pins: &Pins,
    role: Role,
    interface: &str,
    ifindex: u32,
) -> Result<Option<Link>, SteeringError> {
    let Some(mut link) = pins.link(interface) else { return Ok(None) };
    if fd_info(&link, "ifindex") != Some(ifindex) {
        detach_link(pins, interface, &link)?;
        return Ok(None);
    }
    link.update_prog(&maps.program(role))
        .map_err(|source| SteeringError::Attach { interface: interface.to_owned(), source })?;
    Ok(Some(link))
}

/// Attaches the program anew: by a link, which the kernel makes native if the driver has native XDP at all, or, on the
/// uplink only, generically when the driver has it but refuses (a large MTU, too few queues). libbpf cannot ask for a
/// generic link, so that attachment has none; pinning its program remembers that it is ours.
fn create(
    maps: &Maps,
    pins: &Pins,
    role: Role,
    interface: &str,
    ifindex: u32,
) -> Result<Option<Link>, SteeringError> {
    detach_generic(pins, interface, ifindex)?;
    if query(pins, ifindex)?.prog_id != 0 {
        return Err(SteeringError::Conflict(interface.to_owned()));
    }
    let refused = |source| SteeringError::Attach { interface: interface.to_owned(), source };
    let mut program = maps.program(role);
    match program.attach_xdp(ifindex.cast_signed()) {
        Ok(mut link) => {
            let path = pins.link_path(interface);
            link.pin(&path).map_err(|error| pin_error(&path)(std::io::Error::other(format!("{error:#}"))))?;
            return Ok(Some(link));
        }
        Err(native) if matches!(role, Role::Uplink) => {
            tracing::warn!(interface, reason = format!("{native:#}"), "no native XDP, using generic: slower");
        }
        Err(source) => return Err(refused(source)),
    }
    let path = pins.generic_path(interface);
    program.pin(&path).map_err(|error| pin_error(&path)(std::io::Error::other(format!("{error:#}"))))?;
    let attached = Xdp::new(program.as_fd())
        .attach(ifindex.cast_signed(), XdpFlags::SKB_MODE | XdpFlags::UPDATE_IF_NOEXIST);
    if let Err(source) = attached {
        unpin(&path)?;
        return Err(refused(source));
    }
    Ok(None)
}

fn detach_link(pins: &Pins, interface: &str, link: &Link) -> Result<(), SteeringError> {
    if !is_dead(link) {
        link.detach().map_err(|source| SteeringError::Attach { interface: interface.to_owned(), source })?;
    }
    unpin(&pins.link_path(interface))
}

/// Takes off the program that was attached without a link, if it is still the one on the interface.
fn detach_generic(pins: &Pins, interface: &str, ifindex: u32) -> Result<(), SteeringError> {
    let Some(program) = pins.generic(interface) else { return Ok(()) };
    if fd_info(&program, "prog_id") == Some(query(pins, ifindex)?.skb_prog_id) {
        Xdp::new(program.as_fd())
            .detach(ifindex.cast_signed(), XdpFlags::SKB_MODE)
            .map_err(|source| SteeringError::Attach { interface: interface.to_owned(), source })?;
    }
    unpin(&pins.generic_path(interface))
}

/// What is on the interface now.
fn query(pins: &Pins, ifindex: u32) -> Result<libbpf_rs::libbpf_sys::bpf_xdp_query_opts, SteeringError> {
    // Asking takes no program; any descriptor will do.
    Xdp::new(pins.as_fd())
        .query(ifindex.cast_signed(), XdpFlags::NONE)
        .map_err(|source| SteeringError::Attach { interface: format!("index {ifindex}"), source })
}
