//! Encodes messages into frames.

use std::borrow::Cow;

use quick_protobuf::{BytesWriter, MessageWrite, Writer};

use super::{Heartbeat, VERSION};
use crate::event::{Event, MAX_MEDIA_TYPE, Reply, header};
use crate::wire::capabilities::{Capabilities, EXTENSIONS, Unsendable};
use crate::wire::frame::header as frame_header;
use crate::wire::pb::restpipe as pb;
use crate::wire::{DrainNotice, Goodbye, HEADER_BYTES, Kind};

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Inside the message.
    Whole(&'a [u8]),
    /// In pieces after the message; with the length, if known.
    Streamed(Option<u64>),
}

impl<'a> Payload<'a> {
    const fn data(self) -> &'a [u8] {
        match self {
            Self::Whole(data) => data,
            Self::Streamed(_) => &[],
        }
    }

    const fn stream(self) -> (Option<bool>, Option<u64>) {
        match self {
            Self::Whole(_) => (None, None),
            Self::Streamed(length) => (Some(true), length),
        }
    }
}

/// Encodes a heartbeat, including the header.
pub fn encode_heartbeat(id: u32, heartbeat: Heartbeat) -> Vec<u8> {
    let message = pb::Heartbeat {
        version: VERSION,
        extensions: Some(heartbeat.extensions),
        silence_ms: heartbeat.silence_ms,
        max_data: heartbeat.max_data,
        takes_over: heartbeat.takes_over.then_some(true),
        round_trip_us: heartbeat.round_trip_us,
        ..pb::Heartbeat::default()
    };
    encode(Kind::Heartbeat, id, &message)
}

/// Encodes the reply to the heartbeat with this id.
pub fn encode_heartbeat_reply(id: u32, max_data: u32) -> Vec<u8> {
    let message = pb::HeartbeatReply {
        version: VERSION,
        extensions: Some(EXTENSIONS),
        max_data: Some(max_data),
        ..pb::HeartbeatReply::default()
    };
    encode(Kind::HeartbeatReply, id, &message)
}

/// Encodes the last message of a connection. See [`encode_drain`].
pub fn encode_goodbye(from_client: bool, id: u32, goodbye: &Goodbye) -> Vec<u8> {
    let closing = Some(goodbye.reason.code());
    let closing_text = Some(Cow::Borrowed(goodbye.text.as_str()));
    encode_aside(from_client, id, pb::Heartbeat { closing, closing_text, ..Default::default() })
}

/// Encodes a drain notice. A client sends it in a heartbeat, a server in a heartbeat reply, because
/// the other side accepts these at any time.
pub fn encode_drain(from_client: bool, id: u32, leaving: DrainNotice) -> Vec<u8> {
    let (leaving_ms, settled) = leaving.fields();
    encode_aside(from_client, id, pb::Heartbeat { leaving_ms, settled, ..Default::default() })
}

fn encode_aside(from_client: bool, id: u32, said: pb::Heartbeat<'_>) -> Vec<u8> {
    if from_client {
        return encode(Kind::Heartbeat, id, &pb::Heartbeat { version: VERSION, ..said });
    }
    let pb::Heartbeat { closing, closing_text, leaving_ms, settled, .. } = said;
    let message = pb::HeartbeatReply {
        version: VERSION,
        closing,
        closing_text,
        leaving_ms,
        settled,
        ..Default::default()
    };
    encode(Kind::HeartbeatReply, id, &message)
}

/// Encodes an event, including the header. The body is `payload`; the body of `event` is ignored.
pub fn encode_event(
    id: u32,
    event: &Event,
    payload: Payload<'_>,
    capabilities: Capabilities,
) -> Result<Vec<u8>, Unsendable> {
    if event.media_type.len() > MAX_MEDIA_TYPE {
        return Err(Unsendable::LongMediaType);
    }
    let noun = event.target.decoded();
    let media_type = media_type(&event.media_type, capabilities);
    capabilities.admit(
        &[
            ("the path", noun.as_bytes()),
            ("the media type", media_type.as_bytes()),
            ("the body", payload.data()),
        ],
        payload.data(),
    )?;
    let headers = if capabilities.extended { write_headers(&event.headers) } else { Vec::new() };
    if capabilities.extended && headers.len() < event.headers.len() {
        let stay = event.headers.iter().filter(|(name, _)| header::is_hop_by_hop(name)).count();
        if headers.len() + stay < event.headers.len() {
            return Err(Unsendable::Headers);
        }
    }
    let (stream, length) = payload.stream();
    let message = pb::Event {
        version: VERSION,
        verb: Cow::Borrowed(event.verb.as_str()),
        noun,
        mimetype: Some(media_type),
        data: Some(Cow::Borrowed(payload.data())),
        target: event.target.raw().filter(|_| capabilities.extended).map(Cow::Borrowed),
        request_id: capabilities.extended.then(|| Cow::Borrowed(event.request_id.as_str())),
        headers,
        stream,
        length,
        head_only: (capabilities.extended && event.head_only).then_some(true),
    };
    Ok(encode(Kind::Event, id, &message))
}

/// Encodes the reply to the event with this id. The body is `payload`; the body of `reply` is
/// ignored.
pub fn encode_reply(
    id: u32,
    reply: &Reply,
    payload: Payload<'_>,
    capabilities: Capabilities,
) -> Result<Vec<u8>, Unsendable> {
    let media_type = media_type(&reply.media_type, capabilities);
    capabilities.admit(
        &[("the reply's media type", media_type.as_bytes()), ("the reply's body", payload.data())],
        payload.data(),
    )?;
    let (stream, length) = payload.stream();
    let mut message = pb::EventReply {
        version: VERSION,
        mimetype: Some(media_type),
        code: reply.code,
        data: Cow::Borrowed(payload.data()),
        status: None,
        headers: Vec::new(),
        stream,
        length,
    };
    if capabilities.extended {
        message.status = reply.status.map(u32::from);
        message.headers = write_headers(&reply.headers);
    }
    Ok(encode(Kind::EventReply, id, &message))
}

/// The media type as the peer understands it: an original one knows only lower-case names without
/// parameters, so that `application/json; charset=utf-8` would not be JSON to it.
fn media_type(full: &str, capabilities: Capabilities) -> Cow<'_, str> {
    if capabilities.extended {
        return Cow::Borrowed(full);
    }
    let name = full.split(';').next().unwrap_or_default().trim();
    Cow::Owned(name.to_ascii_lowercase())
}

fn write_headers(headers: &[(String, String)]) -> Vec<pb::Header<'_>> {
    header::forwardable(headers.iter().map(|(name, value)| (name, value)))
        .map(|(name, value)| pb::Header { name: Cow::Borrowed(name), value: Cow::Borrowed(value) })
        .collect()
}

fn encode(kind: Kind, id: u32, message: &impl MessageWrite) -> Vec<u8> {
    let length = message.get_size();
    let mut bytes = vec![0; HEADER_BYTES + length];
    bytes[..HEADER_BYTES].copy_from_slice(&frame_header(kind, length, id));
    let mut writer = Writer::new(BytesWriter::new(&mut bytes[HEADER_BYTES..]));
    message.write_message(&mut writer).expect("the buffer has the size that the message gave");
    bytes
}
