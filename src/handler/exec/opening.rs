//! The start of a reply. It is held back until the script exits or clearly streams, so that the
//! exit code of a short script determines its whole reply.

use std::time::{Duration, Instant};

use super::error::ScriptError;
use super::head::{self, Beginning, CgiHead};
use super::run::{Run, Step};

/// Maximum number of body bytes held back: as much as fits in one message of the pipe.
const MAX_HELD: usize = 16 * 1024;
/// A script that has started its body, or sent all headers, is streaming if it then writes nothing
/// for this long.
const STREAM_AFTER: Duration = Duration::from_millis(100);
/// Lines that could still become headers, but include none that marks CGI headers, are body if
/// nothing follows for this long.
const BODY_AFTER: Duration = Duration::from_secs(1);
/// How often to check whether the reply is still awaited.
const CALLER_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The start of a reply.
pub(super) struct Opening {
    pub head: CgiHead,
    /// The body so far.
    pub bytes: Vec<u8>,
    /// Whether the body is complete and the script has exited successfully.
    pub ended: bool,
}

/// Waits for the start of the reply.
pub(super) fn open(run: &mut Run, is_cancelled: impl Fn() -> bool) -> Result<Opening, ScriptError> {
    let mut output = Vec::new();
    let mut buffer = vec![0; MAX_HELD];
    let mut begins = Beginning::Unknown { is_cgi: false };
    let mut last_output = Instant::now();
    let ended = loop {
        let now = Instant::now();
        if is_cancelled() {
            return Err(ScriptError::Unwanted);
        }
        let (is_clear, silence) = match &begins {
            Beginning::Bad(why) => return Err(ScriptError::Head(why.clone())),
            Beginning::Unknown { is_cgi: true } => (false, None),
            Beginning::Unknown { is_cgi: false } if output.is_empty() => (false, None),
            Beginning::Unknown { is_cgi: false } => (false, Some(BODY_AFTER)),
            Beginning::Body => (output.len() > MAX_HELD, Some(STREAM_AFTER)),
            Beginning::Head(_, at) => (output.len() - at > MAX_HELD, Some(STREAM_AFTER)),
        };
        if is_clear || silence.is_some_and(|silence| now - last_output >= silence) {
            break false;
        }
        let until = silence.map_or(now + CALLER_POLL_INTERVAL, |silence| {
            (last_output + silence).min(now + CALLER_POLL_INTERVAL)
        });
        match run.step(&mut buffer, until)? {
            Step::Nothing => {}
            Step::Ended => break true,
            Step::Bytes(count) => {
                output.extend_from_slice(&buffer[..count]);
                last_output = Instant::now();
                if matches!(begins, Beginning::Unknown { .. }) {
                    begins = head::begins(&output);
                }
            }
        }
    };
    match begins {
        Beginning::Bad(why) => Err(ScriptError::Head(why)),
        Beginning::Head(head, at) => {
            output.drain(..at);
            if ended && head.length.is_some_and(|length| length != output.len() as u64) {
                return Err(ScriptError::Length);
            }
            Ok(Opening { head, bytes: output, ended })
        }
        Beginning::Unknown { .. } | Beginning::Body => {
            Ok(Opening { head: CgiHead::default(), bytes: output, ended })
        }
    }
}
