//! What names, labels and ports may look like.

/// What [`is_dns_label`] asks for.
pub(super) const DNS_LABEL: &str =
    "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit (RFC 1123)";
/// What [`is_dns_subdomain`] asks for.
pub(super) const DNS_SUBDOMAIN: &str = "parts joined by dots, each of a-z, 0-9 and -, beginning and ending with a letter or digit, 253 in all (RFC 1123)";
/// What [`is_label_key`] asks for.
pub(super) const LABEL_KEY: &str = "an optional DNS prefix and /, then 1 to 63 of letters, digits, -, _ and ., beginning and ending with a letter or digit";
/// What [`is_label_value`] asks for.
pub(super) const LABEL_VALUE: &str =
    "at most 63 of letters, digits, -, _ and ., beginning and ending with a letter or digit, or nothing";
/// What [`is_port_name`] asks for.
pub(super) const PORT_NAME: &str =
    "1 to 15 of a-z, 0-9 and -, with a letter, no - at either end and no two in a row (RFC 6335)";

pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63
        && edges_are_alphanumeric(text)
        && text.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-')
}

pub(super) fn is_dns_subdomain(text: &str) -> bool {
    let part_is_fine = |part: &str| {
        edges_are_alphanumeric(part) && part.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(part_is_fine)
}

pub(super) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && !name.is_empty() && is_label_value(name),
        None => !key.is_empty() && is_label_value(key),
    }
}

pub(super) fn is_label_value(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    value.is_empty() || value.len() <= 63 && edges_are_alphanumeric(value) && value.bytes().all(allowed)
}

pub(super) fn is_port_name(name: &str) -> bool {
    let letters = name.bytes().any(|b| b.is_ascii_lowercase());
    name.len() <= 15
        && letters
        && edges_are_alphanumeric(name)
        && !name.contains("--")
        && name.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-')
}

fn is_lower_alphanumeric(octet: u8) -> bool {
    octet.is_ascii_lowercase() || octet.is_ascii_digit()
}

fn edges_are_alphanumeric(text: &str) -> bool {
    let edges = [text.bytes().next(), text.bytes().next_back()];
    edges.iter().all(|edge| edge.is_some_and(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    //! Names on both sides of each rule.
    use super::*;

    #[test]
    fn label_keys_and_values() {
        let long = "a".repeat(64);
        assert!(["a", "app.kubernetes.io/name", "A_b.c-9"].iter().all(|key| is_label_key(key)));
        assert!(!["", "/a", "a/", "a/b/c", "-a", "a-", "UP.er/a", &long].iter().any(|key| is_label_key(key)));
        assert!(["", "x", "X_1.2-y"].iter().all(|value| is_label_value(value)));
        assert!(![".", "a b", "ä", &long].iter().any(|value| is_label_value(value)));
    }

    #[test]
    fn names_and_ports() {
        assert!(is_dns_label("a-1") && !is_dns_label("A") && !is_dns_label("a.b") && !is_dns_label(""));
        assert!(is_dns_subdomain("a.b-c.0") && !is_dns_subdomain("a..b") && !is_dns_subdomain("a_b"));
        assert!(["http", "a", "8080-tcp"].iter().all(|name| is_port_name(name)));
        assert!(
            !["", "80", "Http", "a--b", "-a", "a-", "sixteen-letters-"].iter().any(|name| is_port_name(name))
        );
    }
}
