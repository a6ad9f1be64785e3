//! The worked example of docs/policy.md, number by number.
#![allow(clippy::unwrap_used)]

use heddle_image::{Direction, Image, Protocol};
use heddle_policy::manifests::Manifests;

const MANIFESTS: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web-1, labels: {app: web}}, status: {podIP: 10.0.0.1}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web-2, labels: {app: web}}, status: {podIP: 10.0.0.2}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db-1, labels: {app: db}}, status: {podIP: 10.0.0.3}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: metrics, name: scraper, labels: {app: scraper}}, status: {podIP: 10.0.0.4}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {namespace: shop, name: db}
  spec:
    podSelector: {matchLabels: {app: db}}
    ingress:
    - from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 10.0.0.2/31}}]
      ports: [{port: 5432}]
    - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: metrics}}}]
      ports: [{port: 9000, endPort: 9100}]
";

fn image() -> Image {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("example.yaml"), MANIFESTS).unwrap();
    let manifests = Manifests::load(directory.path()).unwrap();
    assert_eq!(manifests.findings, []);
    manifests.compiler().update().unwrap()
}

#[test]
fn classes_are_what_the_document_says() {
    let image = image();
    let class = |address: &str| image.peer_class(address.parse().unwrap());
    // web-1: selected. web-2: selected, and in the block. db-1: in the block only. scraper: by its namespace.
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "fd00::1"];
    let classes = addresses.map(class);
    assert_eq!(classes[4], classes[5], "nobody mentions them");
    let mut apart = classes[..5].to_vec();
    apart.sort_unstable();
    apart.dedup();
    assert_eq!(apart.len(), 5);
    assert_eq!(classes[4].0, 0);

    assert_eq!(
        image.endpoint("shop", "web-1"),
        image.endpoint("metrics", "scraper"),
        "no policy selects them"
    );
    let book = &image.policy_class(image.endpoint("shop", "db-1").unwrap()).unwrap().ingress;
    let port = |number| book.ports.class(Protocol::Tcp, number);
    assert_eq!((port(1), port(5432), port(9000), port(9100), port(9101)), (0, 1, 2, 2, 0));
    assert_eq!(book.ports.class(Protocol::Udp, 5432), 0);
    let row = |port_class| {
        classes[..5].iter().map(|class| u8::from(book.rows.allows(port_class, *class))).collect::<Vec<_>>()
    };
    assert_eq!(row(0), [0, 0, 0, 0, 0]);
    assert_eq!(row(1), [1, 1, 1, 0, 0]);
    assert_eq!(row(2), [0, 0, 0, 1, 0]);
    assert_eq!((book.rows.len(), book.rows.bytes()), (3, 3 * 16));
    let open = image.policy_class(image.endpoint("shop", "web-1").unwrap()).unwrap();
    assert!(open.allows(Direction::Ingress, classes[4], Protocol::Other, 0));
}
