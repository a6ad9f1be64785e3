//! Policy for an endpoint, written as what is allowed.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_image::{
    Bitmap, OTHER_KEY, PeerClass, PolicyClass, PolicyClassNumber, PortTable, Protocol, Row, Rows, Rulebook,
    port_key,
};
use heddle_switch::tables::{EndpointPolicy, Tables};

/// Whom an endpoint may talk to in one direction: an address, and a protocol with a port unless it is about all of them.
pub(crate) type Rule = (IpAddr, Option<(Protocol, u16)>);

/// What policy says of an endpoint: `None` where no policy selects it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules<'a> {
    pub(crate) ingress: Option<&'a [Rule]>,
    pub(crate) egress: Option<&'a [Rule]>,
}

impl<'a> Rules<'a> {
    /// Nothing may come in or go out but this.
    pub(crate) fn only(ingress: &'a [Rule], egress: &'a [Rule]) -> Self {
        Self { ingress: Some(ingress), egress: Some(egress) }
    }
}

/// Puts endpoint `number` under policy, as a new image with it in place would.
pub(crate) fn enforce(tables: &mut Tables, number: u32, rules: Rules<'_>) {
    let [ingress, egress] = [rules.ingress, rules.egress].map(|rules| rulebook(tables, rules));
    tables.policy.image.policy_classes.set(number, Arc::new(PolicyClass { ingress, egress }));
    tables.policy.generation += 1;
    let mut endpoint = tables.endpoints.get(number).unwrap().clone();
    endpoint.policy = EndpointPolicy::Class(PolicyClassNumber(number));
    tables.endpoints.set(number, endpoint);
}

fn rulebook(tables: &mut Tables, rules: Option<&[Rule]>) -> Rulebook {
    let Some(rules) = rules else { return Rulebook::allow_all() };
    let key = |rule: &Rule| rule.1.map(|(protocol, port)| port_key(protocol, port));
    let mut keys: Vec<_> = rules.iter().filter_map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert!(!keys.contains(&0), "port 0 is not worth a test");
    let mut runs = vec![(0, 0)];
    for (class, key) in (1..).zip(&keys) {
        runs.pop_if(|run| run.0 == *key);
        runs.push((*key, class));
        if *key != OTHER_KEY {
            runs.push((key + 1, 0));
        }
    }
    let mut row = |of: Option<u32>| {
        let mut peers = Bitmap::default();
        for rule in rules.iter().filter(|rule| key(rule).is_none_or(|key| Some(key) == of)) {
            peers.insert(class_of(tables, rule.0).0);
        }
        Row::Classes(peers)
    };
    let rows: Vec<_> = [None].into_iter().chain(keys.iter().copied().map(Some)).map(&mut row).collect();
    Rulebook { ports: PortTable::new(&runs), rows: Rows::new(&rows) }
}

/// The peer class of an address, one of its own. Class 0 is for those that no rule names.
fn class_of(tables: &mut Tables, address: IpAddr) -> PeerClass {
    let image = &mut tables.policy.image;
    let known = image.peer_class(address);
    if known != PeerClass::default() {
        return known;
    }
    let class = PeerClass(1 + (image.pods_v4.iter().count() + image.pods_v6.iter().count()) as u32);
    image.set_pod(address, class);
    class
}
