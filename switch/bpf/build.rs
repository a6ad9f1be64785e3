//! Compiles the XDP programs to `steering.bpf.o`, which the crate embeds.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "c/steering.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed=c");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    // Only the object, not the skeleton: generated code has `unsafe` in it, and all it would save is looking up two
    // programs and five maps by name. Debian keeps asm/types.h where clang does not look for target bpf.
    SkeletonBuilder::new()
        .source(SOURCE)
        .obj(out.join("steering.bpf.o"))
        .clang_args([format!("-I/usr/include/{arch}-linux-gnu"), "-Wall".into(), "-Werror".into()])
        .build()
        .unwrap_or_else(|error| panic!("cannot compile {SOURCE} (is clang installed?): {error:#}"));
}
