//! Malicious or broken servers against the real client. It stays up, frees what it allocated, logs
//! once why it left them, and reconnects.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::message::{EVENT, HEARTBEAT, broken_messages, heartbeat_reply, reply};
use crate::support::peer::{Ended, Peer};
use crate::support::port::accept;
use crate::support::scene::{KEPT_KB, assert_ten_seconds, read_to_end, wait_until};
use crate::support::tls::{accepting, accepting_anybody, endless_chain, issue};
use crate::support::{Identities, ask, client};

/// A client that meets a hostile server first and then a good one, at the same address. `attack`
/// handles the first connection; the client must log `reason` once and recover.
fn meet(identities: &Identities, attack: impl FnOnce(&TcpListener), reason: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = client(identities, "good", listener.local_addr().unwrap()).start();
    let threads = client.status_number("Threads");
    let memory = client.status_number("VmRSS");
    attack(&listener);
    client.wait_log(&[reason]);

    let mut good = Peer::accept(&listener, accepting(identities, "localhost")).unwrap();
    let skip = client.log().len();
    let http = client.http();
    let asked = thread::spawn(move || ask(http, "GET", "/server/time", &[], b""));
    let first = good.frame();
    assert_eq!(first.kind, HEARTBEAT);
    good.send(&heartbeat_reply(first.id)).unwrap();
    let request = good.frame_of(EVENT);
    good.send(&reply(request.id, "text/plain", 0, b"now")).unwrap();
    assert_eq!(asked.join().unwrap().text(), "now");
    good.close().unwrap();
    good.wait_end();
    client.wait_log_from(skip, &["lost: closed by the peer"]);

    assert!(client.runs());
    let spent = client.cpu_time();
    assert!(spent < Duration::from_secs(2), "it took {spent:?} of CPU time");
    // It dials again, but nobody accepts its next connection, so it has no link.
    wait_until(|| {
        let now = client.status_number("Threads");
        (now > threads).then(|| format!("{now} threads, were {threads}"))
    });
    wait_until(|| {
        let now = client.status_number("VmRSS");
        (now > memory + KEPT_KB).then(|| format!("{now} kB, was {memory}"))
    });
    let log = client.log();
    let bad = |line: &&String| line.contains("lost") || line.contains("not ");
    let said: Vec<&String> = log.iter().take(skip).filter(bad).collect();
    assert!(said.len() == 1 && said[0].contains(reason), "not one line with {reason:?}: {log:#?}");
}

#[test]
fn a_server_that_breaks_the_protocol_is_left_and_dialled_again() {
    let identities = Identities::new(&["good"]);
    for (bytes, reason) in broken_messages() {
        let attack = |listener: &TcpListener| {
            let mut hostile = Peer::accept(listener, accepting(&identities, "localhost")).unwrap();
            let first = hostile.frame();
            hostile.send(&heartbeat_reply(first.id)).unwrap();
            let _ = hostile.send(&bytes);
            hostile.wait_end();
        };
        meet(&identities, attack, &format!("lost: protocol error: {reason}"));
    }
}

#[test]
fn a_server_that_speaks_nonsense_at_once_is_not_called_connected() {
    let identities = Identities::new(&["good"]);
    let attack = |listener: &TcpListener| {
        let mut hostile = Peer::accept(listener, accepting(&identities, "localhost")).unwrap();
        let _ = hostile.send(b"HTTP/1.1 200 OK\r\n\r\n");
        hostile.wait_end();
    };
    meet(&identities, attack, "not connected: protocol error: message of unknown type 0x48");
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused_with_the_reason() {
    let identities = Identities::new(&["good"]);
    identities.ca(&["issue", "elsewhere.example", "--server"]);
    let other = Identities::new(&[]);
    let present = |identities: &Identities, name: &str, reason: &str, right: &Identities| {
        let config = accepting(identities, name);
        let attack = |listener: &TcpListener| {
            let ended = Peer::accept(listener, config).map(|_| "in").unwrap_err();
            assert!(matches!(ended, Ended::Tls(_)), "it is told why: {ended:?}");
        };
        meet(right, attack, reason);
    };
    present(&other, "localhost", ": the certificate is not signed by a CA in ", &identities);
    let purpose = ": the certificate's extended key usage forbids its use as a server";
    present(&identities, "good", purpose, &identities);
    let name = ": the certificate is for elsewhere.example, not for ";
    present(&identities, "elsewhere.example", name, &identities);
    issue(&identities, "old", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    present(&identities, "old", ": the certificate expired on ", &identities);

    let config = accepting_anybody(endless_chain("localhost"));
    let attack = |listener: &TcpListener| {
        let ended = Peer::accept(listener, config).map(|_| "in").unwrap_err();
        let told = matches!(&ended, Ended::Tls(alert) if alert.contains("CertificateUnknown"));
        assert!(told, "{ended:?}");
    };
    let ways = " intermediate certificates, more than 6; send only the certificate and ";
    meet(&identities, attack, ways);

    let corrupt = "not connected: the TLS handshake failed: received corrupt message";
    let http = "is refused: it speaks plain HTTP, as no pipe port does";
    for (bytes, reason) in
        [(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), http), (vec![0x16; 1 << 20], corrupt)]
    {
        let attack = |listener: &TcpListener| {
            let mut socket = accept(listener);
            let _ = socket.write_all(&bytes);
            read_to_end(&mut socket);
        };
        meet(&identities, attack, reason);
    }
    let attack = |listener: &TcpListener| drop(accept(listener));
    meet(&identities, attack, "not connected: the ");
}

pub fn a_server_that_stays_silent_is_left_after_ten_seconds() {
    let identities = Identities::new(&["good"]);
    let attack = |listener: &TcpListener| {
        let mut socket = accept(listener);
        let started = Instant::now();
        read_to_end(&mut socket);
        let lived = started.elapsed();
        assert_ten_seconds(lived);
    };
    meet(&identities, attack, "not connected: the TLS handshake was not finished in time");
}

pub fn a_server_that_answers_no_heartbeat_is_left_after_its_time() {
    let identities = Identities::new(&["good"]);
    let attack = |listener: &TcpListener| {
        let mut silent = Peer::accept(listener, accepting(&identities, "localhost")).unwrap();
        silent.wait_end();
        let lived = silent.connected.elapsed();
        assert_ten_seconds(lived);
    };
    meet(&identities, attack, "not connected: no bytes received for 10.0 s");
}
