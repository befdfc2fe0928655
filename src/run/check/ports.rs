//! Whether the ports that a node listens on are free, or held by such a node.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::manager;
use super::report::{CheckProblem, Report};
use super::steps::PORTS;
use crate::config::{Address, Bind, NodeConfig};
use crate::handler::Role;
use crate::net::accept::bind_tcp;
use crate::net::dial::Resolver;
use crate::sync::deadline::time_left;

/// How long the holder of a port may take to identify itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of its answer.
const MAX_ANSWER: usize = 4096;
/// A path that no node has, so that its error identifies it.
const QUESTION: &[u8] = b"GET /check HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The ports of one node.
pub(super) struct Ports<'a> {
    role: Role,
    http: &'a Bind,
    pipe: Option<Bind>,
    tcp: Vec<&'a Bind>,
}

impl<'a> Ports<'a> {
    /// The ports of this configuration.
    pub fn of(config: &'a NodeConfig, role: Role, pipe: Option<SocketAddr>) -> Self {
        let tcp = config.tcp_listen.iter().map(|(bind, _)| bind).collect();
        Self { role, http: &config.http_bind, pipe: pipe.map(Bind::Tcp), tcp }
    }

    /// Binds each and releases it, without listening.
    pub fn check(&self, report: &mut Report) {
        report.note(PORTS, self.look());
    }

    fn look(&self) -> Result<String, CheckProblem> {
        let role = self.role.as_str();
        let (mut free, mut sleeping) = (Vec::new(), Vec::new());
        let mut is_held = |bind: &Bind| {
            holder(bind).map(|holder| match holder {
                Holder::Program => true,
                Holder::Nobody => {
                    free.push(bind.to_string());
                    false
                }
                Holder::Manager(service) => {
                    sleeping.push(format!("{bind} for {service}"));
                    false
                }
            })
        };
        let runs = is_held(self.http)?;
        if runs && !says(self.http, &format!("no such path; this is a {role}")) {
            return Err(taken("the local HTTP port", self.http));
        }
        if let Some(pipe) = &self.pipe
            && is_held(pipe)?
            && !(runs && says(pipe, "the pipe port of a RestPipe server"))
        {
            return Err(taken("the pipe port", pipe));
        }
        for bind in &self.tcp {
            if is_held(bind)? && !runs {
                return Err(taken("a port of RP_TCP_LISTEN", bind));
            }
        }
        if runs {
            let all = [self.http].into_iter().chain(&self.pipe).chain(self.tcp.iter().copied());
            let all: Vec<String> = all.map(ToString::to_string).collect();
            return Ok(format!("a {role} runs here already, with {}", all.join(", ")));
        }
        let free = (!free.is_empty()).then(|| format!("free: {}", free.join(", ")));
        let sleeping = (!sleeping.is_empty()).then(|| {
            format!(
                "systemd holds {}, which does not run; nobody was asked there, for that would start it",
                sleeping.join(", ")
            )
        });
        Ok(free.into_iter().chain(sleeping).collect::<Vec<_>>().join("; "))
    }
}

fn taken(what: &str, bind: &Bind) -> CheckProblem {
    CheckProblem::new(
        format!("{what}, {bind}, is in use by another program"),
        "end that program (`ss -ltnpx` shows it), or choose another port: RP_CLIENT_HTTP_BIND, \
         RP_SERVER_HTTP_BIND, BIND_PORT, RP_TCP_LISTEN",
    )
}

/// Who listens at an address.
enum Holder {
    Nobody,
    Program,
    /// systemd, for this service, which is not running.
    Manager(String),
}

fn holder(bind: &Bind) -> Result<Holder, CheckProblem> {
    find_holder(bind).map_err(|error| {
        CheckProblem::new(
            format!("{bind} cannot be listened on: {error}"),
            "choose an address of this machine, a port from 1024 on, or a path in a directory that \
             is there and that this user may use",
        )
    })
}

fn find_holder(bind: &Bind) -> io::Result<Holder> {
    let may_be_held = match bind {
        Bind::Tcp(address) => is_tcp_held(*address),
        Bind::Unix(path) => is_socket(path),
    };
    if !may_be_held? {
        return Ok(Holder::Nobody);
    }
    if let Some(service) = manager::sleeping_service(bind) {
        return Ok(Holder::Manager(service));
    }
    match bind {
        // A stale socket of a killed node is replaced on start.
        Bind::Unix(path) if is_left_over(path)? => Ok(Holder::Nobody),
        _ => Ok(Holder::Program),
    }
}

fn is_tcp_held(address: SocketAddr) -> io::Result<bool> {
    match bind_tcp(address) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether the path is a socket.
fn is_socket(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(true),
        Ok(_) => Err(io::Error::other("the file exists and is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            fs::metadata(directory.unwrap_or(Path::new("."))).map(|_| false)
        }
        Err(error) => Err(error),
    }
}

/// Whether the socket has no listener.
fn is_left_over(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener with a full queue would block this.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?).map_err(|error| (error.kind(), error)) {
        Err((io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _)) => Ok(true),
        Err((io::ErrorKind::PermissionDenied, error)) => Err(error),
        Ok(()) | Err(_) => Ok(false),
    }
}

/// Whether the listener answers an unknown path with these words.
fn says(bind: &Bind, words: &str) -> bool {
    let address = match bind {
        Bind::Tcp(address) => Address::Tcp(address.ip().to_string(), address.port()),
        Bind::Unix(path) => Address::Unix(path.clone()),
    };
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let Ok(mut socket) = address.connect(&Resolver::default(), deadline) else { return false };
    if socket.set_write_timeout(Some(ANSWER_TIMEOUT)).is_err()
        || socket.write_all(QUESTION).is_err()
    {
        return false;
    }
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    // On a timeout, decide by what was received.
    while answer.len() < MAX_ANSWER
        && let left = time_left(deadline)
        && !left.is_zero()
        && socket.set_read_timeout(Some(left)).is_ok()
        && let Ok(count @ 1..) = socket.read(&mut part)
    {
        answer.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&answer).contains(words)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn one_that_never_stops_talking_is_not_heard_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = Bind::Tcp(listener.local_addr().unwrap());
        let talker = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // Fails once the reader has closed.
            while socket.write_all(b"-").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let began = Instant::now();
        assert!(!says(&bind, "words"));
        // All of MAX_ANSWER would take minutes.
        assert!(began.elapsed() < 10 * ANSWER_TIMEOUT);
        talker.join().unwrap();
    }
}
