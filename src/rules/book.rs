//! The rules in force, and the file they come from.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use super::table::{MAX_BYTES, Question, Rules};
use crate::fs;
use crate::fs::changes::Changes;

/// The rules of a file, which can be reloaded.
pub struct Rulebook {
    path: PathBuf,
    /// Guards which rules are in force. Never held while the file is read or a request is decided.
    current: RwLock<Arc<Rules>>,
    /// Guards the state of the file. Held while it is read, so that only one thread does so.
    changes: Mutex<Changes>,
}

impl Rulebook {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let changes = Mutex::new(Changes::of(vec![path.to_owned()]));
        let current = RwLock::new(Arc::new(load(path)?));
        Ok(Self { path: path.to_owned(), current, changes })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.current.read())
    }

    /// Whether the rules allow the request.
    pub fn allows(&self, question: &Question<'_>) -> bool {
        self.rules().find(question).is_some()
    }

    /// Puts these in force.
    pub fn replace(&self, rules: Rules) {
        *self.current.write() = Arc::new(rules);
    }

    /// Reads the file again. After any error the old rules stay in force.
    pub fn reload(&self) -> Result<(), LoadError> {
        let mut changes = self.changes.lock();
        changes.note_reload();
        load(&self.path).map(|rules| self.replace(rules))
    }

    /// Polls the file, and reads it again if it changed and has settled. `None`: nothing to do.
    pub fn look(&self) -> Option<Result<(), LoadError>> {
        let mut changes = self.changes.lock();
        changes.should_reload().then(|| load(&self.path).map(|rules| self.replace(rules)))
    }
}

fn load(path: &Path) -> Result<Rules, LoadError> {
    let fault = |why: String| LoadError { path: path.to_owned(), why };
    let bytes = fs::read(path, MAX_BYTES as u64).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => fault("not a regular file".to_owned()),
        _ => fault(error.to_string()),
    })?;
    Rules::parse(&bytes).map_err(|error| fault(error.to_string()))
}

/// Why a file of rules cannot be used.
#[derive(Debug, Error)]
#[error("rules file {}: {why}", .path.display())]
pub struct LoadError {
    path: PathBuf,
    why: String,
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::event::Verb;

    const ASKED: Question<'_> = Question { peer: "a", verb: Verb::Get, noun: "b" };

    #[test]
    fn rules_are_replaced_and_an_error_keeps_the_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules");
        fs::write(&path, "allow a get b\n").unwrap();
        let book = Rulebook::open(&path).unwrap();
        assert!(book.allows(&ASKED));
        assert!(book.look().is_none(), "nothing changed");

        fs::write(&path, "allow a get b\nallow\n").unwrap();
        assert!(book.look().is_none(), "it may still be in the making");
        let error = book.look().unwrap().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "rules file {}: line 2: 0 words after allow; a line is: allow PEER VERB NOUN",
                path.display()
            )
        );
        assert!(book.allows(&ASKED));
        assert!(book.look().is_none(), "an error is reported once");

        fs::remove_file(&path).unwrap();
        assert!(book.reload().unwrap_err().to_string().contains("No such file"));
        assert!(book.allows(&ASKED));

        fs::write(&path, "").unwrap();
        book.reload().unwrap();
        assert!(book.look().is_none(), "it was read just now");
        assert!(!book.allows(&ASKED));

        book.replace(Rules::parse(b"allow * * *").unwrap());
        assert!(book.allows(&ASKED));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| Rulebook::open(path).map(|_| ()).unwrap_err().to_string();
        assert!(error(&dir.path().join("none")).contains("No such file"));
        for path in [dir.path(), Path::new("/dev/zero")] {
            assert!(error(path).ends_with(": not a regular file"));
        }
        let path = dir.path().join("large");
        // A sparse file takes no disk space, and is not read to the end.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(error(&path).ends_with("larger than 1048576 bytes"));
    }
}
