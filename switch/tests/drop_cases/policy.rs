//! Packets that policy or connection tracking refuses, as far as one packet can show it.

use heddle_switch::DropReason;
use heddle_switch::tables::conntrack::flags;
use heddle_switch::tables::{EndpointPolicy, Tables};

use super::{Case, POD_1, case, good};
use crate::common::cluster::FAMILIES;
use crate::common::packets::{Spec, Upper, fragment};
use crate::common::policy::{Rules, enforce};

fn close(tables: &mut Tables) {
    let mut endpoint = tables.endpoints.get(1).unwrap().clone();
    endpoint.policy = EndpointPolicy::Closed;
    tables.endpoints.set(1, endpoint);
}

pub(crate) fn cases() -> Vec<Case> {
    use DropReason::{FragmentUnknown, PolicyEgress, PolicyIngress, PolicyPending, TcpMalformed, Truncated};
    let judged: fn(&mut Tables) = |tables| enforce(tables, 1, Rules::default());
    let mut cases = Vec::new();
    for family in FAMILIES {
        let pod_1 = |reason, what, packet| case(reason, what, POD_1, packet);
        let packet = Spec { payload: 64, ..good(family) }.bytes();
        let flags = Spec { upper: Upper::Segment(flags::SYN | flags::FIN, 1, 1), ..good(family) };
        // Without the payload that makes the header whole; the lengths are right.
        let short = |upper| fragment(&Spec { upper, payload: 64, ..good(family) }.bytes(), 1, 0, true);
        cases.extend([
            Case { change: close, ..pod_1(PolicyPending, "no image names it", packet.clone()) },
            Case {
                change: |tables| enforce(tables, 1, Rules::only(&[], &[])),
                ..pod_1(PolicyEgress, "the sender may not", packet.clone())
            },
            Case {
                change: |tables| enforce(tables, 2, Rules::only(&[], &[])),
                ..pod_1(PolicyIngress, "the receiver does not want it", packet.clone())
            },
            Case {
                change: judged,
                ..pod_1(FragmentUnknown, "no first fragment", fragment(&packet, 1, 2, false))
            },
            Case { change: judged, ..pod_1(TcpMalformed, "SYN with FIN", flags.bytes()) },
            Case {
                change: judged,
                ..pod_1(TcpMalformed, "a header in two fragments (RFC 1858)", short(Upper::Tcp))
            },
            Case { change: judged, ..pod_1(Truncated, "no room for ports", no_ports(&packet)) },
        ]);
    }
    cases
}

/// The packet without anything above IP.
fn no_ports(packet: &[u8]) -> Vec<u8> {
    use crate::common::packets::{patch, patch_ipv4};
    if packet[14] >> 4 == 4 {
        patch_ipv4(packet[..34].to_vec(), 2, &20_u16.to_be_bytes())
    } else {
        patch(packet[..54].to_vec(), 18, &[0, 0])
    }
}
