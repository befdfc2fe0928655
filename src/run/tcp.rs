//! `rp_tcp`: one connection to a target of a peer, on standard input and output, through the local
//! port of a running node.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use pico_args::Arguments;
use socket2::Socket;

use crate::config::TunnelTarget;
use crate::http1::head::{self, InvalidHead, NO_FIELD};
use crate::net::dial::{Address, Resolver};
use crate::net::reset::set_reset_on_close;
use crate::run::cli::{self, CliFailure, Program};
use crate::run::logging::one_line;
use crate::sync::threads;

const PROGRAM: Program = Program {
    name: "rp_tcp",
    about: "Connects standard input and output with a target on the other side of a pipe, which that \
            side\nnames in RP_TCP_TARGETS, through the local port of the node that runs here.",
    usage: "[--http ADDRESS] NAME/TARGET",
    arguments: &[
        ("NAME", "the client's name, or server"),
        ("TARGET", "what RP_TCP_TARGETS calls it there"),
        (
            "--http ADDRESS",
            "the node's local port, IP:PORT or unix:PATH; without it 127.0.0.1:8082",
        ),
        ("", "where NAME is server, else 127.0.0.1:8081"),
    ],
    examples: "ssh -o ProxyCommand='{name} fileserver/ssh' admin@fileserver\n\
               {name} --http unix:/run/restpipe/http.sock server/db",
    reads: None,
};

/// How long the local port may take to accept.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the response may take: the node waits for a disconnected peer, then for its target.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of the response's head, and of an error's body.
const MAX_ANSWER: usize = 64 * 1024;
/// Most fields of the head.
const MAX_FIELDS: usize = 64;

/// The complete `main` of `rp_tcp`.
pub fn tcp() -> ExitCode {
    cli::main(&PROGRAM, Asked::parse, |asked| asked.connect())
}

struct Asked {
    to: TunnelTarget,
    http: Address,
}

impl Asked {
    fn parse(arguments: &mut Arguments) -> Result<Self, CliFailure> {
        let http: Option<Address> = cli::option(arguments, "--http", str::parse)?;
        let to: TunnelTarget = cli::value(arguments, "NAME/TARGET")?;
        let port = if to.client.is_none() { 8082 } else { 8081 };
        let http = http.unwrap_or_else(|| Address::Tcp("127.0.0.1".to_owned(), port));
        Ok(Self { to, http })
    }

    fn connect(self) -> Result<(), CliFailure> {
        let socket =
            self.http.connect(&Resolver::default(), Instant::now() + DIAL_TIMEOUT).map_err(
                |why| CliFailure::Failed(format!("no node listens on {}: {why}", self.http)),
            )?;
        let broken = |error: io::Error| CliFailure::Failed(format!("{}: {error}", self.to));
        let early = self.ask(&socket)?;
        socket.set_read_timeout(None).map_err(broken)?;
        // Unless all of the input was passed on, the kernel resets the connection, also if this program is
        // killed: the target must not take half of the input for all of it.
        set_reset_on_close(&socket, true);
        if exchange(&socket, &early).map_err(broken)? == Input::Ended {
            set_reset_on_close(&socket, false);
        }
        Ok(())
    }

    /// Requests the connection. Returns the bytes after the response's head.
    fn ask(&self, mut socket: &Socket) -> Result<Vec<u8>, CliFailure> {
        let failed = |error: io::Error| CliFailure::Failed(format!("{}: {error}", self.http));
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
        let path = match &self.to.client {
            Some(client) => format!("/client/{client}/{}", self.to.target),
            None => format!("/server/{}", self.to.target),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        loop {
            if let Some((status, length)) = status(&answer).map_err(failed)? {
                let rest = answer.split_off(length);
                return if status == 101 { Ok(rest) } else { Err(self.refused(socket, rest)) };
            }
            if answer.len() > MAX_ANSWER {
                return Err(failed(io::Error::other("its answer has no end")));
            }
            let mut bytes = [0; 4096];
            match socket.read(&mut bytes).map_err(failed)? {
                0 => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                count => answer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// The error in the node's response.
    fn refused(&self, socket: &Socket, mut body: Vec<u8>) -> CliFailure {
        // Best effort: the connection failed in any case.
        let _ = socket.take(MAX_ANSWER as u64).read_to_end(&mut body);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = body.get("message").and_then(|message| message.as_str());
        let why = one_line(message.unwrap_or("it was refused"));
        CliFailure::Failed(format!("{}: {why}", self.to))
    }
}

/// The status of a response and the length of its head, once that is complete.
fn status(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    match head::parse_response(bytes, &mut [NO_FIELD; MAX_FIELDS]) {
        Ok(answer) => Ok(Some((answer.status, answer.length))),
        Err(InvalidHead::NoEnd) => Ok(None),
        Err(_) => Err(io::Error::other("what answers there is no HTTP")),
    }
}

/// What became of standard input when the other side had closed.
#[derive(PartialEq, Eq)]
enum Input {
    /// It had ended before, and all of it was passed on.
    Ended,
    /// It goes on; the rest is discarded.
    Open,
}

/// Copies in both directions until the other side has closed.
fn exchange(mut socket: &Socket, early: &[u8]) -> io::Result<Input> {
    let mut to = socket.try_clone()?;
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (ending, ended) = bounded(1);
    threads::spawn("input", move || {
        let copied = copy(&mut input, &mut to);
        // On failure the other direction ends too.
        let end = if copied.is_ok() { Shutdown::Write } else { Shutdown::Both };
        // Before the other side can answer to the end.
        let _ = ending.try_send(copied);
        let _ = to.shutdown(end);
    })?;
    output.write_all(early)?;
    copy(&mut socket, &mut output)?;
    match ended.try_recv() {
        Ok(copied) => copied.map(|()| Input::Ended),
        Err(_) => Ok(Input::Open),
    }
}

/// Forwards bytes as they arrive. `io::copy` would splice a socket into a pipe, which on Linux does
/// not always wake a reader of single bytes, such as ssh at its start.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
