//! From the process environment and a file to one value per variable.
//!
//! In scope: where a value comes from, precedence, unknown names. Not in scope: the format of a
//! value (`value`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, SettingOrigin, Warning};
use super::file;
use super::nearest::nearest;
use super::variables::{self, LOG_FILTER, VARIABLES, Variable};

/// The variables of a process, or of a test.
#[derive(Clone, Default)]
pub struct Environment {
    /// The given values, without empty ones that mean unset.
    values: BTreeMap<OsString, OsString>,
    /// The variables of the service manager.
    manager: BTreeMap<OsString, OsString>,
    /// A file of further values; if absent, a variable may name one.
    config: Option<PathBuf>,
}

/// Values that may be, or hold, a secret are left out.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secret = |name: &OsStr| {
            let name = name.to_string_lossy();
            variables::SECRET.iter().any(|secret| secret.names.contains(&&*name))
        };
        let shown = self.values.iter().map(|(name, value)| {
            (name, if is_secret(name) { OsStr::new("(not shown)") } else { value })
        });
        f.debug_map().entries(shown).finish()
    }
}

impl Environment {
    /// The environment of this process.
    pub fn from_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    /// With this file of further settings, as `--config` gives it, in place of the one that
    /// `RP_*_USER_CONFIG_MODULE` names.
    pub fn with_config(self, config: Option<PathBuf>) -> Self {
        Self { config, ..self }
    }

    /// An environment of these variables only. An empty value means unset, except for
    /// `RP_CLIENT_PROXY`.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        // Everything else belongs to other programs; dropping it also keeps it out of `Debug`.
        let ours = |name: &OsStr| {
            let name = name.to_string_lossy();
            name.starts_with(PREFIX) || variables::find(&name).is_some()
        };
        let says_something = |name: &OsStr, value: &OsStr| {
            !value.is_empty() || variables::empty_counts(&name.to_string_lossy())
        };
        let mut environment = Self::default();
        for (name, value) in pairs {
            if MANAGER.iter().any(|known| name == *known) {
                environment.manager.insert(name, value);
            } else if ours(&name) && says_something(&name, &value) {
                environment.values.insert(name, value);
            }
        }
        environment
    }

    /// The value of a variable of the service manager, such as `NOTIFY_SOCKET`.
    pub fn manager(&self, name: &str) -> Option<&OsStr> {
        self.manager.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// `RUST_LOG` of the process, if it is set and UTF-8. The configuration of a role fails if it is
    /// no filter.
    pub fn log_filter(&self) -> Option<&str> {
        self.values.get(OsStr::new(LOG_FILTER.names[0]))?.to_str()
    }

    /// The settings of a program: the process environment, then the file that the variable `file`
    /// names.
    pub(super) fn settings(
        &self,
        file: &Variable,
    ) -> Result<(Settings, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let mut settings = Settings { layers: vec![self.process_layer(&mut warnings)?] };
        let named = match &self.config {
            Some(path) => Some(("--config".to_owned(), path.clone())),
            None => settings.find(file)?.map(|given| (given.name, PathBuf::from(given.text))),
        };
        if let Some((name, path)) = named {
            settings.layers.push(file_layer(name, path, &mut warnings)?);
        }
        Ok((settings, warnings))
    }

    /// The settings of a program without such a file.
    pub(super) fn settings_of_process(&self) -> Result<(Settings, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let layers = vec![self.process_layer(&mut warnings)?];
        Ok((Settings { layers }, warnings))
    }

    fn process_layer(&self, warnings: &mut Vec<Warning>) -> Result<Layer, ConfigError> {
        let mut values = BTreeMap::new();
        for (name, value) in &self.values {
            let name = name.to_string_lossy().into_owned();
            if variables::find(&name).is_none() {
                warnings.push(unknown(&name, SettingOrigin::Process));
                continue;
            }
            let Some(value) = value.to_str() else { return Err(ConfigError::NotText(name)) };
            values.insert(name, value.to_owned());
        }
        Ok(Layer { origin: SettingOrigin::Process, values })
    }
}

fn file_layer(
    named_by: String,
    path: PathBuf,
    warnings: &mut Vec<Warning>,
) -> Result<Layer, ConfigError> {
    let unusable =
        |reason| ConfigError::File { name: named_by.clone(), path: path.clone(), reason };
    let mut values = file::read(&path).map_err(unusable)?;
    if let Some(name) = values.keys().find(|name| variables::names_a_file(name)) {
        // To a unit of systemd it would be a file of its own.
        return Err(unusable(format!("sets {name}; a file of settings names no other")));
    }
    let origin = SettingOrigin::File(path);
    values.retain(|name, _| match variables::find(name) {
        Some(variable) if variable.allowed_in_file => true,
        Some(_) => {
            warnings.push(Warning::ProcessOnly { name: name.clone(), origin: origin.clone() });
            false
        }
        None => {
            warnings.push(unknown(name, origin.clone()));
            false
        }
    });
    Ok(Layer { origin, values })
}

fn unknown(name: &str, origin: SettingOrigin) -> Warning {
    let names = VARIABLES.iter().flat_map(|variable| variable.names).copied();
    Warning::UnknownName { name: name.to_owned(), origin, suggestion: nearest(name, names) }
}

/// The prefix of this program's own variables.
const PREFIX: &str = "RP_";

/// The variables that systemd sets for a service: `sd_listen_fds(3)`, `sd_notify(3)` and
/// `sd_watchdog_enabled(3)`.
const MANAGER: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The values that apply to one program.
pub(super) struct Settings {
    /// An earlier layer overrides a later one.
    layers: Vec<Layer>,
}

struct Layer {
    origin: SettingOrigin,
    values: BTreeMap<String, String>,
}

/// One given value.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The name under which it was given.
    pub(super) name: String,
    /// Where.
    pub(super) origin: SettingOrigin,
    /// What.
    pub(super) text: String,
}

impl Settings {
    /// The value of a variable, or `None` if it was not given. Two spellings conflict only within
    /// the same source: the process environment still overrides the file.
    pub(super) fn find(&self, variable: &Variable) -> Result<Option<Given>, ConfigError> {
        for layer in &self.layers {
            let mut given = variable.names.iter().filter_map(|name| {
                let text = layer.values.get(*name)?;
                if text.is_empty() && !variables::empty_counts(name) {
                    return None;
                }
                Some(Given {
                    name: (*name).to_owned(),
                    origin: layer.origin.clone(),
                    text: text.clone(),
                })
            });
            let Some(first) = given.next() else { continue };
            if let Some(second) = given.find(|other| other.text != first.text)
                && !variables::may_differ(variable)
            {
                return Err(ConfigError::Conflict {
                    names: [first.name, second.name],
                    values: [first.text, second.text],
                    origin: first.origin,
                });
            }
            return Ok(Some(first));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::config::variables::{DEBUG, PIPE_PORT, SERVER_FILE};

    fn settings(pairs: &[(&str, &str)]) -> Result<(Settings, Vec<Warning>), ConfigError> {
        Environment::from_pairs(pairs.iter().copied()).settings(&SERVER_FILE)
    }

    fn text(settings: &Settings, variable: &Variable) -> Option<String> {
        settings.find(variable).unwrap().map(|given| given.text)
    }

    /// The settings and warnings, as text, with a file of this content.
    fn with_file(
        content: &[u8],
        pairs: &[(&str, &str)],
    ) -> Result<(Settings, Vec<String>), ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let path = file.path().to_str().unwrap();
        let mut pairs = pairs.to_vec();
        pairs.push(("RP_SERVER_USER_CONFIG_MODULE", path));
        let (settings, warnings) = settings(&pairs)?;
        let shown = warnings.iter().map(|w| w.to_string().replace(path, "FILE")).collect();
        Ok((settings, shown))
    }

    #[test]
    fn an_empty_value_is_none() {
        let (settings, warnings) = settings(&[("BIND_PORT", ""), ("RP_UNKNOWN", "")]).unwrap();
        assert_eq!(text(&settings, &PIPE_PORT), None);
        assert_eq!(warnings, []);
    }

    #[test]
    fn two_spellings_agree_or_are_an_error_that_names_both() {
        let both = |one, other| {
            let pairs = [("BIND_PORT", one), ("RP_SERVER_BIND_PORT", other)];
            settings(&pairs).unwrap().0.find(&PIPE_PORT)
        };
        assert_eq!(both("7", "7").unwrap().unwrap().text, "7");
        assert_eq!(both("", "8").unwrap().unwrap().name, "RP_SERVER_BIND_PORT");
        let error = both("7", "8").unwrap_err().to_string();
        assert_eq!(
            error,
            "BIND_PORT is \"7\" and RP_SERVER_BIND_PORT is \"8\"; both set the same thing, so set \
             one of them"
        );
    }

    #[test]
    fn values_that_are_not_text_are_refused_where_they_would_be_read() {
        let broken = OsString::from_vec(vec![0x31, 0xff]);
        let environment = Environment::from_pairs([("BIND_PORT", broken.clone())]);
        let error = environment.settings(&SERVER_FILE).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("BIND_PORT is not UTF-8 text"));
        let environment = Environment::from_pairs([("SOMETHING", broken)]);
        assert_eq!(environment.settings(&SERVER_FILE).unwrap().1, []);
    }

    #[test]
    fn unknown_names_are_warned_about_but_not_those_of_the_other_role_or_other_programs() {
        let pairs = [
            ("RP_CLIENT_TARGET_PORT", "1"),
            ("RP_SERVER_CRT_PATH", "x"),
            ("RP_COLOUR", "red"),
            ("BIND_PROT", "1"),
            ("HOME", "/root"),
        ];
        let shown: Vec<_> = settings(&pairs).unwrap().1.iter().map(Warning::to_string).collect();
        assert_eq!(
            shown,
            [
                "RP_COLOUR is not known and changes nothing",
                "RP_SERVER_CRT_PATH is not known and changes nothing; did you mean \
                 RP_SERVER_CERT_PATH?",
            ]
        );
    }

    #[test]
    fn the_file_sets_what_the_process_does_not() {
        let content = b"BIND_PORT=7\nDEBUG=1\nRP_DRAIN_S=2\nRUST_LOG=warn\nhttps_proxy=p:1";
        let (settings, warnings) = with_file(content, &[("RP_SERVER_BIND_PORT", "8")]).unwrap();
        assert_eq!(text(&settings, &PIPE_PORT).as_deref(), Some("8"));
        assert_eq!(text(&settings, &DEBUG).as_deref(), Some("1"));
        assert_eq!(text(&settings, &variables::DRAIN).as_deref(), Some("2"));
        // As for a unit of systemd, which gives them to the process.
        assert_eq!(text(&settings, &LOG_FILTER).as_deref(), Some("warn"));
        assert_eq!(text(&settings, &variables::HTTPS_PROXY).as_deref(), Some("p:1"));
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn names_in_the_file_that_change_nothing_are_warned_about() {
        let content = b"BIND_PROT=1\nRP_REMOTED_BIND=unix:/x\nCOLOUR=red\nRP_CLIENT_TARGETS=all\n";
        let (_, warnings) = with_file(content, &[]).unwrap();
        assert_eq!(
            warnings,
            [
                "BIND_PROT in \"FILE\" is not known and changes nothing; did you mean BIND_PORT?",
                "COLOUR in \"FILE\" is not known and changes nothing",
                "RP_REMOTED_BIND in \"FILE\" changes nothing: it is read from the process environment \
                 only",
            ]
        );
    }

    #[test]
    fn a_bad_file_is_one_error_that_names_variable_and_line() {
        match with_file(b"DEBUG=1\nnonsense\n", &[]) {
            Err(ConfigError::File { name, reason, .. }) => {
                assert_eq!(name, "RP_SERVER_USER_CONFIG_MODULE");
                assert!(reason.starts_with("line 2 "), "{reason}");
            }
            other => panic!("{:?}", other.map(|(_, warnings)| warnings)),
        }
    }

    #[test]
    fn a_file_of_the_command_line_wins_over_the_variables_and_names_no_other() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"BIND_PORT=7").unwrap();
        let env = Environment::from_pairs([("RP_SERVER_USER_CONFIG_MODULE", "/no/such/file")]);
        let env = env.with_config(Some(file.path().to_owned()));
        let (settings, _) = env.settings(&SERVER_FILE).unwrap();
        assert_eq!(text(&settings, &PIPE_PORT).as_deref(), Some("7"));

        file.write_all(b"\nRP_CLIENT_USER_CONFIG_MODULE=/x").unwrap();
        let error = env.settings(&SERVER_FILE).err().unwrap().to_string();
        let expected = "sets RP_CLIENT_USER_CONFIG_MODULE; a file of settings names no other";
        assert!(error.starts_with("--config names ") && error.ends_with(expected), "{error}");
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_variable_and_file() {
        let Err(error) = settings(&[("RP_SERVER_USER_CONFIG_MODULE", "/no/such\nfile")]) else {
            panic!("read a file that is not there");
        };
        assert_eq!(
            error.to_string(),
            "RP_SERVER_USER_CONFIG_MODULE names \"/no/such\\nfile\": No such file or directory \
             (os error 2)"
        );
    }

    #[test]
    fn other_programs_variables_are_not_kept() {
        let environment = Environment::from_pairs([("SOME_PASSWORD", "hunter2"), ("DEBUG", "1")]);
        let shown = format!("{environment:?}");
        assert!(shown.contains("DEBUG") && !shown.contains("hunter2"), "{shown}");
    }
}
