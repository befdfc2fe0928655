//! Keys and certificates made by `openssl`, in a throw-away directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use restpipe::config::IdentityFiles;
use tempfile::TempDir;

/// Arguments of `openssl genpkey` for each kind of key.
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub const ED25519: &[&str] = &["-algorithm", "ED25519"];
pub const RSA_2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
pub const RSA_1024: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];

/// Extensions of a usual CA, server and client.
pub const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
pub const SERVER: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";
pub const CLIENT: &str = "subjectAltName=DNS:web1\nextendedKeyUsage=clientAuth\n";

pub struct Lab(TempDir);

impl Lab {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs `openssl` in the directory.
    pub fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("these tests need the openssl program");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub fn key(&self, file: &str, kind: &[&str]) {
        self.openssl(&[&["genpkey", "-quiet", "-out", file], kind].concat());
    }

    /// Creates `NAME.key.pem` and a self-signed `NAME.crt.pem`.
    pub fn self_signed(&self, name: &str, subject: &str, kind: &[&str], extensions: &str) {
        let (key, crt) = (format!("{name}.key.pem"), format!("{name}.crt.pem"));
        self.key(&key, kind);
        self.request(name, subject);
        self.write("extensions", extensions);
        let request = format!("{name}.csr.pem");
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-signkey",
            &key,
            "-out",
            &crt,
            "-days",
            "30",
            "-extfile",
            "extensions",
        ]);
    }

    /// Creates `NAME.key.pem` and `NAME.crt.pem`, signed by `ca`. Without extensions openssl makes
    /// an X.509 version 1 certificate. `more` are additional arguments of `openssl x509`.
    pub fn signed(
        &self,
        name: &str,
        subject: &str,
        kind: &[&str],
        ca: &str,
        extensions: &str,
        more: &[&str],
    ) {
        self.key(&format!("{name}.key.pem"), kind);
        self.request(name, subject);
        let (ca_crt, ca_key) = (format!("{ca}.crt.pem"), format!("{ca}.key.pem"));
        let (request, crt) = (format!("{name}.csr.pem"), format!("{name}.crt.pem"));
        let mut arguments = vec!["x509", "-req", "-in", &request, "-out", &crt];
        arguments.extend(["-CA", &ca_crt, "-CAkey", &ca_key, "-CAcreateserial"]);
        if !extensions.is_empty() {
            self.write("extensions", extensions);
            arguments.extend(["-extfile", "extensions"]);
        }
        if !more.contains(&"-days") {
            arguments.extend(["-days", "30"]);
        }
        arguments.extend(more);
        self.openssl(&arguments);
    }

    /// A valid P-256 server identity.
    pub fn server(&self, name: &str, ca: &str) -> IdentityFiles {
        self.signed(name, "/CN=localhost", P256, ca, SERVER, &[]);
        self.files(name, ca)
    }

    /// A valid P-256 client identity.
    pub fn client(&self, name: &str, ca: &str) -> IdentityFiles {
        self.signed(name, "/CN=web1", P256, ca, CLIENT, &[]);
        self.files(name, ca)
    }

    pub fn files(&self, name: &str, ca: &str) -> IdentityFiles {
        IdentityFiles {
            key: self.path(&format!("{name}.key.pem")),
            crt: self.path(&format!("{name}.crt.pem")),
            ca: self.path(&format!("{ca}.crt.pem")),
        }
    }

    /// Writes `out`, a new revocation list of this CA, which revokes this certificate alone.
    pub fn revoke(&self, crt: &Path, ca_crt: &Path, ca_key: &Path, out: &str) {
        self.write("index.txt", "");
        self.write("number", "01\n");
        self.write(
            "crl.conf",
            "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ncrlnumber = number\n\
             default_md = sha256\n",
        );
        let [crt, ca_crt, ca_key] = [crt, ca_crt, ca_key].map(|path| path.to_str().unwrap());
        let ca = ["ca", "-config", "crl.conf", "-cert", ca_crt, "-keyfile", ca_key];
        self.openssl(&[&ca[..], &["-revoke", crt]].concat());
        self.openssl(&[&ca[..], &["-gencrl", "-crldays", "30", "-out", out]].concat());
    }

    fn request(&self, name: &str, subject: &str) {
        let (key, request) = (format!("{name}.key.pem"), format!("{name}.csr.pem"));
        self.openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &request]);
    }
}

/// The permissions of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
