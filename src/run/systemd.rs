//! Notifications for a service manager: ready, reloading, stopping, status line, keep-alive
//! (`sd_notify(3)`, `sd_watchdog_enabled(3)`).
//!
//! In scope: the messages and their socket. Not in scope: when to send them (`run`).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::config::Environment;

/// The shortest interval of keep-alives, whatever is configured.
const MIN_WATCHDOG_INTERVAL: Duration = Duration::from_millis(10);

/// Sends to the service manager; does nothing without one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From the environment. An unusable address is logged.
    pub fn new(env: &Environment) -> Self {
        let Some(name) = env.manager("NOTIFY_SOCKET") else { return Self::default() };
        let socket = connect(name).map_err(|error| {
            log::warn!("NOTIFY_SOCKET: {}: {error}", name.to_string_lossy().escape_debug());
        });
        Self { socket: socket.ok(), watchdog: watchdog(env) }
    }

    /// How often a keep-alive is due: half the manager's watchdog timeout.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The node is ready.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The node is reloading its files, until the next [`Notifier::ready`].
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The node is stopping.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A status line for people.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.escape_debug()));
    }

    /// The keep-alive of the watchdog.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            log::debug!("the service manager was not notified of {message:?}: {error}");
        }
    }
}

fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes() {
        [b'@', rest @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(rest)?)?,
        _ => socket.connect(name)?,
    }
    // A manager that does not read must not block this process.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn watchdog(env: &Environment) -> Option<Duration> {
    let number = |name| env.manager(name)?.to_str()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    let usec = number("WATCHDOG_USEC").filter(|usec| *usec > 0)?;
    Some((Duration::from_micros(usec) / 2).max(MIN_WATCHDOG_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_what_is_said_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let path = path.to_str().unwrap();
        let env = Environment::from_pairs([("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "3000000")]);
        let notifier = Notifier::new(&env);
        assert_eq!(notifier.watchdog(), Some(Duration::from_millis(1500)));
        notifier.ready();
        assert_eq!(received(&manager), "READY=1");
        notifier.reloading();
        let text = received(&manager);
        let (first, usec) = text.split_once("\nMONOTONIC_USEC=").unwrap();
        assert_eq!(first, "RELOADING=1");
        assert!(usec.parse::<u64>().unwrap() > 0);
        notifier.status("2 clients\nREADY=1");
        assert_eq!(received(&manager), "STATUS=2 clients\\nREADY=1", "one line stays one");
        notifier.stopping();
        notifier.alive();
        assert_eq!([received(&manager), received(&manager)], ["STOPPING=1", "WATCHDOG=1"]);
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_the_watchdog_of_another_is_not_ours() {
        Notifier::new(&Environment::default()).ready();
        let none = Environment::from_pairs([("NOTIFY_SOCKET", "/no/such/socket")]);
        Notifier::new(&none).ready();
        for pairs in [
            [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")],
            [("WATCHDOG_USEC", "many"), ("WATCHDOG_PID", "")],
            [("WATCHDOG_USEC", "0"), ("WATCHDOG_PID", "")],
        ] {
            assert_eq!(watchdog(&Environment::from_pairs(pairs)), None, "{pairs:?}");
        }
    }
}
