//! Bytes to and from a proxy until the tunnel is open.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::error::ProxyError;
use crate::sync::deadline::time_left;

/// The socket with one deadline for the whole exchange, however slowly the bytes arrive.
pub(super) struct ProxyExchange<'a> {
    pub socket: &'a TcpStream,
    pub deadline: Instant,
}

impl ProxyExchange<'_> {
    /// Sends all bytes.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), ProxyError> {
        while !bytes.is_empty() {
            self.socket.set_write_timeout(Some(self.left()?))?;
            match self.socket.write(bytes) {
                Ok(0) => return Err(ProxyError::Closed),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Fills `bytes` and reads nothing beyond: later bytes may be the host's.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<(), ProxyError> {
        let mut filled = 0;
        while filled < bytes.len() {
            self.socket.set_read_timeout(Some(self.left()?))?;
            match self.socket.read(&mut bytes[filled..]) {
                Ok(0) => return Err(ProxyError::Closed),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration, ProxyError> {
        let left = time_left(self.deadline);
        if left.is_zero() { Err(ProxyError::Silent) } else { Ok(left) }
    }
}
