//! The real nginx in front of both nodes, with the two virtual hosts of the documents and the shipped
//! sites.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
