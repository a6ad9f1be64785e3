//! What an address file says.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Version of the file format. A file of another version is not understood, and its address stays taken.
const FORMAT: u32 = 1;

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    /// The container's ID, as the runtime gave it.
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    /// Name of the interface in the container.
    pub(crate) ifname: String,
}

/// The content of an address file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    format: u32,
    /// Whose address it is.
    #[serde(flatten)]
    pub(crate) owner: Owner,
    /// "namespace/name" of the pod, for whoever reads the file; empty when the runtime did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) pod: String,
    /// When it was allocated, in UTC.
    pub(crate) allocated_at: String,
}

impl Entry {
    pub(super) fn new(owner: &Owner, pod: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { format: FORMAT, owner: owner.clone(), pod: pod.to_owned(), allocated_at: rfc3339(now) }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // A struct of strings and a number always serializes.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|entry: &Self| entry.format == FORMAT)
    }
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
    //! Address files round-trip, and what is not one is refused.
    use super::*;

    #[test]
    fn round_trips_readably() {
        let owner = Owner { container_id: "abc".to_owned(), ifname: "eth0".to_owned() };
        let entry = Entry::new(&owner, "default/web");
        let json = entry.to_json();
        assert_eq!(Entry::from_json(&json), Some(entry));
        let text = String::from_utf8(json).unwrap();
        for expected in ["\"format\": 1", "\"containerID\": \"abc\"", "\"ifname\": \"eth0\"", "default/web"] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }

    #[test]
    fn refuses_other_content() {
        let wrong_format = r#"{"format":2,"containerID":"a","ifname":"b","allocatedAt":"x"}"#;
        for json in ["", "{}", "null", "[]", "{", r#"{"format":1,"containerID":"a"}"#, wrong_format] {
            assert_eq!(Entry::from_json(json.as_bytes()), None, "{json}");
        }
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
