//! A cluster with labels and policies as clusters have them: namespaces of teams, each with ten applications, one of which is a stateful
//! set (so its pods have a label of their own); ten policies a namespace, most about the namespace itself, some about others, one in ten
//! namespaces open to the whole cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use heddle_image::Protocol;
use heddle_policy::model::{
    Block, Labels, NamedPort, Namespace, ObjectName, Peer, Pod, Policy, PortMatch, PortNumbers, Rule,
};
use heddle_policy::{Compiler, Condition, Requirement, Selector};

/// Teams own namespaces in turn.
const TEAMS: usize = 50;
/// Applications in a namespace.
const APPS: usize = 10;

pub(crate) struct Cluster {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) policies: Vec<Policy>,
}

fn labels(set: &[(&str, &str)]) -> Labels {
    set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn selector(set: &[(&str, &str)]) -> Selector {
    let equal = |(key, value): &(&str, &str)| Requirement {
        key: (*key).to_owned(),
        condition: Condition::In(vec![(*value).to_owned()]),
    };
    Selector::new(set.iter().map(equal).collect())
}

/// A pod of an application; the first is a stateful set.
pub(crate) fn pod(
    namespace: &str,
    name: &str,
    app: &str,
    address: Ipv4Addr,
    more: Option<(&str, &str)>,
) -> Pod {
    let tier = ["web", "api", "db"][app.bytes().last().map_or(0, usize::from) % 3];
    let hash = format!("{namespace}-{app}");
    let mut labels: BTreeMap<_, _> = labels(&[("app", app), ("tier", tier), ("pod-template-hash", &hash)]);
    labels.extend(more.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if app == "app0" {
        labels.insert("statefulset.kubernetes.io/pod-name".into(), name.into());
    }
    let port = |name: &str, number| NamedPort { name: name.into(), protocol: Protocol::Tcp, number };
    Pod {
        name: ObjectName::new(namespace, name),
        labels,
        ports: vec![port("http", if tier == "web" { 8080 } else { 8081 }), port("metrics", 9090)],
        addresses: vec![IpAddr::V4(address)],
        node: None,
        host_network: false,
        finished: false,
        created: 0,
    }
}

fn here(pods: &[(&str, &str)]) -> Peer {
    Peer::Pods { namespaces: None, pods: selector(pods) }
}

fn there(namespaces: &[(&str, &str)], pods: &[(&str, &str)]) -> Peer {
    Peer::Pods { namespaces: Some(selector(namespaces)), pods: selector(pods) }
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let net = |text: &str| text.parse().expect("a prefix");
    Peer::Block(Block { cidr: net(cidr), except: except.iter().map(|text| net(text)).collect() })
}

fn port(protocol: Protocol, number: u16) -> PortMatch {
    PortMatch { protocol, numbers: PortNumbers::Range(number, number) }
}

fn named(name: &str) -> PortMatch {
    PortMatch { protocol: Protocol::Tcp, numbers: PortNumbers::Named(name.into()) }
}

fn rule(peers: Vec<Peer>, ports: Vec<PortMatch>) -> Rule {
    Rule { peers: (!peers.is_empty()).then_some(peers), ports: (!ports.is_empty()).then_some(ports) }
}

/// The `kind`-th policy of the `n`-th namespace.
fn policy(n: usize, kind: usize) -> Policy {
    let tcp = |number| port(Protocol::Tcp, number);
    let team = format!("team{}", n % TEAMS);
    let name = |what: &str| ObjectName::new(format!("ns{n}"), what);
    let ingress = |what: &str, pods: &[(&str, &str)], rules| Policy {
        name: name(what),
        pods: selector(pods),
        ingress: Some(rules),
        egress: None,
    };
    let egress = |what: &str, pods: &[(&str, &str)], rules| Policy {
        name: name(what),
        pods: selector(pods),
        ingress: None,
        egress: Some(rules),
    };
    match kind % APPS {
        0 => ingress(
            "chain",
            &[("app", "app3")],
            vec![rule(vec![here(&[("app", "app2")])], vec![tcp(8080), named("http")])],
        ),
        1 => ingress("default-deny", &[], vec![]),
        2 => ingress(
            "metrics",
            &[],
            vec![rule(vec![there(&[("name", "ns0")], &[("app", "app1")])], vec![named("metrics")])],
        ),
        3 => egress(
            "dns",
            &[],
            vec![rule(
                vec![there(&[("name", "ns1")], &[("app", "app2")])],
                vec![port(Protocol::Udp, 53), tcp(53)],
            )],
        ),
        4 => ingress(
            "team",
            &[("tier", "api")],
            vec![rule(vec![there(&[("team", &team)], &[("tier", "web")])], vec![tcp(8081)])],
        ),
        5 if n.is_multiple_of(10) => {
            ingress("open", &[("tier", "web")], vec![rule(vec![there(&[], &[])], vec![tcp(443), tcp(8080)])])
        }
        5 => ingress("own", &[("tier", "db")], vec![rule(vec![here(&[])], vec![tcp(5432)])]),
        6 => egress(
            "world",
            &[("tier", "web")],
            vec![rule(vec![block("0.0.0.0/0", &["10.0.0.0/8"])], vec![tcp(443)])],
        ),
        7 => egress(
            "upstream",
            &[("app", "app4")],
            vec![rule(vec![here(&[("tier", "db")]), there(&[("team", &team)], &[])], vec![named("http")])],
        ),
        8 => ingress(
            "office",
            &[("app", "app5")],
            vec![rule(vec![block(&format!("192.168.{}.0/24", n % 250), &[])], vec![])],
        ),
        _ => ingress(
            "chain-2",
            &[("app", "app6")],
            vec![rule(
                vec![here(&[("app", "app5")])],
                vec![PortMatch { protocol: Protocol::Tcp, numbers: PortNumbers::Range(9000, 9100) }],
            )],
        ),
    }
}

/// Policies there and back: what a policy change is measured with.
pub(crate) fn changed(namespace: &str) -> Vec<(&'static str, [Policy; 2])> {
    let tcp = |number| port(Protocol::Tcp, number);
    let make = |name: &str, peers: Vec<Peer>, ports| Policy {
        name: ObjectName::new(namespace, name),
        pods: Selector::default(),
        ingress: Some(vec![rule(peers, ports)]),
        egress: None,
    };
    let both = |name: &str, peers: [Vec<Peer>; 2], ports: [u16; 2]| {
        let [one, other] = peers;
        [make(name, one, vec![tcp(ports[0])]), make(name, other, vec![tcp(ports[1])])]
    };
    let own = || vec![here(&[("app", "app1")])];
    vec![
        ("policy with another port", both("port", [own(), own()], [80, 81])),
        (
            "policy with another peer of its namespace",
            both("peer", [own(), vec![here(&[("app", "app7"), ("tier", "api")])]], [80, 80]),
        ),
        (
            "policy with another peer of every namespace",
            both("wide", [own(), vec![there(&[], &[("app", "app7")])]], [80, 80]),
        ),
        ("policy with another block", both("block", [own(), vec![block("172.16.0.0/12", &[])]], [80, 80])),
    ]
}

impl Cluster {
    /// A cluster of this size. Pods are `app0-0` to `app9-<n>` in each namespace.
    pub(crate) fn new(namespaces: usize, pods: usize, policies: usize) -> Self {
        let namespace = |n: usize| {
            let (name, team) = (format!("ns{n}"), format!("team{}", n % TEAMS));
            Namespace { labels: labels(&[("name", &name), ("team", &team)]), name }
        };
        // In the order in which the API server lists them.
        let per_namespace = pods / namespaces;
        let pods = (0..pods).map(|p| {
            let (n, within) = (p / per_namespace, p % per_namespace);
            let (app, replica) = (format!("app{}", (within + 3) % APPS), within / APPS);
            let address = Ipv4Addr::from_bits(0x0a00_0000 + 256 * (p as u32 / 200) + p as u32 % 200);
            pod(&format!("ns{n}"), &format!("{app}-{replica}"), &app, address, None)
        });
        Self {
            namespaces: (0..namespaces).map(namespace).collect(),
            pods: pods.collect(),
            policies: (0..policies).map(|p| policy(p % namespaces, p / namespaces)).collect(),
        }
    }

    /// A compiler that has been told all of it and has not compiled it yet.
    pub(crate) fn compiler(&self) -> Compiler {
        let mut compiler = Compiler::default();
        self.namespaces.iter().for_each(|namespace| compiler.set_namespace(namespace.clone()));
        self.pods.iter().for_each(|pod| compiler.set_pod(pod.clone()));
        self.policies.iter().for_each(|policy| compiler.set_policy(policy.clone()));
        compiler
    }
}
