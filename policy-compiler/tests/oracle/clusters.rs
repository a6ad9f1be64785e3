//! Random clusters, small enough that everything in them meets: three namespaces, few labels, few ports, addresses that lie close
//! together in both families, some of them claimed twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use heddle_image::{Direction, Image, Protocol};
use heddle_policy::reference::{Packet, Reference};
use heddle_policy::validate::{validate_namespace, validate_pod, validate_policy};
use heddle_policy::{Compiler, model::ObjectName};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The objects of a cluster, by name as the API server keeps them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) policies: BTreeMap<String, NetworkPolicy>,
}

/// One change as it comes from the API server.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    SetNamespace(Box<Namespace>),
    RemoveNamespace(String),
    SetPod(Box<Pod>),
    RemovePod(ObjectName),
    /// A pod that exists gets other labels and keeps its addresses.
    Relabel(prop::sample::Index, Value),
    SetPolicy(Box<NetworkPolicy>),
    RemovePolicy(ObjectName),
    /// Nothing comes for a moment, so the compiler updates.
    Pause,
}

pub(crate) const PROBES: [(Protocol, u16); 8] = [
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Tcp, 53),
    (Protocol::Tcp, 65535),
    (Protocol::Udp, 53),
    (Protocol::Udp, 80),
    (Protocol::Sctp, 81),
    (Protocol::Other, 0),
];

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn labels(keys: [&'static str; 2], values: [&'static str; 2]) -> impl Strategy<Value = Value> {
    let value = prop::option::of(prop::sample::select(values.to_vec()));
    [value.clone(), value].prop_map(move |chosen| {
        let set = keys.iter().zip(chosen).filter_map(|(key, value)| Some(((*key).to_owned(), json!(value?))));
        Value::Object(set.collect())
    })
}

fn selector(keys: [&'static str; 2], values: [&'static str; 2]) -> impl Strategy<Value = Value> {
    let expression = (0usize..4, 0usize..2, 1usize..4).prop_map(move |(operator, key, chosen)| {
        let listed: Vec<_> =
            values.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, v)| *v).collect();
        let operator = ["In", "NotIn", "Exists", "DoesNotExist"][operator];
        let listed = if operator.ends_with("In") { json!(listed) } else { Value::Null };
        json!({"key": keys[key], "operator": operator, "values": listed})
    });
    prop_oneof![
        2 => Just(json!({})),
        2 => labels(keys, values).prop_map(|labels| json!({"matchLabels": labels})),
        3 => prop::collection::vec(expression.clone(), 1..3).prop_map(|all| json!({"matchExpressions": all})),
        1 => (labels(keys, values), expression).prop_map(|(l, e)| json!({"matchLabels": l, "matchExpressions": [e]})),
    ]
}

const POD_LABELS: ([&str; 2], [&str; 2]) = (["app", "tier"], ["a", "b"]);
const NAMESPACE_LABELS: ([&str; 2], [&str; 2]) = (["team", "env"], ["x", "y"]);

pub(crate) fn namespace() -> impl Strategy<Value = Namespace> {
    (0u8..3, labels(NAMESPACE_LABELS.0, NAMESPACE_LABELS.1)).prop_map(|(number, labels)| {
        object(json!({"metadata": {"name": format!("n{number}"), "labels": labels}}))
    })
}

fn protocol() -> impl Strategy<Value = Value> {
    prop_oneof![2 => Just(Value::Null), 1 => prop::sample::select(&["TCP", "UDP", "SCTP"][..]).prop_map(|name| json!(name))]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![4 => prop::sample::select(&[53u16, 80, 81][..]), 1 => prop::sample::select(&[1u16, 79, 256, 65535][..])]
}

fn container() -> impl Strategy<Value = Value> {
    let port = (protocol(), number(), prop::sample::select(&["web", "dns"][..])).prop_map(
        |(protocol, number, name)| json!({"name": name, "containerPort": number, "protocol": protocol}),
    );
    prop::collection::vec(port, 0..3).prop_map(|ports| json!({"name": "c", "image": "i", "ports": ports}))
}

prop_compose! {
    pub(crate) fn pod()(name in 0u8..7, namespace in 0u8..3, labels in labels(POD_LABELS.0, POD_LABELS.1), container in container(),
                 init in prop::option::weighted(0.2, (container(), any::<bool>())), v4 in prop::option::weighted(0.9, 0u8..16),
                 v6 in prop::option::weighted(0.4, 0u8..16), flags in 0u8..14, created in 0u8..3) -> Pod {
        let v4 = v4.map(|host| json!({"ip": format!("10.0.0.{host}")}));
        let v6 = v6.map(|host| json!({"ip": format!("fd00::{host:x}")}));
        let addresses: Vec<_> = v4.into_iter().chain(v6).collect();
        let init: Vec<_> = init.into_iter().map(|(mut container, sidecar)| {
            container["restartPolicy"] = if sidecar { json!("Always") } else { Value::Null };
            container
        }).collect();
        object(json!({
            "metadata": {"name": format!("p{name}"), "namespace": format!("n{namespace}"), "labels": labels,
                         "creationTimestamp": format!("2026-01-01T00:00:0{created}Z")},
            "spec": {"containers": [container], "initContainers": init, "hostNetwork": flags == 0},
            "status": {"podIP": addresses.first().map(|first| first["ip"].clone()),
                       "podIPs": if flags == 1 { json!(null) } else { json!(addresses) },
                       "phase": match flags { 2 => "Succeeded", 3 => "Failed", _ => "Running" }}
        }))
    }
}

fn block() -> impl Strategy<Value = Value> {
    let except = prop::collection::vec((any::<u8>(), 1u8..8), 0..3);
    (any::<bool>(), 0u8..32, 0u8..9, except, 0u8..6).prop_map(|(v4, base, length, excepts, whole)| {
        let net = |base: u8, length: u8| {
            let base = if length == 0 { 0 } else { base & (u8::MAX << (8 - length)) };
            if v4 { format!("10.0.0.{base}/{}", 24 + length) } else { format!("fd00::{base:x}/{}", 120 + length) }
        };
        let whole_family = if v4 { "0.0.0.0/0" } else { "::/0" };
        let cidr = if whole == 0 { whole_family.to_owned() } else { net(base, length) };
        // An exception keeps the block's leading bits and is longer.
        let inside = |(other, more): (u8, u8)| {
            let longer = (length + more).min(8);
            let mask = if length == 0 { 0 } else { u8::MAX << (8 - length) };
            (longer > length).then(|| net(base & mask | other & !mask, longer))
        };
        json!({"ipBlock": {"cidr": cidr, "except": excepts.into_iter().filter_map(inside).collect::<Vec<_>>()}})
    })
}

fn rule(list: &'static str) -> impl Strategy<Value = Value> {
    let pods = || selector(POD_LABELS.0, POD_LABELS.1);
    let namespaces = || selector(NAMESPACE_LABELS.0, NAMESPACE_LABELS.1);
    let peer = prop_oneof![
        pods().prop_map(|pods| json!({"podSelector": pods})),
        namespaces().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (pods(), namespaces()).prop_map(|(p, n)| json!({"podSelector": p, "namespaceSelector": n})),
        block().boxed(),
    ];
    let numbers = prop_oneof![
        1 => Just(json!({})),
        3 => number().prop_map(|number| json!({"port": number})),
        2 => (number(), 0u16..3).prop_map(|(n, more)| json!({"port": n, "endPort": n.saturating_add(more)})),
        3 => prop::sample::select(&["web", "dns"][..]).prop_map(|name| json!({"port": name})),
    ];
    let port = (numbers, protocol()).prop_map(|(mut numbers, protocol)| {
        numbers["protocol"] = protocol;
        numbers
    });
    let peers = prop::option::weighted(0.8, prop::collection::vec(peer, 0..3));
    let ports = prop::option::weighted(0.6, prop::collection::vec(port, 0..3));
    (peers, ports).prop_map(move |(peers, ports)| json!({list: peers, "ports": ports}))
}

prop_compose! {
    pub(crate) fn policy()(name in 0u8..4, namespace in 0u8..3, pods in selector(POD_LABELS.0, POD_LABELS.1),
                    ingress in prop::option::weighted(0.7, prop::collection::vec(rule("from"), 0..3)),
                    egress in prop::option::weighted(0.6, prop::collection::vec(rule("to"), 0..3)), types in 0usize..8) -> NetworkPolicy {
        let types = match types {
            0 => json!(null),
            1 => json!([]),
            2 => json!(["Ingress"]),
            3 => json!(["Egress"]),
            _ => json!(["Ingress", "Egress"]),
        };
        object(json!({"metadata": {"name": format!("np{name}"), "namespace": format!("n{namespace}")},
                      "spec": {"podSelector": pods, "ingress": ingress, "egress": egress, "policyTypes": types}}))
    }
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let name = |prefix: &'static str, count: u8| {
        (0u8..3, 0..count).prop_map(move |(n, i)| ObjectName::new(format!("n{n}"), format!("{prefix}{i}")))
    };
    prop_oneof![
        3 => namespace().prop_map(|namespace| Change::SetNamespace(namespace.into())),
        1 => (0u8..3).prop_map(|number| Change::RemoveNamespace(format!("n{number}"))),
        8 => pod().prop_map(|pod| Change::SetPod(pod.into())),
        3 => name("p", 7).prop_map(Change::RemovePod),
        6 => (any::<prop::sample::Index>(), labels(POD_LABELS.0, POD_LABELS.1)).prop_map(|(which, labels)| Change::Relabel(which, labels)),
        8 => policy().prop_map(|policy| Change::SetPolicy(policy.into())),
        3 => name("np", 4).prop_map(Change::RemovePolicy),
        8 => Just(Change::Pause),
    ]
}

impl Cluster {
    /// The cluster and a compiler that was told of it, policies first: the order in which it is hardest.
    pub(crate) fn build(
        namespaces: Vec<Namespace>,
        pods: Vec<Pod>,
        policies: Vec<NetworkPolicy>,
    ) -> (Self, Compiler) {
        let (mut cluster, mut compiler) = (Self::default(), Compiler::default());
        let policies = policies.into_iter().map(|policy| Change::SetPolicy(policy.into()));
        let pods = pods.into_iter().map(|pod| Change::SetPod(pod.into()));
        for change in policies
            .chain(pods)
            .chain(namespaces.into_iter().map(|namespace| Change::SetNamespace(namespace.into())))
        {
            cluster.apply(change, &mut compiler);
        }
        (cluster, compiler)
    }

    /// Makes a change here and in the compiler.
    pub(crate) fn apply(&mut self, change: Change, compiler: &mut Compiler) {
        let key = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            format!("{}/{}", meta.namespace.as_ref().unwrap(), meta.name.as_ref().unwrap())
        };
        match change {
            Change::SetNamespace(namespace) => {
                compiler.set_namespace(validate_namespace(&namespace).unwrap());
                self.namespaces.insert(namespace.metadata.name.clone().unwrap(), *namespace);
            }
            Change::RemoveNamespace(name) => {
                compiler.remove_namespace(&name);
                self.namespaces.remove(&name);
            }
            Change::SetPod(pod) => {
                compiler.set_pod(validate_pod(&pod).unwrap());
                self.pods.insert(key(&pod.metadata), *pod);
            }
            Change::RemovePod(name) => {
                compiler.remove_pod(&name);
                self.pods.remove(&name.to_string());
            }
            Change::Relabel(which, labels) => {
                let count = self.pods.len();
                let mut pods = self.pods.values_mut();
                if let Some(pod) = (count > 0).then(|| pods.nth(which.index(count))).flatten() {
                    pod.metadata.labels = Some(object(labels));
                    compiler.set_pod(validate_pod(pod).unwrap());
                }
            }
            Change::SetPolicy(policy) => {
                compiler.set_policy(validate_policy(&policy).unwrap());
                self.policies.insert(key(&policy.metadata), *policy);
            }
            Change::RemovePolicy(name) => {
                compiler.remove_policy(&name);
                self.policies.remove(&name.to_string());
            }
            Change::Pause => drop(compiler.update().unwrap()),
        }
    }

    /// Every verdict of the image on packets of pods, against the oracle's. Returns how many there were.
    pub(crate) fn compare(&self, image: &Image) -> Result<usize, TestCaseError> {
        let namespaces: Vec<_> = self.namespaces.values().cloned().collect();
        let pods: Vec<_> = self.pods.values().cloned().collect();
        let policies: Vec<_> = self.policies.values().cloned().collect();
        let oracle = Reference { namespaces: &namespaces, pods: &pods, policies: &policies };
        let v4 = (0..16).map(|host| format!("10.0.0.{host}"));
        let v6 = (0..16).map(|host| format!("fd00::{host:x}"));
        let addresses: Vec<IpAddr> = v4.chain(v6).map(|text| text.parse().unwrap()).collect();
        let (mine, mut others): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|a| oracle.pod_at(*a).is_some());
        // Of the addresses without a pod, a few will do.
        others.retain(|address| address.to_string().ends_with(['0', '5', 'e']));
        others.extend(["10.0.0.31", "8.8.8.8", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        let mut verdicts = 0;
        for address in &mine {
            let meta = &oracle.pod_at(*address).unwrap().metadata;
            let class =
                image.endpoint(meta.namespace.as_ref().unwrap(), meta.name.as_ref().unwrap()).unwrap();
            for peer in mine.iter().chain(&others).filter(|peer| peer.is_ipv4() == address.is_ipv4()) {
                for (protocol, port) in PROBES {
                    let packet = Packet { from: *address, to: *peer, protocol, port };
                    let verdict =
                        image.allows(class, Direction::Egress, image.peer_class(*peer), protocol, port);
                    prop_assert_eq!(verdict, oracle.egress_allows(packet), "egress of {:?}", packet);
                    let packet = Packet { from: *peer, to: *address, protocol, port };
                    let verdict =
                        image.allows(class, Direction::Ingress, image.peer_class(*peer), protocol, port);
                    prop_assert_eq!(verdict, oracle.ingress_allows(packet), "ingress of {:?}", packet);
                    verdicts += 2;
                }
            }
        }
        Ok(verdicts)
    }
}
