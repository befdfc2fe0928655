//! The body of an event or a reply: bytes in memory, or a stream that is read as it arrives.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The body of an event or a reply, read with [`Read`].
///
/// A small one is in memory. A large one, or one of unknown length, arrives while it is read: what
/// is not read is not sent and blocks nothing else. A truncated body is an error, never an end.
/// Dropping a stream asks the other side to stop sending it.
///
/// ```
/// use std::io::Read;
///
/// use restpipe::Body;
///
/// let small = Body::from("in memory");
/// assert_eq!(small.length(), Some(9));
/// let mut large = Body::stream(std::io::repeat(b'x').take(1 << 30), Some(1 << 30));
/// let mut first = [0; 3];
/// large.read_exact(&mut first)?;
/// // Not all of them: no more than this is held in memory.
/// assert!(large.gather(1 << 20).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Body(Kind);

enum Kind {
    Whole(Cursor<Vec<u8>>),
    Stream(Stream),
    LeftOut { length: Option<u64> },
}

struct Stream {
    source: Box<dyn Source>,
    length: Option<u64>,
    /// Bytes that were read.
    count: u64,
}

/// The source of a stream, if it can wait with a timeout. [`Body::stream`] takes any [`Read`].
pub trait Source: Send {
    /// Reads like [`Read::read`], but waits for at most `timeout`; `None` if nothing arrived.
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>>;

    /// Whether it honours the timeout of [`Source::read_within`].
    fn has_timeout(&self) -> bool {
        true
    }

    /// Whether it should not be read before the other side reads, such as a caller's body that
    /// waits for `100 Continue`.
    fn waits_for_reader(&self) -> bool {
        false
    }

    /// Passes bytes to `sink` as they arrive while the reader waits; these bytes are never read. A
    /// source that cannot do so ignores it.
    fn pass_to(&mut self, _sink: Arc<dyn Sink>) {}
}

/// Takes bytes of a [`Source`] directly, on the thread on which they arrive.
pub trait Sink: Send + Sync {
    /// Takes what it can without blocking, and returns the number of bytes. The rest, also after an
    /// error, is read.
    fn take_now(&self, bytes: &[u8]) -> usize;
}

/// How long one wait of a plain read lasts; it is repeated, as the source has its own limits.
const READ_WAIT: Duration = Duration::from_secs(1);

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Kind::Whole(Cursor::new(Vec::new())))
    }

    /// A value as JSON in ASCII, in the form of the original.
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        super::json::to_vec(value).into()
    }

    /// A stream from this reader, and its length in bytes if known. A reader that gives more or
    /// less is an error for the receiver of the body.
    pub fn stream(reader: impl Read + Send + 'static, length: Option<u64>) -> Self {
        Self::from_source(Plain(reader), length)
    }

    /// As [`Body::stream`], for a source that can wait with a timeout.
    pub fn from_source(source: impl Source + 'static, length: Option<u64>) -> Self {
        Self(Kind::Stream(Stream { source: Box::new(source), length, count: 0 }))
    }

    /// A body that is announced but not sent, with its length in bytes if known: for a request for
    /// the head only. Reading it is an error.
    pub const fn left_out(length: Option<u64>) -> Self {
        Self(Kind::LeftOut { length })
    }

    /// Whether it is one of [`Body::left_out`].
    pub const fn is_left_out(&self) -> bool {
        matches!(self.0, Kind::LeftOut { .. })
    }

    /// Its original length in bytes, if known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes.get_ref().len() as u64),
            Kind::Stream(Stream { length, .. }) | Kind::LeftOut { length } => *length,
        }
    }

    /// All bytes, if the body is in memory.
    pub fn whole(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes.get_ref()),
            Kind::Stream(_) | Kind::LeftOut { .. } => None,
        }
    }

    /// Whether it should not be read before the other side reads.
    pub fn waits_for_reader(&self) -> bool {
        match &self.0 {
            Kind::Whole(_) | Kind::LeftOut { .. } => false,
            Kind::Stream(stream) => stream.source.waits_for_reader(),
        }
    }

    /// Whether [`Body::read_within`] honours its timeout.
    pub(crate) fn has_timeout(&self) -> bool {
        match &self.0 {
            Kind::Whole(_) | Kind::LeftOut { .. } => true,
            Kind::Stream(stream) => stream.source.has_timeout(),
        }
    }

    /// Takes the body out. What remains fails when read, unless the body is empty.
    pub fn take_out(&mut self) -> Self {
        let left = match &self.0 {
            Kind::Whole(bytes) if bytes.get_ref().is_empty() => Self::empty(),
            Kind::Whole(bytes) => Self::from_source(Spent, Some(bytes.get_ref().len() as u64)),
            Kind::Stream(Stream { length, .. }) => Self::from_source(Spent, *length),
            Kind::LeftOut { length } => Self::left_out(*length),
        };
        std::mem::replace(self, left)
    }

    /// Reads the rest into memory; fails if that is more than `most` bytes.
    pub fn gather(&mut self, most: usize) -> io::Result<&[u8]> {
        if let Kind::Stream(Stream { length, .. }) = &self.0 {
            if length.is_some_and(|length| length > most as u64) {
                return Err(too_large(most));
            }
            let mut bytes = Vec::new();
            self.take(most as u64 + 1).read_to_end(&mut bytes)?;
            if bytes.len() > most {
                return Err(too_large(most));
            }
            self.0 = Kind::Whole(Cursor::new(bytes));
        }
        match &self.0 {
            Kind::Whole(bytes) if bytes.get_ref().len() <= most => Ok(bytes.get_ref()),
            Kind::Whole(_) | Kind::Stream(_) => Err(too_large(most)),
            Kind::LeftOut { .. } => Err(left_out()),
        }
    }

    /// Passes bytes to `sink` as they arrive, bypassing the waiting reader, if the source supports
    /// it. Not if the length is known, since these bytes are not counted.
    pub fn pass_to(&mut self, sink: Arc<dyn Sink>) {
        if let Kind::Stream(Stream { source, length: None, .. }) = &mut self.0 {
            source.pass_to(sink);
        }
    }

    /// Reads like [`Read::read`], but waits for at most `timeout` if the source supports it; `None`
    /// if nothing arrived.
    pub fn read_within(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<usize>> {
        match &mut self.0 {
            Kind::Whole(bytes) => bytes.read(buffer).map(Some),
            Kind::Stream(stream) => stream.read_within(buffer, timeout),
            Kind::LeftOut { .. } => Err(left_out()),
        }
    }
}

impl Stream {
    fn read_within(&mut self, buffer: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        // A program's reader may panic: then the body is truncated.
        let read = catch_unwind(AssertUnwindSafe(|| self.source.read_within(buffer, wait)))
            .unwrap_or_else(|_| Err(io::Error::other("what reads the body has panicked")))?;
        let (Some(count), Some(length)) = (read, self.length) else { return Ok(read) };
        self.count += count as u64;
        let wrong = if self.count > length {
            io::Error::new(io::ErrorKind::InvalidData, "it is longer than it was announced to be")
        } else if count == 0 && !buffer.is_empty() && self.count < length {
            let message = format!("it ended after {} of {length} bytes", self.count);
            io::Error::new(io::ErrorKind::UnexpectedEof, message)
        } else {
            return Ok(read);
        };
        // Further bytes would be taken for the rest.
        self.source = Box::new(Failed(wrong.kind(), wrong.to_string()));
        Err(wrong)
    }
}

/// The error of [`Body::gather`] for a body above the limit.
fn too_large(most: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("a body of more than {most} bytes"))
}

fn left_out() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "only the head was asked for")
}

/// What remains of a body that was taken.
struct Spent;

impl Source for Spent {
    fn read_within(&mut self, _: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        Err(io::Error::other("the body was taken already"))
    }
}

/// What remains of a failed stream.
struct Failed(io::ErrorKind, String);

impl Source for Failed {
    fn read_within(&mut self, _: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        Err(io::Error::new(self.0, self.1.clone()))
    }
}

/// A plain reader; it ignores timeouts.
struct Plain<R>(R);

impl<R: Read + Send> Source for Plain<R> {
    fn read_within(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(Some),
            }
        }
    }

    fn has_timeout(&self) -> bool {
        false
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(count) = self.read_within(buffer, READ_WAIT)? {
                return Ok(count);
            }
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Whole(Cursor::new(bytes)))
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

/// Bodies in memory are equal if their bytes are. A stream equals nothing.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.whole().is_some_and(|bytes| other.whole() == Some(bytes))
    }
}

/// Never shows the bytes: they may be confidential.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Whole(bytes) => write!(f, "Body({} bytes)", bytes.get_ref().len()),
            Kind::Stream(Stream { length: Some(length), .. }) => {
                write!(f, "Body(stream of {length} bytes)")
            }
            Kind::Stream(Stream { length: None, .. }) => write!(f, "Body(stream)"),
            Kind::LeftOut { .. } => write!(f, "Body(left out)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_gathered_up_to_a_bound() {
        let body = |length| Body::stream(&b"twelve bytes"[..], length);
        for length in [None, Some(12)] {
            let mut fits = body(length);
            assert_eq!(fits.whole(), None);
            assert_eq!(fits.gather(12).unwrap(), b"twelve bytes");
            assert_eq!(fits.whole(), Some(&b"twelve bytes"[..]));
            let error = body(length).gather(11).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
        assert!(Body::from("abc").gather(2).is_err());
    }

    #[test]
    fn a_stream_has_the_length_that_was_announced_or_is_an_error_for_ever() {
        for (length, error) in [
            (11, "it is longer than it was announced to be"),
            (13, "it ended after 12 of 13 bytes"),
        ] {
            let mut body = Body::stream(&b"twelve bytes"[..], Some(length));
            let mut bytes = Vec::new();
            assert_eq!(body.read_to_end(&mut bytes).unwrap_err().to_string(), error);
            assert_eq!(body.read(&mut [0; 9]).unwrap_err().to_string(), error);
            assert!(bytes.len() as u64 <= length);
        }
        let mut body = Body::stream(&b"twelve bytes"[..], Some(12));
        assert_eq!(body.read(&mut []).unwrap(), 0, "it is asked for nothing");
        let mut bytes = Vec::new();
        assert_eq!(body.read_to_end(&mut bytes).unwrap(), 12);
    }

    #[test]
    fn what_remains_of_a_body_that_was_taken_is_no_empty_body() {
        for mut body in [Body::from("abc"), Body::stream(&b"abc"[..], Some(3))] {
            assert_eq!(body.take_out().gather(3).unwrap(), b"abc");
            assert_eq!((body.whole(), body.length()), (None, Some(3)));
            assert!(body.gather(3).is_err());
        }
        assert_eq!(Body::empty().take_out(), Body::empty());
    }

    #[test]
    fn debug_shows_no_bytes() {
        assert_eq!(format!("{:?}", Body::from("secret")), "Body(6 bytes)");
        assert_eq!(format!("{:?}", Body::stream(&b"x"[..], None)), "Body(stream)");
    }
}
