//! Listening sockets. TCP and Unix sockets are both a [`socket2::Socket`], so the accept loop is
//! the same.
//!
//! In scope: binding, the file of a Unix socket. Not in scope: accepting.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::Bind;

/// The length of the accept queue; the system caps it at `net.core.somaxconn`, which is 4096 since
/// Linux 5.4. If the queue is full a client retries after a second, so it must hold what arrives
/// before the accepting thread is scheduled: 0.4 s at 10,000 a second.
pub(crate) const BACKLOG: i32 = 4096;
/// The owner and the group may connect.
const SOCKET_FILE_MODE: u32 = 0o660;

/// A bound socket and what to remove when it closes.
pub(crate) struct Bound {
    /// The listening socket.
    pub socket: Socket,
    /// The actual address, also if port 0 was requested.
    pub address: Bind,
    /// The file of a Unix socket.
    pub file: Option<SocketFile>,
    /// Another process shares it, and keeps it open when this one exits.
    pub handed: bool,
}

/// Binds and listens.
pub(crate) fn listen(bind: &Bind) -> Result<Bound, BindError> {
    match bind {
        Bind::Tcp(address) => listen_tcp(*address).map_err(|error| BindError::of(bind, &error)),
        Bind::Unix(path) => listen_unix(path).map_err(|reason| BindError {
            address: bind.clone(),
            is_in_use: reason == HELD,
            reason,
        }),
    }
}

/// Why listening on a port failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {}: {reason}", .address.to_string().escape_debug())]
pub struct BindError {
    address: Bind,
    reason: String,
    is_in_use: bool,
}

impl BindError {
    /// The failure to bind this address.
    pub(crate) fn of(address: &Bind, error: &io::Error) -> Self {
        let is_in_use = error.kind() == io::ErrorKind::AddrInUse;
        Self { address: address.clone(), reason: error.to_string(), is_in_use }
    }

    /// A failure after binding.
    pub(crate) fn after(address: &Bind, reason: impl fmt::Display) -> Self {
        Self { address: address.clone(), reason: reason.to_string(), is_in_use: false }
    }

    /// The address.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// Whether another program listens there.
    pub fn is_in_use(&self) -> bool {
        self.is_in_use
    }
}

/// Why a Unix socket with a listener cannot be bound.
const HELD: &str = "already in use by a running program";

fn listen_tcp(address: SocketAddr) -> io::Result<Bound> {
    let socket = bind_tcp(address)?;
    socket.listen(BACKLOG)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Bound { socket, address: Bind::Tcp(address), file: None, handed: false })
}

/// Binds a TCP socket. `[::]` is every address, of IPv4 too; on a machine without IPv6 it is
/// `0.0.0.0`.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let is_all = address.ip() == Ipv6Addr::UNSPECIFIED;
    match bind_exactly(address, is_all) {
        Err(error) if is_all && lacks_ipv6(&error) => {
            bind_exactly((Ipv4Addr::UNSPECIFIED, address.port()).into(), false)
        }
        bound => bound,
    }
}

fn bind_exactly(address: SocketAddr, takes_ipv4: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if takes_ipv4 {
        // Whatever `net.ipv6.bindv6only` says.
        socket.set_only_v6(false)?;
    }
    // Otherwise connections in TIME_WAIT would prevent a restart.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether the kernel has no IPv6, or no address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen_unix(path: &Path) -> Result<Bound, String> {
    let address = SockAddr::unix(path).map_err(|e| e.to_string())?;
    remove_stale(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|e| e.to_string())?;
    socket.bind(&address).map_err(|e| e.to_string())?;
    let file = SocketFile::of(path).map_err(|e| e.to_string())?;
    // Connecting fails before `listen`, so the mode from the umask is never in effect.
    file.set_mode().and_then(|()| socket.listen(BACKLOG)).map_err(|e| {
        file.remove();
        e.to_string()
    })?;
    Ok(Bound { socket, address: Bind::Unix(path.to_owned()), file: Some(file), handed: false })
}

/// Removes a socket file without a listener.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.to_string()),
    };
    if !metadata.file_type().is_socket() {
        return Err("the file exists and is not a socket; it was left as it is".to_owned());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|e| e.to_string())?;
    // A listener with a full backlog would block this connect.
    probe.set_nonblocking(true).map_err(|e| e.to_string())?;
    match probe.connect(address) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| format!("a stale socket file is in the way: {e}"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e.to_string()),
        Ok(()) | Err(_) => Err(HELD.to_owned()),
    }
}

/// The file of a Unix socket, identified by its inode, so that a successor's file is never removed.
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Sets its mode. The directory's owner could have replaced it with a link to another file, so
    /// the file is opened without following links, and changed only if it is the same.
    fn set_mode(&self) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::File::from(rustix::fs::open(&self.path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.file_type().is_socket() || metadata.nlink() != 1 || !self.is(&metadata) {
            return Err(io::Error::other("another file has taken the place of the socket"));
        }
        // `fchmod` fails for O_PATH descriptors; this name works.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(name, fs::Permissions::from_mode(SOCKET_FILE_MODE))
    }

    fn is(&self, metadata: &fs::Metadata) -> bool {
        metadata.dev() == self.device && metadata.ino() == self.inode
    }

    /// Removes the file if it is still the same.
    pub fn remove(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| self.is(&metadata)) {
            // Best effort: on failure a stale file stays, which the next start removes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn unix(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        (dir, path)
    }

    #[test]
    fn port_zero_becomes_a_real_port() {
        let bound = listen(&Bind::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let Bind::Tcp(address) = bound.address else { panic!("not TCP") };
        assert_ne!(address.port(), 0);
        let error = listen(&Bind::Tcp(address)).err().unwrap().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[test]
    fn the_socket_file_is_for_owner_and_group() {
        let (_dir, path) = unix("s");
        let bound = listen(&Bind::Unix(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        bound.file.unwrap().remove();
        assert!(!path.exists());
    }

    #[test]
    fn no_link_in_the_place_of_a_socket_leads_to_another_file() {
        let (dir, path) = unix("s");
        let other = dir.path().join("other");
        fs::write(&other, "").unwrap();
        let before = fs::metadata(&other).unwrap().permissions();
        let refused = |path: &Path| SocketFile::of(path).unwrap().set_mode().unwrap_err();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(refused(&path).to_string().contains("another file has taken the place"));
        fs::remove_file(&path).unwrap();
        fs::hard_link(&other, &path).unwrap();
        assert!(refused(&path).to_string().contains("another file has taken the place"));
        assert_eq!(fs::metadata(&other).unwrap().permissions(), before);
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let (_dir, path) = unix("s");
        drop(UnixListener::bind(&path).unwrap());
        let _live = listen(&Bind::Unix(path.clone())).unwrap();
        let error = listen(&Bind::Unix(path.clone())).err().unwrap().to_string();
        assert!(error.contains("already in use"), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let (_dir, path) = unix("notes.txt");
        fs::write(&path, "precious").unwrap();
        let error = listen(&Bind::Unix(path.clone())).err().unwrap().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_successors_file_is_left_alone() {
        let (_dir, path) = unix("s");
        let bound = listen(&Bind::Unix(path.clone())).unwrap();
        // Moved, not removed, so that its inode is not reused for the next file.
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::write(&path, "another").unwrap();
        bound.file.unwrap().remove();
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error() {
        let (_dir, path) = unix(&"x".repeat(200));
        assert!(listen(&Bind::Unix(path)).is_err());
    }
}
