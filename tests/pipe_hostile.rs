//! Peers that mean harm, or are broken, against the real programs.

mod support;

#[path = "pipe_hostile/clients.rs"]
mod clients;
#[path = "pipe_hostile/servers.rs"]
mod servers;
#[path = "pipe_hostile/stalled.rs"]
mod stalled;

use std::thread;

/// What takes ten seconds and more, all at the same time, however few tests run at once. Tests start
/// in the order of their names, and this one comes first.
#[test]
fn all_who_let_time_pass_are_left() {
    let scenes: [(&str, fn()); 5] = [
        ("handshake", stalled::an_unfinished_handshake_is_closed_after_ten_seconds),
        ("six hundred", stalled::six_hundred_silent_connections_keep_nobody_out_for_long),
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
