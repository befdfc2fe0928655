//! Whether the other end of a connection has closed.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Whether the other end has closed its side, even only for sending, also if bytes are unread.
pub(crate) fn has_hung_up(socket: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    // Without a wait. A failure or an interruption says nothing.
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_hung_up(socket: &impl AsFd) {
        let until = Instant::now() + Duration::from_secs(10);
        while !has_hung_up(socket) {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
    }

    #[test]
    fn a_close_is_seen_behind_unread_bytes() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"unread").unwrap();
        assert!(!has_hung_up(&near));
        drop(far);
        wait_hung_up(&near);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        far.write_all(b"unread").unwrap();
        assert!(!has_hung_up(&near));
        far.shutdown(Shutdown::Write).unwrap();
        wait_hung_up(&near);
    }
}
