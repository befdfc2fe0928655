// Automatically generated rust module for 'restpipe.proto' file

#![allow(non_snake_case)]
#![allow(non_upper_case_globals)]
#![allow(non_camel_case_types)]
#![allow(unused_imports)]
#![allow(unknown_lints)]
#![allow(clippy::all)]
#![cfg_attr(rustfmt, rustfmt_skip)]


use std::borrow::Cow;
use quick_protobuf::{MessageInfo, MessageRead, MessageWrite, BytesReader, Writer, WriterBackend, Result};
use quick_protobuf::sizeofs::*;
use super::*;

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct Heartbeat<'a> {
    pub version: u32,
    pub extensions: Option<u32>,
    pub silence_ms: Option<u32>,
    pub max_data: Option<u32>,
    pub takes_over: Option<bool>,
    pub closing: Option<u32>,
    pub closing_text: Option<Cow<'a, str>>,
    pub leaving_ms: Option<u32>,
    pub settled: Option<bool>,
    pub round_trip_us: Option<u32>,
}

impl<'a> MessageRead<'a> for Heartbeat<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.version = r.read_uint32(bytes)?,
                Ok(128) => msg.extensions = Some(r.read_uint32(bytes)?),
                Ok(136) => msg.silence_ms = Some(r.read_uint32(bytes)?),
                Ok(144) => msg.max_data = Some(r.read_uint32(bytes)?),
                Ok(192) => msg.takes_over = Some(r.read_bool(bytes)?),
                Ok(200) => msg.closing = Some(r.read_uint32(bytes)?),
                Ok(210) => msg.closing_text = Some(r.read_string(bytes).map(Cow::Borrowed)?),
                Ok(216) => msg.leaving_ms = Some(r.read_uint32(bytes)?),
                Ok(224) => msg.settled = Some(r.read_bool(bytes)?),
                Ok(232) => msg.round_trip_us = Some(r.read_uint32(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for Heartbeat<'a> {
    fn get_size(&self) -> usize {
        0
        + 1 + sizeof_varint(*(&self.version) as u64)
        + self.extensions.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.silence_ms.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.max_data.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.takes_over.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.closing.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.closing_text.as_ref().map_or(0, |m| 2 + sizeof_len((m).len()))
        + self.leaving_ms.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.settled.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.round_trip_us.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        w.write_with_tag(8, |w| w.write_uint32(*&self.version))?;
        if let Some(ref s) = self.extensions { w.write_with_tag(128, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.silence_ms { w.write_with_tag(136, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.max_data { w.write_with_tag(144, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.takes_over { w.write_with_tag(192, |w| w.write_bool(*s))?; }
        if let Some(ref s) = self.closing { w.write_with_tag(200, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.closing_text { w.write_with_tag(210, |w| w.write_string(&**s))?; }
        if let Some(ref s) = self.leaving_ms { w.write_with_tag(216, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.settled { w.write_with_tag(224, |w| w.write_bool(*s))?; }
        if let Some(ref s) = self.round_trip_us { w.write_with_tag(232, |w| w.write_uint32(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct HeartbeatReply<'a> {
    pub version: u32,
    pub extensions: Option<u32>,
    pub max_data: Option<u32>,
    pub closing: Option<u32>,
    pub closing_text: Option<Cow<'a, str>>,
    pub leaving_ms: Option<u32>,
    pub settled: Option<bool>,
}

impl<'a> MessageRead<'a> for HeartbeatReply<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.version = r.read_uint32(bytes)?,
                Ok(128) => msg.extensions = Some(r.read_uint32(bytes)?),
                Ok(144) => msg.max_data = Some(r.read_uint32(bytes)?),
                Ok(200) => msg.closing = Some(r.read_uint32(bytes)?),
                Ok(210) => msg.closing_text = Some(r.read_string(bytes).map(Cow::Borrowed)?),
                Ok(216) => msg.leaving_ms = Some(r.read_uint32(bytes)?),
                Ok(224) => msg.settled = Some(r.read_bool(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for HeartbeatReply<'a> {
    fn get_size(&self) -> usize {
        0
        + 1 + sizeof_varint(*(&self.version) as u64)
        + self.extensions.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.max_data.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.closing.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.closing_text.as_ref().map_or(0, |m| 2 + sizeof_len((m).len()))
        + self.leaving_ms.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.settled.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        w.write_with_tag(8, |w| w.write_uint32(*&self.version))?;
        if let Some(ref s) = self.extensions { w.write_with_tag(128, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.max_data { w.write_with_tag(144, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.closing { w.write_with_tag(200, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.closing_text { w.write_with_tag(210, |w| w.write_string(&**s))?; }
        if let Some(ref s) = self.leaving_ms { w.write_with_tag(216, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.settled { w.write_with_tag(224, |w| w.write_bool(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct Event<'a> {
    pub version: u32,
    pub verb: Cow<'a, str>,
    pub noun: Cow<'a, str>,
    pub mimetype: Option<Cow<'a, str>>,
    pub data: Option<Cow<'a, [u8]>>,
    pub target: Option<Cow<'a, str>>,
    pub headers: Vec<restpipe::Header<'a>>,
    pub stream: Option<bool>,
    pub length: Option<u64>,
    pub request_id: Option<Cow<'a, str>>,
    pub head_only: Option<bool>,
}

impl<'a> MessageRead<'a> for Event<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.version = r.read_uint32(bytes)?,
                Ok(18) => msg.verb = r.read_string(bytes).map(Cow::Borrowed)?,
                Ok(26) => msg.noun = r.read_string(bytes).map(Cow::Borrowed)?,
                Ok(34) => msg.mimetype = Some(r.read_string(bytes).map(Cow::Borrowed)?),
                Ok(42) => msg.data = Some(r.read_bytes(bytes).map(Cow::Borrowed)?),
                Ok(130) => msg.target = Some(r.read_string(bytes).map(Cow::Borrowed)?),
                Ok(138) => msg.headers.push(r.read_message::<restpipe::Header>(bytes)?),
                Ok(144) => msg.stream = Some(r.read_bool(bytes)?),
                Ok(152) => msg.length = Some(r.read_uint64(bytes)?),
                Ok(162) => msg.request_id = Some(r.read_string(bytes).map(Cow::Borrowed)?),
                Ok(168) => msg.head_only = Some(r.read_bool(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for Event<'a> {
    fn get_size(&self) -> usize {
        0
        + 1 + sizeof_varint(*(&self.version) as u64)
        + 1 + sizeof_len((&self.verb).len())
        + 1 + sizeof_len((&self.noun).len())
        + self.mimetype.as_ref().map_or(0, |m| 1 + sizeof_len((m).len()))
        + self.data.as_ref().map_or(0, |m| 1 + sizeof_len((m).len()))
        + self.target.as_ref().map_or(0, |m| 2 + sizeof_len((m).len()))
        + self.headers.iter().map(|s| 2 + sizeof_len((s).get_size())).sum::<usize>()
        + self.stream.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.length.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.request_id.as_ref().map_or(0, |m| 2 + sizeof_len((m).len()))
        + self.head_only.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        w.write_with_tag(8, |w| w.write_uint32(*&self.version))?;
        w.write_with_tag(18, |w| w.write_string(&**&self.verb))?;
        w.write_with_tag(26, |w| w.write_string(&**&self.noun))?;
        if let Some(ref s) = self.mimetype { w.write_with_tag(34, |w| w.write_string(&**s))?; }
        if let Some(ref s) = self.data { w.write_with_tag(42, |w| w.write_bytes(&**s))?; }
        if let Some(ref s) = self.target { w.write_with_tag(130, |w| w.write_string(&**s))?; }
        for s in &self.headers { w.write_with_tag(138, |w| w.write_message(s))?; }
        if let Some(ref s) = self.stream { w.write_with_tag(144, |w| w.write_bool(*s))?; }
        if let Some(ref s) = self.length { w.write_with_tag(152, |w| w.write_uint64(*s))?; }
        if let Some(ref s) = self.request_id { w.write_with_tag(162, |w| w.write_string(&**s))?; }
        if let Some(ref s) = self.head_only { w.write_with_tag(168, |w| w.write_bool(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct EventReply<'a> {
    pub version: u32,
    pub mimetype: Option<Cow<'a, str>>,
    pub code: u32,
    pub data: Cow<'a, [u8]>,
    pub status: Option<u32>,
    pub headers: Vec<restpipe::Header<'a>>,
    pub stream: Option<bool>,
    pub length: Option<u64>,
}

impl<'a> MessageRead<'a> for EventReply<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.version = r.read_uint32(bytes)?,
                Ok(18) => msg.mimetype = Some(r.read_string(bytes).map(Cow::Borrowed)?),
                Ok(24) => msg.code = r.read_uint32(bytes)?,
                Ok(34) => msg.data = r.read_bytes(bytes).map(Cow::Borrowed)?,
                Ok(128) => msg.status = Some(r.read_uint32(bytes)?),
                Ok(138) => msg.headers.push(r.read_message::<restpipe::Header>(bytes)?),
                Ok(144) => msg.stream = Some(r.read_bool(bytes)?),
                Ok(152) => msg.length = Some(r.read_uint64(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for EventReply<'a> {
    fn get_size(&self) -> usize {
        0
        + 1 + sizeof_varint(*(&self.version) as u64)
        + self.mimetype.as_ref().map_or(0, |m| 1 + sizeof_len((m).len()))
        + 1 + sizeof_varint(*(&self.code) as u64)
        + 1 + sizeof_len((&self.data).len())
        + self.status.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.headers.iter().map(|s| 2 + sizeof_len((s).get_size())).sum::<usize>()
        + self.stream.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
        + self.length.as_ref().map_or(0, |m| 2 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        w.write_with_tag(8, |w| w.write_uint32(*&self.version))?;
        if let Some(ref s) = self.mimetype { w.write_with_tag(18, |w| w.write_string(&**s))?; }
        w.write_with_tag(24, |w| w.write_uint32(*&self.code))?;
        w.write_with_tag(34, |w| w.write_bytes(&**&self.data))?;
        if let Some(ref s) = self.status { w.write_with_tag(128, |w| w.write_uint32(*s))?; }
        for s in &self.headers { w.write_with_tag(138, |w| w.write_message(s))?; }
        if let Some(ref s) = self.stream { w.write_with_tag(144, |w| w.write_bool(*s))?; }
        if let Some(ref s) = self.length { w.write_with_tag(152, |w| w.write_uint64(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct Header<'a> {
    pub name: Cow<'a, str>,
    pub value: Cow<'a, str>,
}

impl<'a> MessageRead<'a> for Header<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(10) => msg.name = r.read_string(bytes).map(Cow::Borrowed)?,
                Ok(18) => msg.value = r.read_string(bytes).map(Cow::Borrowed)?,
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for Header<'a> {
    fn get_size(&self) -> usize {
        0
        + 1 + sizeof_len((&self.name).len())
        + 1 + sizeof_len((&self.value).len())
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        w.write_with_tag(10, |w| w.write_string(&**&self.name))?;
        w.write_with_tag(18, |w| w.write_string(&**&self.value))?;
        Ok(())
    }
}

