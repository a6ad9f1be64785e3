//! How fast a pod may send and receive (capability `bandwidth`), in bits.

use heddle_api::Bandwidth;
use serde_json::Value;

use super::{fault, said};
use crate::error::CniError;

const FIELD: &str = "runtimeConfig.bandwidth";

/// The limits of `runtimeConfig.bandwidth`; none when none of them limits anything.
pub(super) fn settle(value: Option<&Value>, faults: &mut Vec<CniError>) -> Option<Bandwidth> {
    let value = value?;
    if !value.is_object() {
        faults.push(fault(FIELD, "is no object; write {\"ingressRate\": bits per second, …}"));
        return None;
    }
    let mut number = |key: &str| match said(value.get(key)) {
        None => 0,
        Some(number) => number.as_u64().unwrap_or_else(|| {
            let what = format!("is {number}; write a whole number of bits, or 0 for no limit");
            faults.push(fault(&format!("{FIELD}.{key}"), &what));
            0
        }),
    };
    let bandwidth = Bandwidth {
        ingress_rate: number("ingressRate"),
        ingress_burst: number("ingressBurst"),
        egress_rate: number("egressRate"),
        egress_burst: number("egressBurst"),
    };
    let directions = [
        ("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst),
        ("egress", bandwidth.egress_rate, bandwidth.egress_burst),
    ];
    for (direction, rate, burst) in directions {
        // A rate that is wrong has been told of.
        let said_rate =
            said(value.get(format!("{direction}Rate"))).is_some_and(|rate| rate.as_u64() != Some(0));
        if rate == 0 && burst != 0 && !said_rate {
            let what = format!("is {burst} without {direction}Rate; write that too, or leave both out");
            faults.push(fault(&format!("{FIELD}.{direction}Burst"), &what));
        }
    }
    (bandwidth != Bandwidth::default()).then_some(bandwidth)
}

#[cfg(test)]
mod tests {
    //! Limits are taken as runtimes write them; what cannot be one is told.
    use super::super::Arguments;
    use super::super::tests::wishes;
    use super::*;

    fn settle(value: &str) -> crate::error::Result<Option<Bandwidth>> {
        let wishes = wishes(&format!(r#""runtimeConfig":{{"bandwidth":{value}}}"#));
        wishes.settle(&Arguments::default()).map(|wanted| wanted.bandwidth)
    }

    #[test]
    fn as_runtimes_write_them() {
        // containerd: what the pod's annotations say, with the largest burst there is.
        let both = r#"{"ingressRate":1000000,"ingressBurst":2147483647,"egressRate":2000000,"egressBurst":2147483647}"#;
        let expected = Bandwidth {
            ingress_rate: 1_000_000,
            ingress_burst: i32::MAX as u64,
            egress_rate: 2_000_000,
            egress_burst: i32::MAX as u64,
        };
        assert_eq!(settle(both).unwrap(), Some(expected));
        let one = Bandwidth { egress_rate: 5, ..Bandwidth::default() };
        assert_eq!(settle(r#"{"egressRate":5,"ingressRate":0,"ingressBurst":0}"#).unwrap(), Some(one));
        assert_eq!(settle(r#"{"ingressRate":0}"#).unwrap(), None);
    }

    #[test]
    fn faults_are_told_with_their_field() {
        for (value, named) in [
            ("7", "bandwidth is no object"),
            (r#"{"ingressRate":-5}"#, "ingressRate is -5"),
            (r#"{"ingressRate":1.5}"#, "ingressRate is 1.5"),
            (r#"{"egressRate":"10M"}"#, "egressRate is \"10M\""),
            (r#"{"egressRate":18446744073709551616}"#, "egressRate is"),
            (r#"{"ingressBurst":8}"#, "ingressBurst is 8 without ingressRate"),
            (r#"{"egressRate":0,"egressBurst":8}"#, "egressBurst is 8 without egressRate"),
        ] {
            let error = settle(value).unwrap_err();
            assert!(error.details.contains(named), "{value}: {error}");
        }
        let error = settle(r#"{"ingressRate":"a","ingressBurst":8,"egressRate":"b"}"#).unwrap_err();
        assert!(!error.details.contains("without"), "{error}");
    }
}
