//! The broker's file of keys: which key may register or call which paths.
//!
//! In scope: writing and reading the file, finding the entry for a key that a peer sends. Not in scope: when
//! the file is read, and the consequences.
//!
//! The file is JSON. `server_apikey`, `client_apikey`, `host` and `port` are the original's. `keys` holds
//! additional ones, stored only as SHA-256, each for one role and some paths:
//!
//! ```json
//! {
//!   "server_apikey": "...", "client_apikey": "...", "host": "127.0.0.1", "port": 37791,
//!   "keys": [{"name": "backup", "role": "server", "paths": ["/backup/*"], "sha256": "9f86d0..."}]
//! }
//! ```

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::key::{Key, MAX_KEY};
use super::random;
use crate::fs::{self, Directory};
use crate::rules::Pattern;

/// The largest accepted file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of keys: each key that a peer sends is compared with all of them.
const MAX_KEYS: usize = 1000;
/// The default port of the original.
const DEFAULT_PORT: u16 = 37791;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// Registers paths and receives calls.
    Server,
    /// Calls.
    Client,
}

/// What the broker stores about one key. `Debug` shows only its name.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEntry {
    name: String,
    role: KeyRole,
    paths: Vec<Pattern>,
    sha256: [u8; SHA256_OUTPUT_LEN],
}

impl KeyEntry {
    /// Its name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its role.
    pub fn role(&self) -> KeyRole {
        self.role
    }

    /// Whether it is valid for this path, as written in a request.
    pub fn covers(&self, path: &str) -> bool {
        let path = percent_decode_str(path).decode_utf8_lossy();
        self.paths.iter().any(|pattern| pattern.matches(&path))
    }

    /// Whether both are the same secret in the same role; names do not matter.
    pub fn is(&self, other: &KeyEntry) -> bool {
        self.sha256 == other.sha256 && self.role == other.role
    }
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The valid keys, and the other contents of the file.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: Vec<Arc<KeyEntry>>,
    /// The address to listen on, if the file has one.
    pub bind: Option<SocketAddr>,
}

impl Keyring {
    /// Reads the file. The warning is for the log.
    pub fn load(file: &Path) -> Result<(Self, Option<String>), KeysError> {
        let fail = |reason: String| KeysError { file: file.display().to_string(), reason };
        let (opened, metadata) = fs::open(file).map_err(|e| fail(e.to_string()))?;
        let bytes = fs::read_open(&opened, MAX_FILE).map_err(|e| fail(e.to_string()))?;
        let keyring = Self::parse(&bytes).map_err(fail)?;
        let is_open = metadata.permissions().mode() & 0o077 != 0;
        let warning = format!("{}: other users can read this file; chmod 600 it", file.display());
        Ok((keyring, is_open.then_some(warning)))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The parser's message has line and column, never the text.
        let value =
            serde_json::from_slice::<Value>(bytes).map_err(|e| format!("is no JSON: {e}"))?;
        let file = value.as_object().ok_or("is no JSON object")?;
        let mut keys = Vec::new();
        for (name, role) in [("server_apikey", KeyRole::Server), ("client_apikey", KeyRole::Client)]
        {
            if let Some(value) = file.get(name) {
                let key = value.as_str().and_then(|key| key.parse::<Key>().ok());
                let key = key.ok_or(format!(
                    "{name} is not a text of 1 to {MAX_KEY} printable ASCII characters"
                ))?;
                let paths = vec![Pattern::parse("*")?];
                keys.push(KeyEntry {
                    name: name.to_owned(),
                    role,
                    paths,
                    sha256: sha256(key.reveal()),
                });
            }
        }
        if let Some(more) = file.get("keys") {
            for (at, value) in more.as_array().ok_or("keys is no list")?.iter().enumerate() {
                keys.push(key(value).map_err(|why| format!("key {} of keys: {why}", at + 1))?);
            }
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(format!("has {} keys; 1 to {MAX_KEYS} are needed", keys.len()));
        }
        for (at, key) in keys.iter().enumerate() {
            if let Some(twin) = keys[..at].iter().find(|twin| twin.sha256 == key.sha256) {
                return Err(format!("{} and {} are the same key", twin.name, key.name));
            }
        }
        Ok(Self { keys: keys.into_iter().map(Arc::new).collect(), bind: bind(file)? })
    }

    /// Finds the key whose secret is `shown`. It takes the same time for every wrong key, and reveals nothing
    /// about how close it came.
    pub fn find(&self, shown: &str) -> Option<&Arc<KeyEntry>> {
        let shown = sha256(shown);
        let mut found = None;
        for key in &self.keys {
            if verify_slices_are_equal(&key.sha256, &shown).is_ok() {
                found = Some(key);
            }
        }
        found
    }

    /// Whether a key found earlier is still valid for this path.
    pub fn keeps(&self, key: &KeyEntry, path: &str) -> bool {
        self.keys.iter().any(|kept| kept.is(key) && kept.covers(path))
    }

    /// The number of keys.
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}

/// Creates a file with a new key for each role, readable only by its owner; as root, it gives the file to the
/// owner of the directory. It never overwrites a file.
pub fn create(file: &Path) -> Result<(), KeysError> {
    let fail = |e: io::Error| KeysError {
        file: file.display().to_string(),
        reason: match e.kind() {
            io::ErrorKind::AlreadyExists => {
                "is there already, and no key is overwritten".to_owned()
            }
            _ => e.to_string(),
        },
    };
    let content = json!({
        "server_apikey": random::text(),
        "client_apikey": random::text(),
        "host": "127.0.0.1",
        "port": DEFAULT_PORT,
    });
    let (directory, name) = Directory::of(file).map_err(fail)?;
    let mut made = directory.create(name, 0o600).map_err(fail)?;
    made.write_all(format!("{content:#}\n").as_bytes()).and_then(|()| made.sync_all()).map_err(
        |error| {
            // A partial file would block the next attempt.
            let _ = directory.remove(name);
            fail(error)
        },
    )?;
    directory.sync();
    Ok(())
}

/// What is wrong with a file of keys. Never shows a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct KeysError {
    file: String,
    reason: String,
}

fn sha256(key: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = [0; SHA256_OUTPUT_LEN];
    sum.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    sum
}

fn key(value: &Value) -> Result<KeyEntry, String> {
    let key = value.as_object().ok_or("is no JSON object")?;
    let text =
        |name: &str| key.get(name).and_then(Value::as_str).ok_or(format!("{name} is no text"));
    let name = text("name")?.to_owned();
    let role = match text("role")? {
        "server" => KeyRole::Server,
        "client" => KeyRole::Client,
        _ => return Err("role is neither server nor client".to_owned()),
    };
    let listed = key.get("paths").and_then(Value::as_array).ok_or("paths is no list")?;
    let pattern = |path: &Value| {
        let path = path.as_str().ok_or("a path is no text")?;
        Pattern::parse(path).map_err(|why| format!("path {path:?} {why}"))
    };
    let paths = listed.iter().map(pattern).collect::<Result<Vec<_>, String>>()?;
    if paths.is_empty() {
        return Err("paths is empty; [\"*\"] allows all".to_owned());
    }
    let sha256 = from_hex(text("sha256")?).ok_or("sha256 is not 64 hexadecimal digits")?;
    Ok(KeyEntry { name, role, paths, sha256 })
}

fn from_hex(text: &str) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// `host` and `port` as the original writes them; both may be missing.
fn bind(file: &Map<String, Value>) -> Result<Option<SocketAddr>, String> {
    let (host, port) = (file.get("host"), file.get("port"));
    if host.is_none() && port.is_none() {
        return Ok(None);
    }
    let host = host.map_or(Some("127.0.0.1"), Value::as_str);
    let host = host.and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let host = host.ok_or("host is no IP address")?;
    let port = match port {
        None => Some(DEFAULT_PORT),
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
    };
    Ok(Some(SocketAddr::new(host, port.ok_or("port is no number from 0 to 65535")?)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parse(text: &str) -> Result<Keyring, String> {
        Keyring::parse(text.as_bytes())
    }

    #[test]
    fn a_new_file_is_good_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("remoted.json");
        create(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        let error = create(&file).unwrap_err().to_string();
        assert!(error.ends_with("is there already, and no key is overwritten"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);

        let (keyring, warning) = Keyring::load(&file).unwrap();
        assert_eq!((keyring.count(), warning), (2, None));
        assert_eq!(keyring.bind, Some(([127, 0, 0, 1], 37791).into()));
        let value: Value = serde_json::from_str(&text).unwrap();
        for (name, role) in [("server_apikey", KeyRole::Server), ("client_apikey", KeyRole::Client)]
        {
            let key = value[name].as_str().unwrap();
            assert_eq!(key.len(), 64);
            let found = keyring.find(key).unwrap();
            assert_eq!((found.role(), found.name()), (role, name));
            assert!(keyring.find(&key[1..]).is_none() && !format!("{keyring:?}").contains(key));
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Keyring::load(&file).unwrap().1.unwrap().contains("chmod 600"));
    }

    #[test]
    fn further_keys_have_a_role_and_paths() {
        let sum = sha256("secret").iter().map(|b| format!("{b:02X}")).collect::<String>();
        let keyring = parse(&format!(
            r#"{{"keys": [{{"name": "backup", "role": "server", "paths": ["/backup/*", "/b"],
                "sha256": "{sum}"}}]}}"#
        ))
        .unwrap();
        let key = keyring.find("secret").unwrap();
        assert_eq!((key.name(), key.role()), ("backup", KeyRole::Server));
        for (path, covered) in
            [("/backup/1", true), ("/b", true), ("/backup", false), ("/b/", false), ("/", false)]
        {
            assert_eq!(key.covers(path), covered, "{path}");
            assert_eq!(keyring.keeps(key, path), covered, "{path}");
        }
        assert!(keyring.find("Secret").is_none());
        assert!(!parse(r#"{"server_apikey": "x"}"#).unwrap().keeps(key, "/b"));
    }

    #[test]
    fn the_originals_file_is_read_whatever_else_it_holds() {
        let text = r#"{"serviceuser": "php", "server_apikey": "a", "client_apikey": "b",
            "host": "[::1]", "port": "4000"}"#;
        let keyring = parse(text).unwrap();
        assert_eq!(keyring.bind, Some("[::1]:4000".parse().unwrap()));
        assert_eq!(parse(r#"{"server_apikey": "a"}"#).unwrap().bind, None);
    }

    #[test]
    fn errors_do_not_show_the_key() {
        let entry = |what: &str| format!(r#"{{"keys": [{{"name": "n", {what}}}]}}"#);
        let sum = "0".repeat(64);
        let cases = [
            ("SECRET".to_owned(), "is no JSON: expected value at line 1 column 1"),
            ("[]".to_owned(), "is no JSON object"),
            ("{}".to_owned(), "has 0 keys; 1 to 1000 are needed"),
            (r#"{"server_apikey": "SECRET\n"}"#.to_owned(), "server_apikey is not a text of"),
            (r#"{"server_apikey": 7}"#.to_owned(), "server_apikey is not a text of"),
            (
                r#"{"server_apikey": "SECRET", "client_apikey": "SECRET"}"#.to_owned(),
                "server_apikey and client_apikey are the same key",
            ),
            (entry(r#""role": "x""#), "key 1 of keys: role is neither server nor client"),
            (entry(r#""role": "client""#), "key 1 of keys: paths is no list"),
            (entry(r#""role": "client", "paths": []"#), "key 1 of keys: paths is empty"),
            (
                entry(r#""role": "client", "paths": ["*"], "sha256": "SECRET""#),
                "key 1 of keys: sha256 is not 64 hexadecimal digits",
            ),
            (
                entry(&format!(r#""role": "client", "paths": ["/%"], "sha256": "{sum}""#)),
                "key 1 of keys: path \"/%\" has a % without two",
            ),
            (r#"{"server_apikey": "a", "port": 65536}"#.to_owned(), "port is no number"),
            (r#"{"server_apikey": "a", "host": "localhost"}"#.to_owned(), "host is no IP address"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("SECRET"), "{text}: {error}");
        }
    }
}
