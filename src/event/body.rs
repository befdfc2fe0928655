//! The body of an event or a reply: bytes in memory, or a stream that is read as it comes.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The body of an event or a reply, read with [`Read`].
///
/// A small one is in memory. A large one, or one of unknown length, arrives while it is read: what is
/// not read is not sent, and holds up nothing else. Its end is certain: a body that was cut short is
/// an error, never an end. Dropping a stream asks the other side to send no more of it.
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

/// Where a stream comes from, for sources that can wait with a limit. Any [`Read`] will do for
/// [`Body::stream`].
pub trait Source: Send {
    /// Reads as [`Read::read`] does, but waits for at most `timeout`; `None` where nothing came.
    fn read_within(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>>;

    /// Whether it keeps to the timeout of [`Source::read_within`].
    fn has_timeout(&self) -> bool {
        true
    }

    /// Whether it should not be read before somebody on the other side does: a caller that still waits
    /// to be asked for it.
    fn waits_for_reader(&self) -> bool {
        false
    }

    /// Lets bytes go to `sink` as they come, while whoever reads waits for some: those are never read.
    /// A source that cannot do so ignores it.
    fn pass_to(&mut self, _sink: Arc<dyn Sink>) {}
}

/// Where bytes of a [`Source`] may go past its reader, from the thread on which they come.
pub trait Sink: Send + Sync {
    /// Takes what it can without waiting, and returns how much that is. What it does not take, also
    /// for an error, is read.
    fn take_now(&self, bytes: &[u8]) -> usize;
}

/// How long a plain read waits before it waits again: the source has limits of its own.
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

    /// What this reader gives, and its length in bytes where that is known. A reader that gives more
    /// or less than its length is an error for whoever gets the body.
    pub fn stream(reader: impl Read + Send + 'static, length: Option<u64>) -> Self {
        Self::from_source(Plain(reader), length)
    }

    /// As [`Body::stream`], for a source that can wait with a limit.
    pub fn from_source(source: impl Source + 'static, length: Option<u64>) -> Self {
        Self(Kind::Stream(Stream { source: Box::new(source), length, count: 0 }))
    }

    /// A body that is announced and not sent, of this length in bytes where that is known: the answer
    /// to somebody who asked for the head only. To read it is an error.
    pub const fn left_out(length: Option<u64>) -> Self {
        Self(Kind::LeftOut { length })
    }

    /// Whether it is one of [`Body::left_out`].
    pub const fn is_left_out(&self) -> bool {
        matches!(self.0, Kind::LeftOut { .. })
    }

    /// How many bytes it has (had, before any was read), where that is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes.get_ref().len() as u64),
            Kind::Stream(Stream { length, .. }) | Kind::LeftOut { length } => *length,
        }
    }

    /// All bytes, of a body that is in memory.
    pub fn whole(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes.get_ref()),
            Kind::Stream(_) | Kind::LeftOut { .. } => None,
        }
    }

    /// Whether it should not be read before somebody on the other side does.
    pub fn waits_for_reader(&self) -> bool {
        match &self.0 {
            Kind::Whole(_) | Kind::LeftOut { .. } => false,
            Kind::Stream(stream) => stream.source.waits_for_reader(),
        }
    }

    /// Whether [`Body::read_within`] keeps to its timeout.
    pub(crate) fn has_timeout(&self) -> bool {
        match &self.0 {
            Kind::Whole(_) | Kind::LeftOut { .. } => true,
            Kind::Stream(stream) => stream.source.has_timeout(),
        }
    }

    /// Takes the body out. A stream cannot be had twice: what is left in its place is an error to read.
    pub fn take_out(&mut self) -> Self {
        let left = match &self.0 {
            Kind::Whole(_) => Self::empty(),
            Kind::Stream(Stream { length, .. }) => Self::from_source(Spent, *length),
            Kind::LeftOut { length } => Self::left_out(*length),
        };
        std::mem::replace(self, left)
    }

    /// Reads what is left, if that is at most `most` bytes, and keeps it: the body is in memory then.
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

    /// Lets bytes go to `sink` as they come, past whoever reads and waits for them, where the source can.
    /// Not where the length is known, since those that pass are not counted.
    pub fn pass_to(&mut self, sink: Arc<dyn Sink>) {
        if let Kind::Stream(Stream { source, length: None, .. }) = &mut self.0 {
            source.pass_to(sink);
        }
    }

    /// Reads as [`Read::read`] does, but waits for at most `timeout` where the source can; `None`
    /// where nothing came.
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
        // A program's own reader may panic: then the body is one that is cut short.
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
        // What still came would be taken for the rest.
        self.source = Box::new(Failed(wrong.kind(), wrong.to_string()));
        Err(wrong)
    }
}

/// The error of [`Body::gather`] where a body is longer than is taken.
fn too_large(most: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("a body of more than {most} bytes"))
}

fn left_out() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "only the head was asked for")
}

/// What is left of a stream that was taken.
struct Spent;

impl Source for Spent {
    fn read_within(&mut self, _: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        Err(io::Error::other("the body was taken already"))
    }
}

/// What is left of a stream that has not the length that was announced.
struct Failed(io::ErrorKind, String);

impl Source for Failed {
    fn read_within(&mut self, _: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        Err(io::Error::new(self.0, self.1.clone()))
    }
}

/// A plain reader waits for as long as it waits.
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

/// Two bodies in memory are equal if their bytes are. A stream is equal to nothing.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.whole().is_some_and(|bytes| other.whole() == Some(bytes))
    }
}

/// Never the bytes: a body may hold anything.
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
    fn debug_shows_no_bytes() {
        assert_eq!(format!("{:?}", Body::from("secret")), "Body(6 bytes)");
        assert_eq!(format!("{:?}", Body::stream(&b"x"[..], None)), "Body(stream)");
    }
}
