//! What is checked beyond ping.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use heddle_netlab::{Lab, Ping, Pod, WORLD, source_seen, tcp_transfer, udp_echo};

use super::policy;
use crate::output::table;

type Check = (&'static str, &'static str, fn(&Lab) -> Result<String>);

/// In the order in which they are shown.
pub(super) const ALL: [Check; 6] = [
    ("masquerade", "the world sees the node's address, a remote node the pod's", masquerade),
    ("path MTU", "full-sized packets pass, larger ones are answered with the MTU", path_mtu),
    ("udp", "datagrams of every size come back unchanged", udp),
    ("policy", "a NetworkPolicy allows what it says and stops the rest, open connections too", policy::check),
    ("spoofing", "a pod that forges its source address is stopped and counted", spoofing),
    ("tcp", "TCP streams arrive, every byte compared", throughput),
];

/// Bytes sent in each TCP stream.
const STREAM: u64 = 128 << 20;

fn masquerade(lab: &Lab) -> Result<String> {
    let (pod, node, remote) = (lab.pod("n1p1")?, lab.node("n1")?, lab.node("n2")?);
    for v6 in [false, true] {
        let seen = source_seen(&pod.namespace, &lab.world(), WORLD[usize::from(v6)])?;
        ensure!(seen == node.address(v6)?, "the world sees {seen}, not node n1's {}", node.address(v6)?);
        let seen = source_seen(&pod.namespace, &remote.namespace, remote.address(v6)?)?;
        ensure!(seen == pod.address(v6)?, "node n2 sees {seen}, not pod n1p1's {}", pod.address(v6)?);
    }
    Ok(format!("n1p1 is {} to the world and {} to node n2", node.address(false)?, pod.address(false)?))
}

fn path_mtu(lab: &Lab) -> Result<String> {
    let (from, to) = (lab.pod("n1p1")?, lab.pod("n2p1")?);
    let mtu = from.state.mtu;
    for v6 in [false, true] {
        let full = Ping { payload: payload(mtu, v6)?, dont_fragment: true, ..Ping::default() };
        let pong = from.namespace.ping(to.address(v6)?, &full)?;
        ensure!(pong.all(), "packets of {mtu} bytes do not pass:\n{}", pong.text);
    }
    // The pod is made to believe in a larger MTU than the way has.
    from.set_mtu(mtu + 50)?;
    for v6 in [false, true] {
        let large =
            Ping { payload: payload(mtu + 50, v6)?, dont_fragment: true, count: 1, ..Ping::default() };
        let pong = from.namespace.ping(to.address(v6)?, &large)?;
        let told = pong.text.contains(&format!("mtu = {mtu}")) || pong.text.contains(&format!("mtu={mtu}"));
        ensure!(pong.answered == 0 && told, "no word of MTU {mtu}:\n{}", pong.text);
    }
    from.set_mtu(mtu)?;
    Ok(format!("{mtu} bytes across nodes, with DF set"))
}

/// Bytes of echo payload that make an IP packet of this size.
fn payload(packet: u32, v6: bool) -> Result<u16> {
    Ok(u16::try_from(packet - if v6 { 48 } else { 28 })?)
}

fn udp(lab: &Lab) -> Result<String> {
    let sizes: Vec<usize> = (0..=1400).step_by(7).chain([4000, 9000]).collect();
    let mut ways = 0;
    for (from, to) in ways_between_pods(lab)? {
        for v6 in [false, true] {
            udp_echo(&from.namespace, &to.namespace, to.address(v6)?, &sizes)?;
            ways += 1;
        }
    }
    Ok(format!("{} datagrams of up to 9000 bytes, there and back, in {ways} flows", ways * sizes.len()))
}

fn spoofing(lab: &Lab) -> Result<String> {
    let (pod, node, victim) = (lab.pod("n1p1")?, lab.node("n1")?, lab.pod("n1p2")?);
    let forged = "10.244.1.250";
    let before = node.control()?.dropped("spoofed_address")?;
    pod.namespace.exec(&["ip", "address", "add", &format!("{forged}/32"), "dev", "lo"])?;
    // Fails as it should: nothing comes back.
    let target = victim.address(false)?.to_string();
    let answered =
        pod.namespace.exec(&["ping", "-c", "3", "-i", "0.1", "-W", "1", "-I", forged, &target]).is_ok();
    pod.namespace.exec(&["ip", "address", "delete", &format!("{forged}/32"), "dev", "lo"])?;
    let counted = node.control()?.dropped("spoofed_address")? - before;
    ensure!(!answered, "packets from {forged} were answered");
    ensure!(counted >= 3, "three packets from {forged} were sent, {counted} counted");
    Ok(format!("{counted} packets from {forged} dropped as spoofed_address"))
}

fn throughput(lab: &Lab) -> Result<String> {
    let mut table = table(&["from", "to", "family", "bytes", "rate"]);
    for (from, to) in ways_between_pods(lab)? {
        for v6 in [false, true] {
            let transfer = tcp_transfer(&from.namespace, &to.namespace, to.address(v6)?, STREAM)?;
            table.add_row([
                from.state.name.to_string(),
                to.state.name.to_string(),
                if v6 { "IPv6" } else { "IPv4" }.to_owned(),
                transfer.bytes.to_string(),
                format!("{:.2} Gb/s", transfer.gigabits_per_second()),
            ]);
        }
    }
    let mut text = table.to_string();
    let _ = write!(text, "\n(figures of this machine in this moment; measurements are in bench/)");
    Ok(text)
}

/// On one node, and across nodes.
fn ways_between_pods(lab: &Lab) -> Result<[(Pod, Pod); 2]> {
    Ok([(lab.pod("n1p1")?, lab.pod("n1p2")?), (lab.pod("n1p2")?, lab.pod("n2p1")?)])
}
