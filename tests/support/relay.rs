//! A TCP relay between a client and its server, to break their connection at a chosen moment.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Relays bytes until it is cut.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    refusing: AtomicBool,
}

impl Relay {
    /// A relay to this address.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let relaying = Arc::clone(&shared);
        // Runs until the process ends.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                let mut open = relaying.open.lock().unwrap();
                if relaying.refusing.load(Ordering::Acquire) {
                    continue;
                }
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    from.set_nodelay(true).unwrap();
                    thread::spawn(move || pass_on(from, to));
                }
                open.extend([near, far]);
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections; new ones are relayed again.
    pub fn cut(&self) {
        for socket in self.shared.open.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Breaks all connections and closes new ones until [`Relay::mend`].
    pub fn cut_and_stay_cut(&self) {
        self.shared.refusing.store(true, Ordering::Release);
        self.cut();
    }

    /// Relays again.
    pub fn mend(&self) {
        self.shared.refusing.store(false, Ordering::Release);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
