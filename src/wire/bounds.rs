//! Validates a protobuf message before it is decoded.
//!
//! quick-protobuf trusts nested lengths (one that overruns its parent causes a panic or a read of
//! adjacent fields), accepts any number of repeated fields (16 MB of empty ones become 384 MB), and
//! ignores missing required fields. Therefore this pass walks tags and lengths first, with bounds
//! checks, and counts fields.

use super::WireError;
use crate::event::header;

/// Maximum fields in one message: ours have up to ten, beside as many headers as are ever sent.
const MAX_FIELDS: usize = header::MAX_FIELDS + 16;

/// The required structure of a message.
pub(super) struct Shape {
    /// The tags (field number * 8 + wire type) that must occur.
    pub required: &'static [u64],
    /// The tag of a nested message, and its required structure.
    pub nested: Option<(u64, &'static Self)>,
}

/// Checks `bytes` against `shape`.
pub(super) fn check(bytes: &[u8], shape: &Shape) -> Result<(), WireError> {
    let mut rest = bytes;
    let mut fields = 0;
    let mut missing: u32 = (1 << shape.required.len()) - 1;
    while !rest.is_empty() {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(WireError::Malformed("too many fields"));
        }
        let tag = varint(&mut rest)?;
        if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
            return Err(WireError::Malformed("impossible field number"));
        }
        match tag & 7 {
            0 => {
                varint(&mut rest)?;
            }
            1 => skip(&mut rest, 8)?,
            2 => {
                let length = varint(&mut rest)?;
                let length = usize::try_from(length)
                    .map_err(|_| WireError::Malformed("field longer than its message"))?;
                let nested = rest;
                skip(&mut rest, length)?;
                if let Some((nested_tag, shape)) = shape.nested
                    && tag == nested_tag
                {
                    check(&nested[..length], shape)?;
                }
            }
            5 => skip(&mut rest, 4)?,
            _ => return Err(WireError::Malformed("unknown wire type")),
        }
        if let Some(bit) = shape.required.iter().position(|required| *required == tag) {
            missing &= !(1 << bit);
        }
    }
    if missing == 0 { Ok(()) } else { Err(WireError::Malformed("required field missing")) }
}

fn skip(rest: &mut &[u8], length: usize) -> Result<(), WireError> {
    *rest = rest.get(length..).ok_or(WireError::Malformed("field longer than its message"))?;
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value: u64 = 0;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(WireError::Malformed("unfinished number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: Shape = Shape { required: &[10], nested: None };
    const SHAPE: Shape = Shape { required: &[8, 18], nested: Some((26, &NESTED)) };

    fn fails(bytes: &[u8]) -> &'static str {
        match check(bytes, &SHAPE) {
            Err(WireError::Malformed(what)) => what,
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }

    #[test]
    fn a_whole_message_passes() {
        check(&[8, 1, 18, 1, b'x', 26, 3, 10, 1, b'y', 0x80, 1, 5], &SHAPE).unwrap();
    }

    #[test]
    fn every_overrun_is_found() {
        assert_eq!(fails(&[8, 1, 18, 5, b'x']), "field longer than its message");
        assert_eq!(
            fails(&[8, 1, 18, 1, b'x', 26, 3, 10, 9, b'y']),
            "field longer than its message"
        );
        assert_eq!(fails(&[9, 1, 2]), "field longer than its message");
        assert_eq!(
            fails(&[18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            "field longer than its message"
        );
        assert_eq!(fails(&[8, 0x80]), "unfinished number");
        assert_eq!(
            fails(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            "unfinished number"
        );
        assert_eq!(fails(&[0, 1]), "impossible field number");
        assert_eq!(fails(&[11]), "unknown wire type");
    }

    #[test]
    fn missing_and_countless_fields_are_refused() {
        assert_eq!(fails(&[8, 1]), "required field missing");
        assert_eq!(fails(&[8, 1, 18, 0, 26, 0]), "required field missing");
        assert_eq!(fails(&[34, 0].repeat(1000)), "too many fields");
    }
}
