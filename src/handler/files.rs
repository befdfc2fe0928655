//! The files of a directory: `file//PATH` is a file, `list//PATH` lists a directory.
//!
//! In scope: the verbs and paths; each operation has its own file. Nothing outside the directory is
//! reachable: every path is opened relative to it, and the kernel refuses one that leads out,
//! through any links, when it is opened (openat2(2), `RESOLVE_BENEATH`).

mod conditions;
mod list;
mod mount;
mod path;
mod problem;
mod send;
mod store;

use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parking_lot::Mutex;

use super::{Context, Failure, Handler};
use crate::event::{CODE_UNHANDLED, Event, Reply, Verb, errors};

use crate::sync::throttle::Throttle;
use mount::mount_point;
use problem::FileProblem;

/// Serves the files of a directory. `GET file//PATH` returns a file with its media type, with
/// ranges (RFC 9110, section 14) and conditions (section 13); `GET list//PATH` returns a JSON list
/// of a directory. If writable, `PUT` stores a file atomically, and `DELETE` removes one.
///
/// The directory is opened once, by `new`; replacing it later has no effect. Links within
/// it are followed, and refused if they lead out.
///
/// Memory use is independent of the file size. An error reply has a JSON body with `error` and
/// `message`, and its status as its return code.
pub struct Files {
    dir: Dir,
    writable: bool,
    /// Held while a file's conditions are checked and it is replaced or removed, so that of two
    /// writers with the same condition only one succeeds. Never held while a body is read.
    writing: Mutex<()>,
    /// The directory, for messages.
    path: PathBuf,
    /// Limits log lines about a file system that is read-only.
    read_only: Throttle,
}

impl Files {
    /// Serves the files of `dir`, read-only unless `writable`. The error is a message for people.
    pub fn new(dir: &Path, writable: bool) -> Result<Self, String> {
        let path = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let dir = Dir::open_ambient_dir(dir, ambient_authority())
            .map_err(|error| format!("the directory cannot be opened: {error}"))?;
        let (writing, read_only) = (Mutex::new(()), Throttle::default());
        Ok(Self { dir, writable, writing, path, read_only })
    }

    fn file(&self, event: &mut Event) -> Result<Reply, FileProblem> {
        let path = path::of_file(event.target.parameters())?;
        match event.verb {
            Verb::Get => send::get(&self.dir, &path, event),
            Verb::Put if self.writable => store::put(&self.dir, &self.writing, &path, event),
            Verb::Delete if self.writable => store::delete(&self.dir, &self.writing, &path, event),
            _ if self.writable => Err(wrong_verb(&[Verb::Get, Verb::Put, Verb::Delete])),
            _ => Err(wrong_verb(&[Verb::Get])),
        }
    }

    /// Most often a unit's `ProtectSystem=strict` is the reason, of which the caller knows nothing.
    fn warn_read_only(&self, parameters: &[String]) {
        let Some(more) = self.read_only.allow() else { return };
        let root = self.path.display();
        let mount = mount_point(&self.path);
        let mount =
            mount.map_or("there".to_owned(), |mount| format!("mounted at {}", mount.display()));
        log::warn!(
            "files: {root}/{}: not changed: the file system {mount} is read-only for this process; for a \
             unit of systemd, ReadWritePaths={root} makes it writable{more}",
            parameters.join("/").escape_debug()
        );
    }

    fn list(&self, context: &Context, event: &Event) -> Result<Reply, FileProblem> {
        let path = path::of_directory(event.target.parameters())?;
        match event.verb {
            Verb::Get => list::get(&self.dir, &path, context, event),
            _ => Err(wrong_verb(&[Verb::Get])),
        }
    }
}

impl Handler for Files {
    fn handle(&self, context: &Context, event: &mut Event) -> Result<Reply, Failure> {
        let result = match event.target.noun() {
            "file" => self.file(event),
            "list" => self.list(context, event),
            noun => return Ok(unhandled(noun)),
        };
        if let Err(FileProblem::ReadOnly) = &result {
            self.warn_read_only(event.target.parameters());
        }
        result.or_else(|problem| problem.reply(event.target.parameters()))
    }
}

/// The reply to a noun that is neither `file` nor `list`: likely a path is meant.
fn unhandled(noun: &str) -> Reply {
    const FORMS: &str = "file//PATH is a file, list//PATH a directory, list// the whole one";
    let message = match noun.trim_matches('/') {
        "" => format!("these are files: {FORMS}"),
        path => format!("these are files, and {path:?} is no path to them: {FORMS}"),
    };
    errors::UNHANDLED.reply(&message).with_code(CODE_UNHANDLED)
}

fn wrong_verb(allowed: &[Verb]) -> FileProblem {
    FileProblem::Failed(Failure::WrongVerb(allowed.to_vec()))
}
