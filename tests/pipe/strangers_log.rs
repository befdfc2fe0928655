//! What strangers write into the log: however many come, and however they vary.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use crate::support::peer::Peer;
use crate::support::scene::read_to_end;
use crate::support::tls::{Chain, dialing_with};
use crate::support::{Identities, Node, server};

/// Attempts, each with a certificate that nobody has seen before.
const STRANGERS: usize = 200;
/// The budget of a minute, and the first line of the cause.
const BUDGET: usize = 20 + 1;

/// A new certificate of a CA that nobody knows.
fn stranger(at: usize) -> Chain {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("stranger-{at}"));
    let key = KeyPair::generate().unwrap();
    let crt = params.self_signed(&key).unwrap();
    (vec![crt.into()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn come_with_another_certificate(pipe: SocketAddr, at: usize) {
    if let Ok(mut peer) = Peer::dial(pipe, dialing_with(Some(stranger(at)))) {
        peer.wait_end();
    }
}

/// The numbers in the lines about what was left out.
fn left_out(server: &Node) -> usize {
    let log = server.log();
    let lines = log.iter().filter_map(|line| {
        let (before, _) = line.split_once(" more lines of the last minute about ")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    });
    lines.sum()
}

#[test]
fn strangers_have_one_budget_of_lines_and_a_new_cause_is_still_seen() {
    let identities = Identities::new(&[]);
    let mut server = server(&identities).start();
    let pipe = server.pipe();
    for at in 0..STRANGERS {
        come_with_another_certificate(pipe, at);
    }
    let refusals = || server.get("/status").json()["totals"]["refusals"].as_u64().unwrap();
    crate::support::scene::wait_until(|| {
        let refused = refusals() as usize;
        (refused < STRANGERS).then(|| format!("{refused} refused"))
    });

    let mut socket = TcpStream::connect(pipe).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_to_end(&mut socket);
    server.wait_log(&["it speaks plain HTTP"]);

    let about_strangers = |server: &Node| {
        server.log().iter().filter(|line| line.contains("certificate CN=stranger-")).count()
    };
    // Unless a minute ended on the way, all that were not logged are still to be reported.
    let logged = about_strangers(&server);
    assert!(logged <= 2 * BUDGET, "{:#?}", server.log());
    server.signal("TERM");
    assert!(server.wait_exit().success());
    server.wait_log(&["pipe port: ", " more lines of the last minute about ", "unknown CA: "]);
    let logged = about_strangers(&server);
    assert_eq!(logged + left_out(&server), STRANGERS, "{:#?}", server.log());
}
