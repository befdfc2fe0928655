//! The text of `--help`.

use super::program::Program;
use crate::config;

/// The text of `--help`, without its last line break.
///
/// For a program with commands, it has a line for each and refers to their own `--help`.
pub(super) fn help(program: &Program, commands: &[Program]) -> String {
    let rows: Vec<_> = program.arguments.iter().copied().chain(common(program)).collect();
    if commands.is_empty() {
        return page(program, usages(program), &[("Arguments", &rows)]);
    }
    let list: Vec<_> = commands.iter().map(|page| (page.word(), brief(page.about))).collect();
    let list: Vec<_> = list.iter().map(|(word, about)| (*word, about.as_str())).collect();
    let sections = [("Commands (each has its own --help)", &list[..]), ("Arguments", &rows)];
    page(program, commands.iter().flat_map(usages), &sections)
}

/// A command's description in one line: the first line, if that is a whole sentence.
fn brief(about: &str) -> String {
    let line = about.lines().next().unwrap_or_default();
    if line.ends_with('.') { line.to_owned() } else { statement(about) + "." }
}

/// The first sentence of a program's description, in one line without the full stop.
pub(super) fn statement(about: &str) -> String {
    let mut line = about.replace('\n', " ");
    let end = [". ", ": "].iter().filter_map(|sign| line.find(sign)).min();
    line.truncate(end.unwrap_or_else(|| line.trim_end_matches('.').len()));
    line
}

/// The options of every program, and of one that reads settings.
pub(super) fn common(program: &Program) -> impl Iterator<Item = (&'static str, &'static str)> {
    const PRINT_SETTINGS: [(&str, &str); 2] = [
        (
            "--print-settings",
            "print every setting with its value and where that comes from, as a file",
        ),
        ("", "of settings; no secrets"),
    ];
    const ALL: [(&str, &str); 4] = [
        ("--print-man", "print the manual page"),
        ("--print-completion", "print the completion for bash"),
        ("-h, --help", "print this text"),
        ("-V, --version", "print the version"),
    ];
    PRINT_SETTINGS.into_iter().filter(|_| program.reads.is_some()).chain(ALL)
}

/// The exit codes of every program.
pub(super) const EXIT_CODES: &str = "0 done, 1 failed, 2 wrong arguments or environment";

fn page(
    program: &Program,
    usages: impl Iterator<Item = String>,
    sections: &[(&str, &[(&str, &str)])],
) -> String {
    let mut text = format!("{}\n\nUsage:\n", program.about);
    for usage in usages {
        text.push_str(&format!("  {usage}\n"));
    }
    for (title, rows) in sections {
        text.push_str(&format!("\n{title}:\n"));
        let width = rows.iter().map(|(argument, _)| argument.len()).max().unwrap_or(0);
        for (argument, meaning) in *rows {
            text.push_str(&format!("  {argument:width$}  {meaning}\n"));
        }
    }
    if let Some(reader) = program.reads {
        text.push_str("\nEnvironment (name, default, meaning):\n");
        text.push_str(&config::variables_text(reader));
    }
    text.push_str("\nExample:\n");
    for example in program.examples.replace("{name}", program.name).lines() {
        text.push_str(&format!("  {example}\n"));
    }
    text.push_str(&format!("\nExit code: {EXIT_CODES}."));
    text
}

/// Complete command lines, one for each usage.
pub(super) fn usages(program: &Program) -> impl Iterator<Item = String> {
    let Program { name, usage, .. } = program;
    let lines = if usage.is_empty() { vec![""] } else { usage.lines().collect() };
    lines.into_iter().map(move |usage| format!("{name} {usage}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_of_in_one_whole_statement() {
        assert_eq!(brief("Joins all\nof them. At once."), "Joins all of them.");
        assert_eq!(brief("Runs a broker: servers\nregister."), "Runs a broker.");
        assert_eq!(brief("Makes two: a.key and b.key.\nOnce."), "Makes two: a.key and b.key.");
    }
}
