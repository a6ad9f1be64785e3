//! The dependency tree keeps the rules of deny.toml: licenses, sources, and crates that must not be in it.
//!
//! `cargo deny check` reads the same file and knows more, advisories above all, but it is no part of the build. This needs
//! cargo alone, and no network.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    wildcards: String,
    deny: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    /// Nothing for what is in this repository.
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn rules() -> Rules {
    toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

/// What is built for Linux, here or as a dependency.
fn packages() -> Vec<Package> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["metadata", "--format-version=1", "--locked", "--offline"]);
    command.arg("--filter-platform=x86_64-unknown-linux-gnu").current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Metadata { packages, resolve } = serde_json::from_slice(&output.stdout).unwrap();
    let built: BTreeSet<String> = resolve.nodes.into_iter().map(|node| node.id).collect();
    packages.into_iter().filter(|package| built.contains(&package.id)).collect()
}

/// Whether one may use what is under this SPDX expression with only these licenses. `/` is what `OR` was once.
fn may_use(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "\0");
    let words: Vec<String> =
        spaced.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('\0', " WITH ")).collect();
    let mut words = words.into_iter().peekable();
    let result = any(&mut words, allowed);
    assert_eq!(words.next(), None, "not understood: {expression}");
    result
}

type Words = std::iter::Peekable<std::vec::IntoIter<String>>;

/// AND binds closer than OR (SPDX specification, annex D.4).
fn any(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let mut result = all(words, allowed);
    while words.next_if(|word| word == "OR").is_some() {
        result |= all(words, allowed);
    }
    result
}

fn all(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while words.next_if(|word| word == "AND").is_some() {
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    match words.next().unwrap().as_str() {
        "(" => {
            let result = any(words, allowed);
            assert_eq!(words.next().unwrap(), ")");
            result
        }
        license => allowed.contains(license),
    }
}

#[test]
fn licenses_are_allowed() {
    let allowed = rules().licenses.allow;
    let refused: Vec<_> = packages()
        .into_iter()
        .filter(|package| !package.license.as_deref().is_some_and(|license| may_use(license, &allowed)))
        .map(|package| format!("{}: {:?}", package.name, package.license))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
}

#[test]
fn sources_are_known() {
    let Sources { unknown_registry, unknown_git } = rules().sources;
    assert_eq!((unknown_registry.as_str(), unknown_git.as_str()), ("deny", "deny"));
    let packages = packages();
    assert!(packages.iter().any(|package| package.source.is_some()), "the tree was read");
    for package in packages {
        assert!(package.source.as_deref().is_none_or(|source| source == CRATES_IO), "{}", package.name);
    }
}

#[test]
fn banned_crates_and_wildcards_are_not_there() {
    let Bans { wildcards, deny } = rules().bans;
    assert_eq!(wildcards, "deny");
    for package in packages() {
        assert!(!deny.contains(&package.name), "{} is banned by deny.toml", package.name);
        let own = package.source.is_none();
        for dependency in package.dependencies.iter().filter(|dependency| own && dependency.path.is_none()) {
            assert_ne!(dependency.req, "*", "{} of {} needs a version", dependency.name, package.name);
        }
    }
}

#[test]
fn expressions_are_understood() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-2.0-only", false),
        ("GPL-2.0-only OR MIT", true),
        ("GPL-2.0-only/MIT", true),
        ("GPL-2.0-only AND MIT", false),
        ("MIT AND ISC", true),
        ("MIT OR GPL-2.0-only AND ISC", true),
        ("(MIT OR GPL-2.0-only) AND BSL-1.0", false),
        ("(MIT OR GPL-2.0-only) AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(may_use(expression, &allowed), expected, "{expression}");
    }
}
