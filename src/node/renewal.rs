//! The thread that keeps a node's identity and rules up to date: takes in new files, closes links
//! that count no longer, and warns of what ends soon.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustls::pki_types::UnixTime;

use super::feed::Happening;
use super::link_registry::LinkRegistry;
use super::view::View;
use crate::identity::{IdentityError, Keeper, Notice, Reloaded, Reminders};
use crate::rules::{LoadError, Rulebook};

/// How often live links are looked at: one that ends is closed within this time.
const LINK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the files are looked at.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Told that this node shows another certificate from now on. May not wait for anything.
pub(super) type OnNewCertificate = Box<dyn Fn() + Send>;

/// A running thread; it ends when this is dropped.
pub(super) struct Renewal {
    wake: Sender<Sender<()>>,
}

impl Renewal {
    /// Starts it.
    pub fn start(
        keeper: Arc<Keeper>,
        registry: Arc<LinkRegistry>,
        rules: Option<Arc<Rulebook>>,
        view: Arc<View>,
        on_new_certificate: OnNewCertificate,
    ) -> io::Result<Self> {
        // One place: two wishes to read the files are as good as one.
        let (wake, woken) = bounded(1);
        let reminders = Reminders::default();
        let watch = Watch { keeper, registry, rules, view, on_new_certificate, reminders };
        thread::Builder::new().name("renewal".to_owned()).spawn(move || watch.run(&woken))?;
        Ok(Self { wake })
    }

    /// Has the files read now, whether or not they changed. What is returned disconnects when that is
    /// done.
    pub fn reload(&self) -> Receiver<()> {
        let (done, reloaded) = bounded(0);
        // Full: that is about to happen.
        let _ = self.wake.try_send(done);
        reloaded
    }
}

struct Watch {
    keeper: Arc<Keeper>,
    registry: Arc<LinkRegistry>,
    rules: Option<Arc<Rulebook>>,
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
                    self.note(&self.keeper.reload(now), now);
                    self.read_rules(|book| Some(book.reload()));
                }
                Err(RecvTimeoutError::Timeout) if looked.elapsed() >= FILE_CHECK_INTERVAL => {
                    looked = Instant::now();
                    if let Some(result) = self.keeper.look(now) {
                        self.note(&result, now);
                    }
                    self.read_rules(Rulebook::look);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The node was dropped.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let (number, identity) = self.keeper.numbered();
            self.registry.judge(number, &identity, now);
            self.remind(now);
            self.view.sample(Instant::now());
            // Whoever waits for it is told.
            drop(wake);
        }
    }

    fn note(&self, result: &Result<Reloaded, IdentityError>, now: UnixTime) {
        match result {
            Ok(reloaded) => {
                let identity = self.keeper.current();
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
                self.tell("identity reloaded");
                warn_if_revoked(&self.keeper, now);
                if reloaded.new_certificate {
                    (self.on_new_certificate)();
                }
            }
            Err(error) => {
                log::error!("identity not reloaded, the old one stays: {error}");
                self.tell(&format!("identity not reloaded, the old one stays: {error}"));
            }
        }
    }

    fn read_rules(&self, read: impl Fn(&Rulebook) -> Option<Result<(), LoadError>>) {
        let Some(book) = &self.rules else { return };
        match read(book) {
            Some(Ok(())) => {
                say_rules("rules reloaded", book);
                self.tell("rules reloaded");
            }
            Some(Err(error)) => {
                log::error!("rules not reloaded, the old ones stay: {error}");
                self.tell(&format!("rules not reloaded, the old ones stay: {error}"));
            }
            None => {}
        }
    }

    fn tell(&self, what: &str) {
        self.view.feed.tell(Happening::Reload, None, what);
    }

    fn remind(&mut self, now: UnixTime) {
        for notice in self.keeper.current().notices(now) {
            self.say(&notice, now);
        }
        for entry in self.registry.entries() {
            let whose = format!("{}: its certificate", entry.certificate.name);
            if let Some(notice) = Notice::certificate(&whose, &entry.certificate, now) {
                self.say(&notice, now);
            }
        }
    }

    fn say(&mut self, notice: &Notice, now: UnixTime) {
        if self.reminders.is_due(&notice.key, now) {
            log::warn!("{}", notice.text);
        }
    }
}

/// A node's own certificate may be on the list: it runs, but its peers refuse it.
pub(super) fn warn_if_revoked(keeper: &Keeper, now: UnixTime) {
    let identity = keeper.current();
    if let (true, Some(crl)) = (identity.is_revoked(now), identity.crl()) {
        log::warn!(
            "{}: this node's own certificate (sha256 {}) is revoked; peers will refuse it",
            crl.display(),
            identity.own().fingerprint
        );
    }
}

/// The rules that count from now on.
pub(super) fn say_rules(what: &str, book: &Rulebook) {
    let (path, count) = (book.path().display(), book.rules().len());
    match count {
        0 => log::warn!("{what}: {path} allows nothing, so every request of a peer is refused"),
        1 => log::info!("{what}: 1 line of {path} says what peers may ask"),
        _ => log::info!("{what}: {count} lines of {path} say what peers may ask"),
    }
}
