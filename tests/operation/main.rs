//! The programs as an operator meets them: started, checked, watched, behind nginx, under systemd, restarted
//! and stopped.

#[path = "../support/mod.rs"]
mod support;

mod check;
mod hooks;
mod log;
mod nginx;
mod page;
mod programs;
mod restart;
mod statsd;
mod status;
mod stop;
mod systemd;
