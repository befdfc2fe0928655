//! Options that a program does not have.

use std::ffi::OsString;

use super::CliFailure;
use super::help::common;
use super::program::Program;
use crate::config::nearest::nearest;

/// Refuses the first word that begins with `--` and is neither an option of this program nor the
/// value of one.
pub(super) fn check(program: &Program, arguments: &[OsString]) -> Result<(), CliFailure> {
    let known = options(program);
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            continue;
        }
        let name = argument.split_once('=').map_or(argument, |(name, _)| name);
        match known.iter().find(|(option, _)| *option == name) {
            // Its value may begin with anything.
            Some((_, true)) if name == argument => drop(arguments.next()),
            Some(_) => {}
            None => {
                let near = nearest(name, known.iter().map(|(option, _)| *option));
                let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                return Err(CliFailure::Usage(format!("unknown argument {argument:?}{hint}")));
            }
        }
    }
    Ok(())
}

/// The options of a program, and whether each has a value.
pub(super) fn options(program: &Program) -> Vec<(&'static str, bool)> {
    let rows = program.arguments.iter().copied().chain(common(program));
    let mut options = Vec::new();
    for (argument, _) in rows {
        let (names, value) = match argument.split_once(' ') {
            Some((name, value)) if !value.starts_with('-') => (name, Some(value)),
            _ => (argument, None),
        };
        let names = names.split([' ', ',', '|']).filter(|name| name.starts_with('-'));
        options.extend(names.map(|name| (name, value.is_some())));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "rp_test",
        about: "Does nothing.",
        usage: "NAME",
        arguments: &[("NAME", "a name"), ("--client", "it is"), ("--dir DIR", "where")],
        examples: "{name}",
        reads: None,
    };

    #[test]
    fn an_unknown_option_is_told_with_the_one_that_was_meant() {
        let refused = |list: &[&str]| {
            let list: Vec<_> = list.iter().map(OsString::from).collect();
            check(&PROGRAM, &list).err().map(|failure| match failure {
                CliFailure::Usage(text) => text,
                other => panic!("{other:?}"),
            })
        };
        for fine in [&["a", "--client", "-x", "--dir", "--clint"][..], &["--dir=--x"], &["--help"]]
        {
            assert_eq!(refused(fine), None);
        }
        let hint = "unknown argument \"--clint\"; did you mean --client?";
        assert_eq!(refused(&["a", "--clint"]).as_deref(), Some(hint));
        assert_eq!(refused(&["--x=1"]).as_deref(), Some("unknown argument \"--x=1\""));
    }
}
