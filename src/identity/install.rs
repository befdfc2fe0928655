//! Puts a checked identity in its place.
//!
//! In scope: check first, then replace all files or none. Not in scope: where that place is
//! (`config`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;

use super::certificate::PeerCertificate;
use super::check::{self, Bytes};
use super::error::{Fault, IdentityError};
use super::tls;
use crate::config::IdentityFiles;
use crate::event::peer::Role;

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
/// will have to read it. Gives what the certificate says.
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
        None => return Err(IdentityError::new(&place.ca, Fault::NoCaInPlace)),
    };
    let sources = IdentityFiles { key: given.key.clone(), crt: given.crt.clone(), ca };
    let bytes = Bytes::read(&sources)?;
    let own = check::check(&bytes, &sources, role, now, &tls::provider())?.own;

    let mut files = vec![(place.key.as_path(), &bytes.key), (place.crt.as_path(), &bytes.crt)];
    if given.ca.is_some() {
        files.push((place.ca.as_path(), &bytes.ca));
    }
    replace_all(&files)
        .map_err(|(file, error)| IdentityError::new(file, Fault::Unwritable(error.to_string())))?;
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
        replacements.push(Replacement::prepare(path, bytes).map_err(|e| (*path, e))?);
    }
    for at in 0..replacements.len() {
        if let Err(error) = replacements[at].commit() {
            for done in replacements[..at].iter_mut().rev() {
                done.take_back();
            }
            return Err((files[at].0, error));
        }
    }
    for (path, _) in files {
        // So that the new names outlive a power cut. The files are in place whether or not the
        // file system can promise that.
        let _ = File::open(directory(path)).and_then(|directory| directory.sync_all());
    }
    Ok(())
}

/// One file on its way: what is to come and what was there, both beside the place itself. What is
/// left of them goes when this is dropped.
struct Replacement {
    path: PathBuf,
    new: Temporary,
    old: Option<Temporary>,
}

impl Replacement {
    fn prepare(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory(path))?;
        let new = Temporary::create(path, bytes)?;
        // Anything but a file cannot be replaced; the rename will say so.
        let old = if path.is_file() { Some(Temporary::copy_of(path)?) } else { None };
        Ok(Self { path: path.to_owned(), new, old })
    }

    fn commit(&mut self) -> io::Result<()> {
        fs::rename(&self.new.0, &self.path)
    }

    /// Best effort: it runs because something failed already, and that is what gets reported.
    fn take_back(&mut self) {
        let _ = match &self.old {
            Some(old) => fs::rename(&old.0, &self.path),
            None => fs::remove_file(&self.path),
        };
    }
}

/// The user that may give files away.
const ROOT: u32 = 0;

/// A file of mode 0600 beside another, removed when dropped unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn create(beside: &Path, bytes: &[u8]) -> io::Result<Self> {
        let (temporary, mut file) = Self::open(beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    /// With the mode of the original, for it may take its place again.
    fn copy_of(path: &Path) -> io::Result<Self> {
        let mut original = File::open(path)?;
        let (temporary, mut file) = Self::open(path)?;
        io::copy(&mut original, &mut file)?;
        file.set_permissions(original.metadata()?.permissions())?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn open(beside: &Path) -> io::Result<(Self, File)> {
        let name = beside.file_name().ok_or_else(|| io::Error::other("has no file name"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}", fastrand::u64(..)));
        let path = directory(beside).join(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let temporary = Self(path);
        let owner = fs::metadata(directory(beside))?;
        if file.metadata()?.uid() == ROOT && owner.uid() != ROOT {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok((temporary, file))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The directory a file is in, also for a bare name.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
