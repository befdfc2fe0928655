//! The two roles: a server that accepts pipes, and a client that dials one and keeps it connected.
//!
//! In scope: who is connected, finding the link for a request, starting and stopping. Not in scope:
//! what happens on a link (`link`), HTTP (`http`).

mod builder;
mod client;
mod core;
mod dialer;
mod error;
mod feed;
mod history;
mod known_names;
mod link_registry;
mod peer_finder;
mod peer_table;
mod renewal;
mod request_limits;
mod requests;
mod running;
mod server;
mod trial;
mod view;

pub use crate::net::accept::{Handed, HandoverError};
pub use builder::Builder;
pub use client::Client;
pub use error::StartError;
pub use running::RunningNode;
pub use server::Server;
pub(crate) use trial::Trial;
