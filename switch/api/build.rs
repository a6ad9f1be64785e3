//! Generates the control socket's types from `proto/heddle.proto` without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/heddle.proto");
    let descriptors = protox::compile(["heddle.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
