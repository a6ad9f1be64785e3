//! Compiles the BPF programs to objects, which the crate embeds.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const OBJECTS: [&str; 3] = ["steering", "flow_cache", "crossing"];

fn main() {
    println!("cargo:rerun-if-changed=c");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    for object in OBJECTS {
        let source = format!("c/{object}.bpf.c");
        // Only the object, not the skeleton: generated code has `unsafe` in it, and all it would save is looking up
        // programs and maps by name. Debian keeps asm/types.h where clang does not look for target bpf. Atomic operations
        // that return a value came with the third version of the instruction set (Linux 5.12).
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{object}.bpf.o")))
            .clang_args([
                format!("-I/usr/include/{arch}-linux-gnu"),
                "-mcpu=v3".into(),
                "-Wall".into(),
                "-Werror".into(),
            ])
            .build()
            .unwrap_or_else(|error| panic!("cannot compile {source} (is clang installed?): {error:#}"));
    }
}
