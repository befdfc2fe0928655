//! Decodes frames into messages.

use std::borrow::Cow;

use quick_protobuf::{BytesReader, MessageRead};

use super::{Heartbeat, Message, VERSION};
use crate::event::{Body, Event, MAX_MEDIA_TYPE, Reply, RequestId, Target, Verb, header};
use crate::wire::bounds::{self, Shape};
use crate::wire::pb::restpipe as pb;
use crate::wire::{DrainNotice, Frame, Goodbye, Kind, WireError};

const TAG_VERSION: u64 = 8;
const TAG_HEADERS: u64 = 138;
const HEARTBEAT: Shape = Shape { required: &[TAG_VERSION], nested: None };
/// Version, verb, noun; headers.
const EVENT: Shape =
    Shape { required: &[TAG_VERSION, 18, 26], nested: Some((TAG_HEADERS, &HEADER)) };
/// Version, code, data; headers.
const REPLY: Shape =
    Shape { required: &[TAG_VERSION, 24, 34], nested: Some((TAG_HEADERS, &HEADER)) };
/// Name, value.
const HEADER: Shape = Shape { required: &[10, 18], nested: None };

/// Decodes a frame.
pub fn decode(frame: &Frame<'_>) -> Result<Message, WireError> {
    match frame.kind {
        Kind::Heartbeat => {
            let message: pb::Heartbeat = read(frame.body, &HEARTBEAT)?;
            version(message.version)?;
            let goodbye = Goodbye::announced(message.closing, message.closing_text);
            if let Some(aside) = aside(goodbye, message.leaving_ms, message.settled) {
                return Ok(aside);
            }
            Ok(Message::Heartbeat(Heartbeat {
                extensions: message.extensions.unwrap_or(0),
                silence_ms: message.silence_ms,
                max_data: message.max_data,
                takes_over: message.takes_over.unwrap_or(false),
                round_trip_us: message.round_trip_us,
            }))
        }
        Kind::HeartbeatReply => {
            let message: pb::HeartbeatReply = read(frame.body, &HEARTBEAT)?;
            version(message.version)?;
            let goodbye = Goodbye::announced(message.closing, message.closing_text);
            if let Some(aside) = aside(goodbye, message.leaving_ms, message.settled) {
                return Ok(aside);
            }
            Ok(Message::HeartbeatReply {
                extensions: message.extensions.unwrap_or(0),
                max_data: message.max_data,
            })
        }
        Kind::Event => {
            let message: pb::Event = read(frame.body, &EVENT)?;
            version(message.version)?;
            Ok(event(message))
        }
        Kind::EventReply => {
            let message: pb::EventReply = read(frame.body, &REPLY)?;
            version(message.version)?;
            let streamed = message.stream.unwrap_or(false).then_some(message.length);
            Ok(Message::Reply(reply(message), streamed))
        }
        Kind::Stream(piece, side) => Ok(Message::Stream(piece, side)),
    }
}

/// The notice in a heartbeat or heartbeat reply, if any: a goodbye, or a drain notice. These
/// messages carry it because they are accepted at any time.
fn aside(
    goodbye: Option<Goodbye>,
    leaving_ms: Option<u32>,
    settled: Option<bool>,
) -> Option<Message> {
    let leaving = || DrainNotice::read(leaving_ms, settled).map(Message::Drain);
    goodbye.map(Message::Goodbye).or_else(leaving)
}

fn read<'a, M: MessageRead<'a>>(body: &'a [u8], shape: &Shape) -> Result<M, WireError> {
    bounds::check(body, shape)?;
    M::from_reader(&mut BytesReader::from_bytes(body), body)
        .map_err(|_| WireError::Malformed("text that is not UTF-8"))
}

const fn version(version: u32) -> Result<(), WireError> {
    if version == VERSION { Ok(()) } else { Err(WireError::Version(version)) }
}

fn event(message: pb::Event<'_>) -> Message {
    let streamed = message.stream.unwrap_or(false).then_some(message.length);
    let Some(verb) = Verb::parse(&message.verb) else {
        return Message::BadEvent(Reply::unhandled(), streamed);
    };
    if is_long(message.mimetype.as_deref()) {
        let why = format!("the media type is longer than {MAX_MEDIA_TYPE} bytes");
        let reply = Reply::exception("BadMediaType", &why, "").with_status(400);
        return Message::BadEvent(reply, streamed);
    }
    let target = match &message.target {
        Some(raw) => Target::parse(raw),
        None => Target::from_decoded(&message.noun),
    };
    match target {
        Ok(target) => {
            let event = Event {
                verb,
                target,
                media_type: owned(message.mimetype),
                headers: read_headers(message.headers),
                body: Body::from(message.data.unwrap_or_default().into_owned()),
                head_only: message.head_only.unwrap_or(false),
                request_id: RequestId::parse_or_fresh(message.request_id.as_deref()),
            };
            Message::Event(event, streamed)
        }
        Err(error) => {
            let reply = Reply::exception("BadTarget", &error.to_string(), "").with_status(400);
            Message::BadEvent(reply, streamed)
        }
    }
}

fn read_headers(headers: Vec<pb::Header<'_>>) -> Vec<(String, String)> {
    header::forwardable(headers.into_iter().map(|header| (header.name, header.value)))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn reply(message: pb::EventReply<'_>) -> Reply {
    Reply {
        code: message.code,
        // Our own kind sends no long one.
        media_type: owned(message.mimetype.filter(|text| !is_long(Some(text)))),
        body: Body::from(message.data.into_owned()),
        status: message.status.and_then(|status| u16::try_from(status).ok()),
        headers: read_headers(message.headers),
    }
}

fn is_long(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|media_type| media_type.len() > MAX_MEDIA_TYPE)
}

fn owned(text: Option<Cow<'_, str>>) -> String {
    text.map(Cow::into_owned).unwrap_or_default()
}
