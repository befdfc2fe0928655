//! Small request bodies, which are read whole before the request is sent.
//!
//! In scope: which bodies are small, and the limits. Not in scope: streamed bodies (`upload`), how
//! a body is framed.

use std::time::Instant;

use crate::event::errors;
use crate::http::HttpLimits;
use crate::http::budget::Share;
use crate::http::refusal::Refusal;
use crate::http1::framing::Framing;
use crate::http1::input::HttpInput;
use crate::sync::deadline::time_left;

/// Bodies up to this size, in bytes, are read whole before the request is sent: they fit in one
/// message, and can be sent again.
const SMALL: u64 = 16 * 1024;

/// The length of a body that is read whole; `None` if it streams.
pub(super) fn small(framing: Framing) -> Option<usize> {
    match framing {
        Framing::None => Some(0),
        // At most `SMALL`, so it fits.
        Framing::Length(length) if length <= SMALL => Some(length as usize),
        Framing::Length(_) | Framing::Chunked | Framing::Close => None,
    }
}

/// Reads a whole body of `length` bytes. Every error closes the connection.
pub(super) fn read(
    input: &mut HttpInput,
    length: usize,
    share: &mut Share<'_>,
    limits: &HttpLimits,
) -> Result<Vec<u8>, Refusal> {
    if length == 0 {
        return Ok(Vec::new());
    }
    if !share.grow_to(length) {
        let message = "too many request bodies are held at once";
        return Err(Refusal::closing(errors::FULL, message).with_header("Retry-After", "1"));
    }
    let mut body = vec![0; length];
    let deadline = Instant::now() + limits.transfer_timeout;
    let mut count = 0;
    while count < length {
        match input.read(&mut body[count..], limits.body_timeout.min(time_left(deadline))) {
            Ok(Some(0)) => return Err(Refusal::malformed("the body was cut short")),
            Ok(Some(more)) => count += more,
            Ok(None) => {
                let message = "the body did not arrive in time";
                return Err(Refusal::closing(errors::BODY_TIMEOUT, message));
            }
            Err(e) => return Err(Refusal::malformed(format!("the body was cut short: {e}"))),
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_known_and_small_length_is_read_whole() {
        assert_eq!(small(Framing::None), Some(0));
        assert_eq!(small(Framing::Length(SMALL)), Some(16_384));
        assert_eq!(small(Framing::Length(SMALL + 1)), None);
        assert_eq!(small(Framing::Chunked), None);
    }
}
