//! The handler that runs where nothing else is configured: the original's `time` and `cat`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{Role, Router};

/// `GET time` is the seconds since 1970 on this side, `GET cat//A/B...` joins its parameters. The
/// keys of the answers name the side: `time_from_server`, `result_from_client`.
pub fn example(role: Role) -> Router {
    let side = role.as_str();
    Router::new()
        .on("get_time", move |_, _| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            // Microseconds are what a double can hold of today's time.
            let seconds = now.as_micros() as f64 / 1e6;
            Ok(json!({ format!("time_from_{side}"): seconds }))
        })
        .on("get_cat", move |_, event| {
            Ok(json!({ format!("result_from_{side}"): event.target.parameters().concat() }))
        })
}
