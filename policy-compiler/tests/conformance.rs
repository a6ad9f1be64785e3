//! The cases of this crate, worked out by hand from the API's text, and those shared between projects where they are present: every verdict
//! agrees. And a file with a wrong expectation is found out.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use heddle_policy::conformance::run;

const OWN: &str = include_str!("cases.json");

/// `$HEDDLE_CONFORMANCE`, or beside the repository.
fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("HEDDLE_CONFORMANCE").map(PathBuf::from);
    let beside =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/networkpolicy.json");
    named.or_else(|| beside.is_file().then_some(beside))
}

#[test]
fn own_cases_agree() {
    let report = run(OWN).unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.cases, report.steps), (10, 13));
    assert_eq!(report.verdicts, 13 * 4 * 20, "each step probes four ports on each pair of five pods");
}

#[test]
fn shared_cases_agree() {
    let Some(path) = shared() else {
        return eprintln!("no shared cases here: set HEDDLE_CONFORMANCE to run them");
    };
    let report = run(&std::fs::read_to_string(&path).unwrap()).unwrap();
    println!("{report}");
    assert!(report.is_ok(), "{report}");
    assert!(report.verdicts > 10_000);
}

#[test]
fn a_wrong_expectation_is_found_and_explained() {
    let spoilt = OWN.replacen("-..X", "-...", 1);
    assert_ne!(spoilt, OWN);
    let report = run(&spoilt).unwrap();
    let [wrong] = report.wrong.as_slice() else { panic!("{report}") };
    assert!(wrong.expected && !wrong.got);
    assert!(report.to_string().contains(&wrong.explanation.to_string().lines().next().unwrap().to_owned()));
}
