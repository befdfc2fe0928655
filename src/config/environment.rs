//! From the process environment and a file to one value per variable.
//!
//! In scope: where a value comes from, which of several wins, unknown names. Not in scope: what a
//! value has to look like (`value`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin, Warning};
use super::variables::{self, LOG_FILTER, Variable};

/// The variables of a process, or of a test.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// What was given, empty values left out.
    values: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn from_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    /// An environment of these variables only. An empty value is the same as none.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        // Everything else belongs to other programs; not keeping it keeps it out of `Debug` too.
        let ours = |name: &OsStr| {
            let name = name.to_string_lossy();
            name.starts_with(PREFIX) || variables::find(&name).is_some()
        };
        Self { values: pairs.filter(|(name, value)| ours(name) && !value.is_empty()).collect() }
    }

    /// `RUST_LOG`, where it is set and text.
    pub fn log_filter(&self) -> Option<&str> {
        self.values.get(OsStr::new(LOG_FILTER.names[0]))?.to_str()
    }

    /// What a program reads: the process environment over the file that `file` names.
    pub(super) fn settings(
        &self,
        file: &Variable,
    ) -> Result<(Settings, Vec<Warning>), ConfigError> {
        let mut process = BTreeMap::new();
        for (name, value) in &self.values {
            let name = name.to_string_lossy().into_owned();
            // What nothing reads may be anything.
            let known = variables::find(&name).is_some();
            match value.to_str() {
                Some(value) => process.insert(name, value.to_owned()),
                None if known => return Err(ConfigError::NotText(name)),
                None => process.insert(name, String::new()),
            };
        }
        let mut warnings = Vec::new();
        for name in process.keys().filter(|name| variables::find(name).is_none()) {
            warnings.push(unknown(name, Origin::Process));
        }
        let mut layers = vec![Layer { origin: Origin::Process, values: process }];
        let process = Settings { layers: layers.clone() };
        if let Some(named) = process.find(file)? {
            let path = PathBuf::from(&named.text);
            let values = read_file(&path).map_err(|reason| ConfigError::File {
                name: named.name,
                path: path.clone(),
                reason,
            })?;
            let origin = Origin::File(path);
            for name in values.keys() {
                match variables::find(name) {
                    None => warnings.push(unknown(name, origin.clone())),
                    Some(variable) if !variable.allowed_in_file => warnings
                        .push(Warning::ProcessOnly { name: name.clone(), origin: origin.clone() }),
                    Some(_) => {}
                }
            }
            layers.push(Layer { origin, values });
        }
        Ok((Settings { layers }, warnings))
    }
}

/// What the names of this program's own variables begin with, as far as it chose them.
const PREFIX: &str = "RP_";

/// The values that apply to one program.
pub(super) struct Settings {
    /// An earlier layer wins over a later one.
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    origin: Origin,
    values: BTreeMap<String, String>,
}

/// One value that was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The name under which it was given.
    pub(super) name: String,
    /// Where.
    pub(super) origin: Origin,
    /// What.
    pub(super) text: String,
}

impl Settings {
    /// The value of a variable, or `None` where it was not given. Two spellings are compared within
    /// the process environment or within the file: the first still wins over the second.
    pub(super) fn find(&self, variable: &Variable) -> Result<Option<Given>, ConfigError> {
        for layer in &self.layers {
            let mut given = variable.names.iter().filter_map(|name| {
                let text = layer.values.get(*name).filter(|text| !text.is_empty())?;
                Some(Given {
                    name: (*name).to_owned(),
                    origin: layer.origin.clone(),
                    text: text.clone(),
                })
            });
            let Some(first) = given.next() else { continue };
            if let Some(second) = given.find(|other| other.text != first.text) {
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

fn unknown(name: &str, origin: Origin) -> Warning {
    Warning::UnknownName { name: name.to_owned(), origin, suggestion: variables::nearest(name) }
}

/// The `NAME=value` lines of a file: `#` comments, quotes and `export` as in a shell, each value on
/// its own line and taken as it is.
fn read_file(path: &Path) -> Result<BTreeMap<String, String>, String> {
    // All variables together fit many times; a file that is larger was not meant.
    const MAX_BYTES: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("larger than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let mut values = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let Some((name, value)) = read_line(line).map_err(|why| format!("line {number} {why}"))?
        else {
            continue;
        };
        match values.get(&name) {
            Some(earlier) if *earlier != value => {
                return Err(format!("line {number} sets {name} to another value than before"));
            }
            _ => values.insert(name, value),
        };
    }
    Ok(values)
}

/// The name and value of one line; `None` for an empty line or a comment.
fn read_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    if line.trim_start().starts_with('#') {
        return Ok(None);
    }
    // The parser would put in other variables here, and nothing where there are none.
    if line.contains('$') {
        return Err("has a `$`; values are not expanded, so write it out");
    }
    // One line at a time: an open quote ends with its line, and the line's number is known.
    let terminated = format!("{line}\n");
    let mut pairs = dotenvy::from_read_iter(terminated.as_bytes());
    match pairs.next() {
        None => Ok(None),
        Some(Ok(pair)) => Ok(Some(pair)),
        Some(Err(_)) => Err("is not NAME=value (a value with spaces needs quotes)"),
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
        let content = b"\xef\xbb\xbf# it's mine: $5\n\nexport BIND_PORT='7'\r\nDEBUG=1 # yes\nRP_DRAIN_S = \"2\" ";
        let (settings, warnings) = with_file(content, &[("RP_SERVER_BIND_PORT", "8")]).unwrap();
        assert_eq!(text(&settings, &PIPE_PORT).as_deref(), Some("8"));
        assert_eq!(text(&settings, &DEBUG).as_deref(), Some("1"));
        assert_eq!(text(&settings, &variables::DRAIN).as_deref(), Some("2"));
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn names_in_the_file_that_change_nothing_are_warned_about() {
        let content = b"BIND_PROT=1\nRUST_LOG=trace\nRP_SERVER_USER_CONFIG_MODULE=/x\nCOLOUR=red\n";
        let (_, warnings) = with_file(content, &[]).unwrap();
        assert_eq!(
            warnings,
            [
                "BIND_PROT in \"FILE\" is not known and changes nothing; did you mean BIND_PORT?",
                "COLOUR in \"FILE\" is not known and changes nothing",
                "RP_SERVER_USER_CONFIG_MODULE in \"FILE\" changes nothing: it is read from the \
                 process environment only",
                "RUST_LOG in \"FILE\" changes nothing: it is read from the process environment only",
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_used_is_one_error_with_its_line() {
        let large = vec![b'#'; (1 << 20) + 1];
        let cases: [(&[u8], &str); 8] = [
            (b"DEBUG=1\nnonsense\n", "line 2 is not NAME=value (a value with spaces needs quotes)"),
            (b"DEBUG=1 2\n", "line 1 is not NAME=value (a value with spaces needs quotes)"),
            (
                b"\n\nDEBUG=\"1\n2\"\n",
                "line 3 is not NAME=value (a value with spaces needs quotes)",
            ),
            (b"=1", "line 1 is not NAME=value (a value with spaces needs quotes)"),
            (b"DEBUG=$X", "line 1 has a `$`; values are not expanded, so write it out"),
            (b"DEBUG=0\nDEBUG=1", "line 2 sets DEBUG to another value than before"),
            (b"DEBUG=\xff", "not UTF-8 text"),
            (&large, "larger than 1048576 bytes"),
        ];
        for (content, expected) in cases {
            match with_file(content, &[]) {
                Err(ConfigError::File { name, reason, .. }) => {
                    assert_eq!(name, "RP_SERVER_USER_CONFIG_MODULE");
                    assert_eq!(reason, expected);
                }
                other => panic!("{:?}", other.map(|(_, warnings)| warnings)),
            }
        }
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
