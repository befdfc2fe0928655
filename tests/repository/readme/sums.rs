//! The guide's program with custom handlers.

use std::process::ExitCode;

use restpipe::handler::Router;
use restpipe::run::{self, Handlers};
use serde_json::json;

fn main() -> ExitCode {
    let sums = Router::new()
        .on("get_sum", |_, event| {
            let numbers: Result<Vec<i64>, _> =
                event.target.parameters().iter().map(|p| p.parse()).collect();
            Ok(json!({ "sum": numbers?.iter().sum::<i64>() }))
        })
        .on("post_note", |context, event| {
            Ok(format!("{} bytes from {}", event.body.gather(1 << 20)?.len(), context.peer.name))
        });
    run::client("sums", Handlers::new().with("sums", sums))
}
