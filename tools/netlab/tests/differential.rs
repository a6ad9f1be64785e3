//! Whether packets pass the switch or the flow cache is for speed only: whatever happens in a lab, the same arrives and the same
//! connections are known in both modes.
//!
//! `HEDDLE_SEED` repeats a scenario; `HEDDLE_SCENARIOS` is how many are run, one after the other.
#![allow(clippy::unwrap_used)]

#[path = "common/actors.rs"]
mod actors;
mod common;
#[path = "common/scenario.rs"]
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use actors::{Actor, Link};
use common::{TestLab, next_takes_the_lowest, seed};
use heddle_netlab::{AttachMode, LabSpec, Name};
use scenario::{ACTORS, COMES_AND_GOES, POLICIES, Step, Way, all_ways};

/// In as many seconds, about. No timeout of a connection may fall into a scenario: a silent UDP connection is known for 30 s.
const STEPS: usize = 36;

/// Nothing has changed for this long: nothing is about to.
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be seen after a step.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// What the step came to.
    outcome: bool,
    /// Where everything was tried: the ways that datagrams arrive, and the connections over which messages do.
    reached: Vec<bool>,
    links: BTreeMap<u16, bool>,
    /// Connections as the switches know them.
    connections: BTreeSet<String>,
}

/// A scenario under way.
struct Stage {
    lab: TestLab,
    actors: Vec<Actor>,
    /// With the index of the actor at the far end.
    links: BTreeMap<u16, (Link, Way)>,
    /// Whose address it is or was.
    owners: BTreeMap<IpAddr, String>,
}

impl Stage {
    fn new(mode: AttachMode) -> Self {
        let lab = TestLab::up(&LabSpec { mode: Some(mode), ..LabSpec::new(2, 2) });
        // The lab makes as many pods on each node.
        lab.add_pods(&[pod(COMES_AND_GOES)]).unwrap();
        let actors = ACTORS.map(|name| Actor::enter(&lab, name)).into();
        let mut stage = Self { lab, actors, links: BTreeMap::new(), owners: BTreeMap::new() };
        (0..ACTORS.len()).for_each(|actor| stage.note_owner(actor));
        stage
    }

    /// Addresses are given in another order each time, so everybody is called by name, and with a number for each new address.
    fn note_owner(&mut self, actor: usize) {
        for address in self.actors[actor].addresses {
            let prefix = format!("{} IPv{}", ACTORS[actor], if address.is_ipv6() { 6 } else { 4 });
            let earlier = self.owners.values().filter(|owner| owner.starts_with(&prefix)).count();
            self.owners.entry(address).or_insert_with(|| format!("{prefix} #{earlier}"));
        }
    }

    fn perform(&mut self, step: &Step) -> Seen {
        let mut seen = Seen { outcome: self.act(step), ..Seen::default() };
        if step.changes_what_is_allowed() {
            seen.reached = actors::trial(&self.actors, &all_ways());
            let links: Vec<u16> = self.links.keys().copied().collect();
            seen.links = links.into_iter().map(|id| (id, self.exchange(id, 2))).collect();
        }
        seen.connections = self.connections();
        seen
    }

    fn act(&mut self, step: &Step) -> bool {
        match *step {
            Step::Connect(id, way) => {
                let link = actors::connect(&self.actors[way.from], &self.actors[way.to], way.v6, id);
                link.map(|link| self.links.insert(id, (link, way))).is_some()
            }
            Step::Bind(id, way) => {
                let link = actors::bind(&self.actors[way.from], &self.actors[way.to], way.v6, id);
                self.links.insert(id, (link, way));
                self.exchange(id, 1)
            }
            Step::Exchange(id, count) => self.exchange(id, count),
            Step::Bulk(id, bytes) => self.with_link(id, |link, to| link.bulk(to, bytes)),
            Step::Close(id, how) => {
                let Some((link, way)) = self.links.remove(&id) else { return false };
                let (left, noticed) = link.close(how);
                if let Some(left) = left {
                    self.links.insert(id, (left, way));
                }
                noticed
            }
            Step::Ping(id, way) => self.ping(id, way),
            Step::Policy(index) => self.enforce(index),
            Step::Replace { same_addresses } => self.replace(same_addresses),
            Step::Idle(milliseconds) => {
                std::thread::sleep(Duration::from_millis(milliseconds));
                true
            }
        }
    }

    fn exchange(&mut self, id: u16, count: u64) -> bool {
        self.with_link(id, |link, to| link.exchange(to, count))
    }

    /// A TCP connection that something was lost of is over: TCP would repeat that at some later time.
    fn with_link(&mut self, id: u16, work: impl FnOnce(&mut Link, &Actor) -> bool) -> bool {
        let Some((link, way)) = self.links.get_mut(&id) else { return false };
        let done = work(link, &self.actors[way.to]);
        if !done && link.is_tcp() {
            let (link, _) = self.links.remove(&id).unwrap();
            link.close(scenario::Closing::Reset);
        }
        done
    }

    fn ping(&self, id: u16, way: Way) -> bool {
        let target = self.actors[way.to].addresses[usize::from(way.v6)].to_string();
        let mut ping = std::process::Command::new("ping");
        ping.args(["-n", "-c", "1", "-W", "1", "-e", &id.to_string(), &target]);
        self.actors[way.from].namespace.output(&mut ping).unwrap().status.success()
    }

    fn enforce(&self, index: usize) -> bool {
        let file = self.lab.state().manifests.join("policy.yaml");
        let before = self.generations();
        let _ = std::fs::remove_file(&file);
        if index > 0 {
            let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: policy}\n";
            // Moved into place, so that no agent reads half of it.
            let beside = file.with_file_name("new");
            std::fs::write(&beside, format!("{head}{}\n", POLICIES[index])).unwrap();
            std::fs::rename(&beside, &file).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while self.generations() == before {
            assert!(Instant::now() < deadline, "policy {index} is not in force");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.settle();
        true
    }

    /// The connections of the old pod are reset before, since TCP would notice at some later time. Datagrams go on.
    fn replace(&mut self, same_addresses: bool) -> bool {
        let name = pod(COMES_AND_GOES);
        let is_of_it =
            |(link, way): &(Link, Way)| link.is_tcp() && [way.from, way.to].contains(&COMES_AND_GOES);
        let ids: Vec<u16> = self.links.iter().filter(|(_, it)| is_of_it(it)).map(|(id, _)| *id).collect();
        for id in ids {
            self.links.remove(&id).unwrap().0.close(scenario::Closing::Reset);
        }
        // Its own sockets go with it.
        self.links.retain(|_, (_, way)| way.from != COMES_AND_GOES);
        if same_addresses {
            next_takes_the_lowest(&self.lab);
        }
        let before = self.actors[COMES_AND_GOES].addresses;
        self.lab.delete_pods(&[name]).unwrap();
        self.lab.add_pods(&[name]).unwrap();
        self.actors[COMES_AND_GOES] = Actor::enter(&self.lab, ACTORS[COMES_AND_GOES]);
        self.note_owner(COMES_AND_GOES);
        self.settle();
        (self.actors[COMES_AND_GOES].addresses == before) == same_addresses
    }

    fn generations(&self) -> Vec<u32> {
        let status = |node: &str| self.lab.node(node).unwrap().control().unwrap().status().unwrap();
        ["n1", "n2"].map(|node| status(node).policy.unwrap().generation).into()
    }

    /// Waits until every node's agent has told its switch what it knows.
    fn settle(&self) {
        steady(QUIET, || self.generations());
    }

    /// Connections, once nothing changes any more.
    fn connections(&self) -> BTreeSet<String> {
        steady(Duration::from_millis(60), || {
            let flows = self.flows();
            flows
                .into_iter()
                .filter_map(|flow| {
                    // Forgotten after ten seconds, which may be in the middle.
                    (flow.state != "reset")
                        .then(|| Some(format!("{}, {}", self.title(&flow)?, flow.state)))?
                })
                .collect()
        })
    }

    fn flows(&self) -> Vec<heddle_api::Flow> {
        let of_node = |node| self.lab.node(node).unwrap().control().unwrap().flows().unwrap();
        ["n1", "n2"].into_iter().flat_map(of_node).collect()
    }

    /// Nothing for connections with others, such as groups.
    fn title(&self, flow: &heddle_api::Flow) -> Option<String> {
        let owner = |address: &str| self.owners.get(&address.parse().unwrap());
        let (source, destination) = (owner(&flow.source)?, owner(&flow.destination)?);
        Some(format!(
            "{} {} {}: {source} port {} → {destination} port {}",
            flow.endpoint, flow.side, flow.protocol, flow.source_port, flow.destination_port
        ))
    }

    /// Packets of the connections without a handshake that are there at the end: of these, all are the test's own. Those of trials
    /// are repeated as often as it takes.
    fn datagrams(&self) -> BTreeMap<String, [u64; 2]> {
        let count = || {
            let udp =
                self.flows().into_iter().filter(|flow| flow.protocol == 17 && flow.source_port >= 20_000);
            let packets = |traffic: Option<heddle_api::Traffic>| traffic.unwrap_or_default().packets;
            udp.filter_map(|flow| Some((self.title(&flow)?, [packets(flow.original), packets(flow.reply)])))
                .collect()
        };
        // The switch asks the kernel once a second.
        steady(Duration::from_millis(1500), count)
    }

    fn cached(&self) -> u64 {
        let cache = self.lab.node("n1").unwrap().control().unwrap().status().unwrap().flow_cache;
        cache.map_or(0, |cache| cache.hits)
    }
}

/// What is found once it has been the same for so long.
fn steady<T: PartialEq>(quiet: Duration, mut look: impl FnMut() -> T) -> T {
    let deadline = Instant::now() + PATIENCE;
    let (mut found, mut since) = (look(), Instant::now());
    while since.elapsed() < quiet && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        let now = look();
        if now != found {
            (found, since) = (now, Instant::now());
        }
    }
    found
}

fn pod(actor: usize) -> Name {
    ACTORS[actor].parse().unwrap()
}

/// What is seen after each step, and the datagrams counted at the end.
fn run(mode: AttachMode, steps: &[Step]) -> (Vec<Seen>, BTreeMap<String, [u64; 2]>) {
    let mut stage = Stage::new(mode);
    let start = Instant::now();
    let seen = steps.iter().map(|step| stage.perform(step)).collect();
    let datagrams = stage.datagrams();
    println!("{mode}: {} s, {} packets by the cache", start.elapsed().as_secs(), stage.cached());
    assert_eq!(
        stage.cached() > 100,
        mode == AttachMode::Cached,
        "the flow cache has work in cached mode only"
    );
    (seen, datagrams)
}

#[track_caller]
fn compare(
    steps: &[Step],
    direct: &(Vec<Seen>, BTreeMap<String, [u64; 2]>),
    cached: &(Vec<Seen>, BTreeMap<String, [u64; 2]>),
) {
    for (number, (direct, cached)) in direct.0.iter().zip(&cached.0).enumerate() {
        if direct == cached {
            continue;
        }
        let lines = steps[..=number].iter().enumerate().map(|(number, step)| format!("{number}: {step:?}\n"));
        println!("{}", lines.collect::<String>());
        let only = |one: &Seen, other: &Seen| {
            one.connections.difference(&other.connections).cloned().collect::<Vec<_>>()
        };
        println!("connections only in direct mode: {:#?}", only(direct, cached));
        println!("connections only in cached mode: {:#?}", only(cached, direct));
        let ways: Vec<_> = all_ways()
            .into_iter()
            .zip(direct.reached.iter().zip(&cached.reached))
            .filter(|(_, (one, other))| one != other)
            .collect();
        println!("ways (direct, cached): {ways:?}");
        panic!(
            "step {number}, {:?}: direct {}, {:?}; cached {}, {:?}",
            steps[number], direct.outcome, direct.links, cached.outcome, cached.links
        );
    }
    assert_eq!(direct.1, cached.1, "datagrams are counted alike");
}

#[test]
fn both_modes_let_the_same_through_and_know_the_same_connections() {
    let scenarios = std::env::var("HEDDLE_SCENARIOS").map_or(1, |count| count.parse().unwrap());
    let first = seed();
    for seed in (first..).take(scenarios) {
        println!("scenario {seed}");
        let steps = scenario::scenario(seed, STEPS);
        let [direct, cached] = AttachMode::ALL.map(|mode| run(mode, &steps));
        compare(&steps, &direct, &cached);
        let reached = direct.0.iter().flat_map(|seen| &seen.reached).filter(|reached| **reached).count();
        println!(
            "{reached} ways open, {} connections at the end",
            direct.0.last().unwrap().connections.len()
        );
    }
}
