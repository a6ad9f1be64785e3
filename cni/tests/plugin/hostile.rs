//! Whatever the variables and the input are: an answer as the specification has it, with a code that says where to look.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

const VERBS: [&str; 6] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

/// Everything that a configuration can hold.
fn configuration() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "heddle-cni", "socket": "/nowhere/s", "stateDir": "/nowhere/d",
        "addressRest": 30, "dns": { "nameservers": ["192.0.2.1"] },
        "capabilities": { "portMappings": true, "io.kubernetes.cri.pod-annotations": true },
        "args": { "cni": { "attach": "cached", "ips": ["10.1.0.5"], "mac": "0a:00:00:00:00:01" } },
        "runtimeConfig": {
            "portMappings": [{ "hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "" }],
            "bandwidth": { "ingressRate": 1, "ingressBurst": 1, "egressRate": 1, "egressBurst": 1 },
            "ips": ["fd00::5/64"], "mac": "0a:00:00:00:00:01",
            "io.kubernetes.cri.pod-annotations": { "heddle.io/attach": "direct" },
        },
        "ipam": { "type": "host-local", "ranges": [] },
        "prevResult": {
            "cniVersion": "1.1.0", "interfaces": [{ "name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/x" }],
            "ips": [{ "address": "10.1.0.5/32", "gateway": "169.254.1.1", "interface": 0 }], "routes": [{ "dst": "0.0.0.0/0" }],
        },
        "cni.dev/valid-attachments": [{ "containerID": "c", "ifname": "eth0" }],
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop_oneof!["10.1.0.5/99", "fe80::1", "../../etc", "tcp", "0.3.1", "9999999999999.1"]
            .prop_map(Value::from),
        "[a-z]{5000}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z./]{0,12}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Puts something else in the place of the n-th value, counted in depth.
fn replace(value: &mut Value, countdown: &mut usize, with: &Value) {
    if *countdown == 0 {
        *value = with.clone();
    }
    *countdown = countdown.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, countdown, with)),
        Value::Object(members) => members.values_mut().for_each(|item| replace(item, countdown, with)),
        _ => {}
    }
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let mutated = prop::collection::vec((0..60_usize, value()), 0..4).prop_map(|changes| {
        let mut document = configuration();
        for (place, with) in changes {
            replace(&mut document, &mut { place }, &with);
        }
        document.to_string().into_bytes()
    });
    let torn = (input_text(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut text, at, byte)| {
        let at = at.index(text.len());
        text[at] = byte;
        text.truncate(text.len().max(at + 1) - usize::from(byte) % 2 * at / 2);
        text
    });
    prop_oneof![4 => mutated, 2 => torn, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

fn input_text() -> impl Strategy<Value = Vec<u8>> {
    Just(configuration().to_string().into_bytes())
}

fn variable() -> impl Strategy<Value = Option<OsString>> {
    prop_oneof![
        3 => prop_oneof!["c1", "eth0", "/nowhere/netns", "/opt/cni/bin", "IgnoreUnknown=1;K8S_POD_NAME=p"]
            .prop_map(|text| Some(OsString::from(text))),
        1 => Just(None),
        1 => Just(Some(OsString::new())),
        1 => prop::collection::vec(1..=255_u8, 0..64).prop_map(|bytes| Some(OsString::from_vec(bytes))),
        1 => "([A-Z_0-9]{1,9}[=;]{1,2}.{0,9};?){1,4}".prop_map(|text| Some(OsString::from(text))),
        1 => Just(Some(OsString::from("x".repeat(100_000)))),
    ]
}

fn verb() -> impl Strategy<Value = Option<OsString>> {
    prop_oneof![8 => prop::sample::select(&VERBS[..]).prop_map(|verb| Some(OsString::from(verb))), 1 => variable()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_input_is_understood_or_refused(
        verb in verb(), id in variable(), ifname in variable(), netns in variable(), args in variable(), input in input(),
    ) {
        let lookup = |name: &str| match name {
            "CNI_COMMAND" => verb.clone(),
            "CNI_CONTAINERID" => id.clone(),
            "CNI_IFNAME" => ifname.clone(),
            "CNI_NETNS" => netns.clone(),
            "CNI_ARGS" => args.clone(),
            _ => None,
        };
        let reply = heddle_cni::check(lookup, &input[..]);
        if reply.success {
            return Ok(());
        }
        let told: Value = serde_json::from_str(&reply.output.unwrap()).unwrap();
        prop_assert!(told["cniVersion"].is_string(), "{told}");
        prop_assert!([1, 2, 4, 6, 7].contains(&told["code"].as_u64().unwrap()), "{told}");
        prop_assert!(!told["msg"].as_str().unwrap().is_empty() && !told["details"].as_str().unwrap().is_empty(), "{told}");
    }
}

/// What the mutations start from is taken by every verb; otherwise they would all be refused for the same reason.
#[test]
fn the_configuration_itself_is_understood() {
    for verb in VERBS {
        let variables = |name: &str| match name {
            "CNI_COMMAND" => Some(OsString::from(verb)),
            "CNI_CONTAINERID" => Some("c1".into()),
            "CNI_IFNAME" => Some("eth0".into()),
            "CNI_NETNS" => Some("/nowhere".into()),
            _ => None,
        };
        let reply = heddle_cni::check(variables, configuration().to_string().as_bytes());
        assert!(reply.success, "{verb}: {reply:?}");
    }
}
