//! Listening sockets from a service manager, so that a restart refuses no connection: the manager
//! keeps them open, and connections queue for the next process (`sd_listen_fds(3)`).

use std::ffi::OsStr;

use listenfd::ListenFd;
use socket2::Socket;

use super::Bound;
use crate::net::Bind;

/// Most sockets that are considered.
const MAX_SOCKETS: u32 = 16;

/// The sockets from the service manager.
#[derive(Default)]
pub struct Handed {
    pub(crate) pipe: Option<Bound>,
    pub(crate) http: Option<Bound>,
}

/// Why a socket from the service manager cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sockets that were handed over (LISTEN_FDS): {0}")]
pub struct HandoverError(String);

impl Handed {
    /// The address of the socket for the pipe port, if any.
    pub fn pipe_address(&self) -> Option<&Bind> {
        self.pipe.as_ref().map(|bound| &bound.address)
    }

    /// The address of the socket for the local HTTP port, if any.
    pub fn http_address(&self) -> Option<&Bind> {
        self.http.as_ref().map(|bound| &bound.address)
    }

    /// Takes the sockets that the service manager announced, by their names: `http`, and `pipe` for
    /// a server. `count` and `names` are the values of `LISTEN_FDS` and `LISTEN_FDNAMES`. Call it
    /// once, before other threads start: it removes the variables, so that child processes do not
    /// see them.
    pub fn take(
        count: Option<&OsStr>,
        names: Option<&OsStr>,
        takes_pipe: bool,
    ) -> Result<Self, HandoverError> {
        let mut handed = Self::default();
        let Some(count) = count else { return Ok(handed) };
        let count = count.to_str().and_then(|text| text.parse().ok());
        let Some(count) = count.filter(|count: &u32| *count <= MAX_SOCKETS) else {
            return Err(HandoverError(format!("their number has to be from 0 to {MAX_SOCKETS}")));
        };
        let names = names.unwrap_or_default().to_string_lossy();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        // Empty if `LISTEN_PID` names another process.
        for at in 0..sockets.len().min(count as usize) {
            let name = names.next().unwrap_or_default();
            let place = match name {
                "http" => &mut handed.http,
                "pipe" if takes_pipe => &mut handed.pipe,
                _ => return Err(HandoverError(unknown(name, takes_pipe))),
            };
            if place.is_some() {
                return Err(HandoverError(format!("two of them are called {name}")));
            }
            let bound = listening(&mut sockets, at, name == "http");
            let refuse = |why| HandoverError(format!("{name}: {why}"));
            *place = Some(bound.map_err(refuse)?);
        }
        Ok(handed)
    }
}

fn unknown(name: &str, takes_pipe: bool) -> String {
    let known = if takes_pipe { "pipe or http" } else { "http" };
    format!("one is called {:?}; FileDescriptorName= has to be {known}", name)
}

/// The socket at this position, which must be listening; only the HTTP port may be a Unix socket.
fn listening(sockets: &mut ListenFd, at: usize, may_be_unix: bool) -> Result<Bound, String> {
    let accepted = if may_be_unix { "a stream socket, TCP or Unix" } else { "a TCP socket" };
    let socket: Option<Socket> = match sockets.take_tcp_listener(at) {
        Ok(socket) => socket.map(Socket::from),
        Err(_) if may_be_unix => {
            let socket = sockets.take_unix_listener(at);
            socket.map_err(|error| format!("{error}; it has to be {accepted}"))?.map(Socket::from)
        }
        Err(error) => return Err(format!("{error}; it has to be {accepted}")),
    };
    let socket = socket.ok_or("it was not handed over")?;
    if !socket.is_listener().map_err(|error| error.to_string())? {
        return Err("it does not listen: its unit needs ListenStream= and Accept=no".to_owned());
    }
    // Another process may accept a connection first; `accept` must not block then.
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    let address = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Bind::Tcp(address),
        (None, Some(path)) => Bind::Unix(path.to_owned()),
        (None, None) => return Err("it has no address that a caller could use".to_owned()),
    };
    Ok(Bound { socket, address, file: None, handed: true })
}
