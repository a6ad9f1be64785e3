//! What the uplink's program makes of packets: ours go to the socket, everything else passes, at any length and with any
//! header changed. Run by the kernel on crafted packets (`BPF_PROG_TEST_RUN`). Needs root.
#![allow(clippy::unwrap_used)]

#[path = "../../xsk/tests/common/mod.rs"]
mod common;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::{BPFFS, sandbox};
use etherparse::{IpFragOffset, Ipv4Header, Ipv6Header, PacketBuilder, ip_number};
use heddle_bpf::{Steering, UplinkFilter, Verdict};
use rustix::net::{AddressFamily, SocketType, socket};

const VNI: u32 = 0x0012_3456;
const PORT: u16 = 4789;
const OURS: [u8; 4] = [172, 31, 0, 1];
const OURS_V6: [u8; 16] = [0xfd, 0, 1, 0x72, 0, 0x31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const PEER: [u8; 4] = [172, 31, 0, 2];
const PEER_V6: [u8; 16] = [0xfd, 0, 1, 0x72, 0, 0x31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Offsets in a packet without IP options.
const UDP_V4: usize = 14 + 20;
const UDP_V6: usize = 14 + 40;

/// VXLAN header with `vni` and something inside.
fn vxlan(vni: u32) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend([0xab; 60]);
    payload
}

fn v4(source: [u8; 4], destination: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(source, destination, 64)
        .udp(50_000, port)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn v6(source: [u8; 16], destination: [u8; 16], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(source, destination, 64)
        .udp(50_000, port)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// Runs `test` with a function that tells the verdict on a packet which arrives at queue 0 of `lo`.
fn with_uplink(test: impl FnOnce(&dyn Fn(&[u8]) -> Verdict) + Send + 'static) {
    sandbox(|| {
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let filter =
            UplinkFilter { vni: VNI, port: PORT, addresses: vec![IpAddr::from(OURS), IpAddr::from(OURS_V6)] };
        // The map takes any AF_XDP socket; nothing is received here.
        let socket = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        steering.attach_uplink("lo", &filter, &[(0, socket.as_fd())]).unwrap();
        test(&|packet| steering.judge_uplink(packet).unwrap());
    });
}

#[test]
fn the_overlays_packets_go_to_the_socket() {
    with_uplink(|judge| {
        assert_eq!(judge(&v4(PEER, OURS, PORT, &vxlan(VNI))), Verdict::Redirect);
        assert_eq!(judge(&v6(PEER_V6, OURS_V6, PORT, &vxlan(VNI))), Verdict::Redirect);
        // The reserved bits around flag and VNI are ignored on receipt (RFC 7348 section 5).
        let mut reserved = vxlan(VNI);
        for (at, bits) in [(0, 0xf7), (1, 0xff), (2, 0xff), (3, 0xff), (7, 0xff)] {
            reserved[at] |= bits;
        }
        assert_eq!(judge(&v4(PEER, OURS, PORT, &reserved)), Verdict::Redirect);
        // Nothing behind the VXLAN header is the switch's to complain about.
        assert_eq!(judge(&v4(PEER, OURS, PORT, &vxlan(VNI)[..8])), Verdict::Redirect);
    });
}

#[test]
fn ipv4_options_are_stepped_over() {
    with_uplink(|judge| {
        for words in 1..=10 {
            let options = vec![1; words * 4];
            let mut ip = Ipv4Header::new(0, 64, ip_number::UDP, PEER, OURS).unwrap();
            ip.options = options.as_slice().try_into().unwrap();
            let mut packet = Vec::new();
            PacketBuilder::ethernet2([2; 6], [4; 6])
                .ip(etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()))
                .udp(50_000, PORT)
                .write(&mut packet, &vxlan(VNI))
                .unwrap();
            assert_eq!(packet[14], 0x45 + words as u8);
            assert_eq!(judge(&packet), Verdict::Redirect);
            // With the length of a plain header, the options would be read as UDP.
            packet[14] = 0x45;
            assert_eq!(judge(&packet), Verdict::Pass);
        }
    });
}

#[test]
fn packets_cut_anywhere_before_the_end_of_the_vxlan_header_pass() {
    with_uplink(|judge| {
        let packets =
            [(v4(PEER, OURS, PORT, &vxlan(VNI)), UDP_V4), (v6(PEER_V6, OURS_V6, PORT, &vxlan(VNI)), UDP_V6)];
        for (packet, udp) in packets {
            // The kernel runs no program on less than an Ethernet header.
            for length in 14..packet.len() {
                let expected = if length < udp + 16 { Verdict::Pass } else { Verdict::Redirect };
                assert_eq!(judge(&packet[..length]), expected, "{length} bytes");
            }
        }
    });
}

#[test]
fn every_byte_that_makes_a_packet_ours_does() {
    with_uplink(|judge| {
        // EtherType, version, protocol, destination address, destination port, I flag, VNI.
        let v4_bytes: Vec<usize> = [
            12..14,
            23..24,
            30..34,
            UDP_V4 + 2..UDP_V4 + 4,
            UDP_V4 + 8..UDP_V4 + 9,
            UDP_V4 + 12..UDP_V4 + 15,
        ]
        .into_iter()
        .flatten()
        .collect();
        let v6_bytes: Vec<usize> = [
            12..14,
            20..21,
            38..54,
            UDP_V6 + 2..UDP_V6 + 4,
            UDP_V6 + 8..UDP_V6 + 9,
            UDP_V6 + 12..UDP_V6 + 15,
        ]
        .into_iter()
        .flatten()
        .collect();
        let cases = [
            (v4(PEER, OURS, PORT, &vxlan(VNI)), v4_bytes),
            (v6(PEER_V6, OURS_V6, PORT, &vxlan(VNI)), v6_bytes),
        ];
        for (packet, bytes) in cases {
            for at in bytes {
                let mut changed = packet.clone();
                // 0x08 is the I flag.
                changed[at] ^= 0x08;
                assert_eq!(judge(&changed), Verdict::Pass, "byte {at}");
            }
            for version in (0..16).filter(|version| *version != packet[14] >> 4) {
                let mut changed = packet.clone();
                changed[14] = version << 4 | packet[14] & 0x0f;
                assert_eq!(judge(&changed), Verdict::Pass, "IP version {version}");
            }
            // Source addresses, MACs, ports, identification and traffic class are not looked at.
            for at in [0, 6, 15, if packet[14] >> 4 == 4 { 26 } else { 22 }, packet.len() - 1] {
                let mut changed = packet.clone();
                changed[at] ^= 0xff;
                assert_eq!(judge(&changed), Verdict::Redirect, "byte {at}");
            }
        }
    });
}

#[test]
fn fragments_pass() {
    with_uplink(|judge| {
        for (more, offset, expected) in [
            (true, 0, Verdict::Pass),
            (false, 1, Verdict::Pass),
            (true, 185, Verdict::Pass),
            (false, 0, Verdict::Redirect),
        ] {
            let mut ip = Ipv4Header::new(0, 64, ip_number::UDP, PEER, OURS).unwrap();
            ip.more_fragments = more;
            ip.dont_fragment = !more;
            ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            let mut packet = v4(PEER, OURS, PORT, &vxlan(VNI));
            let mut header = Vec::new();
            ip.write(&mut header).unwrap();
            packet[14 + 6..14 + 8].copy_from_slice(&header[6..8]);
            assert_eq!(judge(&packet), expected, "more {more}, offset {offset}");
        }
        // IPv6: a fragment header before UDP, as any other extension header.
        for extension in [0_u8, 43, 44, 60] {
            let mut packet = v6(PEER_V6, OURS_V6, PORT, &vxlan(VNI));
            packet[20] = extension;
            packet.splice(UDP_V6..UDP_V6, [17, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(judge(&packet), Verdict::Pass, "next header {extension}");
        }
    });
}

#[test]
fn others_traffic_passes() {
    with_uplink(|judge| {
        let ours = v4(PEER, OURS, PORT, &vxlan(VNI));
        // 802.1Q in front of it.
        let mut tagged = ours.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(judge(&tagged), Verdict::Pass);
        let mut arp = vec![0xff; 6];
        arp.extend([2, 2, 2, 2, 2, 2, 0x08, 0x06]);
        arp.extend([0; 46]);
        assert_eq!(judge(&arp), Verdict::Pass);
        let mut tcp = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(PEER, OURS, 64)
            .tcp(50_000, PORT, 0, 1000)
            .write(&mut tcp, &vxlan(VNI))
            .unwrap();
        assert_eq!(judge(&tcp), Verdict::Pass);
        // An IPv6 address that ends in ours of IPv4 is not ours.
        let mut lookalike = OURS_V6;
        lookalike[12..].copy_from_slice(&OURS);
        assert_eq!(judge(&v6(PEER_V6, lookalike, PORT, &vxlan(VNI))), Verdict::Pass);
        let header = Ipv6Header::default();
        assert_eq!(header.header_len(), UDP_V6 - 14);
    });
}

/// The verdict once a socket is closed. Another test may be starting a program, whose process has a copy of all
/// descriptors until it becomes the program.
fn await_verdict(expected: Verdict, judge: impl Fn() -> Verdict) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while judge() != expected {
        assert!(Instant::now() < deadline, "the socket is closed, but the verdict is {:?}", judge());
        std::thread::yield_now();
    }
}

#[test]
fn without_a_socket_the_overlay_passes_too() {
    sandbox(|| {
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let filter = UplinkFilter { vni: VNI, port: PORT, addresses: vec![IpAddr::from(OURS)] };
        let packet = v4(PEER, OURS, PORT, &vxlan(VNI));
        let judge = |steering: &Steering| steering.judge_uplink(&packet).unwrap();
        assert_eq!(judge(&steering), Verdict::Pass, "nothing is set");
        let socket = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        steering.attach_uplink("lo", &filter, &[(1, socket.as_fd())]).unwrap();
        assert_eq!(judge(&steering), Verdict::Pass, "the socket is another queue's");
        steering.attach_uplink("lo", &filter, &[(0, socket.as_fd())]).unwrap();
        assert_eq!(judge(&steering), Verdict::Redirect);
        // Changing the filter takes the old one away, addresses included.
        for (changed, what) in [
            (UplinkFilter { vni: VNI + 1, ..filter.clone() }, "VNI"),
            (UplinkFilter { port: PORT + 1, ..filter.clone() }, "port"),
            (UplinkFilter { addresses: vec![IpAddr::from(OURS_V6)], ..filter.clone() }, "address"),
        ] {
            steering.attach_uplink("lo", &changed, &[(0, socket.as_fd())]).unwrap();
            assert_eq!(judge(&steering), Verdict::Pass, "{what}");
            steering.attach_uplink("lo", &filter, &[(0, socket.as_fd())]).unwrap();
            assert_eq!(judge(&steering), Verdict::Redirect);
        }
        drop(socket);
        await_verdict(Verdict::Pass, || judge(&steering));
    });
}

#[test]
fn a_ports_packets_go_to_its_socket_or_nowhere() {
    sandbox(|| {
        let mut steering = Steering::open(BPFFS.as_ref()).unwrap();
        let packet = [0x55; 60];
        let judge = |steering: &Steering| steering.judge_port("lo", &packet).unwrap();
        assert_eq!(judge(&steering), Verdict::Drop, "not attached");
        let socket_one = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        steering.attach_port("lo", socket_one.as_fd()).unwrap();
        assert_eq!(judge(&steering), Verdict::Redirect);
        drop(socket_one);
        await_verdict(Verdict::Drop, || judge(&steering));
        let socket_two = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        steering.attach_port("lo", socket_two.as_fd()).unwrap();
        assert_eq!(judge(&steering), Verdict::Redirect);
        steering.detach_port("lo").unwrap();
        assert_eq!(judge(&steering), Verdict::Drop);
        steering.detach_port("lo").unwrap();
    });
}
