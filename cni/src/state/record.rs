//! What the record of an attachment says.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rscni_types::types::IpConfig;
use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::environment::PodName;

/// Version of the directory's and the records' format.
pub(super) const FORMAT: u32 = 1;

/// The record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    format: u32,
    /// The network configuration's name: GC is about the attachments of one network.
    pub(crate) network: String,
    /// The container's ID, as the runtime gave it.
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    /// Name of the interface in the container.
    pub(crate) ifname: String,
    /// Name of the interface on the host; the record's file is named after it.
    pub(crate) host_interface: String,
    /// Its addresses; none yet while another plugin is asked for them.
    pub(crate) addresses: Vec<IpAddr>,
    /// The plugin that gave the addresses; absent when they are of our own ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ipam: Option<String>,
    /// What that plugin said of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) given: Vec<IpConfig>,
    /// The pod, as far as the runtime named it.
    #[serde(flatten)]
    pod: PodName,
    /// Which boot of the machine it is of.
    pub(super) boot: String,
    /// When it was written, in UTC; for whoever reads the file.
    since: String,
}

impl Record {
    /// The record of an attachment without addresses yet.
    pub(crate) fn new(network: &str, attachment: &Attachment, ipam: Option<&str>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            format: FORMAT,
            network: network.to_owned(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            host_interface: attachment.host_interface(),
            addresses: Vec::new(),
            ipam: ipam.map(str::to_owned),
            given: Vec::new(),
            pod: attachment.pod.clone(),
            boot: String::new(),
            since: rfc3339(now),
        }
    }

    /// The attachment it is of.
    pub(crate) fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            pod: self.pod.clone(),
        }
    }

    /// Whether it is of this attachment, and not of one whose name has the same hash.
    pub(super) fn is_of(&self, attachment: &Attachment) -> bool {
        self.container_id == attachment.container_id && self.ifname == attachment.ifname
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // A struct of strings, addresses and a number always serializes.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// What a file says; the format it is of when that is a later one, nothing when it makes no sense.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, Option<u32>> {
        if let Some(later) = later_format(json) {
            return Err(Some(later));
        }
        let record: Self = serde_json::from_slice(json).map_err(|_| None)?;
        // Names of files and interfaces are made of them.
        let known = record.format == FORMAT && record.attachment().host_interface() == record.host_interface;
        if known { Ok(record) } else { Err(None) }
    }
}

/// The format that a document claims, if it is one that is not known here.
pub(super) fn later_format(json: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Claim {
        format: u32,
    }
    let claim: Claim = serde_json::from_slice(json).ok()?;
    (claim.format > FORMAT).then_some(claim.format)
}

/// Seconds since 1970 as RFC 3339 text, in UTC.
fn rfc3339(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    //! Records round-trip, and what is not one is refused.
    use super::*;

    fn record() -> Record {
        let pod = PodName {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u-1".into(),
            ..PodName::default()
        };
        let attachment = Attachment { container_id: "abc".to_owned(), ifname: "eth0".to_owned(), pod };
        Record::new("heddle", &attachment, None)
    }

    #[test]
    fn round_trips_readably() {
        let mut record = record();
        record.addresses = vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let json = record.to_json();
        let text = String::from_utf8(json.clone()).unwrap();
        for expected in [
            r#""format": 1"#,
            r#""network": "heddle""#,
            r#""containerID": "abc""#,
            r#""podNamespace": "default""#,
            r#""podUID": "u-1""#,
            r#""10.1.0.1""#,
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert!(!text.contains("ipam") && !text.contains("infraContainerID"), "{text}");
        assert_eq!(Record::from_json(&json).unwrap(), record);
        assert_eq!(record.attachment().host_interface(), record.host_interface);
    }

    #[test]
    fn refuses_what_is_no_record() {
        let foreign = String::from_utf8(record().to_json()).unwrap().replace("eth0", "eth1");
        for json in
            ["", "{}", "null", "[]", "{", r#"{"format":1,"containerID":"a"}"#, r#"{"format":0}"#, &foreign]
        {
            assert_eq!(Record::from_json(json.as_bytes()), Err(None), "{json}");
        }
        // Whatever else a later format may have done away with, it says that it is one.
        assert_eq!(Record::from_json(br#"{"format":2,"owner":7}"#), Err(Some(2)));
    }

    #[test]
    fn writes_dates_as_date_does() {
        // Each checked against date -u -d @SECONDS.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
