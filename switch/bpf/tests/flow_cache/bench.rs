//! A flow cache with two endpoints, a VTEP and the host, for packets that are tried and not sent.

use std::time::Duration;

use heddle_bpf::{
    Counters, FIRST_VTEP_HOP, Flow, FlowCache, FlowCacheOptions, FlowKey, Flows, Hop, Inserted, Mac, Outcome,
    Party, Port, Role, Settings, Start, Steering, Trial, Verdict,
};

use crate::common::{BPFFS, sandbox, veth};
use crate::sample::Sample;

pub(crate) const GATEWAY_MAC: Mac = [0x02, 0x68, 0x64, 0, 0, 1];
pub(crate) const VTEP_MAC: Mac = [0x02, 0x68, 0x64, 0, 1, 1];
pub(crate) const PEER_MAC: Mac = [0x02, 0x68, 0x64, 0, 1, 2];
pub(crate) const POD_MACS: [Mac; 2] = [[0x02, 0xaa, 0, 0, 0, 1], [0x02, 0xaa, 0, 0, 0, 2]];
pub(crate) const HOST_MAC: Mac = [0x02, 0xbb, 0, 0, 0, 1];
pub(crate) const VNI: u32 = 0x0012_3456;
pub(crate) const MTU: u32 = 1500;

/// Hops and their generations.
pub(crate) const POD_ONE: Party = Party { hop: 1, generation: 7 };
pub(crate) const POD_TWO: Party = Party { hop: 2, generation: 9 };
pub(crate) const HOST: Party = Party { hop: 0, generation: 3 };
pub(crate) const PEER: Party = Party { hop: FIRST_VTEP_HOP + 1, generation: 5 };

pub(crate) fn options() -> FlowCacheOptions {
    FlowCacheOptions { flows: 1000, hook: None }
}

pub(crate) fn ifindex(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

pub(crate) struct Bench {
    pub(crate) cache: FlowCache,
    pub(crate) flows: Flows,
    seen: Counters,
    _steering: Steering,
}

/// Runs `test` with pod 1 behind `fc-one`, pod 2 behind `fc-two`, the host behind `fc-host` and a trunk `fc-trunk`.
pub(crate) fn bench(test: impl FnOnce(Bench) + Send + 'static) {
    sandbox(|| {
        for (one, other) in [("fc-one", "fc-two"), ("fc-host", "fc-trunk")] {
            veth(one, other, 1500);
        }
        let steering = Steering::open(BPFFS.as_ref()).unwrap();
        let cache = FlowCache::open(&steering, &options()).unwrap();
        assert_eq!(cache.start(), Start::Fresh);
        configure(&cache);
        let trunk = ifindex("fc-trunk");
        for (interface, hop, mac) in
            [("fc-one", 1, Some(POD_MACS[0])), ("fc-two", 2, Some(POD_MACS[1])), ("fc-host", 0, None)]
        {
            cache.set_port(ifindex(interface), Port { hop, trunk, mac }).unwrap();
        }
        test(Bench { flows: cache.flows(), seen: cache.counters().unwrap(), cache, _steering: steering });
    });
}

pub(crate) fn settings() -> Settings {
    Settings {
        gateway_mac: GATEWAY_MAC,
        vtep_mac: VTEP_MAC,
        vni: VNI,
        vxlan: Some(ifindex("fc-trunk")),
        local: None,
        trunks: 1,
    }
}

fn configure(cache: &FlowCache) {
    cache.set_settings(&settings()).unwrap();
    let endpoint =
        |interface, mac| Some(Hop::Endpoint { ifindex: ifindex(interface), queued: false, mtu: MTU, mac });
    let host = Hop::Host { ifindex: ifindex("fc-host"), mtu: MTU, mac: HOST_MAC };
    let peer = Hop::Vtep { address: [172, 31, 0, 2].into(), mtu: MTU - 50, mac: PEER_MAC };
    for (party, hop) in [
        (POD_ONE, endpoint("fc-one", POD_MACS[0])),
        (POD_TWO, endpoint("fc-two", POD_MACS[1])),
        (HOST, Some(host)),
        (PEER, Some(peer)),
    ] {
        cache.set_hop(party.hop, party.generation, hop).unwrap();
    }
}

pub(crate) fn flow(from: Party, to: Party) -> Flow {
    Flow { from, to, original: true, rewrite: None, fence: 0, pending_for: Duration::ZERO }
}

impl Bench {
    /// An open flow from pod 1 to pod 2 for the sample.
    pub(crate) fn open(&self, sample: Sample) -> FlowKey {
        self.insert(sample, flow(POD_ONE, POD_TWO))
    }

    pub(crate) fn insert(&self, sample: Sample, flow: Flow) -> FlowKey {
        let key = sample.key(ifindex("fc-one"));
        assert_eq!(self.flows.insert(&[(key, flow)]).unwrap(), [Inserted::Yes]);
        key
    }

    /// Tries a packet from pod 1. Returns what it looks like then, and what was counted.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Tried {
        self.run(&Trial { role: Role::Endpoint, interface: "fc-one", packet, gso: None, summed: false })
    }

    pub(crate) fn send_down(&mut self, packet: &[u8]) -> Tried {
        self.run(&Trial { role: Role::Trunk, interface: "fc-trunk", packet, gso: None, summed: false })
    }

    pub(crate) fn run(&mut self, trial: &Trial<'_>) -> Tried {
        let (verdict, packet) = self.cache.try_packet(trial).unwrap();
        let now = self.cache.counters().unwrap();
        let outcomes = Outcome::ALL
            .into_iter()
            .flat_map(|outcome| vec![outcome; (now.get(outcome) - self.seen.get(outcome)) as usize])
            .collect();
        self.seen = now;
        Tried { verdict, packet, outcomes }
    }
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) verdict: Verdict,
    pub(crate) packet: Vec<u8>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Tried {
    /// Destination and source MAC.
    pub(crate) fn macs(&self) -> (Mac, Mac) {
        (self.packet[..6].try_into().unwrap(), self.packet[6..12].try_into().unwrap())
    }

    pub(crate) fn assert_hit(&self) {
        assert_eq!((self.verdict, &self.outcomes[..]), (Verdict::Redirect, &[Outcome::Hit][..]));
    }

    /// It went up from pod 1 for this reason, and only its source MAC was changed.
    pub(crate) fn assert_up(&self, outcome: Outcome, before: &[u8], what: &str) {
        assert_eq!((self.verdict, &self.outcomes[..]), (Verdict::Redirect, &[outcome][..]), "{what}");
        let kind = if outcome == Outcome::Spoofed { 0x4f } else { 0x4d };
        assert_eq!(self.macs(), (before[..6].try_into().unwrap(), [0x02, kind, 0, 0, 0, 1]), "{what}");
        assert_eq!(self.packet[12..], before[12..], "{what}");
    }

    pub(crate) fn assert_dropped(&self, outcome: Outcome) {
        assert_eq!((self.verdict, &self.outcomes[..]), (Verdict::Drop, &[outcome][..]));
    }
}

/// A MAC that is a tag.
pub(crate) fn tag(kind: u8, value: u32) -> Mac {
    let [a, b, c, d] = value.to_be_bytes();
    [0x02, kind, a, b, c, d]
}

/// The packet with other MACs.
pub(crate) fn readdress(packet: &[u8], destination: Mac, source: Mac) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[..6].copy_from_slice(&destination);
    packet[6..12].copy_from_slice(&source);
    packet
}
