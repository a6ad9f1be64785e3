//! `--features loom` means `--cfg loom` for this crate alone. As a flag for every crate it would reach tokio, which
//! leaves its network parts out under that name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_LOOM").is_some() {
        println!("cargo::rustc-cfg=loom");
    }
}
