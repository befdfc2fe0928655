//! The programs as an operator runs them: started, checked, monitored, behind nginx, under systemd,
//! restarted and stopped.

#[path = "../support/mod.rs"]
mod support;

mod check;
mod hooks;
mod log;
mod messages;
mod nginx;
mod open_files;
mod page;
mod peers_pages;
mod programs;
mod restart;
mod settings;
mod statsd;
mod status;
mod stop;
mod systemd;
