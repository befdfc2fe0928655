//! The generated code matches the `.proto` file beside it.

use aws_lc_rs::digest;

#[test]
fn the_generated_code_is_made_from_this_proto_file() {
    let proto = digest::digest(&digest::SHA256, include_bytes!("../../proto/restpipe.proto"));
    let proto: String = proto.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let made_from = include_str!("../../src/wire/pb/mod.rs")
        .lines()
        .find_map(|line| line.strip_prefix("// Made from proto/restpipe.proto, SHA-256 "));
    assert_eq!(made_from, Some(proto.as_str()), "src/wire/pb is stale: run scripts/generate-proto");
}
