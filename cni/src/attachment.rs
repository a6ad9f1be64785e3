//! An attachment: one container's one interface, and every name that is derived from it. Nothing is random, so that DEL
//! finds by computing what ADD made, whatever state is left.

use std::net::IpAddr;

use heddle_netdev::Mac;

use crate::environment::PodName;

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The container's ID.
    pub(crate) container_id: String,
    /// Name of the interface inside.
    pub(crate) ifname: String,
    /// The pod, if Kubernetes is behind it.
    pub(crate) pod: PodName,
}

impl Attachment {
    /// The endpoint's ID at the switch.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.container_id, self.ifname)
    }

    /// Name of the host side of the pair: "hdl" and 44 bits of hash fill the kernel's 15 bytes.
    pub(crate) fn host_interface(&self) -> String {
        let hash = fnv1a(self.id().as_bytes());
        format!("hdl{:011x}", (hash ^ (hash >> 44)) & 0xfff_ffff_ffff)
    }

    /// MAC of the host side. The pod never sees it: it talks to the gateway's.
    pub(crate) fn host_mac(&self) -> Mac {
        local_mac(0x69, fnv1a(self.id().as_bytes()))
    }
}

/// MAC of the pod's interface. Unique on the node, because addresses are: an IPv4 address fits, an IPv6 one is hashed.
pub(crate) fn pod_mac(addresses: &[IpAddr]) -> Mac {
    let ipv4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(u64::from(u32::from(*v4))),
        IpAddr::V6(_) => None,
    });
    let ipv6 = addresses.iter().find_map(|address| match address {
        IpAddr::V6(v6) => Some(fnv1a(&v6.octets())),
        IpAddr::V4(_) => None,
    });
    local_mac(0x68, ipv4.or(ipv6).unwrap_or_default())
}

/// 0a: locally administered, unicast; apart from the gateway's and the VTEPs', which start with 02.
fn local_mac(kind: u8, bits: u64) -> Mac {
    let [.., a, b, c, d] = bits.to_be_bytes();
    Mac([0x0a, kind, a, b, c, d])
}

/// FNV-1a, 64 bits (RFC 9923): spelled out because names must be the same for every version of this plugin, which the
/// standard library's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    //! Derived names are stable, valid and apart.
    use std::collections::BTreeSet;

    use super::*;

    fn attachment(container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
            pod: PodName::default(),
        }
    }

    #[test]
    fn hashes_as_the_rfc_does() {
        // RFC 9923, test values of the 64-bit hash.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_never_change_between_versions() {
        // Interfaces of running pods bear these names: a change here strands them.
        assert_eq!(attachment("0123456789abcdef", "eth0").host_interface(), "hdlc12c21fb6b0");
    }

    #[test]
    fn names_are_valid_and_apart() {
        let names: BTreeSet<_> = (0..5000)
            .flat_map(|n| ["eth0", "net1"].map(|i| attachment(&format!("c{n}"), i).host_interface()))
            .collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.len() == 14 && heddle_netdev::check_link_name(name).is_ok()));
    }

    #[test]
    fn macs_follow_the_address() {
        let mac = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            pod_mac(&addresses)
        };
        assert_eq!(mac(&["10.244.1.5", "fd00::5"]).to_string(), "0a:68:0a:f4:01:05");
        assert_eq!(mac(&["fd00::5", "10.244.1.5"]), mac(&["10.244.1.5"]));
        assert_ne!(mac(&["fd00::5"]), mac(&["fd00::6"]));
        assert!(!mac(&["fd00::5"]).is_multicast());
    }
}
