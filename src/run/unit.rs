//! The environment that systemd gives a service, as `systemctl show` tells it.
//!
//! In scope: which files and lines make that environment. Not in scope: what they mean (`config`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::systemctl::systemctl;
use crate::config::{Environment, file};

/// The environment of a service, without what systemd sets by itself. The error says what to do.
pub(super) fn environment(name: &str) -> Result<Environment, String> {
    let name = full(name);
    const PROPERTIES: &str =
        "--property=LoadState,Environment,EnvironmentFiles,UnsetEnvironment,ExecStart";
    let shown = systemctl(&["show", PROPERTIES, "--", &name])
        .ok_or("--unit: systemctl cannot be asked; does systemd run here?")?;
    let unit = Unit::read(&shown);
    if unit.load_state != "loaded" {
        return Err(format!("--unit: systemd has no service {name:?} ({})", unit.load_state));
    }
    unit.environment().map_err(|why| format!("--unit {name}: {why}"))
}

/// How many files a service may have open; `None` if systemd does not say.
pub(super) fn open_files(name: &str) -> Option<u64> {
    systemctl(&["show", "--property=LimitNOFILE", "--value", "--", &full(name)])?
        .trim()
        .parse()
        .ok()
}

/// The user that a service runs as; `None` if that is root.
pub(super) fn user(name: &str) -> Option<String> {
    let shown = systemctl(&["show", "--property=User", "--value", "--", &full(name)])?;
    Some(shown.trim().to_owned()).filter(|user| !matches!(user.as_str(), "" | "root" | "0"))
}

fn full(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.service") }
}

/// What `systemctl show` says of a service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    load_state: String,
    environment: Vec<String>,
    files: Vec<EnvironmentFile>,
    unset: Vec<String>,
    /// The file of `--config` in its command.
    config: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
struct EnvironmentFile {
    path: PathBuf,
    /// `EnvironmentFile=-PATH`: it may be missing.
    optional: bool,
}

impl Unit {
    fn read(shown: &str) -> Self {
        let mut unit = Self::default();
        for line in shown.lines() {
            match line.split_once('=') {
                Some(("LoadState", state)) => state.clone_into(&mut unit.load_state),
                Some(("Environment", list)) => unit.environment = words(list),
                Some(("UnsetEnvironment", list)) => unit.unset = words(list),
                Some(("EnvironmentFiles", file)) => unit.files.extend(environment_file(file)),
                Some(("ExecStart", command)) => unit.config = config_of(command),
                _ => {}
            }
        }
        unit
    }

    /// A later file wins over an earlier one, and each over the unit's own lines (systemd.exec(5)).
    fn environment(self) -> Result<Environment, String> {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for assignment in &self.environment {
            if let Some((name, value)) = assignment.split_once('=') {
                values.insert(name.to_owned(), value.to_owned());
            }
        }
        for EnvironmentFile { path, optional } in self.files {
            if optional && crate::fs::is_missing(&path) {
                continue;
            }
            let path = path.display();
            let read = file::read(path.to_string().as_ref());
            values.extend(read.map_err(|why| format!("EnvironmentFile={path}: {why}"))?);
        }
        for unset in &self.unset {
            let (name, value) =
                unset.split_once('=').map_or((&**unset, None), |(n, v)| (n, Some(v)));
            if value.is_none_or(|value| values.get(name).is_some_and(|given| given == value)) {
                values.remove(name);
            }
        }
        Ok(Environment::from_pairs(values).with_config(self.config))
    }
}

/// `PATH (ignore_errors=yes)`
fn environment_file(shown: &str) -> Option<EnvironmentFile> {
    let (path, rest) = shown.rsplit_once(" (ignore_errors=")?;
    Some(EnvironmentFile { path: path.into(), optional: rest == "yes)" })
}

/// The value of `--config` in `{ path=/usr/bin/rp_client_start ; argv[]=... ; ... }`.
fn config_of(shown: &str) -> Option<PathBuf> {
    let (_, arguments) = shown.split_once("argv[]=")?;
    let (arguments, _) = arguments.split_once(" ; ")?;
    let mut words = arguments.split(' ');
    words.find(|word| *word == "--config")?;
    words.next().map(PathBuf::from)
}

/// The words of a list, as systemd prints it: those with special characters between double
/// quotes, with backslashes before what is special in a shell.
fn words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' if !is_quoted => words.extend(word.take()),
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::ClientConfig;

    #[test]
    fn what_systemctl_shows_is_read() {
        let shown = "LoadState=loaded\n\
                     Environment=A=1 \"B=x y\" \"C=a\\\"b\\$c\\\\\" D=\n\
                     EnvironmentFiles=/etc/a b.env (ignore_errors=yes)\n\
                     EnvironmentFiles=/etc/c.env (ignore_errors=no)\n\
                     UnsetEnvironment=E\n\
                     ExecStart={ path=/usr/bin/x ; argv[]=/usr/bin/x --config /etc/d.env ; \
                     ignore_errors=no ; pid=0 }\n";
        let file = |path: &str, optional| EnvironmentFile { path: path.into(), optional };
        let expected = Unit {
            load_state: "loaded".to_owned(),
            environment: ["A=1", "B=x y", "C=a\"b$c\\", "D="].map(str::to_owned).into(),
            files: vec![file("/etc/a b.env", true), file("/etc/c.env", false)],
            unset: vec!["E".to_owned()],
            config: Some("/etc/d.env".into()),
        };
        assert_eq!(Unit::read(shown), expected);
    }

    #[test]
    fn files_win_over_the_units_own_lines_and_must_be_readable() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"RP_CLIENT_TARGET_PORT=2\nRP_DRAIN_S=3\n").unwrap();
        let unit = |path: PathBuf, optional| Unit {
            environment: [
                "RP_CLIENT_TARGET_PORT=1",
                "RP_REPLY_TIMEOUT_S=9",
                "RP_CLIENT_SERVER_NAME=a",
            ]
            .map(str::to_owned)
            .into(),
            files: vec![EnvironmentFile { path, optional }],
            unset: vec!["RP_CLIENT_SERVER_NAME".to_owned(), "RP_DRAIN_S=4".to_owned()],
            ..Unit::default()
        };
        let config = |unit: Unit| {
            unit.environment().map(|env| ClientConfig::from_environment(&env).unwrap().0)
        };
        let read = config(unit(file.path().to_owned(), false)).unwrap();
        assert_eq!(
            (read.target_port, read.node.drain.as_secs(), read.node.reply_timeout.as_secs()),
            (2, 3, 9)
        );
        assert_eq!(read.server_name, "localhost");
        let missing = || PathBuf::from("/no/such/file");
        assert_eq!(config(unit(missing(), true)).unwrap().target_port, 1);
        let error = config(unit(missing(), false)).unwrap_err();
        assert!(error.starts_with("EnvironmentFile=/no/such/file: No such file"), "{error}");
        file.write_all(b"RP_DRAIN_S=5 # less\n").unwrap();
        let error = config(unit(file.path().to_owned(), true)).unwrap_err();
        assert!(error.contains(": line 3 has a remark behind its value"), "{error}");
    }
}
