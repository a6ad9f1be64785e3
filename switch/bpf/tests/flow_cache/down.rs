//! What a worker sends down goes to the hop on its tag with that hop's MACs, or is dropped and counted.

use heddle_bpf::{Hop, Outcome};

use crate::bench::{
    GATEWAY_MAC, HOST_MAC, PEER, PEER_MAC, POD_MACS, POD_ONE, VTEP_MAC, bench, flow, readdress, settings, tag,
};
use crate::sample::{SAMPLES, V6};

#[test]
fn what_comes_down_goes_to_the_hop_on_its_tag() {
    bench(|mut bench| {
        let mut arp = vec![0x55; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        for packet in [SAMPLES[0].packet(10), SAMPLES[3].packet(10), arp] {
            for (hop, macs) in [
                (1, (POD_MACS[0], GATEWAY_MAC)),
                (2, (POD_MACS[1], GATEWAY_MAC)),
                (0, (HOST_MAC, GATEWAY_MAC)),
                (PEER.hop, (PEER_MAC, VTEP_MAC)),
            ] {
                let down = readdress(&packet, tag(0x4d, hop), [0; 6]);
                let tried = bench.send_down(&down);
                assert_eq!(tried.outcomes, [Outcome::Delivered]);
                assert_eq!(tried.macs(), macs);
                assert_eq!(tried.packet[12..], packet[12..], "the hop limit was spent by the worker");
            }
            for hop in [3, 0x8000, 0xffff, 0x10000, 0x10001, u32::MAX] {
                bench.send_down(&readdress(&packet, tag(0x4d, hop), [0; 6])).assert_dropped(Outcome::NoHop);
            }
            for kind in [0x4c, 0x4e, 0x4f] {
                bench.send_down(&readdress(&packet, tag(kind, 1), [0; 6])).assert_dropped(Outcome::BadTag);
            }
            bench.send_down(&packet).assert_dropped(Outcome::BadTag);
        }
        let mut settings = settings();
        settings.vxlan = None;
        bench.cache.set_settings(&settings).unwrap();
        let down = readdress(&SAMPLES[0].packet(10), tag(0x4d, PEER.hop), [0; 6]);
        bench.send_down(&down).assert_dropped(Outcome::NoTunnel);
        bench.insert(SAMPLES[0], flow(POD_ONE, PEER));
        bench.send(&SAMPLES[0].packet(10)).assert_dropped(Outcome::NoTunnel);
    });
}

#[test]
fn hops_are_read_as_they_were_written() {
    bench(|bench| {
        for (number, hop) in [
            (0, Hop::Host { ifindex: 1, mtu: 9000, mac: [6; 6] }),
            (0x7fff, Hop::Endpoint { ifindex: u32::MAX, queued: true, mtu: 1280, mac: [1, 2, 3, 4, 5, 6] }),
            (0x8000, Hop::Vtep { address: [192, 0, 2, 1].into(), mtu: 1450, mac: [2; 6] }),
            (0xffff, Hop::Vtep { address: V6[0].into(), mtu: 1430, mac: [3; 6] }),
        ] {
            bench.cache.set_hop(number, u32::MAX, Some(hop)).unwrap();
            assert_eq!(bench.cache.hop(number).unwrap(), (u32::MAX, Some(hop)));
            bench.cache.set_hop(number, 1, None).unwrap();
            assert_eq!(bench.cache.hop(number).unwrap(), (1, None));
        }
        assert_eq!(bench.cache.hop(77).unwrap(), (0, None));
    });
}
