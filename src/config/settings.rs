//! The settings of a program as a file, as `--print-settings` prints them.

use super::environment::{Environment, Given, Settings};
use super::error::{ConfigError, Warning};
use super::file::quoted;
use super::handler::without_userinfo;
use super::help::wrap;
use super::roles;
use super::variables::{
    self as var, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, Reader, VARIABLES, Variable,
};

/// The widest line of a comment, in columns, without the `#`.
const WIDTH: usize = 90;

/// All variables that a program reads, each with its meaning and its value: one that is set with where
/// that was, one that is not with its default and commented out. Together they are lines that systemd
/// (`EnvironmentFile=`), a shell and `--config` read alike; a secret is left out. The warnings are for
/// the operator.
pub fn settings_text(
    program: &str,
    reader: Reader,
    env: &Environment,
) -> Result<(String, Vec<Warning>), ConfigError> {
    let (settings, warnings) = match reader.settings_file() {
        Some(file) => env.settings(file)?,
        None => env.settings_of_process()?,
    };
    let head = format!(
        "Settings of {program}. A line counts once its # is gone; what stands there is the default."
    );
    let mut text = comment(&head);
    for variable in VARIABLES.iter().filter(|variable| variable.read_by.contains(&reader)) {
        text.push('\n');
        text.push_str(&comment(variable.meaning));
        let lines = match settings.find(variable)? {
            Some(Given { name, origin, .. }) if var::may_hold_password(variable) => {
                format!("# {}; it may hold a secret and is not shown\n#{name}=\n", origin.whence())
            }
            Some(Given { name, origin, text }) => {
                // What is no usable value may hold a password, too.
                let value = quoted(&without_userinfo(&text));
                format!("# {}\n{name}={value}\n", origin.whence())
            }
            None => format!("#{}={}\n", variable.names[0], default(variable, &settings)?),
        };
        text.push_str(&lines);
    }
    text.truncate(text.trim_end().len());
    Ok((text, warnings))
}

/// The default that is in effect: one follows another setting.
fn default(variable: &Variable, settings: &Settings) -> Result<String, ConfigError> {
    let follows =
        variable.names == HEARTBEAT_TIMEOUT.names && settings.find(&HEARTBEAT_INTERVAL)?.is_some();
    match follows {
        true => Ok(roles::heartbeat(settings)?.1.as_secs_f64().to_string()),
        false => Ok(variable.default.to_owned()),
    }
}

fn comment(words: &str) -> String {
    wrap(words, WIDTH).iter().map(|line| format!("# {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::ServerConfig;

    fn printed(pairs: &[(&str, &str)], config: Option<&str>) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.unwrap_or_default().as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        let env =
            Environment::from_pairs(pairs.iter().copied()).with_config(config.map(|_| path.into()));
        let (text, _) = settings_text("rp_x", Reader::ClientStart, &env).unwrap();
        text.replace(path, "FILE")
    }

    #[test]
    fn without_a_setting_it_sets_nothing_and_shows_all() {
        let text = printed(&[], None);
        assert!(text.starts_with("# Settings of rp_x. A line counts"), "{text}");
        let port = "\n\n# the server's pipe port\n#RP_CLIENT_TARGET_PORT=1234\n";
        assert!(text.contains(port) && !text.contains("BIND_PORT"), "{text}");
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    }

    #[test]
    fn what_is_set_is_shown_with_where_that_was_but_no_secret() {
        let text = printed(
            &[
                ("RP_CLIENT_TARGET_PORT", "7"),
                ("HTTPS_PROXY", "http://u:SECRET@h"),
                ("RP_EVENT_HANDLER_FQ_CLASS", "files:/a b"),
                ("RP_CONNECTION_WAIT_S", "5"),
            ],
            Some("RP_CLIENT_PROXY=http://u:SECRET@h\nRP_DRAIN_S=2\nRP_CONNECTION_WAIT_S=6\n"),
        );
        assert!(!text.contains("SECRET"), "{text}");
        for part in [
            "\n# from the environment\nRP_CLIENT_TARGET_PORT=7\n",
            "\n# from the environment; it may hold a secret and is not shown\n#HTTPS_PROXY=\n",
            "\n# from the environment\nRP_EVENT_HANDLER_FQ_CLASS=\"files:/a b\"\n",
            "\n# from the environment\nRP_CONNECTION_WAIT_S=5\n",
            "\n# from FILE; it may hold a secret and is not shown\n#RP_CLIENT_PROXY=\n",
            "\n# from FILE\nRP_DRAIN_S=2\n",
            "\n#RP_REPLY_TIMEOUT_S=60\n",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn what_follows_another_setting_is_shown_as_it_is_used() {
        let text = printed(&[("RP_CLIENT_HEARTBEAT_INTERVAL_S", "1.5")], None);
        assert!(text.contains("\n#RP_CLIENT_HEARTBEAT_TIMEOUT_S=3\n"), "{text}");
    }

    /// With every line uncommented, nothing differs from running without the file, except for
    /// settings that have a meaning of their own when they are set.
    #[test]
    fn what_it_shows_are_the_defaults() {
        let (text, _) =
            settings_text("rp_x", Reader::ServerStart, &Environment::default()).unwrap();
        let shown = text.lines().filter(|line| !line.starts_with("# "));
        let pairs = shown.filter_map(|line| line.strip_prefix('#')?.split_once('='));
        let says_more = ["RP_CRL_FILENAME", "RP_EVENT_HANDLER", "RP_STATSD_PORT"];
        let is_plain =
            |(name, value): &(&str, &str)| !value.is_empty() && !says_more.contains(name);
        let pairs: Vec<_> = pairs.filter(is_plain).collect();
        assert!(pairs.len() > 10, "{pairs:?}");
        let of = |pairs: Vec<(&str, &str)>| {
            let env = Environment::from_pairs(pairs);
            format!("{:?}", ServerConfig::from_environment(&env).unwrap())
        };
        assert_eq!(of(pairs), of(Vec::new()));
    }
}
