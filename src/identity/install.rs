//! Puts a checked identity in its place.
//!
//! In scope: check first, then replace all files or none. Not in scope: where that place is
//! (`config`).

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;

use super::certificate::PeerCertificate;
use super::check::{self, Bytes};
use super::error::{IdentityError, IdentityFault};
use super::provider::provider;
use crate::config::IdentityFiles;
use crate::event::peer::Role;
use crate::fs::{Directory, Replacement, create_directories};

/// The files that an operator hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFiles {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, PEM, with intermediate ones after it.
    pub crt: PathBuf,
    /// The CA's certificate, PEM. None: the one in place stays, and is what counts.
    pub ca: Option<PathBuf>,
}

/// Checks `given` for `role` as of `now`, then copies it to `place`: mode 0600, directories that
/// are missing 0700. What root installs belongs to whom the directory belongs to, for that is who
/// will have to read it. In a directory of another user no link is followed, neither to `given` nor
/// to `place`: it could have root give away a file that is not that user's. Gives what the
/// certificate says.
///
/// All is read and checked before anything is written, and all is written beside its place before
/// anything is renamed. When a rename fails, those before it are taken back. Only the end of the
/// whole machine between two renames can leave files that do not belong together, and such files
/// are refused by name when a node starts.
pub fn install(
    given: &GivenFiles,
    place: &IdentityFiles,
    role: Role,
    now: UnixTime,
) -> Result<PeerCertificate, IdentityError> {
    let ca = match &given.ca {
        Some(ca) => ca.clone(),
        None if place.ca.exists() => place.ca.clone(),
        None => {
            let why = "no CA certificate is in place; give one as the third file";
            return Err(IdentityError::new(&place.ca, IdentityFault::Other(why.to_owned())));
        }
    };
    let sources = IdentityFiles { key: given.key.clone(), crt: given.crt.clone(), ca };
    let bytes = Bytes::read_guarded(&sources)?;
    let own = check::check(&bytes, &sources, role, now, &provider())?.own;

    let mut files = vec![(place.key.as_path(), &bytes.key), (place.crt.as_path(), &bytes.crt)];
    if given.ca.is_some() {
        files.push((place.ca.as_path(), &bytes.ca));
    }
    replace_all(&files).map_err(|(file, error)| {
        IdentityError::new(file, IdentityFault::Unwritable(error.to_string()))
    })?;
    Ok(own)
}

/// Replaces all files or none. The path in the error is the file that stood in the way.
fn replace_all<'a>(files: &[(&'a Path, &Vec<u8>)]) -> Result<(), (&'a Path, io::Error)> {
    for (at, (path, _)) in files.iter().enumerate() {
        if files[..at].iter().any(|(other, _)| other == path) {
            return Err((path, io::Error::other("two files of the identity have this name")));
        }
    }
    let mut replacements = Vec::new();
    for (path, bytes) in files {
        replacements.push(prepare(path, bytes).map_err(|e| (*path, e))?);
    }
    for at in 0..replacements.len() {
        if let Err(error) = replacements[at].commit() {
            for done in replacements[..at].iter_mut().rev() {
                done.take_back();
            }
            return Err((files[at].0, error));
        }
    }
    replacements.into_iter().for_each(Replacement::keep);
    Ok(())
}

fn prepare(path: &Path, bytes: &[u8]) -> io::Result<Replacement> {
    create_directories(path.parent().unwrap_or(Path::new("")))?;
    let (directory, name) = Directory::of(path)?;
    Replacement::prepare(directory, name, bytes, 0o600)
}
