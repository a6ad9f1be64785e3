//! A directory is read as a whole: valid objects are in force, everything else is reported with file, line and field.
#![allow(clippy::unwrap_used)]

use heddle_policy::check::check_dir;
use heddle_policy::explain::Place;
use heddle_policy::manifests::Manifests;
use tempfile::TempDir;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

const CLUSTER: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
spec:
  containers:
  - name: main
    image: x
    resources: {limits: {cpu: 100m, memory: 1Gi}}
    ports: [{containerPort: 80, name: http}]
    livenessProbe: {httpGet: {path: /, port: http}}
---
# nothing in here
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}, namespace: other}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ignored}
";

const POLICIES: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: fine, namespace: shop}
spec:
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}
    ports:
    - port: http
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broken, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - ipBlock:
        cidr: 10.0.0.0/8
        except:
        - 11.0.0.0/8
    ports:
    - port: 70000
---
this is: [not yaml
---
just: a mapping
";

#[test]
fn mistakes_are_found_with_their_lines() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
         "metadata": {"name": "fine", "namespace": "shop"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "typo"},
         "spec": {"podSelecter": {}, "policyTypes": ["Igress"]}}]}"#;
    let files = [
        ("a.yaml", CLUSTER),
        ("b/c.yml", POLICIES),
        ("d.json", list),
        ("e.txt", "not read"),
        (".hidden.yaml", "["),
    ];
    let directory = directory(&files);
    let report = check_dir(directory.path()).unwrap();
    let lines: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            (finding.file.file_name().unwrap().to_str().unwrap(), finding.line, finding.field.as_str())
        })
        .collect();
    let expected = [
        ("c.yml", 21, "spec.ingress[0].from[0].ipBlock.except[0]"),
        ("c.yml", 23, "spec.ingress[0].ports[0].port"),
        ("c.yml", 26, ""),
        ("c.yml", 27, ""),
        ("d.json", 3, "metadata.name"),
        ("d.json", 5, "spec.podSelecter"),
        ("d.json", 5, "spec.policyTypes[0]"),
    ];
    assert_eq!(lines, expected, "{report}");
    assert_eq!(
        (report.files, report.policies, report.pods, report.namespaces, report.ignored),
        (3, 1, 2, 2, 1)
    );
    assert!(!report.is_ok() && report.compiled.is_some());
    assert!(
        report
            .to_string()
            .contains("c.yml:23: NetworkPolicy shop/broken: spec.ingress[0].ports[0].port: 70000"),
        "{report}"
    );
}

#[test]
fn what_is_valid_is_in_force() {
    let directory = directory(&[("cluster.yaml", CLUSTER), ("policies.yaml", POLICIES)]);
    let manifests = Manifests::load(directory.path()).unwrap();
    let mut compiler = manifests.compiler();
    let place = |text: &str| text.parse::<Place>().unwrap();
    let mut ask = |from: &str, port: &str| {
        let explanation = compiler.explain(&place(from), &place("shop/web"), port.parse().unwrap()).unwrap();
        (explanation.paths[0].allowed, explanation.to_string())
    };
    let (allowed, text) = ask("other/db", "tcp/80");
    assert!(allowed, "{text}");
    assert!(
        text.contains("ingress of shop/web: allowed by shop/fine spec.ingress[0] from[0] ports[0]"),
        "{text}"
    );
    let (allowed, text) = ask("other/db", "tcp/81");
    assert!(!allowed, "{text}");
    assert!(
        text.contains("denied, selected for ingress by shop/fine, and no rule of these allows it"),
        "{text}"
    );
    assert!(!ask("8.8.8.8", "tcp/80").0);
}

#[test]
fn lists_may_leave_out_what_their_items_are() {
    let list = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n";
    let manifests = Manifests::load(directory(&[("pods.yaml", list)]).path()).unwrap();
    assert_eq!(manifests.pods.len(), 2, "{:?}", manifests.findings);
    assert_eq!(manifests.namespaces.len(), 1, "the namespace default exists");
}

#[test]
fn a_missing_directory_is_named() {
    let error = check_dir("/nowhere/at/all".as_ref()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn links_are_followed_but_not_in_circles() {
    let directory = directory(&[("..data/sub/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")]);
    let link =
        |target: &str, name: &str| std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
    link("..data/sub", "sub");
    link(".", "circle");
    link("nowhere.yaml", "dangling.yaml");
    let manifests = Manifests::load(directory.path()).unwrap();
    assert_eq!((manifests.files, manifests.pods.len()), (1, 1), "{:?}", manifests.findings);
}

#[test]
fn what_is_no_file_is_not_read() {
    let directory = directory(&[]);
    let path = directory.path().join("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let manifests = Manifests::load(directory.path()).unwrap();
    assert!(manifests.findings[0].reason.contains("not a regular file"), "{:?}", manifests.findings);
}

#[test]
fn a_pod_may_be_said_in_two_halves() {
    let written = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: web}}\n";
    let seen = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: other}}\nspec: {nodeName: n1, containers: []}\n\
                status: {podIP: 10.0.0.1}\n";
    for files in [[("1.yaml", written), ("2.yaml", seen)], [("1.yaml", seen), ("2.yaml", written)]] {
        let manifests = Manifests::load(directory(&files).path()).unwrap();
        assert_eq!(manifests.findings, []);
        let [pod] = &manifests.pods[..] else { panic!("{:?}", manifests.pods) };
        assert_eq!((pod.labels["app"].as_str(), pod.node.as_deref()), ("web", Some("n1")));
        assert_eq!(pod.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    }
    let thrice = directory(&[("1.yaml", written), ("2.yaml", seen), ("3.yaml", written)]);
    let manifests = Manifests::load(thrice.path()).unwrap();
    assert_eq!(manifests.findings.len(), 1, "{:?}", manifests.findings);
    assert!(manifests.findings[0].reason.contains("also defined in"));
    let twice = directory(&[("1.yaml", written), ("2.yaml", written)]);
    assert_eq!(Manifests::load(twice.path()).unwrap().findings.len(), 1);
}
