//! Malicious or broken peers against the real programs.

mod clients;
mod servers;
mod shares;
mod stalled;
mod streams;

use std::thread;

use crate::support::alone::alone;

/// Runs the tests that take ten seconds or more concurrently, however few test threads there are.
#[test]
fn all_who_let_time_pass_are_left() {
    if !alone("hostile::all_who_let_time_pass_are_left", 4096) {
        return;
    }
    let scenes: [(&str, fn()); 6] = [
        ("silence", stalled::a_connection_that_says_nothing_is_closed_after_three_seconds),
        ("handshake", stalled::an_unfinished_handshake_is_closed_after_ten_seconds),
        ("six hundred", stalled::six_hundred_silent_connections_keep_nobody_out),
        ("no requests", stalled::a_client_that_reads_no_requests_costs_little_and_only_itself),
        ("silent server", servers::a_server_that_stays_silent_is_left_after_ten_seconds),
        ("no heartbeat", servers::a_server_that_answers_no_heartbeat_is_left_after_its_time),
    ];
    let threads = scenes.map(|(name, scene)| {
        (name, thread::Builder::new().name(name.to_owned()).spawn(scene).unwrap())
    });
    let failed: Vec<&str> = threads
        .into_iter()
        .filter_map(|(name, thread)| thread.join().err().map(|_| name))
        .collect();
    assert_eq!(failed, [""; 0]);
}
