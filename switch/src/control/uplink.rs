//! The uplink as Linux has it: read at start, watched afterwards, never taken over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_netdev::{Link, Netlink, ethtool};

use super::error::StartError;
use super::facts::UplinkFacts;
use crate::config::{Config, Family, MAX_MTU, MIN_MTU, UplinkConfig, UplinkMode};
use crate::wire::{ethernet, ipv4, ipv6, vxlan};

/// What pods get on a node of its own: Ethernet's.
const ALONE_MTU: u16 = 1500;

/// Reads the uplink. Returns its number of receive queues too.
pub(super) async fn read(netlink: &Netlink, config: &UplinkConfig) -> Result<(UplinkFacts, u32), StartError> {
    let name = &config.interface;
    let wrong = |key, problem: String| StartError::Uplink { key, problem };
    let Some(link) = netlink.find_link(name).await? else {
        return Err(wrong(
            "interface",
            format!("there is no interface {name}; write one that `ip link` lists"),
        ));
    };
    if !link.up {
        return Err(wrong("interface", format!("{name} is down; set it up (ip link set {name} up)")));
    }
    let Some(mac) = link.mac else {
        return Err(wrong(
            "interface",
            format!("{name} has no MAC, so it is no Ethernet device; write another one"),
        ));
    };
    let (address_v4, address_v6) = addresses(netlink, &link).await?;
    let underlay = config.underlay.unwrap_or(if address_v4.is_some() { Family::Ipv4 } else { Family::Ipv6 });
    let queues = ethtool::queues(name).map_or(1, |queues| queues.rx.max(1));
    let facts = UplinkFacts {
        interface: name.clone(),
        index: link.index,
        mac,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        underlay,
        address_v4,
        address_v6,
        vni: config.vni,
        port: config.port,
        xdp: "native",
    };
    if config.mode == UplinkMode::Routed {
        // No packet is encapsulated, so any family will do.
        return Ok((facts, queues));
    }
    if facts.vtep_address().is_none() {
        let family = if underlay == Family::Ipv4 { "IPv4" } else { "IPv6" };
        let problem = format!("{name} has no {family} address; give it one, or write another underlay");
        return Err(wrong("underlay", problem));
    }
    Ok((facts, queues))
}

/// The first address of each family that is good beyond the link.
async fn addresses(
    netlink: &Netlink,
    link: &Link,
) -> heddle_netdev::Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let all = global_addresses(netlink, link).await?;
    let v4 = all.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = all.iter().find_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    Ok((v4, v6))
}

/// The addresses of an interface that are good beyond its link.
pub(super) async fn global_addresses(netlink: &Netlink, link: &Link) -> heddle_netdev::Result<Vec<IpAddr>> {
    let all = netlink.addresses(link).await?.into_iter().map(|prefix| prefix.addr());
    Ok(all
        .filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect())
}

/// The largest IP packet pods may send: what still fits the uplink once it is encapsulated, and a frame, and a veth.
pub(super) fn pod_mtu(config: &Config, uplink: Option<&UplinkFacts>) -> Result<u16, StartError> {
    let frame = heddle_xsk::max_packet(config.frames.size).saturating_sub(ethernet::HEADER) as u16;
    let (most, usual) = match uplink {
        None => (frame.min(MAX_MTU), ALONE_MTU),
        Some(uplink) => {
            let is_routed = config.uplink.as_ref().is_some_and(|uplink| uplink.mode == UplinkMode::Routed);
            let overhead = match uplink.underlay {
                _ if is_routed => 0,
                Family::Ipv4 => vxlan::overhead(ipv4::HEADER),
                Family::Ipv6 => vxlan::overhead(ipv6::HEADER),
            };
            let most = uplink.mtu.min(frame).saturating_sub(overhead).min(MAX_MTU);
            (most, most)
        }
    };
    if most < MIN_MTU {
        let problem =
            format!("pods would get an MTU of {most}, IPv6 needs {MIN_MTU}; raise the MTU of the interface");
        return Err(StartError::Uplink { key: "interface", problem });
    }
    match config.mtu {
        Some(mtu) if mtu > most => {
            let problem = format!("{mtu} is more than fits: write at most {most}, or leave it out");
            Err(StartError::Setting { key: "mtu", problem })
        }
        Some(mtu) => Ok(mtu),
        None => Ok(usual.min(most)),
    }
}

/// What became of the uplink since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UplinkNews {
    /// It is not there any more.
    Gone,
    /// Its MTU is another.
    Mtu(u32),
}

/// Looks after the uplink while the switch runs. Says everything once.
pub(super) struct UplinkWatch {
    index: u32,
    mtu: u32,
    gone: bool,
}

impl UplinkWatch {
    pub(super) fn new(facts: &UplinkFacts) -> Self {
        Self { index: facts.index, mtu: facts.mtu.into(), gone: false }
    }

    /// What is new, given the interface as it is now.
    pub(super) fn look(&mut self, link: Option<&Link>) -> Option<UplinkNews> {
        match link {
            None => (!std::mem::replace(&mut self.gone, true)).then_some(UplinkNews::Gone),
            Some(link) => {
                let before = std::mem::replace(&mut self.mtu, link.mtu);
                (before != link.mtu).then_some(UplinkNews::Mtu(link.mtu))
            }
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }
}

#[cfg(test)]
mod tests {
    //! The pod MTU leaves room for encapsulation, frames and veths; news are told once.
    use super::*;
    use crate::wire::Mac;

    fn config(extra: &str) -> Config {
        let text = format!("node = \"n\"\npod_cidrs = [\"10.1.0.0/24\"]\n{extra}");
        Config::parse(&text, std::path::Path::new("t")).unwrap()
    }

    fn uplink(mtu: u16, underlay: Family) -> UplinkFacts {
        UplinkFacts {
            interface: "eth0".into(),
            index: 2,
            mac: Mac::default(),
            mtu,
            underlay,
            address_v4: None,
            address_v6: None,
            vni: 1,
            port: 4789,
            xdp: "native",
        }
    }

    #[test]
    fn leaves_room_for_the_outer_headers() {
        let mtu = |mtu, family| pod_mtu(&config(""), Some(&uplink(mtu, family))).unwrap();
        assert_eq!(mtu(1500, Family::Ipv4), 1450);
        assert_eq!(mtu(1500, Family::Ipv6), 1430);
        // 2048 bytes of frame, less 256 of headroom and 14 of Ethernet.
        assert_eq!(mtu(9000, Family::Ipv4), 1778 - 50);
        assert_eq!(pod_mtu(&config(""), None).unwrap(), 1500);
        let big = config("[frames]\nsize = 4096\n");
        assert_eq!(pod_mtu(&big, Some(&uplink(9000, Family::Ipv4))).unwrap(), MAX_MTU);
    }

    #[test]
    fn the_setting_may_lower_it_only() {
        let uplink = uplink(1500, Family::Ipv4);
        assert_eq!(pod_mtu(&config("mtu = 1400\n"), Some(&uplink)).unwrap(), 1400);
        let error = pod_mtu(&config("mtu = 1451\n"), Some(&uplink)).unwrap_err();
        assert!(error.to_string().contains("at most 1450"), "{error}");
    }

    #[test]
    fn refuses_what_cannot_carry_ipv6() {
        assert!(pod_mtu(&config(""), Some(&uplink(1329, Family::Ipv4))).is_err());
        assert!(pod_mtu(&config(""), Some(&uplink(1330, Family::Ipv4))).is_ok());
    }

    #[test]
    fn news_are_told_once() {
        let mut watch = UplinkWatch::new(&uplink(1500, Family::Ipv4));
        let link = |mtu| Link {
            index: 2,
            name: "eth0".into(),
            mac: None,
            mtu,
            up: true,
            carrier: true,
            kind: None,
            peer_index: None,
            bridge: None,
            tx_queues: 1,
            rx_queues: 1,
            external_vxlan_port: None,
        };
        assert_eq!(watch.look(Some(&link(1500))), None);
        assert_eq!(watch.look(Some(&link(1400))), Some(UplinkNews::Mtu(1400)));
        assert_eq!(watch.look(Some(&link(1400))), None);
        assert_eq!(watch.look(None), Some(UplinkNews::Gone));
        assert_eq!(watch.look(None), None);
    }
}
