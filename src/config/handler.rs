//! The value of `RP_EVENT_HANDLER`: one handler, or several that share the nouns.
//!
//! In scope: the grammar. Not in scope: whether a directory exists and a name is known; that is
//! checked when the handlers are built.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, SettingOrigin};
use super::service::ServiceAddress;
use super::value::{self, Expected};

/// Longest value, and longest path in it (`PATH_MAX` of Linux).
const MAX_BYTES: usize = 16 * 1024;
const MAX_PATH_BYTES: usize = 4096;
/// Longest name of a handler or a segment.
const MAX_NAME_BYTES: usize = 128;
/// Most handlers in one value.
const MAX_MOUNTS: usize = 64;

/// The chosen handlers, and where they were set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerChoice {
    /// What answers.
    pub handlers: Mounting,
    /// The variable, in the spelling that was used.
    pub variable: String,
    /// Where it was set.
    pub origin: SettingOrigin,
}

/// One handler for everything, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounting {
    /// It gets every event unchanged.
    One(HandlerSpec),
    /// `SEGMENT=SPEC,...`: selected by the noun's first segment. At least one; segments are unique.
    Several(Vec<Mount>),
}

/// One of several handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The first segment of its nouns, removed before the handler gets them; `None` for `*`, which
    /// gets all other events unchanged.
    pub segment: Option<String>,
    /// What answers them.
    pub spec: HandlerSpec,
}

/// One handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerSpec {
    /// `example`, `none`, or one that the program has registered under this name.
    Named(String),
    /// `files:DIR` and `files+rw:DIR`: the files of a directory.
    Files {
        /// The directory, absolute.
        dir: PathBuf,
        /// Whether they may be written and removed.
        writable: bool,
    },
    /// `exec:DIR`: the programs in a directory, which is absolute.
    Exec(PathBuf),
    /// `http://HOST:PORT/PREFIX` and `http+unix:PATH`: a local service.
    Service(ServiceAddress),
}

impl HandlerChoice {
    /// The error for a name that is not among the program's `known` handlers.
    pub fn not_among(&self, name: &str, known: &[&str]) -> ConfigError {
        ConfigError::Value {
            name: self.variable.clone(),
            origin: self.origin.clone(),
            given: name.to_owned(),
            accepted: known.join(", "),
        }
    }

    /// The error for a handler that cannot be used.
    pub fn unusable(&self, spec: &HandlerSpec, reason: String) -> ConfigError {
        ConfigError::Handler {
            name: self.variable.clone(),
            origin: self.origin.clone(),
            spec: spec.to_string(),
            reason,
        }
    }
}

/// As in the variable.
impl fmt::Display for HandlerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mounts = match &self.handlers {
            Mounting::One(spec) => return write!(f, "{spec}"),
            Mounting::Several(mounts) => mounts,
        };
        for (at, Mount { segment, spec }) in mounts.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}={spec}", segment.as_deref().unwrap_or("*"))?;
        }
        Ok(())
    }
}

/// As in the variable.
impl fmt::Display for HandlerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_path = |f: &mut fmt::Formatter<'_>, scheme, path: &Path| {
            write!(f, "{scheme}:{}", path.display())
        };
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Files { dir, writable: false } => with_path(f, "files", dir),
            Self::Files { dir, writable: true } => with_path(f, "files+rw", dir),
            Self::Exec(dir) => with_path(f, "exec", dir),
            Self::Service(address) => write!(f, "{address}"),
        }
    }
}

/// Reads the whole value.
pub(super) fn read(text: &str) -> Result<Mounting, Expected> {
    if text.len() > MAX_BYTES {
        return Err(format!("a value of at most {MAX_BYTES} bytes"));
    }
    let first = text.split(',').next().unwrap_or(text);
    if mounted(first).is_none() {
        return spec(text).map(Mounting::One);
    }
    let mut mounts: Vec<Mount> = Vec::new();
    for piece in text.split(',').map(trim) {
        let Some((segment, handler)) = mounted(piece) else {
            return Err(format!(
                "SEGMENT=HANDLER in every place between commas, and {} is none; a path with a comma \
                 cannot stand beside others",
                shown(piece)
            ));
        };
        let segment = (segment != "*").then(|| segment.to_owned());
        if mounts.iter().any(|mount| mount.segment == segment) {
            let segment = segment.as_deref().unwrap_or("*");
            return Err(format!("every segment once, and {segment}= stands there twice"));
        }
        if mounts.len() == MAX_MOUNTS {
            return Err(format!("at most {MAX_MOUNTS} handlers"));
        }
        let spec = spec(handler).map_err(|expected| format!("{expected}, in {}", shown(piece)))?;
        mounts.push(Mount { segment, spec });
    }
    Ok(Mounting::Several(mounts))
}

/// Segment and handler of `SEGMENT=HANDLER`. In a single handler no equals sign follows only
/// letters, digits and the like.
fn mounted(piece: &str) -> Option<(&str, &str)> {
    let (segment, handler) = trim(piece).split_once('=')?;
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~".contains(&byte);
    let is_segment = segment == "*"
        || (1..=MAX_NAME_BYTES).contains(&segment.len())
            && segment.bytes().all(is_clean)
            && segment != "."
            && segment != "..";
    is_segment.then(|| (segment, trim(handler)))
}

/// Reads one handler.
fn spec(text: &str) -> Result<HandlerSpec, Expected> {
    if let Some(dir) = text.strip_prefix("files:") {
        return Ok(HandlerSpec::Files { dir: directory(dir)?, writable: false });
    }
    if let Some(dir) = text.strip_prefix("files+rw:") {
        return Ok(HandlerSpec::Files { dir: directory(dir)?, writable: true });
    }
    if let Some(dir) = text.strip_prefix("exec:") {
        return directory(dir).map(HandlerSpec::Exec);
    }
    if let Some(url) = text.strip_prefix("http://") {
        return ServiceAddress::from_url(url).map(HandlerSpec::Service);
    }
    if let Some(path) = text.strip_prefix("http+unix:") {
        return ServiceAddress::from_socket(path).map(HandlerSpec::Service);
    }
    name(text).map(HandlerSpec::Named)
}

/// An absolute path, as the working directory of a node varies.
fn directory(text: &str) -> Result<PathBuf, Expected> {
    let fits = (1..=MAX_PATH_BYTES).contains(&text.len()) && text.starts_with('/');
    let path = value::path(text)?;
    if fits { Ok(path) } else { Err("an absolute path of a directory after the colon".to_owned()) }
}

/// The name of a handler, such as `example` or `my_project.events.Handler`.
fn name(text: &str) -> Result<String, Expected> {
    /// These are schemes, not names of handlers.
    const SCHEMES: [&str; 7] = ["http", "https", "http+unix", "unix", "file", "files", "exec"];
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    let clean = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    let fits = (1..=MAX_NAME_BYTES).contains(&text.len());
    if fits && text.bytes().all(clean) && !is_scheme {
        return Ok(text.to_owned());
    }
    Err(format!(
        "files:DIR, files+rw:DIR, exec:DIR, http://HOST:PORT/PREFIX, http+unix:PATH, a name of up to \
         {MAX_NAME_BYTES} letters, digits and _ - . :, or several as SEGMENT=HANDLER,..."
    ))
}

/// Whitespace around a comma or an equals sign is ignored.
fn trim(text: &str) -> &str {
    text.trim_matches(' ')
}

fn shown(piece: &str) -> String {
    format!("{:?}", without_userinfo(piece).chars().take(60).collect::<String>())
}

/// The text without a possible password: what is between `://` and `@`.
pub(super) fn without_userinfo(text: &str) -> String {
    let mut parts = text.split("://");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str("://");
        match part.rsplit_once('@') {
            Some((_, rest)) => kept.extend(["...@", rest]),
            None => kept.push_str(part),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> HandlerSpec {
        HandlerSpec::Named(name.to_owned())
    }

    #[test]
    fn one_handler_is_read_as_it_stands() {
        let files = |dir: &str, writable| HandlerSpec::Files { dir: dir.into(), writable };
        for (text, expected) in [
            ("example", named("example")),
            ("my_project.events.Handler", named("my_project.events.Handler")),
            ("a.b.C_d-1:x", named("a.b.C_d-1:x")),
            ("files:/srv/share", files("/srv/share", false)),
            ("files+rw:/srv/a=b, c", files("/srv/a=b, c", true)),
            ("exec:/etc/restpipe/handlers", HandlerSpec::Exec("/etc/restpipe/handlers".into())),
        ] {
            assert_eq!(read(text), Ok(Mounting::One(expected.clone())), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        let long = format!("files:/{}", "d".repeat(MAX_PATH_BYTES - 1));
        assert!(read(&long).is_ok());
        assert!(read(&format!("{long}d")).is_err());
    }

    #[test]
    fn several_are_told_apart_by_their_segments() {
        let text = "share=files:/srv/share, api=http://127.0.0.1:9000/v1,mine=my.Handler,\
                    *=exec:/etc/h";
        let Ok(Mounting::Several(mounts)) = read(text) else { panic!("{:?}", read(text)) };
        let shown: Vec<String> = mounts
            .iter()
            .map(|mount| format!("{}={}", mount.segment.as_deref().unwrap_or("*"), mount.spec))
            .collect();
        assert_eq!(shown.join(","), text.replace(", ", ","));
        assert!(matches!(read("a=example"), Ok(Mounting::Several(mounts)) if mounts.len() == 1));
    }

    #[test]
    fn what_cannot_be_used_is_told_in_words() {
        for (text, expected) in [
            ("", "files:DIR"),
            ("a b", "files:DIR"),
            ("a/b", "files:DIR"),
            ("ä", "files:DIR"),
            ("a\n", "files:DIR"),
            ("https://127.0.0.1:1/", "http://HOST:PORT/PREFIX"),
            ("HTTP://127.0.0.1:1/", "http://HOST:PORT/PREFIX"),
            ("https:x", "http://HOST:PORT/PREFIX"),
            ("file:/x", "files:DIR"),
            ("ftp://x", "files:DIR"),
            ("files:", "absolute path"),
            ("files:share", "absolute path"),
            ("exec:./x", "absolute path"),
            ("files:/a\0b", "control characters"),
            ("a=example,b", "SEGMENT=HANDLER"),
            ("a=example,", "SEGMENT=HANDLER"),
            ("a=files:/x,y", "a path with a comma"),
            ("a=example,a=example", "a= stands there twice"),
            ("*=example,*=x", "*= stands there twice"),
            ("a=", "in \"a=\""),
            ("a=files:x", "in \"a=files:x\""),
            ("..=example", "files:DIR"),
            ("a%2Fb=example", "files:DIR"),
            ("a/b=example", "files:DIR"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(expected), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message:?}");
        }
        assert!(read(&"a".repeat(129)).is_err());
        let many = |count: usize| {
            read(&(0..count).map(|n| format!("s{n}=x")).collect::<Vec<_>>().join(","))
        };
        assert!(many(MAX_MOUNTS).is_ok());
        assert!(many(MAX_MOUNTS + 1).is_err());
    }
}
