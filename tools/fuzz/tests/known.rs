//! The fuzz targets hold for their seeds, for what is near them, and for every input that once broke them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use heddle_fuzz::TARGETS;

#[test]
fn seeds_hold() {
    for (_, check, seeds) in TARGETS {
        for seed in seeds() {
            check(&seed);
        }
    }
}

/// One byte changed, and the end cut off, at places all over.
#[test]
fn what_is_near_the_seeds_holds() {
    for (_, check, seeds) in TARGETS {
        for seed in seeds() {
            let step = 1 + seed.len() / 300;
            for at in (0..seed.len()).step_by(step) {
                for value in [0xff, seed[at] ^ 1] {
                    let mut near = seed.clone();
                    near[at] = value;
                    check(&near);
                }
                check(&seed[..at]);
            }
        }
    }
}

#[test]
fn regressions_hold() {
    for (name, check, _) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            check(&std::fs::read(path).unwrap());
        }
    }
}

/// The seeds reach what they are for; otherwise the fuzzer starts from nothing.
#[test]
fn seeds_are_understood() {
    for seed in heddle_fuzz::image::seeds() {
        heddle_image::Image::decode(&seed).unwrap();
    }
    for seed in heddle_fuzz::plugin::seeds() {
        let configuration = seed.split(|byte| *byte == 0).next_back().unwrap();
        assert!(heddle_fuzz::plugin::understands(&seed), "{}", String::from_utf8_lossy(configuration));
    }
}
