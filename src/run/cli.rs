//! The common parts of the programs: `--help` and `--version`, refusing unknown arguments, and
//! turning failures into an exit code and one line on standard error.
//!
//! In scope: a command line. Not in scope: what a program does.

mod command;
mod completion;
mod failure;
mod help;
mod man;
mod options;
mod program;
pub(super) mod source;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use crossbeam_channel::bounded;
use pico_args::Arguments;

pub use command::{Command, main_of_commands};
pub use failure::CliFailure;
pub use program::Program;

use crate::config;
use crate::process::open_files;
use crate::run::logging::{self, one_line};
use crate::sync::threads;
use completion::completion;
use help::help;
use man::man;
use source::SettingsSource;

/// Exit code after a failure.
const FAILED: u8 = 1;
/// Exit code after wrong arguments or a wrong environment.
const WRONG_USAGE: u8 = 2;

/// The complete `main` of a program: `parse` takes its arguments, and if none are left over `run`
/// is called with the result.
///
/// `--help` and `--version` are answered before `parse` sees the arguments. A failure is one line
/// on standard error that begins with the program's name.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use restpipe::run::cli::{self, CliFailure, Program};
/// use restpipe::config::{Environment, Reader, ServerConfig};
/// use restpipe::run::logging;
/// use restpipe::run::signals::Signals;
///
/// const PROGRAM: Program = Program {
///     name: "rp_server_start",
///     about: "Starts a server in the foreground.",
///     usage: "",
///     arguments: &[],
///     examples: "BIND_PORT=4000 rp_server_start",
///     reads: Some(Reader::ServerStart),
/// };
///
/// fn main() -> ExitCode {
///     cli::main(&PROGRAM, |_| Ok(()), |()| start())
/// }
///
/// fn start() -> Result<(), CliFailure> {
///     let env = Environment::from_process();
///     let (config, warnings) = ServerConfig::from_environment(&env)?;
///     logging::init(&env, config.node.debug, config.node.log_format);
///     for warning in warnings {
///         log::warn!("{warning}");
///     }
///     let signals = Signals::new().map_err(CliFailure::failed)?;
///     cli::announce("ready");
///     let signal = signals.receiver().recv().map_err(CliFailure::failed)?;
///     log::info!("stopping after {signal}");
///     Ok(())
/// }
/// ```
pub fn main<T>(
    program: &Program,
    parse: impl FnOnce(&mut Arguments) -> Result<T, CliFailure>,
    run: impl FnOnce(T) -> Result<(), CliFailure>,
) -> ExitCode {
    let _written = FlushedLog;
    open_files::use_all();
    let mut arguments = Arguments::from_env();
    let result = match answered(program, &[], &mut arguments) {
        Ok(Some(answer)) => {
            say(&answer);
            Ok(())
        }
        Ok(None) => parse_all(program, arguments, parse).and_then(run),
        Err(failure) => Err(failure),
    };
    exit_code(program, result)
}

/// Waits for the log when a program ends, also by a panic.
struct FlushedLog;

impl Drop for FlushedLog {
    fn drop(&mut self) {
        logging::flush();
    }
}

/// The next argument, which must not be an option; `what` names it in the error, such as `KEY`.
pub fn positional(arguments: &mut Arguments, what: &str) -> Result<OsString, CliFailure> {
    optional_positional(arguments)?.ok_or_else(|| CliFailure::Usage(format!("{what} is missing")))
}

/// As [`positional`], but optional.
pub fn optional_positional(arguments: &mut Arguments) -> Result<Option<OsString>, CliFailure> {
    let argument = arguments.opt_free_from_os_str(|text| Ok::<_, String>(text.to_owned()))?;
    match argument {
        // A file with such a name can still be given as `./-name`.
        Some(text) if text.as_encoded_bytes().starts_with(b"-") => Err(unknown(&text)),
        other => Ok(other),
    }
}

/// The next argument, as the path of a file.
pub fn path(arguments: &mut Arguments, what: &str) -> Result<PathBuf, CliFailure> {
    positional(arguments, what).map(PathBuf::from)
}

/// The next argument, which must not be an option, parsed as a `T`.
pub fn value<T: FromStr<Err: Display>>(
    arguments: &mut Arguments,
    what: &str,
) -> Result<T, CliFailure> {
    let text = positional(arguments, what)?;
    let text =
        text.to_str().ok_or_else(|| CliFailure::Usage(format!("{text:?} is not UTF-8 text")))?;
    text.parse().map_err(|error| CliFailure::Usage(format!("{what} {text:?}: {error}")))
}

/// The value of an option such as `--dir`, as the path of a file.
pub fn option_path(
    arguments: &mut Arguments,
    option: &'static str,
) -> Result<Option<PathBuf>, CliFailure> {
    Ok(arguments.opt_value_from_os_str(option, |text| Ok::<_, String>(PathBuf::from(text)))?)
}

/// The value of an option such as `--days`, parsed by `parse`; `None` if it is not given.
pub fn option<T, E: Display>(
    arguments: &mut Arguments,
    option: &'static str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<Option<T>, CliFailure> {
    arguments.opt_value_from_fn(option, parse).map_err(|error| match error {
        // Its own message does not name the option.
        pico_args::Error::Utf8ArgumentParsingFailed { value, cause } => {
            CliFailure::Usage(format!("{option} {value:?}: {cause}"))
        }
        other => other.into(),
    })
}

/// The text of a file, or of a pipe such as a shell's `<(command)`, of at most `limit` bytes.
pub fn read_text(file: &Path, limit: u64) -> io::Result<String> {
    let bytes = crate::fs::read_open(&File::open(file)?, limit)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8 text"))
}

/// Prints a line on standard output and flushes. A closed standard output is not an error.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// As [`say`], for a program that goes on running: waits at most a second for a reader.
pub fn announce(line: &str) {
    const MOST: Duration = Duration::from_secs(1);
    let (said, is_said) = bounded::<()>(1);
    let text = line.to_owned();
    let printed = threads::spawn("standard output", move || {
        say(&text);
        drop(said);
    });
    match printed {
        // Disconnected once it is printed.
        Ok(_) => drop(is_said.recv_timeout(MOST)),
        Err(_) => say(line),
    }
}

/// Prints a warning on standard error, for a program without a log.
pub fn warn(program: &Program, warning: impl Display) {
    print_error(&format!("{}: warning: {}", program.name, one_line(warning)));
}

/// `eprintln!` would panic if standard error cannot be written.
fn print_error(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The output of an option that every program has, if one of them is given.
fn answered(
    program: &Program,
    commands: &[Program],
    arguments: &mut Arguments,
) -> Result<Option<String>, CliFailure> {
    if arguments.contains(["-h", "--help"]) {
        return Ok(Some(help(program, commands)));
    }
    if arguments.contains(["-V", "--version"]) {
        return Ok(Some(format!("{} {}", program.file_name(), env!("CARGO_PKG_VERSION"))));
    }
    if arguments.contains("--print-man") {
        return Ok(Some(man(program, commands)));
    }
    if arguments.contains("--print-completion") {
        return Ok(Some(completion(program, commands)));
    }
    match program.reads {
        Some(reader) if arguments.contains("--print-settings") => {
            let env = SettingsSource::parse(arguments, reader)?.environment()?;
            let (text, warnings) = config::settings_text(program.name, reader, &env)?;
            warnings.iter().for_each(|warning| warn(program, warning));
            Ok(Some(text))
        }
        _ => Ok(None),
    }
}

fn parse_all<T>(
    program: &Program,
    mut arguments: Arguments,
    parse: impl FnOnce(&mut Arguments) -> Result<T, CliFailure>,
) -> Result<T, CliFailure> {
    // Before anything is missed that was given under a wrong name.
    options::check(program, &arguments.clone().finish())?;
    let parsed = parse(&mut arguments)?;
    match arguments.finish().first() {
        None => Ok(parsed),
        Some(left) => Err(unknown(left)),
    }
}

fn unknown(argument: &OsString) -> CliFailure {
    CliFailure::Usage(format!("unknown argument {argument:?}"))
}

fn exit_code(program: &Program, result: Result<(), CliFailure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliFailure::No) => ExitCode::from(FAILED),
        Err(failure) => {
            let (code, message) = report(program, &failure);
            if !logging::log_failure(&message) {
                print_error(&message);
            }
            ExitCode::from(code)
        }
    }
}

/// The exit code and the line of a failure.
fn report(program: &Program, failure: &CliFailure) -> (u8, String) {
    let name = program.file_name();
    match failure {
        CliFailure::Usage(reason) => {
            (WRONG_USAGE, format!("{name}: {}; see {} --help", one_line(reason), program.name))
        }
        CliFailure::Environment(error) => (WRONG_USAGE, format!("{name}: {}", one_line(error))),
        CliFailure::Wrong(reason) => (WRONG_USAGE, format!("{name}: {}", one_line(reason))),
        CliFailure::No => (FAILED, String::new()),
        CliFailure::Failed(reason) => (FAILED, format!("{name}: {}", one_line(reason))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::config::{Environment, Reader, ServerConfig};

    const PROGRAM: Program = Program {
        name: "rp_test",
        about: "Does nothing.",
        usage: "KEY [CA]\n--list",
        arguments: &[("KEY", "a key"), ("--days N", "how long")],
        examples: "{name} key.pem",
        reads: Some(Reader::ServerStart),
    };

    fn arguments(list: &[&str]) -> Arguments {
        Arguments::from_vec(list.iter().map(OsString::from).collect())
    }

    /// Parses these as a program with a required argument, an optional one and an option.
    fn parse(list: &[&str]) -> Result<(OsString, Option<OsString>, Option<u32>), CliFailure> {
        parse_all(&PROGRAM, arguments(list), |arguments| {
            let days = option(arguments, "--days", str::parse::<u32>)?;
            Ok((positional(arguments, "KEY")?, optional_positional(arguments)?, days))
        })
    }

    #[test]
    fn known_arguments_are_taken() {
        assert_eq!(parse(&["k"]), Ok(("k".into(), None, None)));
        assert_eq!(parse(&["k", "--days", "3", "c"]), Ok(("k".into(), Some("c".into()), Some(3))));
        assert_eq!(path(&mut arguments(&["k"]), "KEY"), Ok("k".into()));
    }

    #[test]
    fn wrong_arguments_are_one_line_with_a_hint() {
        let cases: [(&[&str], &str); 7] = [
            (&[], "rp_test: KEY is missing; see rp_test --help"),
            (&["k", "c", "x"], "rp_test: unknown argument \"x\"; see rp_test --help"),
            (&["k", "c", "--x\n"], "rp_test: unknown argument \"--x\\n\"; see rp_test --help"),
            (&["--x", "k"], "rp_test: unknown argument \"--x\"; see rp_test --help"),
            (&["k", "-x"], "rp_test: unknown argument \"-x\"; see rp_test --help"),
            (
                &["k", "--days", "x"],
                "rp_test: --days \"x\": invalid digit found in string; see rp_test --help",
            ),
            (
                &["k", "--days"],
                "rp_test: the '--days' option doesn't have an associated value; see rp_test --help",
            ),
        ];
        for (list, expected) in cases {
            assert_eq!(report(&PROGRAM, &parse(list).unwrap_err()), (2, expected.to_owned()));
        }
    }

    #[test]
    fn failures_have_their_exit_codes_and_stay_one_line() {
        let failed = report(&PROGRAM, &CliFailure::failed("no\nidea"));
        assert_eq!(failed, (1, "rp_test: no\\nidea".to_owned()));
        let env = Environment::from_pairs([("BIND_PORT", "x")]);
        let error = ServerConfig::from_environment(&env).map(|(config, _)| config).unwrap_err();
        let expected = "rp_test: BIND_PORT is \"x\"; accepted is a port from 1 to 65535, or 0 for \
                        any free one"
            .to_owned();
        assert_eq!(report(&PROGRAM, &error.into()), (2, expected));
    }

    #[test]
    fn help_and_version_are_answered_wherever_they_stand() {
        let ask = |list: &[&str]| answered(&PROGRAM, &[], &mut arguments(list)).unwrap();
        let version = format!("rp_test {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(ask(&["k", "--version"]), Some(version.clone()));
        assert_eq!(ask(&["-V"]), Some(version));
        assert_eq!(ask(&["--days", "3", "--help"]), Some(help(&PROGRAM, &[])));
        assert_eq!(ask(&["-h"]), Some(help(&PROGRAM, &[])));
        assert_eq!(ask(&["k", "--helper"]), None);
    }

    #[test]
    fn the_texts_of_a_package_are_printed_where_there_are_any() {
        let ask =
            |program: &Program, word| answered(program, &[], &mut arguments(&[word])).unwrap();
        let starts = |word, start: &str| ask(&PROGRAM, word).unwrap().starts_with(start);
        assert!(starts("--print-man", ".TH \"RP_TEST\" 8"));
        assert!(starts("--print-completion", "# Completion of rp_test"));
        assert!(starts("--print-settings", "# Settings of rp_test."));
        let no_reader = Program { reads: None, ..PROGRAM };
        assert_eq!(ask(&no_reader, "--print-settings"), None);
        assert_eq!(ask(&PROGRAM, "--list"), None);
    }

    #[test]
    fn help_shows_usage_arguments_environment_and_example() {
        let text = help(&PROGRAM, &[]);
        let start = [
            "Does nothing.\n",
            "Usage:",
            "  rp_test KEY [CA]",
            "  rp_test --list\n",
            "Arguments:",
            "  KEY                 a key",
            "  --days N            how long",
            "  --print-settings    print every setting with its value and where that comes from, as a file",
            "                      of settings; no secrets",
            "  --print-man         print the manual page",
            "  --print-completion  print the completion for bash",
            "  -h, --help          print this text",
            "  -V, --version       print the version\n",
            "Environment (name, default, meaning):",
            "  BIND_IP or ",
        ];
        let start = &start.join("\n");
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("\nExample:\n  rp_test key.pem\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        let bare = help(&Program { reads: None, usage: "", ..PROGRAM }, &[]);
        assert!(bare.contains("Usage:\n  rp_test\n") && !bare.contains("BIND_IP"), "{bare}");
    }

    /// Set when this test binary runs itself as a program whose reader closes.
    const IS_CHILD: &str = "RESTPIPE_TEST_CHILD";
    /// More than a pipe holds, so that the child notices.
    const LINES: usize = 20_000;

    /// Runs a test of this module in a child process, and closes its output after one line.
    fn exit_code_without_reader(test: &str, of: fn(&mut Child) -> Box<dyn Read>) -> Option<i32> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("run::cli::tests::{test}"), "--ignored", "--nocapture"]);
        command.env(IS_CHILD, "1").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(of(&mut child)).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")), "{test}");
        child.wait().unwrap().code()
    }

    #[test]
    fn nobody_reading_is_no_panic() {
        let code = exit_code_without_reader("child_says_much", |child| {
            Box::new(child.stdout.take().unwrap())
        });
        assert_eq!(code, Some(7));
        let code = exit_code_without_reader("child_complains_much", |child| {
            Box::new(child.stderr.take().unwrap())
        });
        assert_eq!(code, Some(7));
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_says_much() {
        if std::env::var_os(IS_CHILD).is_some() {
            (0..LINES).for_each(|_| say("ready"));
            // Bypasses the test harness, whose own output has no reader either.
            std::process::exit(7);
        }
    }

    #[test]
    #[ignore = "run in a process of its own"]
    fn child_complains_much() {
        if std::env::var_os(IS_CHILD).is_some() {
            crate::run::logging::init(
                &Environment::default(),
                false,
                crate::config::LogFormat::Text,
            );
            for _ in 0..LINES {
                warn(&PROGRAM, "ready");
                log::error!("ready");
            }
            std::process::exit(7);
        }
    }
}
