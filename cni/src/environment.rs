//! The `CNI_*` variables. A blank one is an unset one.

use std::ffi::OsString;
use std::path::PathBuf;

use rscni_types::types::{
    CNI_ARGS, CNI_COMMAND, CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS, CNI_PATH, Cmd, ContainerId, InterfaceName,
};
use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::error::{CniError, Result, code};
use crate::wishes::Arguments as Wished;

/// What the runtime asks for, and about what.
#[derive(Debug)]
pub(crate) struct Request {
    /// The operation.
    pub(crate) verb: Cmd,
    /// The attachment it is about; absent for verbs about the plugin or the whole network.
    pub(crate) attachment: Option<Attachment>,
    /// Path of the container's network namespace.
    pub(crate) netns: Option<PathBuf>,
    /// What `CNI_ARGS` asks for; unchecked.
    pub(crate) wished: Wished,
    /// Where plugins are, to find the one that gives addresses.
    pub(crate) path: OsString,
}

/// A pod as Kubernetes names it; what the runtime did not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PodName {
    /// Its namespace.
    #[serde(rename = "podNamespace", skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    /// Its name.
    #[serde(rename = "podName", skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// Its unique identifier, which a pod of the same name that comes after it does not have.
    #[serde(rename = "podUID", skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    /// The container that has its namespaces.
    #[serde(rename = "infraContainerID", skip_serializing_if = "String::is_empty")]
    pub(crate) infra_container_id: String,
}

/// Takes every variable through `lookup` and reports all that are missing or wrong at once.
pub(crate) fn parse(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Request> {
    let mut bad = Vec::new();
    let mut get = |name: &'static str| -> Option<String> {
        let value = lookup(name).filter(|value| !value.is_empty())?;
        value.into_string().map_err(|_| bad.push(format!("{name} is not UTF-8"))).ok()
    };
    let (command, container_id, ifname) = (get(CNI_COMMAND), get(CNI_CONTAINERID), get(CNI_IFNAME));
    let (netns, arguments) = (get(CNI_NETNS), get(CNI_ARGS));
    let verb = match command.as_deref().map(str::parse::<Cmd>) {
        Some(Ok(verb)) => Some(verb),
        Some(Err(_)) => {
            bad.push(format!("{CNI_COMMAND} is no CNI verb: '{}'", command.unwrap_or_default()));
            None
        }
        None => {
            bad.push(format!("{CNI_COMMAND} is not set (a container runtime sets it)"));
            None
        }
    };
    // The other verbs are not about one attachment: podman, for one, sends VERSION with placeholders.
    let attachment_needed = matches!(verb, Some(Cmd::Add | Cmd::Del | Cmd::Check));
    let netns_needed = matches!(verb, Some(Cmd::Add | Cmd::Check));
    let (mut attachment, mut wished) = (None, Wished::default());
    if attachment_needed || verb.is_none() {
        let container_id = checked::<ContainerId>(CNI_CONTAINERID, container_id, attachment_needed, &mut bad);
        let ifname = checked::<InterfaceName>(CNI_IFNAME, ifname, attachment_needed, &mut bad);
        let arguments = self::arguments(arguments.as_deref().unwrap_or_default()).unwrap_or_else(|reason| {
            bad.push(format!("{CNI_ARGS} {reason}"));
            Arguments::default()
        });
        wished = arguments.wished;
        attachment = container_id.zip(ifname).map(|(container_id, ifname)| Attachment {
            container_id: container_id.to_string(),
            ifname: ifname.to_string(),
            pod: arguments.pod,
        });
    }
    if netns_needed && netns.is_none() {
        bad.push(format!("{CNI_NETNS} is not set"));
    }
    match verb {
        Some(verb) if bad.is_empty() => {
            let path = lookup(CNI_PATH).unwrap_or_default();
            Ok(Request { verb, attachment, netns: netns.map(PathBuf::from), wished, path })
        }
        _ => Err(CniError::new(code::ENVIRONMENT, bad.join("; "))),
    }
}

fn checked<T>(name: &str, value: Option<String>, needed: bool, bad: &mut Vec<String>) -> Option<T>
where
    T: TryFrom<String, Error = rscni_types::error::Error>,
{
    let Some(value) = value else {
        bad.extend(needed.then(|| format!("{name} is not set")));
        return None;
    };
    T::try_from(value).map_err(|error| bad.push(format!("{name}: {}", error.details()))).ok()
}

/// What `CNI_ARGS` says.
#[derive(Debug, Default)]
struct Arguments {
    pod: PodName,
    wished: Wished,
}

/// Reads `KEY=VALUE;KEY=VALUE`. A key this plugin does not know is an error unless `IgnoreUnknown` is among them.
fn arguments(text: &str) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut unknown = Vec::new();
    let mut ignore = false;
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("has no '=' in '{pair}'"))?;
        match key {
            "K8S_POD_NAMESPACE" => value.clone_into(&mut arguments.pod.namespace),
            "K8S_POD_NAME" => value.clone_into(&mut arguments.pod.name),
            "K8S_POD_UID" => value.clone_into(&mut arguments.pod.uid),
            "K8S_POD_INFRA_CONTAINER_ID" => value.clone_into(&mut arguments.pod.infra_container_id),
            "HEDDLE_ATTACH" => arguments.wished.attach = Some(value.to_owned()),
            "IP" => arguments.wished.address = Some(value.to_owned()),
            "MAC" => arguments.wished.mac = Some(value.to_owned()),
            "IgnoreUnknown" => {
                ignore = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(format!("has IgnoreUnknown={value}: write 1 or 0")),
                };
            }
            _ => unknown.push(key),
        }
    }
    if ignore || unknown.is_empty() {
        Ok(arguments)
    } else {
        Err(format!("has unknown keys and no IgnoreUnknown=1: {}", unknown.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    //! Every variable that is missing or wrong is named at once; verbs ask only for what they need.
    use super::*;

    fn request(variables: &[(&str, &str)]) -> Result<Request> {
        parse(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
    }

    const FULL: [(&str, &str); 4] = [
        ("CNI_CONTAINERID", "abc"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_PATH", "/opt"),
    ];

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Request> {
        // The first of a name counts.
        request(&[extra, &FULL].concat())
    }

    #[test]
    fn a_full_add_is_understood() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u;\
            K8S_POD_INFRA_CONTAINER_ID=abc;FOO=bar";
        let request = with(&[("CNI_COMMAND", "ADD"), ("CNI_ARGS", args)]).unwrap();
        let attachment = request.attachment.unwrap();
        assert_eq!(attachment.id(), "abc/eth0");
        let pod = PodName {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            uid: "u".to_owned(),
            infra_container_id: "abc".to_owned(),
        };
        assert_eq!(attachment.pod, pod);
        assert_eq!(request.netns, Some(PathBuf::from("/run/netns/x")));
        assert_eq!((request.wished, request.path), (Wished::default(), "/opt".into()));
    }

    #[test]
    fn wishes_are_known_keys_and_not_judged_here() {
        for verb in ["ADD", "DEL"] {
            let args = "HEDDLE_ATTACH=whatever;IP=here;MAC=there";
            let wished = with(&[("CNI_COMMAND", verb), ("CNI_ARGS", args)]).unwrap().wished;
            assert_eq!(wished.attach.as_deref(), Some("whatever"));
            assert_eq!((wished.address.as_deref(), wished.mac.as_deref()), (Some("here"), Some("there")));
        }
    }

    #[test]
    fn all_bad_variables_are_named_at_once() {
        let error =
            request(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "a/b"), ("CNI_ARGS", "X=1")]).unwrap_err();
        assert_eq!(error.code, code::ENVIRONMENT);
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"] {
            assert!(error.details.contains(name), "{name} is not in: {}", error.details);
        }
        let error = request(&[("CNI_COMMAND", "FROB"), ("CNI_IFNAME", "far-too-long-name")]).unwrap_err();
        assert!(error.details.contains("CNI_COMMAND") && error.details.contains("CNI_IFNAME"), "{error}");
    }

    #[test]
    fn blank_is_unset() {
        for verb in ["ADD", "CHECK"] {
            let error = with(&[("CNI_COMMAND", verb), ("CNI_NETNS", "")]).unwrap_err();
            assert!(error.details.contains("CNI_NETNS is not set"), "{error}");
        }
        assert_eq!(with(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).unwrap().netns, None);
        assert!(with(&[("CNI_COMMAND", "")]).unwrap_err().details.contains("CNI_COMMAND is not set"));
        assert!(with(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "")]).is_err());
    }

    #[test]
    fn verbs_about_the_plugin_ask_for_nothing() {
        for verb in ["VERSION", "GC", "STATUS"] {
            assert!(request(&[("CNI_COMMAND", verb)]).is_ok(), "{verb}");
        }
        let dummies = [("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", "!"), ("CNI_NETNS", "dummy")];
        assert!(request(&dummies).is_ok());
    }

    #[test]
    fn refuses_malformed_values() {
        for (name, value) in [
            ("CNI_CONTAINERID", "-abc"),
            ("CNI_CONTAINERID", "a b"),
            ("CNI_CONTAINERID", "../x"),
            ("CNI_IFNAME", "."),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a:b"),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
            ("CNI_ARGS", "no equals sign"),
            ("CNI_ARGS", "IgnoreUnknown=maybe"),
            ("CNI_ARGS", "IgnoreUnknown=0;FOO=bar"),
            ("CNI_ARGS", "FOO=bar"),
        ] {
            let error = with(&[("CNI_COMMAND", "ADD"), (name, value)]).unwrap_err();
            assert_eq!(error.code, code::ENVIRONMENT);
            assert!(error.details.contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let error = parse(|name| match name {
            "CNI_COMMAND" => Some("DEL".into()),
            "CNI_CONTAINERID" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        });
        let details = error.unwrap_err().details;
        assert!(details.contains("CNI_CONTAINERID is not UTF-8"), "{details}");
    }
}
