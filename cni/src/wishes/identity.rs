//! Addresses and a MAC that a pod is to have.
//!
//! Addresses come from all places together, as the reference plugins take them: `runtimeConfig.ips` (capability `ips`),
//! `args.cni.ips`, and `IP` of `CNI_ARGS`. A prefix length is allowed and says nothing: a pod has /32 and /128.

use std::net::IpAddr;

use heddle_netdev::Mac;
use ipnet::IpNet;
use rscni_types::types::CNI_ARGS;
use serde_json::Value;

use super::{Arguments, Wishes, fault};
use crate::error::{CniError, code};

/// The addresses that are asked for, at most one of each family.
pub(super) fn addresses(wishes: &Wishes, arguments: &Arguments, faults: &mut Vec<CniError>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut take = |text: Option<&str>, tell: &dyn Fn(&str) -> CniError| match text.and_then(parse) {
        Some(address) if found.contains(&address) => {}
        Some(address) if found.iter().any(|other| other.is_ipv4() == address.is_ipv4()) => {
            faults.push(tell("is a second one of its family; a pod has one of each"));
        }
        Some(address) => found.push(address),
        None => faults.push(tell("is no unicast address; write one like \"10.1.0.5\" or \"fd00::5\"")),
    };
    if let Some(text) = &arguments.address {
        let tell = |what: &str| CniError::new(code::ENVIRONMENT, format!("{CNI_ARGS}: IP={text} {what}"));
        take(Some(text), &tell);
    }
    let mut wrong_lists = Vec::new();
    let lists = [("args.cni.ips", wishes.argument("ips")), ("runtimeConfig.ips", wishes.runtime("ips"))];
    for (field, list) in lists.into_iter().filter_map(|(field, list)| Some((field, list?))) {
        let Value::Array(list) = list else {
            wrong_lists.push(fault(field, "is no list; write [\"10.1.0.5\"]"));
            continue;
        };
        for (index, value) in list.iter().enumerate() {
            take(value.as_str(), &|what| fault(&format!("{field}[{index}], which is {value},"), what));
        }
    }
    faults.extend(wrong_lists);
    found
}

/// The MAC that is asked for: by the first place that says anything.
pub(super) fn mac(wishes: &Wishes, arguments: &Arguments, faults: &mut Vec<CniError>) -> Option<Mac> {
    let variable = arguments.mac.as_deref().map(Value::from);
    let sources = [
        (code::ENVIRONMENT, format!("{CNI_ARGS}: MAC"), variable.as_ref()),
        (code::CONFIG, "args.cni.mac".to_owned(), wishes.argument("mac")),
        (code::CONFIG, "runtimeConfig.mac".to_owned(), wishes.runtime("mac")),
    ];
    let mut first = None;
    for (code, source, value) in sources {
        match value
            .map(|value| (value, value.as_str().and_then(|text| text.to_ascii_lowercase().parse().ok())))
        {
            None => {}
            Some((_, Some(mac))) if is_usable(mac) => first = first.or(Some(mac)),
            Some((value, _)) => faults.push(CniError::new(
                code,
                format!("{source} is {value}; write a unicast one like \"0a:00:00:00:00:05\""),
            )),
        }
    }
    first
}

fn is_usable(mac: Mac) -> bool {
    !mac.is_multicast() && mac.0 != [0; 6]
}

fn parse(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|net: IpNet| net.addr()))?;
    let unicast = match address {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        // Whoever writes an IPv4 address so would get one that nobody routes.
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && !v6.is_unicast_link_local(),
    };
    (unicast && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback())
        .then_some(address)
}

#[cfg(test)]
mod tests {
    //! Addresses and MACs are taken from every place, and what cannot be one is told.
    use super::super::tests::wishes;
    use super::*;
    use crate::wishes::Wanted;

    fn settle(fields: &str, address: Option<&str>, mac: Option<&str>) -> crate::error::Result<Wanted> {
        let (address, mac) = (address.map(str::to_owned), mac.map(str::to_owned));
        wishes(fields).settle(&Arguments { attach: None, address, mac })
    }

    fn addresses_of(fields: &str, address: Option<&str>) -> Vec<String> {
        settle(fields, address, None).unwrap().addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn addresses_come_from_all_places_together() {
        let capability = r#""runtimeConfig":{"ips":["10.1.0.5/24","fd00::5/64"]}"#;
        assert_eq!(addresses_of(capability, None), ["10.1.0.5", "fd00::5"]);
        assert_eq!(addresses_of(capability, Some("10.1.0.5")), ["10.1.0.5", "fd00::5"]);
        let argument = r#""args":{"cni":{"ips":["fd00::6"]}}"#;
        assert_eq!(addresses_of(argument, Some("10.1.0.6/16")), ["10.1.0.6", "fd00::6"]);
    }

    #[test]
    fn addresses_that_no_pod_can_have_are_told() {
        for text in [
            "",
            "pod",
            "10.1.0.256",
            "10.1.0.5/33",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "127.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::5",
            "::ffff:10.1.0.5",
            "10.1.0.5 ",
            "010.1.0.5",
            "fd00::5%eth0",
        ] {
            let error = settle("", Some(text), None).unwrap_err();
            assert_eq!(error.code, code::ENVIRONMENT);
            assert!(error.details.contains(&format!("IP={text} is no unicast address")), "{error}");
            let error = settle(&format!(r#""runtimeConfig":{{"ips":["{text}"]}}"#), None, None).unwrap_err();
            assert_eq!(error.code, code::CONFIG);
            assert!(error.details.contains("runtimeConfig.ips[0]"), "{error}");
        }
        let error = settle(r#""args":{"cni":{"ips":[5, null]}}"#, None, None).unwrap_err();
        assert!(error.details.contains("ips[0]") && error.details.contains("ips[1]"), "{error}");
        let error = settle(r#""runtimeConfig":{"ips":["10.1.0.5","10.1.0.6"]}"#, None, None).unwrap_err();
        assert!(error.details.contains("ips[1]") && error.details.contains("second"), "{error}");
    }

    #[test]
    fn the_first_mac_counts_and_all_are_checked() {
        let both =
            r#""args":{"cni":{"mac":"0A:00:00:00:00:01"}},"runtimeConfig":{"mac":"0a:00:00:00:00:02"}"#;
        let mac = |variable| settle(both, None, variable).unwrap().mac.unwrap().to_string();
        assert_eq!(mac(None), "0a:00:00:00:00:01");
        assert_eq!(mac(Some("0a:00:00:00:00:03")), "0a:00:00:00:00:03");
        for text in
            ["", "0a:00", "01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "zz:00:00:00:00:01"]
        {
            let error = settle(both, None, Some(text)).unwrap_err();
            assert!(error.code == code::ENVIRONMENT && error.details.contains("MAC is"), "{error}");
        }
        let error = settle(r#""runtimeConfig":{"mac":5}"#, None, None).unwrap_err();
        assert!(error.code == code::CONFIG && error.details.contains("runtimeConfig.mac is 5"), "{error}");
    }
}
