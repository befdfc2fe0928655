//! One address connects endlessly; newcomers from another address still get in.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::alone::alone;
use crate::support::message::event;
use crate::support::peer::{Ended, Peer};
use crate::support::tls::dialing;
use crate::support::{Identities, PATIENCE, server};

/// Connections that the address holds at any time.
const IDLE: usize = 5000;
/// Connections per second, if the machine can do it.
const RATE: usize = 10_000;
const NEWCOMERS: usize = 50;
/// The time for a newcomer on an idle machine. The test only prints it: a busy machine takes longer, but
/// lets each in at its first attempt.
const SOON: Duration = Duration::from_secs(2);

/// An unconnected socket bound to this address.
fn socket_of(address: Ipv4Addr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket
}

/// Connects silently at the given rate until told to stop, and ignores refusals.
fn flood(server: SocketAddr, made: &AtomicUsize, over: &AtomicBool) {
    let mut idle = VecDeque::new();
    let began = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let so_far = IDLE + began.elapsed().as_millis() as usize * RATE / 1000;
        // It does not make up for lost time with a burst.
        let due = so_far.saturating_sub(made.load(Ordering::Relaxed)).min(RATE / 10);
        for _ in 0..due {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // In progress, or refused.
            let _ = socket.connect(&server.into());
            idle.push_back(socket);
            if idle.len() > IDLE {
                idle.pop_front();
            }
            made.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Connects from another address, with a key, and gets an answer.
fn come(server: SocketAddr, identities: &Identities) -> Result<(), Ended> {
    let socket = socket_of(Ipv4Addr::new(127, 0, 0, 2));
    socket.connect_timeout(&server.into(), PATIENCE).map_err(|e| Ended::Abruptly(e.to_string()))?;
    let mut peer = Peer::over(TcpStream::from(socket), dialing(Some((identities, "honest"))))?;
    peer.send(&event(7, "get", "time", b"")).map_err(|e| Ended::Abruptly(e.to_string()))?;
    match peer.frame_within(PATIENCE) {
        Some(frame) => assert_eq!(frame.id, 7),
        None => return Err(peer.wait_end()),
    }
    let _ = peer.close();
    peer.wait_end();
    Ok(())
}

#[test]
fn newcomers_come_in_whatever_another_address_does() {
    if !alone("newcomers::newcomers_come_in_whatever_another_address_does", 12_000) {
        return;
    }
    let identities = Identities::new(&["honest"]);
    let mut server = server(&identities).start();
    let began = Instant::now();
    let pipe = server.pipe();
    let (made, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut times: Vec<Duration> = thread::scope(|scope| {
        scope.spawn(|| flood(pipe, &made, &over));
        while made.load(Ordering::Relaxed) < IDLE {
            thread::sleep(Duration::from_millis(1));
        }
        let (began, before) = (Instant::now(), made.load(Ordering::Relaxed));
        let come_and_clock = |_| {
            let began = Instant::now();
            let came = come(pipe, &identities);
            let took = began.elapsed();
            if let Err(why) = &came {
                println!("not in after {took:?}: {why:?}");
            }
            came.ok().map(|()| took)
        };
        let times = (0..NEWCOMERS).filter_map(come_and_clock).collect();
        let rate = (made.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        println!("beside {IDLE} connections and {rate:.0} connects a second");
        times
    });
    times.sort_unstable();
    let soon = times.iter().filter(|time| **time <= SOON).count();
    println!("{soon} of {NEWCOMERS} in within {SOON:?}, {} in all", times.len());
    if let Some(longest) = times.last() {
        println!("half of them within {:?}, the last in {longest:?}", times[times.len() / 2]);
    }
    assert_eq!(times.len(), NEWCOMERS);
    assert!(server.runs());
    // The flood left at most one log line per reason and interval: no place, no byte, displaced, gone,
    // closed, reset.
    let most = 6 * (1 + began.elapsed().as_secs() as usize / 10);
    let refused = server.log().iter().filter(|line| line.contains("refused: ")).count();
    assert!(refused <= most, "{refused}, not {most}: {:#?}", server.log());
}
