//! Programs whose first argument is one of several commands.

use std::process::ExitCode;

use pico_args::Arguments;

use super::{CliFailure, FlushedLog, Program, answered, exit_code, parse_all, say};
use crate::process::open_files;

/// A command of a program that has several.
#[derive(Clone, Copy, Debug)]
pub struct Command<T> {
    /// Its help page. Its name includes the program's.
    pub page: Program,
    /// Parses its arguments.
    pub parse: fn(&mut Arguments) -> Result<T, CliFailure>,
}

/// As [`main`](super::main), for a program whose first argument is one of several commands.
///
/// `--help` after a command shows that command's help; before it, the list of commands.
pub fn main_of_commands<T>(
    program: &Program,
    commands: &[Command<T>],
    run: impl FnOnce(T) -> Result<(), CliFailure>,
) -> ExitCode {
    let _written = FlushedLog;
    open_files::use_all();
    let mut arguments = Arguments::from_env();
    match choose(program, commands, &mut arguments) {
        Ok(Chosen::Answer(answer)) => {
            say(&answer);
            ExitCode::SUCCESS
        }
        Ok(Chosen::Command(command)) => {
            let parsed = parse_all(&command.page, arguments, command.parse);
            exit_code(&command.page, parsed.and_then(run))
        }
        Err(failure) => exit_code(program, Err(failure)),
    }
}

/// What the first argument of a program with commands asks for.
enum Chosen<'a, T> {
    /// Print this text only.
    Answer(String),
    /// Run this command with the remaining arguments.
    Command(&'a Command<T>),
}

fn choose<'a, T>(
    program: &Program,
    commands: &'a [Command<T>],
    arguments: &mut Arguments,
) -> Result<Chosen<'a, T>, CliFailure> {
    let wrong = |what: &str| {
        let words = commands.iter().map(|command| command.page.word());
        let words = words.collect::<Vec<_>>().join(", ");
        CliFailure::Usage(format!("{what}; the first argument is one of {words}"))
    };
    let Some(word) = arguments.subcommand()? else {
        let pages: Vec<_> = commands.iter().map(|command| command.page).collect();
        let answer = answered(program, &pages, arguments)?;
        return answer.map(Chosen::Answer).ok_or_else(|| wrong("no command"));
    };
    let found = commands.iter().find(|command| command.page.word() == word);
    let command = found.ok_or_else(|| wrong(&format!("unknown command {word:?}")))?;
    Ok(match answered(&command.page, &[], arguments)? {
        Some(answer) => Chosen::Answer(answer),
        None => Chosen::Command(command),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{report, value};
    use super::*;

    const PROGRAM: Program = Program {
        name: "rp_test",
        about: "Does nothing.",
        usage: "KEY [CA]\n--list",
        arguments: &[],
        examples: "{name} key.pem",
        reads: None,
    };

    const COMMANDS: [Command<u32>; 2] = [
        Command {
            page: Program { name: "rp_test wait", about: "Waits.\nLong.", ..PROGRAM },
            parse: |arguments| value(arguments, "SECONDS"),
        },
        Command {
            page: Program { name: "rp_test list", about: "Lists.", usage: "", ..PROGRAM },
            parse: |_| Ok(0),
        },
    ];

    /// Runs a program with these commands: text, number or error.
    fn run_command(list: &[&str]) -> Result<u32, String> {
        let list = list.iter().map(OsString::from).collect();
        let mut arguments = Arguments::from_vec(list);
        let refused = |program: &Program, failure| report(program, &failure).1;
        match choose(&PROGRAM, &COMMANDS, &mut arguments).map_err(|f| refused(&PROGRAM, f))? {
            Chosen::Answer(text) => Err(text),
            Chosen::Command(command) => parse_all(&command.page, arguments, command.parse)
                .map_err(|f| refused(&command.page, f)),
        }
    }

    #[test]
    fn a_command_is_picked_by_the_first_argument() {
        assert_eq!(run_command(&["wait", "3"]), Ok(3));
        assert_eq!(run_command(&["list"]), Ok(0));
        let cases: [(&[&str], &str); 5] = [
            (
                &[],
                "rp_test: no command; the first argument is one of wait, list; see rp_test --help",
            ),
            (
                &["--x", "wait"],
                "rp_test: no command; the first argument is one of wait, list; see rp_test --help",
            ),
            (
                &["sleep", "--help"],
                "rp_test: unknown command \"sleep\"; the first argument is one of wait, list; see \
                 rp_test --help",
            ),
            (&["wait"], "rp_test: SECONDS is missing; see rp_test wait --help"),
            (
                &["wait", "x"],
                "rp_test: SECONDS \"x\": invalid digit found in string; see rp_test wait --help",
            ),
        ];
        for (list, expected) in cases {
            assert_eq!(run_command(list), Err(expected.to_owned()), "{list:?}");
        }
    }

    #[test]
    fn each_command_has_its_own_help_and_the_program_lists_them() {
        let own = run_command(&["wait", "3", "-h"]).unwrap_err();
        assert!(own.starts_with("Waits.\nLong.\n\nUsage:\n  rp_test wait KEY [CA]\n"), "{own}");
        let all = run_command(&["--help", "wait"]).unwrap_err();
        for part in [
            "Usage:\n  rp_test wait KEY [CA]\n  rp_test wait --list\n  rp_test list\n\n",
            "Commands (each has its own --help):\n  wait  Waits.\n  list  Lists.\n\n",
        ] {
            assert!(all.contains(part), "{all}");
        }
        let version = format!("rp_test {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(run_command(&["list", "--version"]), Err(version.clone()));
        assert_eq!(run_command(&["--version"]), Err(version));
    }
}
