//! Packets that have nowhere to go.

use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::{HOST, Tables, Vtep};

use super::{Case, POD_1, case, good};
use crate::common::cluster::{FAMILIES, GATEWAY_MAC, WORLD, from_pod, pod, pod_mac};
use crate::common::packets::Spec;

pub(crate) fn cases() -> Vec<Case> {
    use DropReason::{HopLimitExceeded, NoNeighbor, NoRoute, NoUplink, TooBig, Unreachable};
    let mut cases = Vec::new();
    for family in FAMILIES {
        let told = |reason, what, spec: Spec| Case { told: true, ..case(reason, what, POD_1, spec.bytes()) };
        let remote = from_pod(family, pod(2, 1)[family]);
        let no_default: fn(&mut Tables) = |tables| {
            for prefix in ["0.0.0.0/0", "::/0"] {
                tables.fib.remove(prefix.parse().unwrap());
            }
        };
        let host = (pod_mac(1, 0), GATEWAY_MAC);
        cases.extend([
            told(HopLimitExceeded, "the last hop", Spec { hop_limit: 1, ..good(family) }),
            told(Unreachable, "no such pod", from_pod(family, pod(1, 99)[family])),
            Case { change: no_default, ..told(NoRoute, "no default route", from_pod(family, WORLD[family])) },
            Case {
                ingress: Ingress::Endpoint(HOST),
                ..told(NoRoute, "from the host to the host", Spec::new(host, WORLD[family], WORLD[family]))
            },
            Case {
                change: |tables| {
                    tables.endpoints.remove(2);
                },
                ..told(NoRoute, "a route to an endpoint that is gone", good(family))
            },
            Case {
                change: |tables| {
                    tables.vteps.remove(0);
                },
                ..told(NoRoute, "a route to a VTEP that is gone", remote)
            },
            told(TooBig, "too big", Spec { payload: 1500, ..good(family) }),
            Case {
                change: |tables| {
                    let vtep = tables.vteps.get(0).unwrap().clone();
                    tables.vteps.set(0, Vtep { neighbor: None, ..vtep });
                },
                ..case(NoNeighbor, "the underlay does not answer", POD_1, remote.bytes())
            },
            Case {
                change: |tables| tables.node.uplink = None,
                ..case(NoUplink, "no uplink", POD_1, remote.bytes())
            },
            Case {
                change: |tables| tables.node.uplink.as_mut().unwrap().address_v4 = None,
                ..case(NoUplink, "no uplink of the family", POD_1, remote.bytes())
            },
            Case {
                change: |tables| tables.node.uplink.as_mut().unwrap().ports.clear(),
                ..case(NoUplink, "no uplink of this worker", POD_1, remote.bytes())
            },
        ]);
    }
    cases
}
