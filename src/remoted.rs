//! Raw TCP through a broker: the Remoted API Server's protocol, WebRoute.
//!
//! In scope: its three roles. A *server* behind a firewall registers a path at a *broker* over a WebSocket
//! and receives a notice of each *caller*; caller and server then each open a connection with the same id,
//! and the broker joins the two. Not in scope: RestPipe's own pipe, which needs none of this.
//!
//! Everything is threads and poll(2): [`stream`] is a non-blocking connection, [`relay`] carries bytes
//! between two of them, [`head`] holds the HTTP upgrades that come first.
//!
//! A program that serves a path creates a [`Publisher`] and accepts; one that calls a path uses
//! [`connect`].

pub mod broker;
mod call_dispatcher;
mod connect;
pub mod forward;
pub mod head;
mod incoming_call;
mod key;
pub mod keys;
mod notice;
mod outbound;
mod pool;
mod proxy;
mod proxy_protocol;
pub mod publication;
mod publisher;
pub mod random;
mod registrar;
mod registration;
pub mod relay;
pub mod stream;
mod trust;
mod url;
mod waker;
mod webroute;
mod websocket;

pub use crate::net::dial::Address;
pub use connect::{BrokeredConnection as Connection, DEFAULT_IDLE_S, connect};
pub use key::{Key, KeyError};
pub use outbound::Outbound;
pub use proxy::Proxies;
pub use publisher::Publisher;
pub use trust::{BrokerTrust as Trust, Pin};
pub use url::{Side, Url, UrlError};
pub use webroute::{Cause, ConnectError};
