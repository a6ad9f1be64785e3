//! Packets that `parse` refuses.

use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;

use super::{Case, POD_1, case, good};
use crate::common::cluster::{V4, V6};
use crate::common::packets::{patch, patch_ipv4};

pub(crate) fn cases() -> Vec<Case> {
    use DropReason::{MalformedIp, Truncated, TrunkTag, UnknownEtherType};
    let v4 = good(V4).bytes();
    let v6 = good(V6).bytes();
    let chain = |count: usize| {
        let extensions = [[60, 0, 1, 4, 0, 0, 0, 0]].into_iter().cycle().take(count).flatten();
        let mut bytes = v6[..54].to_vec();
        bytes.extend(extensions);
        let payload_len = (bytes.len() - 54) as u16;
        patch(patch(bytes, 14 + 6, &[60]), 14 + 4, &payload_len.to_be_bytes())
    };
    vec![
        case(TrunkTag, "a trunk's frame that says nothing", Ingress::Trunk, v4.clone()),
        case(Truncated, "nothing at all", POD_1, vec![]),
        case(Truncated, "inside the Ethernet header", POD_1, v4[..13].to_vec()),
        case(Truncated, "inside the IPv4 header", POD_1, v4[..33].to_vec()),
        case(Truncated, "inside the IPv6 header", POD_1, v6[..53].to_vec()),
        case(Truncated, "inside an ARP message", POD_1, patch(v4[..41].to_vec(), 12, &[8, 6])),
        case(Truncated, "shorter than IPv4 says", POD_1, v4[..v4.len() - 1].to_vec()),
        case(Truncated, "shorter than IPv6 says", POD_1, v6[..v6.len() - 1].to_vec()),
        case(Truncated, "inside an extension header", POD_1, patch(chain(1), 54, &[43, 1])),
        case(MalformedIp, "version 5", POD_1, patch_ipv4(v4.clone(), 0, &[0x55])),
        case(MalformedIp, "version 4 in IPv6", POD_1, patch(v6.clone(), 14, &[0x40])),
        case(MalformedIp, "header length 16", POD_1, patch(v4.clone(), 14, &[0x44])),
        case(MalformedIp, "total length below header length", POD_1, patch_ipv4(v4.clone(), 2, &[0, 19])),
        case(MalformedIp, "wrong header checksum", POD_1, patch(v4.clone(), 14 + 11, &[v4[25] ^ 1])),
        case(MalformedIp, "nine extension headers", POD_1, chain(9)),
        case(UnknownEtherType, "a VLAN tag", POD_1, patch(v4.clone(), 12, &[0x81, 0])),
        case(UnknownEtherType, "an 802.3 length", POD_1, patch(v4, 12, &[0, 46])),
    ]
}
