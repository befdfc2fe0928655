//! Ending a connection with a reset instead of in order.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

/// Whether closing this socket sends a reset: the other end then cannot mistake what it got for the
/// whole, and no state stays behind here for a minute. It holds however this process ends: the
/// kernel closes the sockets of a process that was killed.
pub(crate) fn set_reset_on_close(socket: &impl AsFd, resets: bool) {
    // Without effect on a Unix socket, which cannot be reset.
    let _ = SockRef::from(socket).set_linger(resets.then_some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_ends_as_it_was_last_set() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for (steps, end) in
            [(&[true][..], Err(ErrorKind::ConnectionReset)), (&[true, false], Ok(0)), (&[], Ok(0))]
        {
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let near = listener.accept().unwrap().0;
            steps.iter().for_each(|resets| set_reset_on_close(&near, *resets));
            drop(near);
            assert_eq!(far.read(&mut [0; 1]).map_err(|error| error.kind()), end, "{steps:?}");
        }
    }
}
