//! The default handler: the original's `time` and `cat`, and three methods for testing with bodies
//! of any size.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use serde_json::json;

use super::range::Range;
use super::{Context, Failure, Role, Router};
use crate::event::{Body, Event, Reply};

/// Maximum size of a `bytes//N` reply: a petabyte.
const MAX_BYTES: u64 = 1 << 50;

/// `GET time` returns the seconds since 1970 on this side, `GET cat//A/B...` concatenates its
/// parameters. The keys in these replies name the side: `time_from_server`, `result_from_client`.
///
/// `POST echo` streams the body back, `GET bytes//N` returns N pseudorandom bytes that are always
/// the same (ranges work), `POST digest` returns the body's length and SHA-256.
pub fn example(role: Role) -> Router {
    let side = role.as_str();
    Router::new()
        .on("get_time", move |_, _| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            // A double represents the current time to the microsecond.
            let seconds = now.as_micros() as f64 / 1e6;
            Ok(json!({ format!("time_from_{side}"): seconds }))
        })
        .on("get_cat", move |_, event| {
            Ok(json!({ format!("result_from_{side}"): event.target.parameters().concat() }))
        })
        .on("post_echo", |_, event| Ok(Reply::new(event.media_type.clone(), event.body.take_out())))
        .on("get_bytes", bytes)
        .on("post_digest", digest)
}

fn bytes(_: &Context, event: &mut Event) -> Result<Reply, Failure> {
    let count = match event.target.parameters() {
        [count] => count.parse::<u64>()?,
        _ => return Err(Failure::exception("Parameters", "say how many: bytes//N")),
    };
    if count > MAX_BYTES {
        return Err(Failure::exception("Parameters", format!("at most {MAX_BYTES} bytes")));
    }
    let range = Range::of(event.header("range"), count);
    Ok(range.reply("application/octet-stream", count, |from, to| {
        Body::stream(Noise { at: from, end: to }, Some(to - from))
    }))
}

fn digest(_: &Context, event: &mut Event) -> Result<serde_json::Value, Failure> {
    let mut digest = Digest::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes: u64 = 0;
    loop {
        let count = event.body.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        bytes += count as u64;
    }
    let mut sha256 = String::with_capacity(64);
    for byte in digest.finish().as_ref() {
        write!(sha256, "{byte:02x}")?;
    }
    Ok(json!({ "bytes": bytes, "sha256": sha256 }))
}

/// Pseudorandom bytes that depend only on their offset.
struct Noise {
    at: u64,
    end: u64,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let into = &mut buffer[..count];
        let odd = (self.at.next_multiple_of(8) - self.at) as usize;
        let (begin, rest) = into.split_at_mut(odd.min(count));
        self.fill(begin);
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&mix(self.at / 8).to_le_bytes());
            self.at += 8;
        }
        self.fill(words.into_remainder());
        Ok(count)
    }
}

impl Noise {
    /// Fills less than a word, without crossing a word boundary.
    fn fill(&mut self, part: &mut [u8]) {
        let word = mix(self.at / 8).to_le_bytes();
        let from = (self.at % 8) as usize;
        part.copy_from_slice(&word[from..from + part.len()]);
        self.at += part.len() as u64;
    }
}

/// The finalizer of SplitMix64: consecutive numbers give unrelated results.
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_wherever_one_begins() {
        let mut whole = Vec::new();
        Noise { at: 0, end: 100 }.read_to_end(&mut whole).unwrap();
        for (from, to) in [(0, 100), (3, 9), (8, 8), (99, 100), (1, 64)] {
            let mut part = Vec::new();
            Noise { at: from, end: to }.read_to_end(&mut part).unwrap();
            assert_eq!(part, whole[from as usize..to as usize]);
        }
    }
}
