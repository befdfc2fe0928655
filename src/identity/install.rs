//! Installs a checked identity.
//!
//! In scope: check first, then replace all files or none. Not in scope: the destination (`config`).

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
    /// The CA's certificate, PEM. `None`: the installed one is kept and used for the checks.
    pub ca: Option<PathBuf>,
}

/// Checks `given` for `role` as of `now`, then copies it to `place` with mode 0600; missing
/// directories are created with mode 0700. What root installs is given to the directory's owner,
/// who has to read it. In a directory of another user no link is followed, neither to `given` nor
/// to `place`: it could make root give away a file of somebody else. Returns the installed
/// certificate.
///
/// Everything is read and checked before anything is written, and everything is written under
/// temporary names before anything is renamed. If a rename fails, the earlier ones are rolled back.
/// Only a crash between two renames can leave files that do not match; a node then refuses to start
/// and names them.
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

/// Replaces all files or none. The error has the path of the file that failed.
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
