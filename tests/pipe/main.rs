//! Two nodes and the pipe between them: requests and bodies both ways, peers that come and go, and
//! hostile peers.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod crowd;
mod four_requests;
mod hostile;
mod library;
mod life;
mod limits;
mod names;
mod newcomers;
mod original_peer;
mod outcome;
mod proxy;
mod request_id;
mod strangers_log;
mod streams;
mod targets;
