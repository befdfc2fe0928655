//! A template of a settings file, as `--print-settings` prints it.

use super::help::wrap;
use super::variables::{Reader, VARIABLES};

/// The widest line of a comment, in columns, without the `#`.
const WIDTH: usize = 90;

/// All variables that a program reads, each with its meaning and its default, commented out: lines
/// that systemd (`EnvironmentFile=`), a shell and `RP_*_USER_CONFIG_MODULE` read alike.
pub fn settings_text(program: &str, reader: Reader) -> String {
    let head = format!(
        "Settings of {program}. A line counts once its # is gone; what stands there is the default."
    );
    let mut text = comment(&head);
    for variable in VARIABLES.iter().filter(|variable| variable.read_by.contains(&reader)) {
        text.push('\n');
        text.push_str(&comment(variable.meaning));
        text.push_str(&format!("#{}={}\n", variable.names[0], variable.default));
    }
    text.truncate(text.trim_end().len());
    text
}

fn comment(words: &str) -> String {
    wrap(words, WIDTH).iter().map(|line| format!("# {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, ServerConfig};

    #[test]
    fn a_file_of_settings_sets_nothing_and_shows_all() {
        let text = settings_text("rp_x", Reader::ServerStart);
        assert!(text.starts_with("# Settings of rp_x. A line counts"), "{text}");
        let port = "\n\n# the pipe port; 0: any free one\n#BIND_PORT=1234\n";
        assert!(text.contains(port) && !text.contains("RP_CLIENT_TARGET_HOSTNAME"), "{text}");
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    }

    /// With every line uncommented, nothing differs from running without the file, except for a
    /// revocation list and a handler, where setting one has a meaning of its own.
    #[test]
    fn what_it_shows_are_the_defaults() {
        let text = settings_text("rp_x", Reader::ServerStart);
        let shown = text.lines().filter(|line| !line.starts_with("# "));
        let pairs = shown.filter_map(|line| line.strip_prefix('#')?.split_once('='));
        let says_more = ["RP_CRL_FILENAME", "RP_EVENT_HANDLER"];
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
