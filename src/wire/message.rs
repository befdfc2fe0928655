//! Messages: from frames to values and back.

use std::borrow::Cow;
use std::fmt;

use quick_protobuf::{BytesReader, BytesWriter, MessageRead, MessageWrite, Writer};

use super::bounds::{self, Shape};
use super::frame::header as frame_header;
use super::pb::restpipe as pb;
use super::{Frame, Goodbye, HEADER_BYTES, Kind, Leaving, Piece, Side, WireError};
use crate::event::{Body, Event, Reply, RequestId, Target, Verb, header};

/// The version in every message.
const VERSION: u32 = 1;
/// What this program understands beside the original's messages, as announced in heartbeats.
pub const EXTENSIONS: u32 = EXTENDED | STREAMS | LEAVING;
/// Fields from 16 on, any bytes, several messages in a record.
const EXTENDED: u32 = 1;
/// Bodies in pieces.
const STREAMS: u32 = 2;
/// `leaving_ms` and `settled`.
const LEAVING: u32 = 4;

/// What may be said to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether the peer has announced that it knows the fields from 16 on. Towards one that has not:
    /// 7-bit data only, and one message to a TLS record.
    pub extended: bool,
    /// Whether it takes bodies in pieces.
    pub streams: bool,
    /// Whether it is told before this node stops.
    pub leaving: bool,
    /// Most bytes of data it takes.
    pub max_data: usize,
}

impl Terms {
    /// The terms for a peer that announced this. `own_max` holds where it named no limit.
    pub fn announced(extensions: u32, max_data: Option<u32>, own_max: usize) -> Self {
        let has = |bits| extensions & bits == bits;
        Self {
            extended: extensions & EXTENDED != 0,
            streams: has(EXTENDED | STREAMS),
            leaving: has(EXTENDED | LEAVING),
            max_data: max_data.map_or(own_max, |max| max as usize),
        }
    }

    /// What holds before a peer has announced anything.
    pub const fn original(own_max: usize) -> Self {
        Self { extended: false, streams: false, leaving: false, max_data: own_max }
    }

    fn admit(self, parts: &[(&'static str, &[u8])], data: &[u8]) -> Result<(), Refused> {
        if data.len() > self.max_data {
            return Err(Refused::TooLarge { length: data.len(), most: self.max_data });
        }
        if !self.extended
            && let Some((what, _)) = parts.iter().find(|(_, bytes)| !bytes.is_ascii())
        {
            return Err(Refused::NotSevenBit(what));
        }
        Ok(())
    }
}

/// Why a message cannot be sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The peer is an original RestPipe, and this (path, media type, body) has bytes above 127, on
    /// which it would die.
    NotSevenBit(&'static str),
    /// The peer is an original RestPipe, which carries no connections.
    NoConnections,
    /// The peer takes no body of this length.
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The longest that the peer takes.
        most: usize,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSevenBit(what) => {
                write!(f, "{what} has bytes that an original RestPipe cannot take")
            }
            Self::NoConnections => write!(f, "an original RestPipe carries no connections"),
            Self::TooLarge { length, most } => {
                write!(f, "a body of {length} bytes is more than the peer takes ({most})")
            }
        }
    }
}

/// A body as its message has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Inside the message.
    Whole(&'a [u8]),
    /// After it, in pieces; its length where that is known.
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

/// Where the rest of a decoded message is: `Some` when its body follows in pieces, with its length
/// where that is known.
pub type Streamed = Option<Option<u64>>;

/// A decoded message.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// A sign of life, to be answered with its id.
    Heartbeat(Heartbeat),
    /// The peer closes the connection, and says why.
    Goodbye(Goodbye),
    /// The peer is about to stop, or has understood that this node is.
    Leaving(Leaving),
    /// The answer to a sign of life.
    HeartbeatReply {
        /// The extensions that the peer announces, as bits.
        extensions: u32,
        /// The most bytes of data it takes.
        max_data: Option<u32>,
    },
    /// A request. Its body is empty where it follows in pieces.
    Event(Event, Streamed),
    /// A request that no handler can be asked about; this is its reply.
    BadEvent(Reply, Streamed),
    /// The answer to one of ours. Its body is empty where it follows in pieces.
    Reply(Reply, Streamed),
    /// Part of a body, or about one.
    Stream(Piece, Side),
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The extensions that the peer announces, as bits.
    pub extensions: u32,
    /// For how many milliseconds it may be silent before it is to be taken for dead.
    pub silence_ms: Option<u32>,
    /// The most bytes of data it takes.
    pub max_data: Option<u32>,
    /// The client's older connection still stands, and the client ends it.
    pub takes_over: bool,
    /// How long the answer to the one before took, in microseconds.
    pub round_trip_us: Option<u32>,
}

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
pub fn decode(frame: &Frame<'_>) -> Result<Incoming, WireError> {
    match frame.kind {
        Kind::Heartbeat => {
            let message: pb::Heartbeat = read(frame.body, &HEARTBEAT)?;
            version(message.version)?;
            if let Some(goodbye) = Goodbye::announced(message.closing, message.closing_text) {
                return Ok(Incoming::Goodbye(goodbye));
            }
            if let Some(leaving) = Leaving::read(message.leaving_ms, message.settled) {
                return Ok(Incoming::Leaving(leaving));
            }
            Ok(Incoming::Heartbeat(Heartbeat {
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
            if let Some(goodbye) = Goodbye::announced(message.closing, message.closing_text) {
                return Ok(Incoming::Goodbye(goodbye));
            }
            if let Some(leaving) = Leaving::read(message.leaving_ms, message.settled) {
                return Ok(Incoming::Leaving(leaving));
            }
            Ok(Incoming::HeartbeatReply {
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
            Ok(Incoming::Reply(reply(message), streamed))
        }
        Kind::Stream(piece, side) => Ok(Incoming::Stream(piece, side)),
    }
}

fn read<'a, M: MessageRead<'a>>(body: &'a [u8], shape: &Shape) -> Result<M, WireError> {
    bounds::check(body, shape)?;
    M::from_reader(&mut BytesReader::from_bytes(body), body)
        .map_err(|_| WireError::Malformed("text that is not UTF-8"))
}

const fn version(version: u32) -> Result<(), WireError> {
    if version == VERSION { Ok(()) } else { Err(WireError::Version(version)) }
}

fn event(message: pb::Event<'_>) -> Incoming {
    let streamed = message.stream.unwrap_or(false).then_some(message.length);
    let Some(verb) = Verb::parse(&message.verb) else {
        return Incoming::BadEvent(Reply::unhandled(), streamed);
    };
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
            Incoming::Event(event, streamed)
        }
        Err(error) => {
            let reply = Reply::exception("BadTarget", &error.to_string(), "").with_status(400);
            Incoming::BadEvent(reply, streamed)
        }
    }
}

fn read_headers(headers: Vec<pb::Header<'_>>) -> Vec<(String, String)> {
    header::crossing(headers.into_iter().map(|header| (header.name, header.value)))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn write_headers(headers: &[(String, String)]) -> Vec<pb::Header<'_>> {
    header::crossing(headers.iter().map(|(name, value)| (name, value)))
        .map(|(name, value)| pb::Header { name: Cow::Borrowed(name), value: Cow::Borrowed(value) })
        .collect()
}

fn reply(message: pb::EventReply<'_>) -> Reply {
    Reply {
        code: message.code,
        media_type: owned(message.mimetype),
        body: Body::from(message.data.into_owned()),
        status: message.status.and_then(|status| u16::try_from(status).ok()),
        headers: read_headers(message.headers),
    }
}

fn owned(text: Option<Cow<'_, str>>) -> String {
    text.map(Cow::into_owned).unwrap_or_default()
}

/// A heartbeat, whole with its header.
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

/// The answer to the heartbeat of this id.
pub fn encode_heartbeat_reply(id: u32, max_data: u32) -> Vec<u8> {
    let message = pb::HeartbeatReply {
        version: VERSION,
        extensions: Some(EXTENSIONS),
        max_data: Some(max_data),
        ..pb::HeartbeatReply::default()
    };
    encode(Kind::HeartbeatReply, id, &message)
}

/// The last message of a connection: why it is closed. A client says it in a heartbeat, a server in
/// the reply to one, for these are what the other side takes at any time.
pub fn encode_goodbye(from_client: bool, id: u32, goodbye: &Goodbye) -> Vec<u8> {
    let closing = Some(goodbye.reason.code());
    let closing_text = Some(Cow::Borrowed(goodbye.text.as_str()));
    if from_client {
        let message =
            pb::Heartbeat { version: VERSION, closing, closing_text, ..Default::default() };
        encode(Kind::Heartbeat, id, &message)
    } else {
        let message =
            pb::HeartbeatReply { version: VERSION, closing, closing_text, ..Default::default() };
        encode(Kind::HeartbeatReply, id, &message)
    }
}

/// One side's part in an orderly end, as [`encode_goodbye`] has it.
pub fn encode_leaving(from_client: bool, id: u32, leaving: Leaving) -> Vec<u8> {
    let (leaving_ms, settled) = leaving.fields();
    if from_client {
        let message = pb::Heartbeat { version: VERSION, leaving_ms, settled, ..Default::default() };
        encode(Kind::Heartbeat, id, &message)
    } else {
        let message =
            pb::HeartbeatReply { version: VERSION, leaving_ms, settled, ..Default::default() };
        encode(Kind::HeartbeatReply, id, &message)
    }
}

/// An event, whole with its header. Its body is `payload`, whatever `event` has.
pub fn encode_event(
    id: u32,
    event: &Event,
    payload: Payload<'_>,
    terms: Terms,
) -> Result<Vec<u8>, Refused> {
    let noun = event.target.decoded();
    terms.admit(
        &[
            ("the path", noun.as_bytes()),
            ("the media type", event.media_type.as_bytes()),
            ("the body", payload.data()),
        ],
        payload.data(),
    )?;
    let (stream, length) = payload.stream();
    let message = pb::Event {
        version: VERSION,
        verb: Cow::Borrowed(event.verb.as_str()),
        noun,
        mimetype: Some(Cow::Borrowed(&event.media_type)),
        data: Some(Cow::Borrowed(payload.data())),
        target: event.target.raw().filter(|_| terms.extended).map(Cow::Borrowed),
        request_id: terms.extended.then(|| Cow::Borrowed(event.request_id.as_str())),
        headers: if terms.extended { write_headers(&event.headers) } else { Vec::new() },
        stream,
        length,
        head_only: (terms.extended && event.head_only).then_some(true),
    };
    Ok(encode(Kind::Event, id, &message))
}

/// The reply to the event of this id. Its body is `payload`, whatever `reply` has.
pub fn encode_reply(
    id: u32,
    reply: &Reply,
    payload: Payload<'_>,
    terms: Terms,
) -> Result<Vec<u8>, Refused> {
    terms.admit(
        &[
            ("the reply's media type", reply.media_type.as_bytes()),
            ("the reply's body", payload.data()),
        ],
        payload.data(),
    )?;
    let (stream, length) = payload.stream();
    let mut message = pb::EventReply {
        version: VERSION,
        mimetype: Some(Cow::Borrowed(&reply.media_type)),
        code: reply.code,
        data: Cow::Borrowed(payload.data()),
        status: None,
        headers: Vec::new(),
        stream,
        length,
    };
    if terms.extended {
        message.status = reply.status.map(u32::from);
        message.headers = write_headers(&reply.headers);
    }
    Ok(encode(Kind::EventReply, id, &message))
}

fn encode(kind: Kind, id: u32, message: &impl MessageWrite) -> Vec<u8> {
    let length = message.get_size();
    let mut bytes = vec![0; HEADER_BYTES + length];
    bytes[..HEADER_BYTES].copy_from_slice(&frame_header(kind, length, id));
    let mut writer = Writer::new(BytesWriter::new(&mut bytes[HEADER_BYTES..]));
    message.write_message(&mut writer).expect("the buffer has the size that the message gave");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Decoder, GoodbyeReason, Limits};

    const EXTENDED: Terms =
        Terms { extended: true, streams: true, leaving: true, max_data: 1 << 20 };
    const ORIGINAL: Terms = Terms::original(1 << 20);

    fn whole(body: &Body) -> Payload<'_> {
        Payload::Whole(body.whole().unwrap())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    fn decode_bytes(bytes: &[u8]) -> (u32, Incoming) {
        let mut decoder = Decoder::new(Limits { max_data: 1 << 20 });
        decoder.buffer().extend_from_slice(bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        (frame.id, decode(&frame).unwrap())
    }

    /// `GET time`, as recorded from the original.
    const RECORDED_EVENT: &str = "020000000011de94e3ed080112036765741a0474696d6522002a00";

    #[test]
    fn an_event_is_encoded_as_recorded() {
        let mut event = Event::new(Verb::Get, "time").unwrap();
        let bytes = encode_event(0xde94e3ed, &event, whole(&event.body), ORIGINAL).unwrap();
        assert_eq!(bytes, hex(RECORDED_EVENT));
        let (id, Incoming::Event(seen, None)) = decode_bytes(&bytes) else { panic!("no event") };
        assert_ne!(seen.request_id, event.request_id, "it gets one of the receiver's");
        event.request_id = seen.request_id;
        assert_eq!((id, seen), (0xde94e3ed, event));
    }

    #[test]
    fn recorded_replies_and_heartbeats_are_read() {
        let mut reply =
            hex("81000000003ede94e3ed0801 1210 6170706c69636174696f6e2f6a736f6e 1800 2226");
        reply.extend_from_slice(br#"{"time_from_server": 1795158476.29699}"#);
        let (id, incoming) = decode_bytes(&reply);
        let Incoming::Reply(value, None) = incoming else { panic!("{incoming:?}") };
        assert_eq!((id, value.code), (0xde94e3ed, 0));
        assert_eq!(value.media_type, "application/json");
        assert_eq!(encode_reply(id, &value, whole(&value.body), ORIGINAL).unwrap(), reply);

        let unhandled = hex("810000000013de94e3ed0801120a746578742f706c61696e18ff012200");
        let (id, incoming) = decode_bytes(&unhandled);
        assert_eq!(incoming, Incoming::Reply(Reply::unhandled(), None));
        assert_eq!(
            encode_reply(id, &Reply::unhandled(), Payload::Whole(b""), ORIGINAL).unwrap(),
            unhandled
        );

        assert_eq!(
            decode_bytes(&hex("010000000002f7074de50801")),
            (
                0xf7074de5,
                Incoming::Heartbeat(Heartbeat {
                    extensions: 0,
                    silence_ms: None,
                    max_data: None,
                    takes_over: false,
                    round_trip_us: None,
                })
            )
        );
        assert_eq!(
            decode_bytes(&hex("800000000002f7074de50801")).1,
            Incoming::HeartbeatReply { extensions: 0, max_data: None }
        );
    }

    #[test]
    fn heartbeats_announce_and_are_understood() {
        let heartbeat = Heartbeat {
            extensions: EXTENSIONS,
            silence_ms: Some(10_000),
            max_data: Some(5),
            takes_over: true,
            round_trip_us: Some(1234),
        };
        assert_eq!(
            decode_bytes(&encode_heartbeat(7, heartbeat)),
            (7, Incoming::Heartbeat(heartbeat))
        );
        assert_eq!(
            decode_bytes(&encode_heartbeat_reply(7, 5)),
            (7, Incoming::HeartbeatReply { extensions: EXTENSIONS, max_data: Some(5) })
        );
    }

    #[test]
    fn an_orderly_end_is_told_both_ways_and_keeps_nobody_away_for_long() {
        let spread = std::time::Duration::from_millis(1500);
        for leaving in [Leaving::Announced { spread }, Leaving::Settled] {
            for from_client in [true, false] {
                let bytes = encode_leaving(from_client, 3, leaving);
                assert_eq!(decode_bytes(&bytes), (3, Incoming::Leaving(leaving)));
            }
        }
        let long = Leaving::Announced { spread: spread * 1000 };
        let spread = std::time::Duration::from_secs(60);
        assert_eq!(
            decode_bytes(&encode_leaving(false, 3, long)),
            (3, Incoming::Leaving(Leaving::Announced { spread }))
        );
    }

    #[test]
    fn a_goodbye_arrives_whichever_side_says_it() {
        let goodbye =
            Goodbye { reason: GoodbyeReason::Certificate, text: "it is revoked".to_owned() };
        for from_client in [true, false] {
            let bytes = encode_goodbye(from_client, 3, &goodbye);
            assert_eq!(decode_bytes(&bytes), (3, Incoming::Goodbye(goodbye.clone())));
        }
        let long = Goodbye { text: "ä".repeat(5000), ..goodbye };
        let bytes = encode_goodbye(true, 3, &long.bounded());
        assert!(bytes.len() < 600, "{}", bytes.len());
        decode_bytes(&bytes);
    }

    #[test]
    fn what_extensions_carry_survives_and_is_kept_from_an_original() {
        let mut event = Event::new(Verb::Post, "cat//a%2Fb?q=1").unwrap();
        event.body = (0..=255).collect::<Vec<u8>>().into();
        event.headers = vec![("X-A".into(), "b".into())];
        let bytes = encode_event(9, &event, whole(&event.body), EXTENDED).unwrap();
        let Incoming::Event(seen, None) = decode_bytes(&bytes).1 else { panic!("no event") };
        assert_eq!(seen, event);
        assert_eq!(
            encode_event(9, &event, whole(&event.body), ORIGINAL),
            Err(Refused::NotSevenBit("the body"))
        );

        event.body = Body::empty();
        let Incoming::Event(seen, None) =
            decode_bytes(&encode_event(9, &event, whole(&event.body), ORIGINAL).unwrap()).1
        else {
            panic!("no event")
        };
        assert_eq!(seen.target.parameters(), ["a", "b"], "the original knows no other split");

        let reply = Reply::wrong_verb(&[Verb::Get]);
        let bytes = encode_reply(9, &reply, whole(&reply.body), EXTENDED).unwrap();
        assert_eq!(decode_bytes(&bytes).1, Incoming::Reply(reply, None));
    }

    #[test]
    fn a_body_in_pieces_is_announced() {
        let event = Event::new(Verb::Put, "x").unwrap();
        for length in [None, Some(1 << 40)] {
            let bytes = encode_event(9, &event, Payload::Streamed(length), EXTENDED).unwrap();
            let Incoming::Event(_, seen) = decode_bytes(&bytes).1 else { panic!("no event") };
            assert_eq!(seen, Some(length));
            let reply = Reply::new("a/b", "");
            let bytes = encode_reply(9, &reply, Payload::Streamed(length), EXTENDED).unwrap();
            assert_eq!(decode_bytes(&bytes).1, Incoming::Reply(reply, Some(length)));
        }
    }

    #[test]
    fn a_request_id_is_carried_where_it_is_clean() {
        let mut event = Event::new(Verb::Get, "time").unwrap();
        event.request_id = RequestId::parse("My-Id_1.2").unwrap();
        let bytes = encode_event(0xde94e3ed, &event, whole(&event.body), EXTENDED).unwrap();
        let expected = hex(&RECORDED_EVENT.replace("0011de", "001dde")) // twelve bytes more
            .into_iter()
            .chain(*b"\xa2\x01\x09My-Id_1.2")
            .collect::<Vec<u8>>();
        assert_eq!(bytes, expected);
        assert_eq!(decode_bytes(&bytes).1, Incoming::Event(event, None));
        for bad in
            [b"\xa2\x01\x09My-Id\n1.2".as_slice(), b"\xa2\x01\x09My-Id\xc3\xa41 ", b"\xa2\x01\x00"]
        {
            let mut bytes = hex(RECORDED_EVENT);
            bytes.extend_from_slice(bad);
            bytes[5] = u8::try_from(bytes.len() - HEADER_BYTES).unwrap();
            let Incoming::Event(event, None) = decode_bytes(&bytes).1 else { panic!("no event") };
            let id = event.request_id.as_str();
            assert!(id.len() == 16 && !id.starts_with("My-Id"), "{id}");
        }
    }

    #[test]
    fn nothing_longer_than_the_peer_takes_is_sent() {
        let terms = Terms { extended: true, streams: true, leaving: true, max_data: 3 };
        let refused = Refused::TooLarge { length: 4, most: 3 };
        let mut event = Event::new(Verb::Put, "x").unwrap();
        event.body = vec![0; 4].into();
        assert_eq!(encode_event(1, &event, whole(&event.body), terms), Err(refused));
        assert_eq!(
            encode_reply(1, &Reply::from("four"), Payload::Whole(b"four"), terms),
            Err(refused)
        );
    }

    #[test]
    fn the_target_arrives_as_it_was_sent() {
        for raw in ["", "//", "a//", "a///b/", "?q", "a%2Fb//%2e%zz?x=%20", "//a"] {
            let event = Event::new(Verb::Get, raw).unwrap();
            let bytes = encode_event(9, &event, whole(&event.body), EXTENDED).unwrap();
            let Incoming::Event(seen, None) = decode_bytes(&bytes).1 else { panic!("no event") };
            assert_eq!(seen.target.raw().unwrap_or(&seen.target.decoded()), raw);
            assert_eq!(seen, event);
        }
    }

    #[test]
    fn an_event_that_names_nothing_is_answered_not_punished() {
        // verb "head", noun "time"; verb "get", noun "", target "%ff"
        for (bytes, status) in [
            ("02000000000e00000001 0801 1204 68656164 1a04 74696d65", None),
            ("02000000000f00000001 0801 1203 676574 1a00 820103 256666", Some(400)),
        ] {
            let Incoming::BadEvent(reply, None) = decode_bytes(&hex(bytes)).1 else {
                panic!("{bytes}")
            };
            assert_eq!(reply.status, status);
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut event = Event::new(Verb::Post, "cat//a%2Fb?q=1").unwrap();
        event.body = vec![0xff; 300].into();
        let samples = [
            encode_event(9, &event, whole(&event.body), EXTENDED).unwrap(),
            encode_reply(9, &Reply::wrong_verb(&Verb::ALL), Payload::Streamed(Some(9)), EXTENDED)
                .unwrap(),
            encode_heartbeat(
                9,
                Heartbeat {
                    extensions: 1,
                    silence_ms: Some(1),
                    max_data: None,
                    takes_over: true,
                    round_trip_us: Some(1),
                },
            ),
            encode_goodbye(true, 9, &Goodbye { reason: GoodbyeReason::Rival, text: "x".into() }),
        ];
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..60_000 {
            let mut bytes = samples[round % samples.len()].clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(..=bytes.len()));
            let kinds = [Kind::Event, Kind::EventReply, Kind::Heartbeat, Kind::Heartbeat];
            let kind = kinds[round % samples.len()];
            let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
            let _ = decode(&Frame { kind, id: 1, body });
        }
    }
}
