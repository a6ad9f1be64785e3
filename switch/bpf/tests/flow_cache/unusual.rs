//! Whatever is no packet in the middle of a TCP or UDP flow goes up unchanged, though its flow is open: openings and closings,
//! fragments, options, other protocols, and lengths that lie.

use heddle_bpf::Outcome;

use crate::bench::bench;
use crate::sample::{ETHERNET, SAMPLES, Sample};

const TCP4: Sample = Sample { v6: false, tcp: true };

#[test]
fn openings_closings_and_exceptions_of_tcp_go_up() {
    bench(|mut bench| {
        for sample in SAMPLES.into_iter().filter(|sample| sample.tcp) {
            bench.open(sample);
            for flags in 0..=255_u8 {
                let mut packet = sample.packet(10);
                packet[sample.transport() + 13] = flags;
                let tried = bench.send(&packet);
                // ACK and nothing of URG, RST, SYN, FIN (RFC 9293 section 3.1).
                if flags & 0b0011_0111 == 0b0001_0000 {
                    tried.assert_hit();
                } else {
                    tried.assert_up(Outcome::Unusual, &packet, &format!("flags {flags:#x}"));
                }
            }
        }
    });
}

/// What is done to a packet of `sample`, whose transport header begins at `l4`.
type Change = (&'static str, fn(&mut Vec<u8>, usize));

fn assert_unusual(samples: impl Iterator<Item = Sample>, changes: &'static [Change]) {
    let samples: Vec<Sample> = samples.collect();
    bench(move |mut bench| {
        for sample in samples {
            bench.open(sample);
            for (what, change) in changes {
                let mut packet = sample.packet(30);
                bench.send(&packet).assert_hit();
                change(&mut packet, sample.transport());
                // Or that would be what is unusual.
                if !sample.v6 {
                    set_ipv4_checksum(&mut packet);
                }
                bench.send(&packet).assert_up(Outcome::Unusual, &packet, &format!("{sample:?}: {what}"));
            }
        }
    });
}

/// Makes the IPv4 header's checksum right, as far as there is a header (RFC 1071).
fn set_ipv4_checksum(packet: &mut [u8]) {
    let length = usize::from(packet[14] & 0xf) * 4;
    let Some(header) = packet.get_mut(14..14 + length).filter(|header| header.len() >= 20) else { return };
    header[10..12].fill(0);
    let sum =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn a_wrong_ipv4_checksum_goes_up() {
    bench(|mut bench| {
        for sample in SAMPLES.into_iter().filter(|sample| !sample.v6) {
            bench.open(sample);
            for bit in 0..16 {
                let mut packet = sample.packet(30);
                packet[24 + bit / 8] ^= 1 << (bit % 8);
                bench.send(&packet).assert_up(Outcome::Unusual, &packet, &format!("{sample:?}, bit {bit}"));
                set_ipv4_checksum(&mut packet);
                bench.send(&packet).assert_hit();
            }
        }
    });
}

#[test]
fn unusual_ipv4_goes_up() {
    assert_unusual(
        SAMPLES.into_iter().filter(|sample| !sample.v6),
        &[
            ("no version", |packet, _| packet[14] = 0x05),
            ("version 6", |packet, _| packet[14] = 0x65),
            ("header too short", |packet, _| packet[14] = 0x44),
            ("options", |packet, l4| {
                packet.splice(l4..l4, [1; 4]);
                packet[14] = 0x46;
                packet[17] += 4;
            }),
            ("more fragments", |packet, _| packet[20] |= 0x20),
            ("fragment offset", |packet, _| packet[21] |= 1),
            ("high fragment offset", |packet, _| packet[20] |= 0x10),
            ("hop limit 1", |packet, _| packet[22] = 1),
            ("hop limit 0", |packet, _| packet[22] = 0),
            ("longer than it is", |packet, _| packet[17] += 1),
            ("shorter than it is", |packet, _| packet[17] -= 1),
            ("no length", |packet, _| packet[16..18].fill(0)),
            ("padded", |packet, _| packet.extend([0; 6])),
            ("ICMP", |packet, _| packet[23] = 1),
            ("SCTP", |packet, _| packet[23] = 132),
            ("UDP-Lite", |packet, _| packet[23] = 136),
            ("ARP", |packet, _| packet[12..14].copy_from_slice(&[0x08, 0x06])),
            ("IPv6 by EtherType", |packet, _| packet[12..14].copy_from_slice(&[0x86, 0xdd])),
            ("802.1Q", |packet, _| drop(packet.splice(12..12, [0x88, 0xa8, 0, 5]))),
        ],
    );
}

#[test]
fn unusual_ipv6_goes_up() {
    assert_unusual(
        SAMPLES.into_iter().filter(|sample| sample.v6),
        &[
            ("version 4", |packet, _| packet[14] = 0x40),
            ("hop limit 1", |packet, _| packet[21] = 1),
            ("hop limit 0", |packet, _| packet[21] = 0),
            ("longer than it is", |packet, _| packet[19] += 1),
            ("shorter than it is", |packet, _| packet[19] -= 1),
            ("no length", |packet, _| packet[18..20].fill(0)),
            ("padded", |packet, _| packet.push(0)),
            ("hop-by-hop options", |packet, l4| extension(packet, l4, 0)),
            ("routing header", |packet, l4| extension(packet, l4, 43)),
            ("fragment header", |packet, l4| extension(packet, l4, 44)),
            ("destination options", |packet, l4| extension(packet, l4, 60)),
            ("ICMPv6", |packet, _| packet[20] = 58),
            ("no next header", |packet, _| packet[20] = 59),
            ("IPv4 by EtherType", |packet, _| packet[12..14].copy_from_slice(&[0x08, 0x00])),
        ],
    );
}

/// Puts eight octets of an extension header in front of the transport.
fn extension(packet: &mut Vec<u8>, l4: usize, number: u8) {
    let transport = packet[20];
    packet[20] = number;
    packet.splice(l4..l4, [transport, 0, 0, 0, 0, 0, 0, 0]);
    packet[19] += 8;
}

#[test]
fn transport_headers_that_lie_go_up() {
    assert_unusual(
        SAMPLES.into_iter().filter(|sample| sample.tcp),
        &[
            ("data offset 4", |packet, l4| packet[l4 + 12] = 0x40),
            ("data offset 0", |packet, l4| packet[l4 + 12] = 0),
            ("data offset behind the end", |packet, l4| packet[l4 + 12] = 0xf0),
        ],
    );
    assert_unusual(
        SAMPLES.into_iter().filter(|sample| !sample.tcp),
        &[
            ("longer", |packet, l4| packet[l4 + 5] += 1),
            ("shorter", |packet, l4| packet[l4 + 5] -= 1),
            ("shorter than its header", |packet, l4| packet[l4 + 5] = 7),
            ("no length", |packet, l4| packet[l4 + 5] = 0),
            ("a high length", |packet, l4| packet[l4 + 4] = 1),
        ],
    );
}

#[test]
fn tcp_options_and_odd_flags_are_nothing_unusual() {
    bench(|mut bench| {
        let sample = TCP4;
        bench.open(sample);
        // PSH, ECE, CWR; the data offset to the very end; every hop limit above one.
        for (at, value) in [(13, 0xd8), (12, 0xc0), (14, 0)] {
            let mut packet = sample.packet(28);
            packet[sample.transport() + at] = value;
            bench.send(&packet).assert_hit();
        }
        // Don't-fragment, the reserved bit, and a traffic class are forwarded as they are.
        for (at, value) in [(20, 0x40), (20, 0x80), (15, 0xff), (18, 0xab)] {
            let mut packet = sample.packet(28);
            packet[at] = value;
            if !sample.v6 {
                set_ipv4_checksum(&mut packet);
            }
            let tried = bench.send(&packet);
            tried.assert_hit();
            assert_eq!(tried.packet[at], value);
        }
    });
}

#[test]
fn packets_cut_anywhere_go_up() {
    bench(|mut bench| {
        for sample in SAMPLES {
            bench.open(sample);
            let whole = sample.packet(30);
            // What ends before the IP header does, the kernel does not try; `wire.rs` sends it.
            for length in sample.transport()..whole.len() {
                let mut packet = whole[..length].to_vec();
                bench.send(&packet).assert_up(Outcome::Unusual, &packet, &format!("{sample:?}, {length}"));
                // Also if the IP header agrees with the cut.
                let (at, claimed) =
                    if sample.v6 { (18, length - sample.transport()) } else { (16, length - ETHERNET) };
                if length < sample.payload() {
                    packet[at..at + 2].copy_from_slice(&(claimed as u16).to_be_bytes());
                    bench.send(&packet).assert_up(Outcome::Unusual, &packet, &format!("{length} agreed"));
                }
            }
        }
    });
}
