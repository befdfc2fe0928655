//! The thread that keeps a node's identity and rules up to date: loads new files, closes links that
//! are no longer valid, and warns of expiring certificates.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustls::pki_types::UnixTime;

use super::core::{Core, log_rules, warn_if_revoked};
use super::feed::Happening;
use super::view::View;
use crate::identity::{ExpiryNotice, IdentityError, Reloaded, Reminders};
use crate::rules::{LoadError, Rulebook};
use crate::sync::threads;

/// How often live links are checked: one whose certificate expires is closed within this time.
const LINK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the files are checked.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Called when this node presents a new certificate. Must not block.
pub(super) type OnNewCertificate = Box<dyn Fn() + Send>;

/// The running thread; it exits when this is dropped.
pub(super) struct Renewal {
    wake: Sender<Sender<()>>,
}

impl Renewal {
    /// Starts the thread.
    pub fn start(
        core: Arc<Core>,
        view: Arc<View>,
        on_new_certificate: OnNewCertificate,
    ) -> io::Result<Self> {
        // Capacity one: two reload requests are as good as one.
        let (wake, woken) = bounded(1);
        let reminders = Reminders::default();
        let watch = Watch { core, view, on_new_certificate, reminders };
        threads::spawn("renewal", move || watch.run(&woken))?;
        Ok(Self { wake })
    }

    /// Reloads the files now, whether or not they changed. The returned channel disconnects when
    /// that is done.
    pub fn reload(&self) -> Receiver<()> {
        let (done, reloaded) = bounded(0);
        // Full: a reload is already pending.
        let _ = self.wake.try_send(done);
        reloaded
    }
}

struct Watch {
    core: Arc<Core>,
    view: Arc<View>,
    on_new_certificate: OnNewCertificate,
    reminders: Reminders,
}

impl Watch {
    fn run(mut self, woken: &Receiver<Sender<()>>) {
        let mut looked = Instant::now();
        self.remind(UnixTime::now());
        loop {
            let wake = woken.recv_timeout(LINK_CHECK_INTERVAL);
            let now = UnixTime::now();
            match &wake {
                Ok(_done) => {
                    self.note(&self.core.identity.reload(now), now);
                    self.read_rules(|book| Some(book.reload()));
                }
                Err(RecvTimeoutError::Timeout) if looked.elapsed() >= FILE_CHECK_INTERVAL => {
                    looked = Instant::now();
                    if let Some(result) = self.core.identity.look(now) {
                        self.note(&result, now);
                    }
                    self.read_rules(Rulebook::look);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The node was dropped.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let (number, identity) = self.core.identity.numbered();
            self.core.registry.judge(number, &identity, now);
            self.remind(now);
            self.view.sample(Instant::now());
            // Wakes the caller of `reload`.
            drop(wake);
        }
    }

    fn note(&self, result: &Result<Reloaded, IdentityError>, now: UnixTime) {
        match result {
            Ok(reloaded) => {
                let identity = self.core.identity.current();
                let own = identity.own();
                log::info!(
                    "identity reloaded: {} certificate {} (sha256 {}), which expires on {}; {}",
                    if reloaded.new_certificate { "new" } else { "the same" },
                    own.name,
                    own.fingerprint,
                    own.expires,
                    match identity.crl() {
                        Some(crl) => format!("revocations from {}", crl.display()),
                        None => "no revocation list".to_owned(),
                    }
                );
                self.publish("identity reloaded");
                warn_if_revoked(&self.core.identity, now);
                if reloaded.new_certificate {
                    (self.on_new_certificate)();
                }
            }
            Err(error) => {
                log::error!("identity not reloaded, the old one stays: {error}");
                self.publish(&format!("identity not reloaded, the old one stays: {error}"));
            }
        }
    }

    fn read_rules(&self, read: impl Fn(&Rulebook) -> Option<Result<(), LoadError>>) {
        let Some(book) = &self.core.rules else { return };
        match read(book) {
            Some(Ok(())) => {
                log_rules("rules reloaded", book);
                self.publish("rules reloaded");
            }
            Some(Err(error)) => {
                log::error!("rules not reloaded, the old ones stay: {error}");
                self.publish(&format!("rules not reloaded, the old ones stay: {error}"));
            }
            None => {}
        }
    }

    fn publish(&self, what: &str) {
        self.core.feed.publish(Happening::Reload, None, what);
    }

    fn remind(&mut self, now: UnixTime) {
        for notice in self.core.identity.current().notices(now) {
            self.log_due(&notice, now);
        }
        for entry in self.core.registry.entries() {
            let subject = format!("{}: its certificate", entry.certificate.name);
            if let Some(notice) = ExpiryNotice::certificate(&subject, &entry.certificate, now) {
                self.log_due(&notice, now);
            }
        }
    }

    fn log_due(&mut self, notice: &ExpiryNotice, now: UnixTime) {
        if self.reminders.is_due(&notice.key, now) {
            log::warn!("{}", notice.text);
        }
    }
}
