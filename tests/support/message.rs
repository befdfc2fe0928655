//! Handmade messages, so that a bug in the library's `wire` cannot hide itself.

pub const HEARTBEAT: u8 = 0x01;
pub const EVENT: u8 = 0x02;
pub const HEARTBEAT_REPLY: u8 = 0x80;
pub const REPLY: u8 = 0x81;

/// Any message.
pub fn message(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A heartbeat of the original.
pub fn heartbeat(id: u32) -> Vec<u8> {
    message(HEARTBEAT, id, &[8, 1])
}

/// The original's answer to one.
pub fn heartbeat_reply(id: u32) -> Vec<u8> {
    message(HEARTBEAT_REPLY, id, &[8, 1])
}

/// An event of the original without a media type.
pub fn event(id: u32, verb: &str, noun: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![8, 1];
    for (field, bytes) in [(2, verb.as_bytes()), (3, noun.as_bytes()), (4, b""), (5, data)] {
        push_bytes(&mut body, field, bytes);
    }
    message(EVENT, id, &body)
}

/// A reply of the original.
pub fn reply(id: u32, media_type: &str, code: u64, data: &[u8]) -> Vec<u8> {
    let mut body = vec![8, 1];
    push_bytes(&mut body, 2, media_type.as_bytes());
    body.push(3 << 3);
    push_number(&mut body, code);
    push_bytes(&mut body, 4, data);
    message(REPLY, id, &body)
}

fn push_bytes(body: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    body.push(field << 3 | 2);
    push_number(body, bytes.len() as u64);
    body.extend_from_slice(bytes);
}

fn push_number(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

/// Messages that break the protocol, and the log text for each.
pub fn broken_messages() -> Vec<(Vec<u8>, &'static str)> {
    let with_header = |kind, flags, length: u32| {
        let mut bytes = vec![kind, flags];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 7]);
        bytes
    };
    // A 16 MB reply that repeats one field in its shortest form.
    let repeated = |field: &[u8]| {
        let mut body = b"\x08\x01\x18\x00\x22\x00".to_vec();
        body.extend_from_slice(&field.repeat((16 << 20) / field.len()));
        message(REPLY, 7, &body)
    };
    vec![
        (with_header(EVENT, 0, u32::MAX), "message of 4294967295 bytes announced"),
        (with_header(EVENT, 0, (16 << 20) + (64 << 10) + 1), "message of 16842753 bytes announced"),
        (with_header(HEARTBEAT, 0, 1025), "message of 1025 bytes announced, the most is 1024"),
        (with_header(0x7f, 0, 0), "message of unknown type 0x7f"),
        (with_header(HEARTBEAT, 1, 2), "message with unknown flags 0x01"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "message of unknown type 0x47"),
        (vec![0xff; 100_000], "message of unknown type 0xff"),
        (message(HEARTBEAT, 7, b""), "malformed message: required field missing"),
        (message(HEARTBEAT, 7, b"\x08\x02"), "message of unknown version 2"),
        (message(HEARTBEAT, 7, b"\x08\xff"), "malformed message: unfinished number"),
        (
            message(EVENT, 7, b"\x08\x01\x12\x7fget"),
            "malformed message: field longer than its message",
        ),
        // A header that fills the message, with a name that runs past its end.
        (
            message(REPLY, 7, b"\x08\x01\x18\x00\x22\x00\x8a\x01\x05\x0a\x20a\x12\x00"),
            "malformed message: field longer than its message",
        ),
        (
            message(EVENT, 7, b"\x08\x01\x12\x03get\x1a\x02\xff\xfe"),
            "malformed message: text that is not UTF-8",
        ),
        (message(EVENT, 7, b"\x08\x01\x13"), "malformed message: unknown wire type"),
        // Headers without and with a name and a value, and a media type.
        (repeated(b"\x8a\x01\x00"), "malformed message: required field missing"),
        (repeated(b"\x8a\x01\x04\x0a\x00\x12\x00"), "malformed message: too many fields"),
        (repeated(b"\x12\x00"), "malformed message: too many fields"),
        // The others arrive in the same record, while the first is being handled.
        (event(7, "get", "time", b"").repeat(300), "event with id 7 while that id is in use"),
    ]
}
