//! Rewriting an address and port keeps every checksum right: complete ones, those the kernel sums beside the packet, UDP's
//! missing one, and UDP's that becomes zero.

use std::net::IpAddr;

use heddle_bpf::{Flow, FlowKey, Outcome, Rewrite, Role, Side, Trial, Verdict};

use crate::bench::{Bench, POD_ONE, POD_TWO, Tried, bench, flow};
use crate::sample::{SAMPLES, Sample, V4, V6, read};

/// Addresses whose difference carries, borrows, and is nothing at all.
fn targets(v6: bool) -> Vec<IpAddr> {
    if v6 {
        ["2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "::1", "fd00:1::", "ff00::ff00"]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .chain([V6[1].into(), V6[0].into()])
            .collect()
    } else {
        ["255.255.255.254", "0.0.0.1", "192.0.2.77"]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .chain([V4[1].into(), V4[0].into()])
            .collect()
    }
}

fn rewriting(side: Side, address: IpAddr, port: u16) -> Flow {
    Flow { rewrite: Some(Rewrite { side, address, port }), ..flow(POD_ONE, POD_TWO) }
}

/// Tries a packet with and without the sum beside it.
fn try_both(bench: &mut Bench, packet: &[u8]) -> [Tried; 2] {
    [false, true].map(|summed| {
        bench.run(&Trial { role: Role::Endpoint, interface: "fc-one", packet, gso: None, summed })
    })
}

/// Inserts the flow for one packet.
fn with_flow(bench: &mut Bench, sample: Sample, flow: Flow, packet: &[u8]) -> Vec<u8> {
    let key: FlowKey = bench.insert(sample, flow);
    let [plain, summed] = try_both(bench, packet);
    plain.assert_hit();
    assert_eq!(plain, summed);
    bench.flows.remove(&[key]).unwrap();
    plain.packet
}

#[test]
fn a_hop_limit_alone_keeps_the_sums_right_too() {
    bench(|mut bench| {
        for sample in SAMPLES {
            let packet = sample.packet(51);
            let key = bench.open(sample);
            for tried in try_both(&mut bench, &packet) {
                tried.assert_hit();
                read(&tried.packet);
            }
            bench.flows.remove(&[key]).unwrap();
            let [plain, summed] = try_both(&mut bench, &packet);
            assert_eq!((plain.verdict, &plain.outcomes[..]), (Verdict::Redirect, &[Outcome::Miss][..]));
            assert_eq!(plain, summed);
        }
    });
}

#[test]
fn either_side_is_rewritten_with_right_checksums() {
    bench(|mut bench| {
        for sample in SAMPLES {
            for length in [0, 1, 64, 1001] {
                let packet = sample.packet(length);
                let before = read(&packet);
                for side in [Side::Source, Side::Destination] {
                    for address in targets(sample.v6) {
                        for port in [1, 80, 8080, 40_000, 65_535] {
                            let after =
                                with_flow(&mut bench, sample, rewriting(side, address, port), &packet);
                            let after = read(&after);
                            let (source, destination) = match side {
                                Side::Source => ((address, port), before.destination),
                                Side::Destination => (before.source, (address, port)),
                            };
                            assert_eq!((after.source, after.destination), (source, destination));
                            assert_eq!(after.payload, before.payload);
                            assert_eq!(after.hop_limit, before.hop_limit - 1);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn a_missing_udp_checksum_stays_missing() {
    bench(|mut bench| {
        for sample in SAMPLES.into_iter().filter(|sample| !sample.tcp) {
            let mut packet = sample.packet(33);
            packet[sample.checksum()..sample.checksum() + 2].fill(0);
            for address in targets(sample.v6) {
                let after = with_flow(&mut bench, sample, rewriting(Side::Destination, address, 53), &packet);
                assert_eq!(after[sample.checksum()..sample.checksum() + 2], [0, 0]);
                assert_eq!(read(&after).destination, (address, 53));
            }
        }
    });
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_sent_as_all_ones() {
    bench(|mut bench| {
        for sample in SAMPLES.into_iter().filter(|sample| !sample.tcp) {
            // One of all ports makes the sum what is sent as 0xffff (RFC 768).
            let packet = sample.packet(33);
            let checksum = sample.checksum();
            let mut seen = 0;
            for port in 0..=u16::MAX {
                let mut expected = u32::from(u16::from_be_bytes([packet[checksum], packet[checksum + 1]]));
                expected = (expected + 80 + u32::from(!port)) % 0xffff;
                if expected != 0 {
                    continue;
                }
                let address = sample.addresses()[1];
                let after =
                    with_flow(&mut bench, sample, rewriting(Side::Destination, address, port), &packet);
                assert_eq!(after[checksum..checksum + 2], [0xff, 0xff]);
                assert_eq!(read(&after).destination, (address, port));
                seen += 1;
            }
            assert!(seen > 0);
        }
    });
}

#[test]
fn a_wrong_checksum_is_not_made_right() {
    bench(|mut bench| {
        for sample in SAMPLES {
            let checksum = sample.checksum();
            let rewrite = rewriting(Side::Destination, targets(sample.v6)[2], 8080);
            let right = with_flow(&mut bench, sample, rewrite, &sample.packet(40));
            let mut packet = sample.packet(40);
            packet[checksum] ^= 0x10;
            let wrong = with_flow(&mut bench, sample, rewrite, &packet);
            assert_ne!(wrong[checksum..checksum + 2], right[checksum..checksum + 2]);
            // And nothing else differs.
            assert_eq!(wrong[..checksum], right[..checksum]);
            assert_eq!(wrong[checksum + 2..], right[checksum + 2..]);
        }
    });
}
