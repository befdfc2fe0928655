//! The decoded messages. The submodules encode and decode them.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::{
    Payload, encode_drain, encode_event, encode_goodbye, encode_heartbeat, encode_heartbeat_reply,
    encode_reply,
};

use super::{DrainNotice, Goodbye, Piece, StreamSide};
use crate::event::{Event, Reply};

/// The protocol version in every message.
const VERSION: u32 = 1;

/// Where the rest of a decoded message is: `Some` if its body follows in pieces, with the length if
/// known.
pub type Streamed = Option<Option<u64>>;

/// A decoded message.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// A heartbeat, to be answered with the same id.
    Heartbeat(Heartbeat),
    /// The peer closes the connection and says why.
    Goodbye(Goodbye),
    /// The peer is stopping, or acknowledges that this node is.
    Drain(DrainNotice),
    /// The reply to a heartbeat.
    HeartbeatReply {
        /// The peer's extensions, as bits.
        extensions: u32,
        /// Maximum bytes of data that the peer accepts.
        max_data: Option<u32>,
    },
    /// A request. Its body is empty if it follows in pieces.
    Event(Event, Streamed),
    /// A request that cannot be passed to a handler, with the reply to send.
    BadEvent(Reply, Streamed),
    /// The reply to one of our requests. Its body is empty if it follows in pieces.
    Reply(Reply, Streamed),
    /// A frame about a body in pieces.
    Stream(Piece, StreamSide),
}

/// The content of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The peer's extensions, as bits.
    pub extensions: u32,
    /// The peer's silence limit in milliseconds, after which it is considered dead.
    pub silence_ms: Option<u32>,
    /// Maximum bytes of data that the peer accepts.
    pub max_data: Option<u32>,
    /// The client's older connection is still open, and the client closes it.
    pub takes_over: bool,
    /// Round-trip time of the previous heartbeat, in microseconds.
    pub round_trip_us: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, RequestId, Verb};
    use crate::wire::{
        Capabilities, EXTENSIONS, Frame, FrameDecoder, FrameLimits, GoodbyeReason, HEADER_BYTES,
        Kind, Unsendable,
    };

    const EXTENDED: Capabilities =
        Capabilities { extended: true, streams: true, drain: true, max_data: 1 << 20 };
    const ORIGINAL: Capabilities = Capabilities::original(1 << 20);

    fn whole(body: &Body) -> Payload<'_> {
        Payload::Whole(body.whole().unwrap())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    fn decode_bytes(bytes: &[u8]) -> (u32, Message) {
        let mut decoder = FrameDecoder::new(FrameLimits { max_data: 1 << 20 });
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
        let (id, Message::Event(seen, None)) = decode_bytes(&bytes) else { panic!("no event") };
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
        let Message::Reply(value, None) = incoming else { panic!("{incoming:?}") };
        assert_eq!((id, value.code), (0xde94e3ed, 0));
        assert_eq!(value.media_type, "application/json");
        assert_eq!(encode_reply(id, &value, whole(&value.body), ORIGINAL).unwrap(), reply);

        let unhandled = hex("810000000013de94e3ed0801120a746578742f706c61696e18ff012200");
        let (id, incoming) = decode_bytes(&unhandled);
        assert_eq!(incoming, Message::Reply(Reply::unhandled(), None));
        assert_eq!(
            encode_reply(id, &Reply::unhandled(), Payload::Whole(b""), ORIGINAL).unwrap(),
            unhandled
        );

        assert_eq!(
            decode_bytes(&hex("010000000002f7074de50801")),
            (
                0xf7074de5,
                Message::Heartbeat(Heartbeat {
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
            Message::HeartbeatReply { extensions: 0, max_data: None }
        );
    }

    #[test]
    fn an_original_peer_gets_media_types_as_it_knows_them() {
        for (given, expected) in [
            ("application/json; charset=utf-8", "application/json"),
            ("Application/JSON;charset=utf-8", "application/json"),
            ("text/plain ; a=\"\u{e4};\"", "text/plain"),
            ("text/html", "text/html"),
            ("", ""),
        ] {
            let mut event = Event::new(Verb::Post, "x").unwrap();
            event.media_type = given.to_owned();
            let mut reply = Reply::unhandled();
            reply.media_type = given.to_owned();
            for (capabilities, expected) in [(ORIGINAL, expected), (EXTENDED, given)] {
                let bytes = encode_event(1, &event, Payload::Whole(b"{}"), capabilities).unwrap();
                let Message::Event(seen, _) = decode_bytes(&bytes).1 else { panic!("no event") };
                assert_eq!(seen.media_type, expected);
                let bytes = encode_reply(1, &reply, Payload::Whole(b"{}"), capabilities).unwrap();
                let Message::Reply(seen, _) = decode_bytes(&bytes).1 else { panic!("no reply") };
                assert_eq!(seen.media_type, expected);
            }
        }
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
            (7, Message::Heartbeat(heartbeat))
        );
        assert_eq!(
            decode_bytes(&encode_heartbeat_reply(7, 5)),
            (7, Message::HeartbeatReply { extensions: EXTENSIONS, max_data: Some(5) })
        );
    }

    #[test]
    fn an_orderly_end_is_told_both_ways_and_keeps_nobody_away_for_long() {
        let spread = std::time::Duration::from_millis(1500);
        for leaving in [DrainNotice::Draining { spread }, DrainNotice::Drained] {
            for from_client in [true, false] {
                let bytes = encode_drain(from_client, 3, leaving);
                assert_eq!(decode_bytes(&bytes), (3, Message::Drain(leaving)));
            }
        }
        let long = DrainNotice::Draining { spread: spread * 1000 };
        let spread = std::time::Duration::from_secs(60);
        assert_eq!(
            decode_bytes(&encode_drain(false, 3, long)),
            (3, Message::Drain(DrainNotice::Draining { spread }))
        );
    }

    #[test]
    fn a_goodbye_arrives_whichever_side_says_it() {
        let goodbye =
            Goodbye { reason: GoodbyeReason::Certificate, text: "it is revoked".to_owned() };
        for from_client in [true, false] {
            let bytes = encode_goodbye(from_client, 3, &goodbye);
            assert_eq!(decode_bytes(&bytes), (3, Message::Goodbye(goodbye.clone())));
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
        let Message::Event(seen, None) = decode_bytes(&bytes).1 else { panic!("no event") };
        assert_eq!(seen, event);
        assert_eq!(
            encode_event(9, &event, whole(&event.body), ORIGINAL),
            Err(Unsendable::NotSevenBit("the body"))
        );

        event.body = Body::empty();
        let Message::Event(seen, None) =
            decode_bytes(&encode_event(9, &event, whole(&event.body), ORIGINAL).unwrap()).1
        else {
            panic!("no event")
        };
        assert_eq!(seen.target.parameters(), ["a", "b"], "the original knows no other split");

        let reply = Reply::wrong_verb(&[Verb::Get]);
        let bytes = encode_reply(9, &reply, whole(&reply.body), EXTENDED).unwrap();
        assert_eq!(decode_bytes(&bytes).1, Message::Reply(reply, None));
    }

    #[test]
    fn any_bytes_of_a_header_survive_and_one_that_is_none_is_an_error() {
        let bytes: Vec<u8> = (0x20..=0xff).filter(|byte| *byte != 0x7f).collect();
        let value = crate::event::header::from_bytes(&bytes).into_owned();
        let mut event = Event::new(Verb::Get, "x").unwrap();
        event.headers = vec![("X-A".into(), value), ("Connection".into(), "close".into())];
        let bytes = encode_event(9, &event, whole(&event.body), EXTENDED).unwrap();
        let Message::Event(seen, None) = decode_bytes(&bytes).1 else { panic!("no event") };
        assert_eq!(seen.headers, event.headers[..1]);
        for (name, value) in [("X-A", "a\nb"), ("X A", "a"), ("X-A", "\u{100}")] {
            event.headers = vec![(name.into(), value.into())];
            let encoded = encode_event(9, &event, whole(&event.body), EXTENDED);
            assert_eq!(encoded, Err(Unsendable::Headers), "{name} {value:?}");
            assert!(encode_event(9, &event, whole(&event.body), ORIGINAL).is_ok());
        }
    }

    #[test]
    fn as_many_headers_arrive_as_may_be_sent() {
        let headers = vec![("X".to_owned(), "y".to_owned()); crate::event::header::MAX_FIELDS];
        let mut event = Event::new(Verb::Put, "x?y").unwrap();
        event.media_type = "a/b".to_owned();
        event.headers.clone_from(&headers);
        event.head_only = true;
        let bytes = encode_event(9, &event, Payload::Streamed(Some(1)), EXTENDED).unwrap();
        let Message::Event(seen, Some(Some(1))) = decode_bytes(&bytes).1 else { panic!() };
        assert_eq!(seen.headers, headers);
        let mut reply = Reply::new("a/b", "").with_status(200);
        reply.headers.clone_from(&headers);
        let bytes = encode_reply(9, &reply, Payload::Streamed(Some(1)), EXTENDED).unwrap();
        let Message::Reply(seen, Some(Some(1))) = decode_bytes(&bytes).1 else { panic!() };
        assert_eq!(seen.headers, headers);
        event.headers.push(("X".to_owned(), "y".to_owned()));
        let encoded = encode_event(9, &event, Payload::Streamed(Some(1)), EXTENDED);
        assert_eq!(encoded, Err(Unsendable::Headers));
    }

    #[test]
    fn a_body_in_pieces_is_announced() {
        let event = Event::new(Verb::Put, "x").unwrap();
        for length in [None, Some(1 << 40)] {
            let bytes = encode_event(9, &event, Payload::Streamed(length), EXTENDED).unwrap();
            let Message::Event(_, seen) = decode_bytes(&bytes).1 else { panic!("no event") };
            assert_eq!(seen, Some(length));
            let reply = Reply::new("a/b", "");
            let bytes = encode_reply(9, &reply, Payload::Streamed(length), EXTENDED).unwrap();
            assert_eq!(decode_bytes(&bytes).1, Message::Reply(reply, Some(length)));
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
        assert_eq!(decode_bytes(&bytes).1, Message::Event(event, None));
        for bad in
            [b"\xa2\x01\x09My-Id\n1.2".as_slice(), b"\xa2\x01\x09My-Id\xc3\xa41 ", b"\xa2\x01\x00"]
        {
            let mut bytes = hex(RECORDED_EVENT);
            bytes.extend_from_slice(bad);
            bytes[5] = u8::try_from(bytes.len() - HEADER_BYTES).unwrap();
            let Message::Event(event, None) = decode_bytes(&bytes).1 else { panic!("no event") };
            let id = event.request_id.as_str();
            assert!(id.len() == 16 && !id.starts_with("My-Id"), "{id}");
        }
    }

    #[test]
    fn nothing_longer_than_the_peer_takes_is_sent() {
        let capabilities = Capabilities { extended: true, streams: true, drain: true, max_data: 3 };
        let refused = Unsendable::TooLarge { length: 4, most: 3 };
        let mut event = Event::new(Verb::Put, "x").unwrap();
        event.body = vec![0; 4].into();
        assert_eq!(encode_event(1, &event, whole(&event.body), capabilities), Err(refused));
        assert_eq!(
            encode_reply(1, &Reply::from("four"), Payload::Whole(b"four"), capabilities),
            Err(refused)
        );
    }

    #[test]
    fn the_target_arrives_as_it_was_sent() {
        for raw in ["", "//", "a//", "a///b/", "?q", "a%2Fb//%2e%zz?x=%20", "//a"] {
            let event = Event::new(Verb::Get, raw).unwrap();
            let bytes = encode_event(9, &event, whole(&event.body), EXTENDED).unwrap();
            let Message::Event(seen, None) = decode_bytes(&bytes).1 else { panic!("no event") };
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
            let Message::BadEvent(reply, None) = decode_bytes(&hex(bytes)).1 else {
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
            encode_goodbye(
                true,
                9,
                &Goodbye { reason: GoodbyeReason::DuplicateIdentity, text: "x".into() },
            ),
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
