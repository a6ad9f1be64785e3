//! An endpoint is closed until an image names it, a call to add one answers when that is so or leaves nothing behind, and
//! a restart brings the image back.

use std::sync::Arc;
use std::time::Duration;

use heddle_api as api;
use heddle_api::endpoint_event::Event;
use heddle_image::{Image, PeerClass, PolicyClass, PolicyClassNumber};
use tonic::Code;

use super::fake::{Rig, request};
use super::grpc::serve_rig;
use crate::control::ControlError;
use crate::tables::EndpointPolicy;

/// Longer than any test takes.
const LONG: Duration = Duration::from_mins(1);

/// An image that gives each of these pods, and their addresses, a class of its own.
fn image(pods: &[u32]) -> Image {
    let mut image = Image::default();
    for n in pods {
        image.policy_classes.set(*n, Arc::new(PolicyClass::allow_all()));
        image.endpoints.insert(format!("default/pod{n}").into(), PolicyClassNumber(*n));
        for address in request(*n).addresses {
            image.set_pod(address.parse().unwrap(), PeerClass(*n));
        }
    }
    image
}

impl Rig {
    fn set(&mut self, image: &Image) -> api::SetPolicyResponse {
        self.control.set_policy(image.clone(), image.encode()).unwrap()
    }

    /// What the workers judge endpoint `number` by.
    fn policy(&self, number: u32) -> EndpointPolicy {
        self.plane.tables().endpoints.get(number).unwrap().policy
    }
}

#[test]
fn closed_until_named_and_again_when_not() {
    let mut rig = Rig::enforcing();
    rig.control.add_endpoint(request(1)).unwrap();
    rig.control.add_endpoint(request(2)).unwrap();
    assert_eq!((rig.policy(1), rig.policy(2)), (EndpointPolicy::Closed, EndpointPolicy::Closed));

    let answer = rig.set(&image(&[2, 3]));
    assert_eq!((answer.policy_generation, answer.endpoints_named, answer.endpoints_closed), (1, 1, 1));
    assert_eq!(rig.policy(1), EndpointPolicy::Closed);
    assert_eq!(rig.policy(2), EndpointPolicy::Class(PolicyClassNumber(2)));
    // One that is named already is in force at once.
    assert_eq!(rig.control.add_endpoint(request(3)).unwrap().policy, "class 3");
    assert_eq!(rig.policy(3), EndpointPolicy::Class(PolicyClassNumber(3)));

    rig.set(&image(&[1]));
    assert_eq!(rig.policy(1), EndpointPolicy::Class(PolicyClassNumber(1)));
    assert_eq!((rig.policy(2), rig.policy(3)), (EndpointPolicy::Closed, EndpointPolicy::Closed));
    let status = rig.control.status().unwrap().policy.unwrap();
    assert_eq!((status.mode.as_str(), status.generation, status.closed_endpoints), ("enforced", 2, 2));
    assert!(status.age_seconds.is_some());
}

#[test]
fn image_and_classes_are_published_together() {
    let mut rig = Rig::enforcing();
    for n in 1..=3 {
        rig.control.add_endpoint(request(n)).unwrap();
    }
    let before = rig.plane.notes().published.len();
    rig.set(&image(&[1, 2, 3]));
    let tables = rig.plane.tables();
    assert_eq!(rig.plane.notes().published.len(), before + 1);
    assert_eq!(tables.policy.generation, 1);
    assert_eq!(tables.policy.image.encode(), image(&[1, 2, 3]).encode());
    // Other changes leave policy as it is.
    rig.control.remove_endpoint("pod1/eth0").unwrap();
    assert_eq!(rig.plane.tables().policy.generation, 1);
    assert_eq!(rig.policy(2), EndpointPolicy::Class(PolicyClassNumber(2)));
}

#[test]
fn an_endpoint_opens_only_when_its_addresses_are_known_too() {
    let mut rig = Rig::enforcing();
    let mut early = image(&[1]);
    early.remove_pod("fd00:10:244:1::1".parse().unwrap());
    rig.set(&early);
    rig.control.add_endpoint(request(1)).unwrap();
    assert_eq!(rig.policy(1), EndpointPolicy::Closed);
    rig.set(&image(&[1]));
    assert_eq!(rig.policy(1), EndpointPolicy::Class(PolicyClassNumber(1)));
    // One that runs is not cut off for that.
    rig.set(&early);
    assert_eq!(rig.policy(1), EndpointPolicy::Class(PolicyClassNumber(1)));
}

#[test]
fn an_image_that_cannot_be_published_changes_nothing() {
    let mut rig = Rig::enforcing();
    rig.control.add_endpoint(request(1)).unwrap();
    rig.plane.notes().refuse_publish = true;
    let image = image(&[1]);
    rig.fails(|control| control.set_policy(image.clone(), image.encode()));
    rig.plane.notes().refuse_publish = false;
    assert_eq!(rig.control.status().unwrap().policy.unwrap().generation, 0);
    assert_eq!(rig.control.list_endpoints()[0].policy, "closed");
}

#[test]
fn without_policy_everything_is_open_and_images_are_refused() {
    let mut rig = Rig::new();
    assert_eq!(rig.control.add_endpoint(request(1)).unwrap().policy, "open");
    let error = rig.fails(|control| control.set_policy(image(&[1]), vec![]));
    assert!(matches!(&error, ControlError::Precondition(text) if text.contains("enforced")), "{error}");
    assert_eq!(rig.control.status().unwrap().policy.unwrap().mode, "off");
}

#[test]
fn a_restart_brings_the_image_back() {
    let mut rig = Rig::enforcing();
    for n in 1..=2 {
        rig.control.add_endpoint(request(n)).unwrap();
    }
    rig.set(&image(&[1]));
    rig.set(&image(&[2]));
    let rig = rig.restart();
    assert_eq!(rig.policy(1), EndpointPolicy::Closed);
    assert_eq!(rig.policy(2), EndpointPolicy::Class(PolicyClassNumber(2)));
    let status = rig.control.status().unwrap().policy.unwrap();
    assert!(status.generation == 1 && status.age_seconds.is_some(), "{status:?}");

    // Damaged on disk, it is no reason not to start; the endpoints wait for an agent.
    let file = rig.directory.path().join("switch/policy.image");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut rig = rig.restart();
    assert_eq!((rig.policy(1), rig.policy(2)), (EndpointPolicy::Closed, EndpointPolicy::Closed));
    rig.set(&image(&[1, 2]));
    assert_eq!(rig.policy(2), EndpointPolicy::Class(PolicyClassNumber(2)));
}

#[test]
fn an_image_is_written_once_and_not_at_every_change() {
    let mut rig = Rig::enforcing();
    rig.set(&image(&[1]));
    assert!(rig.control.image_to_save(true).is_some());
    assert!(rig.control.image_to_save(true).is_none());
    rig.set(&image(&[2]));
    assert!(rig.control.image_to_save(false).is_none(), "one was written a moment ago");
    assert!(rig.control.image_to_save(true).is_some());
}

#[tokio::test]
async fn add_answers_when_its_policy_is_in_force() {
    let (client, plane, _directory, _) = serve_rig(Rig::enforcing(), LONG).await;
    let mut adding = client.clone();
    let add = tokio::spawn(async move { adding.add_endpoint(request(1)).await });
    let mut client = client;
    let mut events = client.watch_endpoints(api::WatchEndpointsRequest {}).await.unwrap().into_inner();
    // An image for others wakes it, and is not enough.
    let set = |image: Image| api::SetPolicyRequest { image: image.encode() };
    loop {
        if let Some(Event::Added(endpoint)) = events.message().await.unwrap().unwrap().event {
            assert_eq!(endpoint.policy, "closed");
            break;
        }
    }
    client.set_policy(set(image(&[2]))).await.unwrap();
    assert!(!add.is_finished());
    client.set_policy(set(image(&[1]))).await.unwrap();
    assert_eq!(add.await.unwrap().unwrap().into_inner().policy, "class 1");
    assert_eq!(plane.attached(), ["veth1"]);
}

#[tokio::test]
async fn without_image_add_ends_and_leaves_nothing() {
    let (mut client, plane, directory, _) = serve_rig(Rig::enforcing(), Duration::from_millis(50)).await;
    let status = client.add_endpoint(request(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no policy image names pod default/pod1"), "{status}");
    assert!(plane.attached().is_empty() && plane.tables().endpoints.get(1).is_none());
    let saved = std::fs::read_to_string(directory.path().join("switch/endpoints.json")).unwrap();
    assert!(!saved.contains("pod1"), "{saved}");
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_nothing() {
    let (client, plane, _directory, control) = serve_rig(Rig::enforcing(), LONG).await;
    let mut watching = client.clone();
    let mut events = watching.watch_endpoints(api::WatchEndpointsRequest {}).await.unwrap().into_inner();
    let mut adding = client.clone();
    let add = tokio::spawn(async move { adding.add_endpoint(request(1)).await });
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(events.message().await.unwrap().unwrap().event.unwrap());
        if heard.len() == 2 {
            add.abort();
        }
    }
    assert!(matches!(&heard[1], Event::Added(endpoint) if endpoint.id == "pod1/eth0"), "{heard:?}");
    assert_eq!(heard[2], Event::Removed("pod1/eth0".into()));
    // It is told in the middle of the removal, which holds the lock to its end.
    drop(control.lock().unwrap());
    assert!(plane.attached().is_empty());
}

#[tokio::test]
async fn a_repeated_call_waits_too_but_does_not_remove_what_is_anothers() {
    let (client, plane, _directory, control) = serve_rig(Rig::enforcing(), Duration::from_millis(50)).await;
    control.lock().unwrap().add_endpoint(request(1)).unwrap();
    let status = client.clone().add_endpoint(request(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(plane.attached(), ["veth1"]);
}

#[tokio::test]
async fn a_stopping_switch_keeps_nobody_waiting() {
    let (client, plane, _directory, control) = serve_rig(Rig::enforcing(), LONG).await;
    let mut watching = client.clone();
    let mut events = watching.watch_endpoints(api::WatchEndpointsRequest {}).await.unwrap().into_inner();
    let mut adding = client.clone();
    let add = tokio::spawn(async move { adding.add_endpoint(request(1)).await });
    while !matches!(events.message().await.unwrap().unwrap().event, Some(Event::Added(_))) {}
    control.lock().unwrap().hang_up();
    assert_eq!(add.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(events.message().await.unwrap_err().code(), Code::Unavailable);
    assert!(plane.attached().is_empty());
}

#[tokio::test]
async fn bad_images_are_refused_and_large_ones_are_not() {
    let (mut client, _plane, _directory, _) = serve_rig(Rig::enforcing(), Duration::ZERO).await;
    let mut bytes = image(&[1]).encode();
    bytes.push(0);
    let status = client.set_policy(api::SetPolicyRequest { image: bytes }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.get_status(api::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.policy.unwrap().generation, 0);
    // Above the 4 MiB that are gRPC's habit.
    let mut large = Image::default();
    for address in 0..1_000_000_u32 {
        large.pods_v4.insert(address.into(), PeerClass(address));
    }
    let large = large.encode();
    assert!(large.len() > 5 << 20);
    let answer = client.set_policy(api::SetPolicyRequest { image: large }).await.unwrap().into_inner();
    assert_eq!(answer.policy_generation, 1);
}
