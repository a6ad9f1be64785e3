//! A packet of an open flow is forwarded; one that differs in anything that matters goes up as it is, tagged and counted once
//! for the reason, and what cannot go up is dropped and counted.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use heddle_bpf::{FlowKey, Outcome, Port, Role, Trial};

use crate::bench::{
    GATEWAY_MAC, HOST, HOST_MAC, MTU, PEER, PEER_MAC, POD_MACS, POD_ONE, POD_TWO, VTEP_MAC, bench, flow,
    ifindex, readdress, tag,
};
use crate::sample::{ETHERNET, SAMPLES, Sample, read};

const TCP4: Sample = Sample { v6: false, tcp: true };

#[test]
fn a_packet_of_an_open_flow_is_forwarded_and_counted() {
    bench(|mut bench| {
        for sample in SAMPLES {
            let key = bench.open(sample);
            for (hop_limit, payload) in [(64, 100), (2, 0), (255, MTU as usize - sample.payload() + ETHERNET)]
            {
                let before = read(&sample.packet_with(payload, hop_limit));
                let tried = bench.send(&sample.packet_with(payload, hop_limit));
                tried.assert_hit();
                let after = read(&tried.packet);
                assert_eq!((after.destination_mac, after.source_mac), (POD_MACS[1], GATEWAY_MAC));
                assert_eq!(after.hop_limit, hop_limit - 1);
                assert_eq!((after.source, after.destination), (before.source, before.destination));
                assert_eq!(after.payload, before.payload);
            }
            let (kept, used) = bench.flows.read(&key).unwrap().unwrap();
            assert_eq!(kept, flow(POD_ONE, POD_TWO));
            let headers = sample.payload() - ETHERNET;
            assert_eq!((used.packets, used.bytes), (3, (headers + 100 + headers) as u64 + u64::from(MTU)));
            assert!(used.open && used.last_seen > Duration::ZERO);
            assert_eq!(bench.flows.remove(&[key, key]).unwrap(), [Some(used), None]);
            let packet = sample.packet(100);
            bench.send(&packet).assert_up(Outcome::Miss, &packet, "removed");
        }
    });
}

#[test]
fn every_part_of_the_key_tells_flows_apart() {
    bench(|mut bench| {
        for sample in SAMPLES {
            let packet = sample.packet(10);
            let key = sample.key(ifindex("fc-one"));
            let next = |address: IpAddr| match address {
                IpAddr::V4(v4) => IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() ^ 1)),
                IpAddr::V6(v6) => IpAddr::from(std::net::Ipv6Addr::from_bits(v6.to_bits() ^ (1 << 127))),
            };
            for other in [
                FlowKey { source: next(key.source), ..key },
                FlowKey { destination: next(key.destination), ..key },
                FlowKey { source_port: key.source_port ^ 1, ..key },
                FlowKey { destination_port: key.destination_port ^ 0x100, ..key },
                FlowKey { protocol: if sample.tcp { 17 } else { 6 }, ..key },
                FlowKey { ifindex: ifindex("fc-two"), ..key },
            ] {
                bench.flows.insert(&[(other, flow(POD_ONE, POD_TWO))]).unwrap();
                bench.send(&packet).assert_up(Outcome::Miss, &packet, &format!("{other:?}"));
                bench.flows.remove(&[other]).unwrap();
            }
        }
    });
}

#[test]
fn an_ipv6_packet_with_mapped_addresses_is_of_no_ipv4_flow() {
    bench(|mut bench| {
        for tcp in [true, false] {
            let [v4, v6] = [false, true].map(|v6| Sample { v6, tcp });
            bench.open(v4);
            let mut packet = v6.packet(20);
            for (at, address) in [(8, 0), (24, 1)] {
                let IpAddr::V4(address) = v4.addresses()[address] else { unreachable!() };
                packet[ETHERNET + at..ETHERNET + at + 16].copy_from_slice(&address.to_ipv6_mapped().octets());
            }
            bench.send(&packet).assert_up(Outcome::Miss, &packet, "mapped addresses");
        }
    });
}

#[test]
fn only_what_is_sent_to_the_router_is_forwarded() {
    bench(|mut bench| {
        bench.open(TCP4);
        let packet = TCP4.packet(10);
        for octet in 0..6 {
            let mut other = packet.clone();
            other[octet] ^= 1;
            bench.send(&other).assert_up(Outcome::Unusual, &other, "another's MAC");
        }
        // The overlay's router is not the endpoints'.
        let other = readdress(&packet, VTEP_MAC, POD_MACS[0]);
        bench.send(&other).assert_up(Outcome::Unusual, &other, "the VTEP's MAC");
        // A fence's tag that a pod made up must not look like one of ours.
        let forged = readdress(&packet, tag(0x4e, 0), POD_MACS[0]);
        let cleaned = readdress(&packet, [0; 6], POD_MACS[0]);
        bench.send(&forged).assert_up(Outcome::Unusual, &cleaned, "a forged tag");
    });
}

#[test]
fn another_source_mac_is_marked() {
    bench(|mut bench| {
        bench.open(TCP4);
        for octet in 0..6 {
            // With a flow, without, and what is no packet of a flow at all.
            for mut packet in [TCP4.packet(10), SAMPLES[3].packet(10), vec![0x55; 60]] {
                packet[6..12].copy_from_slice(&POD_MACS[0]);
                packet[6 + octet] ^= 1;
                bench.send(&packet).assert_up(Outcome::Spoofed, &packet, "another's MAC");
            }
        }
    });
}

#[test]
fn the_host_may_send_from_any_mac() {
    bench(|mut bench| {
        let key = TCP4.key(ifindex("fc-host"));
        bench.flows.insert(&[(key, flow(HOST, POD_TWO))]).unwrap();
        let packet = readdress(&TCP4.packet(10), GATEWAY_MAC, [0x02, 1, 2, 3, 4, 5]);
        let trial =
            Trial { role: Role::Endpoint, interface: "fc-host", packet: &packet, gso: None, summed: false };
        bench.run(&trial).assert_hit();
        let packet = readdress(&SAMPLES[1].packet(10), GATEWAY_MAC, [0x02, 1, 2, 3, 4, 5]);
        let tried = bench.run(&Trial { packet: &packet, ..trial });
        assert_eq!(tried.outcomes, [Outcome::Miss]);
        assert_eq!(tried.macs().1, tag(0x4d, 0));
    });
}

#[test]
fn a_flow_ends_with_either_generation() {
    bench(|mut bench| {
        let sample = TCP4;
        let packet = sample.packet(10);
        bench.open(sample);
        let hop =
            |party: heddle_bpf::Party, bench: &crate::bench::Bench| bench.cache.hop(party.hop).unwrap().1;
        for party in [POD_ONE, POD_TWO] {
            let kept = hop(party, &bench);
            for (generation, hop) in
                [(party.generation + 1, kept), (party.generation + 1, None), (party.generation, None)]
            {
                bench.cache.set_hop(party.hop, generation, hop).unwrap();
                assert_eq!(bench.cache.hop(party.hop).unwrap(), (generation, hop));
                bench.send(&packet).assert_up(Outcome::Revoked, &packet, "another generation");
            }
            bench.cache.set_hop(party.hop, party.generation, kept).unwrap();
            bench.send(&packet).assert_hit();
        }
    });
}

#[test]
fn what_is_too_big_for_the_next_hop_goes_up() {
    bench(|mut bench| {
        for sample in SAMPLES {
            bench.open(sample);
            let headers = sample.payload() - ETHERNET;
            for (payload, fits) in [(MTU as usize - headers, true), (MTU as usize - headers + 1, false)] {
                let packet = sample.packet(payload);
                let tried = bench.send(&packet);
                if fits {
                    tried.assert_hit();
                } else {
                    tried.assert_up(Outcome::TooBig, &packet, "1501");
                }
                // A super-packet is as big as its segments.
                let packet = sample.packet(payload * 2);
                let tried = bench.run(&Trial {
                    role: Role::Endpoint,
                    interface: "fc-one",
                    packet: &packet,
                    gso: Some((payload as u32, 2)),
                    summed: false,
                });
                if fits {
                    tried.assert_hit();
                } else {
                    tried.assert_up(Outcome::TooBig, &packet, "2 × 1501");
                }
            }
        }
    });
}

#[test]
fn every_segment_counts_with_its_headers() {
    bench(|mut bench| {
        for sample in SAMPLES {
            let key = bench.open(sample);
            let packet = sample.packet(2500);
            let headers = (sample.payload() - ETHERNET) as u64;
            // The number is worked out when whoever made the packet did not say.
            for segments in [3, 0] {
                let before = bench.flows.read(&key).unwrap().unwrap().1;
                let gso = Some((1000, segments));
                bench
                    .run(&Trial {
                        role: Role::Endpoint,
                        interface: "fc-one",
                        packet: &packet,
                        gso,
                        summed: false,
                    })
                    .assert_hit();
                let after = bench.flows.read(&key).unwrap().unwrap().1;
                assert_eq!(after.packets - before.packets, 3);
                assert_eq!(after.bytes - before.bytes, 2500 + 3 * headers);
            }
        }
    });
}

#[test]
fn a_tunnels_and_the_hosts_hop_get_their_macs() {
    bench(|mut bench| {
        let key = bench.insert(TCP4, flow(POD_ONE, PEER));
        let tried = bench.send(&TCP4.packet(10));
        tried.assert_hit();
        assert_eq!(tried.macs(), (PEER_MAC, VTEP_MAC));
        bench.flows.remove(&[key]).unwrap();
        bench.insert(TCP4, flow(POD_ONE, HOST));
        let tried = bench.send(&TCP4.packet(10));
        tried.assert_hit();
        assert_eq!(tried.macs(), (HOST_MAC, GATEWAY_MAC));
    });
}

#[test]
fn nobody_is_let_through_without_a_port() {
    bench(|mut bench| {
        let packet = TCP4.packet(10);
        let port = Port { hop: 1, trunk: ifindex("fc-trunk"), mac: Some(POD_MACS[0]) };
        assert!(bench.cache.ports().unwrap().contains(&(ifindex("fc-one"), port)));
        bench.cache.set_port(ifindex("fc-one"), Port { trunk: 0, ..port }).unwrap();
        bench.send(&packet).assert_dropped(Outcome::NoPort);
        bench.cache.unset_port(ifindex("fc-one")).unwrap();
        bench.send(&packet).assert_dropped(Outcome::NoPort);
        bench.send(&[0xff; 14]).assert_dropped(Outcome::NoPort);
        bench.cache.unset_port(ifindex("fc-one")).unwrap();
        assert_eq!(bench.cache.ports().unwrap().len(), 2);
    });
}

#[test]
fn no_packet_of_the_overlay_is_without_a_tunnel() {
    bench(|mut bench| {
        let packet = readdress(&TCP4.packet(10), VTEP_MAC, PEER_MAC);
        let trial =
            Trial { role: Role::Overlay, interface: "fc-one", packet: &packet, gso: None, summed: false };
        bench.run(&trial).assert_dropped(Outcome::OtherVni);
    });
}
