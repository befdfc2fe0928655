//! The real nginx as a process.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::port::free_address;

/// nginx, killed when dropped. All its files are in one directory, to which the paths in its sites are relative.
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Nginx {
    /// With these sites, which get the address to listen on.
    pub fn start(sites: impl Fn(SocketAddr) -> String) -> Self {
        // nginx cannot report which port it took, so it gets one that was free a moment ago, and another
        // if that was taken meanwhile.
        for _ in 0..5 {
            let address = free_address();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("nginx.conf"), configuration(&sites(address))).unwrap();
            let child = Command::new("nginx")
                .env("PATH", path())
                .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
                .arg(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut nginx = Self { child, address, dir };
            if nginx.comes_up() {
                return nginx;
            }
            let log = nginx.log();
            assert!(log.contains("Address already in use"), "{log}");
        }
        panic!("no port for nginx");
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn comes_up(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            assert!(Instant::now() < until, "nginx does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("nginx: {}", self.log());
        }
    }
}

/// Debian installs nginx where only root's search path leads.
pub fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

fn configuration(sites: &str) -> String {
    format!(
        "daemon off;
        # One process, so that nothing is left when it is killed, and no other user.
        master_process off;
        pid nginx.pid;
        error_log error.log;
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            {sites}
        }}
        "
    )
}
