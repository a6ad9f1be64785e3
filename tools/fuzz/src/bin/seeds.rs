//! Writes a target's seeds, a file each: `heddle-fuzz-seeds TARGET DIRECTORY`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, directory] = arguments.as_slice() else {
        eprintln!("usage: heddle-fuzz-seeds TARGET DIRECTORY");
        return ExitCode::from(2);
    };
    let Some((_, _, seeds)) = heddle_fuzz::TARGETS.iter().find(|(name, ..)| name == target) else {
        eprintln!("heddle-fuzz-seeds: there is no target {target}; look into tools/fuzz/fuzz_targets");
        return ExitCode::from(2);
    };
    for (number, seed) in seeds().iter().enumerate() {
        let path = Path::new(directory).join(format!("seed-{number}"));
        if let Err(error) = std::fs::write(&path, seed) {
            eprintln!("heddle-fuzz-seeds: cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
