//! A server in front of a pipe that records its requests, and callers that speak raw bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use restpipe::config::Bind;
use restpipe::event::pipe::{Caller as Waiting, Peer, Pipe, RequestError};
use restpipe::event::{Event, Reply, Target, Verb};
use restpipe::handler::Role;
use restpipe::http::{HttpServer, HttpSettings};
use serde_json::{Value, json};

/// The longest wait in these tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A plain request.
pub const GET: &str = "GET /server/time HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// One request as the pipe saw it.
#[derive(Clone)]
pub struct Asked {
    pub peer: String,
    pub event: Seen,
    pub wait: Duration,
}

type Answerer = Arc<dyn Fn(&mut Event, &dyn Waiting) -> Result<Reply, RequestError> + Send + Sync>;

/// An event that can be kept.
#[derive(Clone)]
pub struct Seen {
    pub verb: Verb,
    pub target: Target,
    pub media_type: String,
    pub headers: Vec<(String, String)>,
    /// Empty if the pipe did not read it.
    pub body: Vec<u8>,
}

/// Records its requests and answers at once.
pub struct FakePipe {
    seen: Mutex<Vec<Asked>>,
    /// Whether it accepts only whole bodies.
    gathers: bool,
    answerer: Answerer,
}

impl FakePipe {
    /// Reads the whole body before it answers. A request whose body is incomplete is not recorded.
    pub fn answering(
        answerer: impl Fn(&Event) -> Result<Reply, RequestError> + Send + Sync + 'static,
    ) -> Self {
        let answerer = move |event: &mut Event, _: &dyn Waiting| answerer(event);
        Self { gathers: true, ..Self::streaming(answerer) }
    }

    /// Leaves the body to the function that answers.
    pub fn streaming(
        answerer: impl Fn(&mut Event, &dyn Waiting) -> Result<Reply, RequestError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { seen: Mutex::default(), gathers: false, answerer: Arc::new(answerer) }
    }

    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    pub fn only(&self) -> Asked {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }
}

/// Echoes the request.
impl Default for FakePipe {
    fn default() -> Self {
        Self::answering(|event| {
            let said = format!("{} {}", event.verb.as_str(), event.target.decoded());
            Ok(Reply::json(&json!({ "said": said })))
        })
    }
}

impl Pipe for FakePipe {
    fn request(
        &self,
        peer: Peer<'_>,
        event: &mut Event,
        wait: Duration,
        caller: &dyn Waiting,
    ) -> Result<Reply, RequestError> {
        let peer = match peer {
            Peer::Server => "server",
            Peer::Client(name) => name,
        };
        if self.gathers {
            let read = event.body.gather(1 << 30);
            read.map_err(|error| RequestError::Body(error.to_string()))?;
        }
        let seen = Seen {
            verb: event.verb,
            target: event.target.clone(),
            media_type: event.media_type.clone(),
            headers: event.headers.clone(),
            body: event.body.whole().unwrap_or_default().to_vec(),
        };
        let asked = Asked { peer: peer.to_owned(), event: seen, wait };
        self.seen.lock().unwrap().push(asked);
        (self.answerer)(event, caller)
    }
}

/// Settings under which nothing times out during a test.
pub fn settings(role: Role) -> HttpSettings {
    let mut settings = HttpSettings::new(role);
    settings.limits.head_timeout = 2 * PATIENCE;
    settings.limits.idle_timeout = 2 * PATIENCE;
    settings.limits.body_timeout = 2 * PATIENCE;
    settings.limits.write_timeout = 2 * PATIENCE;
    settings
}

/// A timeout short enough to wait for in a test.
pub const SOON: Duration = Duration::from_millis(200);

/// A server and its pipe.
pub struct Running {
    pub server: HttpServer,
    pub pipe: Arc<FakePipe>,
}

/// A client's server in front of a pipe that echoes the request.
pub fn start() -> Running {
    start_with(settings(Role::Client), FakePipe::default())
}

pub fn start_with(settings: HttpSettings, pipe: FakePipe) -> Running {
    let pipe = Arc::new(pipe);
    let server = HttpServer::start(settings, Arc::clone(&pipe) as Arc<dyn Pipe>).unwrap();
    Running { server, pipe }
}

impl Running {
    pub fn call(&self) -> Caller {
        self.try_call().unwrap()
    }

    pub fn try_call(&self) -> io::Result<Caller> {
        let Bind::Tcp(address) = self.server.address() else { panic!("not on TCP") };
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Caller { reader: BufReader::new(stream.try_clone()?), stream })
    }

    /// A new caller is served.
    pub fn works(&self) {
        let mut caller = self.call();
        caller.send(GET);
        assert_eq!(caller.answer().status, 200);
    }

    /// Polls until a condition holds.
    pub fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it never came to be");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// The other end of a connection.
pub struct Caller {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Caller {
    pub fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    /// Reads an answer, which must have a length.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.answer_to_head();
        if answer.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    return answer;
                }
                answer.body.extend(chunk);
            }
        }
        let length = answer.header("Content-Length").map_or(0, |n| n.parse().unwrap());
        answer.body = vec![0; length];
        self.reader.read_exact(&mut answer.body).unwrap();
        answer
    }

    /// Reads the head of an answer.
    pub fn answer_to_head(&mut self) -> Answer {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let line = line.strip_suffix("\r\n").expect("a whole line");
            if line.is_empty() {
                return Answer { status, headers, body: Vec::new() };
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Reads one chunk; an empty one is the last.
    pub fn chunk(&mut self) -> Vec<u8> {
        let size = usize::from_str_radix(self.line().trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).unwrap();
        assert_eq!(chunk.split_off(size), b"\r\n");
        chunk
    }

    /// Whether the connection closes cleanly: neither bytes nor a reset may arrive.
    pub fn is_closed(&mut self) -> bool {
        self.reader.read(&mut [0; 64]).is_ok_and(|n| n == 0)
    }
}

impl Read for Caller {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// The answer as the caller received it.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header that occurs at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The `error` of a JSON body that also has a `message`.
    pub fn error(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        body["error"].as_str().expect("an error").to_owned()
    }
}
