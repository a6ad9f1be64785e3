//! Namespaces: work runs inside them, the caller stays where it is, names behave as `ip netns` expects.

use std::process::{Command, Stdio};

use heddle_netdev::sysctl::{read_sysctl, set_ipv6_enabled, write_sysctl};
use heddle_netdev::{Errno, Error, Netns, create_named, delete_named, list_named};

use crate::scratch::Scratch;

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let scratch = Scratch::new();
    let before = Netns::current().unwrap();
    let inside = scratch.netns.run(|| Netns::current().unwrap()).unwrap();
    assert!(inside.is_same(&scratch.netns).unwrap());
    assert!(!inside.is_same(&before).unwrap());
    assert!(before.is_same(&Netns::current().unwrap()).unwrap());
}

#[test]
fn a_panic_inside_is_an_error_outside() {
    let scratch = Scratch::new();
    let error = scratch.netns.run(|| panic!("on purpose")).unwrap_err();
    assert!(matches!(&error, Error::Panicked { message, .. } if message == "on purpose"), "{error}");
}

#[test]
fn iproute2_finds_the_name_and_deletion_is_idempotent() {
    let scratch = Scratch::new();
    assert!(scratch.exec("ip -o link").contains("lo:"));
    assert!(list_named("cni-").unwrap().contains(&scratch.name));
    let error = create_named(&scratch.name).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    assert!(delete_named(&scratch.name).unwrap());
    assert!(!delete_named(&scratch.name).unwrap());
    assert!(!list_named("cni-").unwrap().contains(&scratch.name));
}

#[test]
fn names_that_are_paths_are_refused() {
    for name in ["", ".", "..", "a/b", "../escape"] {
        assert!(matches!(create_named(name), Err(Error::BadNetnsName { .. })), "{name}");
        assert!(matches!(delete_named(name), Err(Error::BadNetnsName { .. })), "{name}");
    }
}

#[test]
fn a_file_that_is_no_namespace_is_refused() {
    let error = Netns::open("/etc/hostname").unwrap_err();
    assert!(error.to_string().contains("no namespace"), "{error}");
    assert_eq!(Netns::open("/run/netns/cni-absent").unwrap_err().errno(), Some(Errno::ENOENT));
}

#[test]
fn a_child_process_lives_inside() {
    let scratch = Scratch::new();
    let mut command = Command::new("readlink");
    command.arg("/proc/self/ns/net").stdout(Stdio::piped());
    let output = scratch.netns.spawn(&mut command).unwrap().wait_with_output().unwrap();
    let inside = scratch.netns.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), inside.to_str().unwrap());
    assert!(scratch.netns.spawn(&mut Command::new("/no/such/program")).is_err());
}

#[test]
fn settings_are_those_of_the_thread_s_namespace() {
    let scratch = Scratch::new();
    let outside = read_sysctl("net/ipv4/ip_forward").unwrap();
    let flipped = if outside == "0" { "1" } else { "0" };
    scratch.netns.run(|| write_sysctl("net/ipv4/ip_forward", flipped).unwrap()).unwrap();
    assert_eq!(scratch.netns.run(|| read_sysctl("net/ipv4/ip_forward").unwrap()).unwrap(), flipped);
    assert_eq!(read_sysctl("net/ipv4/ip_forward").unwrap(), outside);

    scratch.netns.run(|| set_ipv6_enabled("lo", false).unwrap()).unwrap();
    assert_eq!(scratch.exec("cat /proc/sys/net/ipv6/conf/lo/disable_ipv6").trim(), "1");
}

#[test]
fn settings_outside_proc_sys_are_out_of_reach() {
    for name in ["", "../../etc/passwd", "/etc/passwd", "net/../../x"] {
        assert!(read_sysctl(name).is_err(), "{name}");
    }
    assert_eq!(read_sysctl("net/no/such").unwrap_err().errno(), Some(Errno::ENOENT));
}
