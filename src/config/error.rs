//! Errors and warnings about an environment, one line each.

use std::fmt;
use std::path::PathBuf;

use super::Bind;

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The process environment.
    Process,
    /// A file that `--config` or `RP_*_USER_CONFIG_MODULE` names.
    File(PathBuf),
    /// The program that made the configuration.
    Program,
}

impl SettingOrigin {
    /// In words, for a line of its own.
    pub(super) fn whence(&self) -> String {
        match self {
            Self::Process => "from the environment".to_owned(),
            Self::File(path) => format!("from {}", path.display().to_string().escape_debug()),
            Self::Program => "from the program".to_owned(),
        }
    }
}

/// Written behind a variable's name.
impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => Ok(()),
            Self::File(path) => write!(f, " in {path:?}"),
            Self::Program => write!(f, ", set by the program,"),
        }
    }
}

/// Why an environment cannot be used. A program exits with code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that is not accepted.
    #[error("{name}{origin} is {}; accepted is {accepted}", Shown(given))]
    Value {
        /// The name under which it was given.
        name: String,
        /// Where it was given.
        origin: SettingOrigin,
        /// The value.
        given: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A handler with valid syntax that cannot be used.
    #[error("{name}{origin}: {} cannot be used: {reason}", Shown(spec))]
    Handler {
        /// The name under which it was given.
        name: String,
        /// Where it was given.
        origin: SettingOrigin,
        /// The handler, as given.
        spec: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that is not UTF-8.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// Two spellings of one setting with different values.
    #[error(
        "{}{origin} is {} and {} is {}; both set the same thing, so set one of them",
        names[0], Shown(&values[0]), names[1], Shown(&values[1])
    )]
    Conflict {
        /// The two names.
        names: [String; 2],
        /// The two values, in that order.
        values: [String; 2],
        /// Where both were given.
        origin: SettingOrigin,
    },
    /// The file of further values cannot be used.
    #[error("{name} names {path:?}: {reason}")]
    File {
        /// The variable that names it.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A warning about a usable environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A name that nothing reads.
    UnknownName {
        /// The name.
        name: String,
        /// Where it was given.
        origin: SettingOrigin,
        /// The known name that was probably intended.
        suggestion: Option<&'static str>,
    },
    /// A name in a file, although it is read only from the process environment.
    ProcessOnly {
        /// The name.
        name: String,
        /// Where it was given.
        origin: SettingOrigin,
    },
    /// A value of `DEBUG` that is another program's.
    ForeignDebug {
        /// The value.
        given: String,
        /// Where it was given.
        origin: SettingOrigin,
    },
    /// The local HTTP port can be reached from other machines.
    PublicHttp {
        /// The variable, or other source of the address.
        name: String,
        /// The address.
        bind: String,
    },
}

impl Warning {
    /// [`Warning::PublicHttp`], if the local HTTP port at `bind` can be reached from other
    /// machines.
    pub(crate) fn if_public(name: &str, bind: &Bind) -> Option<Self> {
        let Bind::Tcp(address) = bind else { return None };
        let is_public = !address.ip().to_canonical().is_loopback();
        is_public.then(|| Self::PublicHttp { name: name.to_owned(), bind: address.to_string() })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName { name, origin, suggestion } => {
                write!(f, "{}{origin} is not known and changes nothing", name.escape_debug())?;
                suggestion.map_or(Ok(()), |known| write!(f, "; did you mean {known}?"))
            }
            Self::ProcessOnly { name, origin } => write!(
                f,
                "{name}{origin} changes nothing: it is read from the process environment only"
            ),
            Self::ForeignDebug { given, origin } => write!(
                f,
                "DEBUG{origin} is {}, which is neither 0 nor 1; it is taken for another program's, and \
                 changes nothing",
                Shown(given)
            ),
            Self::PublicHttp { name, bind } => write!(
                f,
                "{name} is {bind}: whoever reaches this port can use the pipe, for it asks for no \
                 password; bind it to 127.0.0.1 or a Unix socket"
            ),
        }
    }
}

/// A value as a message shows it: quoted, control characters escaped, cut to a line.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 80;
        match self.0.char_indices().nth(MAX_CHARS) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}... ({} bytes)", &self.0[..end], self.0.len()),
        }
    }
}
