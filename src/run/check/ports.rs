//! Whether the ports that a node listens on are free, or held by such a node.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::report::{CheckProblem, Report};
use super::steps::PORTS;
use crate::config::{Bind, NodeConfig};
use crate::handler::Role;
use crate::net::accept::bind_tcp;
use crate::run::holder::{describe, says};
use crate::run::sleeping::sleeping_service;

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
            let variable = format!("RP_{}_HTTP_BIND", role.to_ascii_uppercase());
            return Err(taken("the local HTTP port", self.http, &variable));
        }
        if let Some(pipe) = &self.pipe
            && is_held(pipe)?
            && !(runs && says(pipe, "the pipe port of a RestPipe server"))
        {
            return Err(taken("the pipe port", pipe, "BIND_PORT"));
        }
        for bind in &self.tcp {
            if is_held(bind)? && !runs {
                return Err(taken("a port of RP_TCP_LISTEN", bind, "RP_TCP_LISTEN"));
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

fn taken(what: &str, bind: &Bind, variable: &str) -> CheckProblem {
    CheckProblem::new(
        format!("{what}, {bind}, is in use by {}", describe(bind)),
        format!(
            "end that program (`ss -ltnpx` shows it), or choose another port: {variable} sets it"
        ),
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
    if let Some(service) = sleeping_service(bind) {
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
