//! Whatever the order of events: pods are who their objects say, and where their endpoints are.

use heddle_image::{Direction, Protocol};
use heddle_policy::manifests::ManifestFile;

use super::*;

/// Lets pods with `app: web` into pods with `app: db` of namespace shop, and nobody else.
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";

fn objects(yaml: &str) -> Vec<Object> {
    let file = ManifestFile::parse("test.yaml".as_ref(), yaml);
    assert_eq!(file.findings, []);
    file.objects.into_iter().map(|located| located.object).collect()
}

fn pod(name: &str, app: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\n{more}\n"
    )
}

fn at(address: &str) -> String {
    format!("status: {{podIP: {address}}}")
}

fn endpoint(id: &str, pod: &str, address: &str) -> LocalEndpoint {
    let (namespace, name) = pod.split_once('/').unwrap();
    LocalEndpoint {
        id: id.into(),
        pod: ObjectName::new(namespace, name),
        addresses: vec![address.parse().unwrap()],
    }
}

struct Picture(Cluster);

impl Picture {
    fn new() -> Self {
        Self(Cluster::new("n1"))
    }

    fn set(&mut self, yaml: &str) -> &mut Self {
        for object in objects(yaml) {
            self.0.apply(Change::Set(object));
        }
        self
    }

    fn remove(&mut self, yaml: &str) -> &mut Self {
        for object in objects(yaml) {
            self.0.apply(Change::Remove(object.key()));
        }
        self
    }

    /// Whether `address` may open a connection to the pod; `None` if the image does not name the pod.
    fn allows(&mut self, address: &str, pod: &str) -> Option<bool> {
        let image = self.0.image().unwrap();
        let (namespace, name) = pod.split_once('/').unwrap();
        let class = image.endpoint(namespace, name)?;
        let peer = image.peer_class(address.parse().unwrap());
        Some(image.allows(class, Direction::Ingress, peer, Protocol::Tcp, 80))
    }
}

#[test]
fn the_order_of_events_does_not_matter() {
    let web = "spec: {nodeName: n2, containers: []}\nstatus: {podIP: 10.0.2.1}";
    let steps: [&dyn Fn(&mut Picture); 5] = [
        &|p| _ = p.set(POLICY),
        &|p| _ = p.set(&pod("db", "db", "")),
        &|p| _ = p.set(&pod("web", "web", web)),
        &|p| p.0.add_endpoint(endpoint("a", "shop/db", "10.0.1.1")),
        &|p| p.0.add_endpoint(endpoint("b", "shop/other", "10.0.1.2")),
    ];
    // Every rotation and its reverse, with an image after each step.
    for first in 0..steps.len() {
        for backwards in [false, true] {
            let mut picture = Picture::new();
            for step in 0..steps.len() {
                let step = if backwards { steps.len() - 1 - step } else { step };
                steps[(first + step) % steps.len()](&mut picture);
                picture.0.image().unwrap();
            }
            assert_eq!(picture.allows("10.0.2.1", "shop/db"), Some(true));
            assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
            assert_eq!(picture.allows("10.0.1.2", "shop/other"), Some(true));
            assert_eq!(picture.allows("10.0.1.1", "shop/web"), None, "not here");
        }
    }
}

#[test]
fn labels_change() {
    let mut picture = Picture::new();
    picture.set(POLICY).set(&pod("db", "db", "")).set(&pod("web", "web", ""));
    picture.0.add_endpoint(endpoint("a", "shop/db", "10.0.1.1"));
    picture.0.add_endpoint(endpoint("b", "shop/web", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    picture.set(&pod("web", "other", ""));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    picture.set(&pod("db", "other", ""));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true), "no policy selects it now");
    // Without its object a pod has no labels, and is still there.
    picture.set(&pod("db", "db", "")).set(&pod("web", "web", "")).remove(&pod("web", "web", ""));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    assert_eq!(picture.allows("10.0.1.1", "shop/web"), Some(true));
}

#[test]
fn an_address_that_is_used_again_is_its_new_owners() {
    let mut picture = Picture::new();
    picture.set(POLICY).set(&pod("db", "db", "")).set(&pod("web", "web", "")).set(&pod("evil", "evil", ""));
    picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
    picture.0.add_endpoint(endpoint("a", "shop/web", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    picture.0.remove_endpoint("a");
    picture.0.add_endpoint(endpoint("b", "shop/evil", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    // Back, the two changes in one image and the other way round.
    picture
        .0
        .replace_endpoints(vec![endpoint("c", "shop/web", "10.0.1.2"), endpoint("d", "shop/db", "10.0.1.1")]);
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    assert_eq!(picture.allows("10.0.1.1", "shop/evil"), None);
}

#[test]
fn an_endpoints_address_is_not_for_objects_to_claim() {
    let mut picture = Picture::new();
    // The object is of a pod that had this address before.
    picture.set(POLICY).set(&pod("db", "db", "")).set(&pod("web", "web", &at("10.0.1.2")));
    picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    picture.0.add_endpoint(endpoint("e", "shop/evil", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    picture.0.remove_endpoint("e");
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    // The same with an endpoint of its own elsewhere.
    picture.0.add_endpoint(endpoint("w", "shop/web", "10.0.1.3"));
    picture.0.add_endpoint(endpoint("e", "shop/evil", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    assert_eq!(picture.allows("10.0.1.3", "shop/db"), Some(true));
}

#[test]
fn addresses_of_objects_that_mean_nothing() {
    for status in [
        "status: {podIP: 10.0.9.9, phase: Succeeded}",
        "spec: {hostNetwork: true, containers: []}\nstatus: {podIP: 10.0.9.9}",
    ] {
        let mut picture = Picture::new();
        picture.set(POLICY).set(&pod("db", "db", "")).set(&pod("web", "web", status));
        picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
        assert_eq!(picture.allows("10.0.9.9", "shop/db"), Some(false), "{status}");
        // Its endpoint is there all the same, and says where it is.
        picture.0.add_endpoint(endpoint("w", "shop/web", "10.0.1.2"));
        assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true), "{status}");
        assert_eq!(picture.allows("10.0.9.9", "shop/db"), Some(false), "{status}");
    }
    // Of a pod that is said to run elsewhere, too.
    let mut picture = Picture::new();
    let elsewhere = pod("web", "web", "spec: {nodeName: n2, containers: []}\nstatus: {podIP: 10.0.9.9}");
    picture.set(POLICY).set(&pod("db", "db", "")).set(&elsewhere);
    picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
    assert_eq!(picture.allows("10.0.9.9", "shop/db"), Some(true));
    picture.0.add_endpoint(endpoint("w", "shop/web", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.9.9", "shop/db"), Some(false));
}

#[test]
fn namespaces_that_are_only_named_have_their_name() {
    let policy = POLICY.replace(
        "podSelector: {matchLabels: {app: web}}",
        "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lab}}",
    );
    let by_team =
        policy.replace("kubernetes.io/metadata.name: lab", "team: blue").replace("name: db,", "name: t,");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab, labels: {team: blue}}\n";
    let mut picture = Picture::new();
    picture.set(&policy).set(&pod("db", "db", ""));
    picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
    picture.0.add_endpoint(endpoint("l", "lab/some", "10.0.1.2"));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    picture.remove(&policy).set(&by_team);
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    picture.set(namespace);
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(true));
    picture.remove(namespace);
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
}

#[test]
fn a_container_that_is_no_pod_is_selected_by_nobody() {
    let everyone = POLICY.replace("podSelector: {matchLabels: {app: web}}", "namespaceSelector: {}");
    let mut picture = Picture::new();
    picture.set(&everyone).set(&pod("db", "db", ""));
    picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
    picture.0.add_endpoint(endpoint("x", "/", "10.0.1.2"));
    picture.0.add_endpoint(endpoint("y", "/", "10.0.1.3"));
    assert_eq!(picture.allows("10.0.1.1", "/"), Some(true));
    assert_eq!(picture.allows("10.0.1.2", "shop/db"), Some(false));
    picture.0.remove_endpoint("x");
    assert_eq!(picture.allows("10.0.1.1", "/"), Some(true));
    picture.0.remove_endpoint("y");
    assert_eq!(picture.allows("10.0.1.1", "/"), None);
}

#[test]
fn nothing_is_left_of_what_came_and_went() {
    let mut picture = Picture::new();
    let empty = picture.0.image().unwrap().encode();
    for _ in 0..3 {
        let web = pod("web", "web", &at("10.0.1.7"));
        picture.set(POLICY).set(&web).set(&pod("db", "db", ""));
        picture.0.add_endpoint(endpoint("d", "shop/db", "10.0.1.1"));
        assert_ne!(picture.0.image().unwrap().encode(), empty);
        picture.remove(POLICY).remove(&web).remove(&pod("db", "db", ""));
        picture.0.replace_endpoints(Vec::new());
        assert_eq!(picture.0.image().unwrap().endpoints.iter().count(), 0);
        let cluster = &picture.0;
        assert!(cluster.namespaces.is_empty() && cluster.claims.is_empty() && cluster.owners.is_empty());
        assert!(cluster.compiled.is_empty() && cluster.of_pod.is_empty() && cluster.pods.is_empty());
    }
}
