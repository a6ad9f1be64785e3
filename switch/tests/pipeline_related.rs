//! What belongs to a connection without having its ports shares its fate: later fragments and ICMP errors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::cluster::{FAMILIES, GATEWAY_MAC, V4, from_pod, pod, pod_mac};
use common::packets::{Spec, fragment, icmp_error, patch};
use common::policy::{Rules, enforce};
use common::switch::{Outcome, Switch};
use heddle_image::Protocol;
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;

const POD_1: Ingress = Ingress::Endpoint(1);
const POD_2: Ingress = Ingress::Endpoint(2);

/// Pod 1 may ask pod 2, by UDP on port 53.
fn switch(family: usize) -> Switch {
    let mut switch = Switch::node_1(V4);
    let [one, two] = [pod(1, 1)[family], pod(1, 2)[family]];
    let port = Some((Protocol::Udp, 53));
    enforce(&mut switch.tables, 1, Rules::only(&[], &[(two, port)]));
    enforce(&mut switch.tables, 2, Rules::only(&[(one, port)], &[]));
    switch
}

fn question(family: usize, port: u16) -> Spec {
    Spec { ports: (40_000, port), payload: 64, ..from_pod(family, pod(1, 2)[family]) }
}

#[track_caller]
fn passes(switch: &mut Switch, by: Ingress, packet: &[u8]) {
    let outcome = switch.pass(by, packet);
    assert_eq!((outcome.sent.len(), outcome.drops.len()), (1, 0), "{outcome:?}");
}

#[test]
fn later_fragments_follow_the_first() {
    for family in FAMILIES {
        let mut switch = switch(family);
        let (allowed, denied) = (question(family, 53).bytes(), question(family, 54).bytes());
        passes(&mut switch, POD_1, &fragment(&allowed, 1, 0, true));
        passes(&mut switch, POD_1, &fragment(&allowed, 1, 2, true));
        passes(&mut switch, POD_1, &fragment(&allowed, 1, 4, false));
        let not_allowed = Outcome::dropped(DropReason::PolicyEgress);
        assert_eq!(switch.pass(POD_1, &fragment(&denied, 2, 0, true)), not_allowed);
        assert_eq!(switch.pass(POD_1, &fragment(&denied, 2, 2, false)), not_allowed);
        if family != V4 {
            // A destination options header behind the fragment header: later fragments name it as what they carry.
            let options = |mut piece: Vec<u8>| {
                piece[54] = 60;
                piece
            };
            passes(&mut switch, POD_1, &options(fragment(&with_options(&allowed), 4, 0, true)));
            passes(&mut switch, POD_1, &options(fragment(&with_options(&allowed), 4, 2, false)));
        }
        let unknown = Outcome::dropped(DropReason::FragmentUnknown);
        assert_eq!(switch.pass(POD_1, &fragment(&allowed, 3, 2, false)), unknown);
        assert_eq!(switch.missing_frames(), 0);
    }
}

/// The IPv6 packet with eight bytes of destination options, all padding, in front of UDP.
fn with_options(packet: &[u8]) -> Vec<u8> {
    [&packet[..54], &[17, 0, 1, 4, 0, 0, 0, 0], &packet[54..]].concat()
}

/// Pod 2 says that what `quoted` is about failed.
fn error(family: usize, quoted: &[u8]) -> Vec<u8> {
    error_from(pod(1, 2)[family], pod(1, 1)[family], quoted)
}

fn error_from(from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    icmp_error((pod_mac(1, 2), GATEWAY_MAC), from, to, quoted)
}

#[test]
fn errors_about_an_allowed_connection_pass() {
    for family in FAMILIES {
        let mut switch = switch(family);
        let packet = question(family, 53).bytes();
        let alone = Outcome::dropped(DropReason::PolicyEgress);
        assert_eq!(switch.pass(POD_2, &error(family, &packet[14..])), alone, "nobody asked yet");
        passes(&mut switch, POD_1, &packet);
        passes(&mut switch, POD_2, &error(family, &packet[14..]));
        // An error quotes as little as the header and eight bytes (RFC 792).
        let header = if family == V4 { 20 } else { 40 };
        passes(&mut switch, POD_2, &error(family, &packet[14..14 + header + 8]));
        // About another connection, about none, and about a packet cut off in its header.
        let other = question(family, 54).bytes();
        for quoted in [&other[14..], &[], &packet[14..20]] {
            assert_eq!(switch.pass(POD_2, &error(family, quoted)), alone);
        }
        // To somebody else than the one whose packet it quotes, and a redirect.
        let [one, two] = [pod(1, 1)[family], pod(1, 2)[family]];
        let far = error_from(two, pod(2, 1)[family], &packet[14..]);
        assert_eq!(switch.pass(POD_2, &far), alone);
        if family == V4 {
            let redirect = patch(error_from(two, one, &packet[14..]), 34, &[5]);
            assert_eq!(switch.pass(POD_2, &redirect), alone);
        }
        // Errors do not keep a connection alive that policy has ended.
        enforce(&mut switch.tables, 2, Rules::only(&[], &[]));
        let ended = Outcome::dropped(DropReason::PolicyIngress);
        assert_eq!(switch.pass(POD_2, &error(family, &packet[14..])), ended);
    }
}
