//! How an answer begins: it is held back until the script has ended, or it is clear that it streams, so
//! that the exit code of a short script decides about its whole answer.

use std::time::{Duration, Instant};

use super::fault::Fault;
use super::head::{self, Beginning, Head};
use super::run::{Run, Step};

/// Most bytes of a body that are held back: what fits into one message of the pipe.
const HELD: usize = 16 * 1024;
/// A script that has begun its body, or sent all headers, streams if it then is silent for this long.
const QUIET: Duration = Duration::from_millis(100);
/// Lines that may still become headers, though none of CGI's own is among them, are body if nothing
/// follows them for this long.
const UNDECIDED: Duration = Duration::from_secs(1);
/// How often it is looked whether anybody still waits.
const LOOK: Duration = Duration::from_millis(100);

/// The beginning of an answer.
pub(super) struct Opening {
    /// Its headers.
    pub head: Head,
    /// The body, as far as it is there.
    pub bytes: Vec<u8>,
    /// Whether that is all, and the script has ended well.
    pub ended: bool,
}

/// Waits for the beginning of the answer.
pub(super) fn open(run: &mut Run, is_cancelled: impl Fn() -> bool) -> Result<Opening, Fault> {
    let mut output = Vec::new();
    let mut buffer = vec![0; HELD];
    let mut begins = Beginning::Unknown { is_cgi: false };
    let mut heard = Instant::now();
    let ended = loop {
        let now = Instant::now();
        if is_cancelled() {
            return Err(Fault::Unwanted);
        }
        let (is_clear, patience) = match &begins {
            Beginning::Bad(why) => return Err(Fault::Head(why.clone())),
            Beginning::Unknown { is_cgi: true } => (false, None),
            Beginning::Unknown { is_cgi: false } if output.is_empty() => (false, None),
            Beginning::Unknown { is_cgi: false } => (false, Some(UNDECIDED)),
            Beginning::Body => (output.len() > HELD, Some(QUIET)),
            Beginning::Head(_, at) => (output.len() - at > HELD, Some(QUIET)),
        };
        if is_clear || patience.is_some_and(|patience| now - heard >= patience) {
            break false;
        }
        let until = patience.map_or(now + LOOK, |patience| (heard + patience).min(now + LOOK));
        match run.step(&mut buffer, until)? {
            Step::Nothing => {}
            Step::Ended => break true,
            Step::Bytes(count) => {
                output.extend_from_slice(&buffer[..count]);
                heard = Instant::now();
                if matches!(begins, Beginning::Unknown { .. }) {
                    begins = head::begins(&output);
                }
            }
        }
    };
    match begins {
        Beginning::Bad(why) => Err(Fault::Head(why)),
        Beginning::Head(head, at) => {
            output.drain(..at);
            if ended && head.length.is_some_and(|length| length != output.len() as u64) {
                return Err(Fault::Length);
            }
            Ok(Opening { head, bytes: output, ended })
        }
        Beginning::Unknown { .. } | Beginning::Body => {
            Ok(Opening { head: Head::default(), bytes: output, ended })
        }
    }
}
