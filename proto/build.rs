//! Compiles the `.proto` files with protox, so that no `protoc` is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/meridian.proto"], ["proto"])?;
    // The messages of a batch share the buffer they were read into.
    tonic_prost_build::configure().bytes(".meridian.v1.PeerBatch").compile_fds(files)?;
    Ok(())
}
