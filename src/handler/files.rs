//! The files of a directory: `file//PATH` is one, `list//PATH` is what a directory holds.
//!
//! In scope: which verbs and paths there are. What they do has a file each. Nothing outside the
//! directory is reached: every path is opened relative to it, and the system refuses one that leads
//! out, by whatever links (openat2(2), `RESOLVE_BENEATH`), at the time of opening.

mod conditions;
mod list;
mod path;
mod problem;
mod send;
mod store;

use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parking_lot::Mutex;

use super::{Context, Failure, Handler};
use crate::event::{Event, Reply, Verb};
use problem::FileProblem;

/// The files of a directory. `GET file//PATH` is a file with its media type, with ranges (RFC 9110,
/// section 14) and conditions (section 13); `GET list//PATH` is a JSON list of a directory. Where
/// they may be written, `PUT` stores a file as a whole or not at all, and `DELETE` removes one.
///
/// The directory is the one that stood there when this was made: what is put in its place later is
/// not seen. Links within it are followed, and refused where they lead out.
///
/// Memory is constant whatever the size of a file. An answer that says no has a JSON body with
/// `error` and `message`, and its status as its return code.
pub struct Files {
    dir: Dir,
    writable: bool,
    /// Held while a file's conditions are checked and it is replaced or removed, so that of two
    /// writers with one condition only one succeeds. No body is read while it is held.
    writing: Mutex<()>,
}

impl Files {
    /// The files of this directory, and whether they may be written. The error is for people.
    pub fn new(dir: &Path, writable: bool) -> Result<Self, String> {
        let dir = Dir::open_ambient_dir(dir, ambient_authority())
            .map_err(|error| format!("the directory cannot be opened: {error}"))?;
        Ok(Self { dir, writable, writing: Mutex::new(()) })
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
            _ => return Err(Failure::Unhandled),
        };
        result.or_else(|problem| problem.reply(event.target.parameters()))
    }
}

fn wrong_verb(allowed: &[Verb]) -> FileProblem {
    FileProblem::Failed(Failure::WrongVerb(allowed.to_vec()))
}
