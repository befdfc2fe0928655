//! The content of `--help` as a manual page for `man(1)`; printed by `--print-man`.
//!
//! In scope: the page in `man(7)` markup. Not in scope: where a page is installed.

use super::help::{EXIT_CODES, common, statement, usages};
use super::program::Program;
use crate::config::{Reader, VARIABLES};

/// The page of a program, with a section for each of its commands.
pub(super) fn man(program: &Program, commands: &[Program]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (name, section) = (program.name, section(program));
    let title = name.to_uppercase();
    let head = format!(".TH \"{title}\" {section} \"\" \"RestPipe {version}\"\n");
    // No hyphenation: words may be copied.
    let mut page = Page(head + ".nh\n.ad l\n");
    page.heading("SH", "NAME");
    page.line(&format!("{name} - {}", summary(program.about)));
    page.heading("SH", "SYNOPSIS");
    let own = if commands.is_empty() { std::slice::from_ref(program) } else { commands };
    own.iter().for_each(|program| page.synopsis(program));
    page.heading("SH", "DESCRIPTION");
    page.text(program.about);
    page.heading("SH", "OPTIONS");
    page.arguments(program.arguments);
    page.arguments(&common(program).collect::<Vec<_>>());
    if !commands.is_empty() {
        page.heading("SH", "COMMANDS");
    }
    for command in commands {
        page.heading("SS", command.name);
        page.text(command.about);
        page.arguments(command.arguments);
    }
    page.environment(program, commands);
    page.heading("SH", "EXAMPLES");
    page.examples(program, commands);
    page.heading("SH", "EXIT STATUS");
    page.text(EXIT_CODES);
    page.heading("SH", "SEE ALSO");
    page.see_also(name);
    page.0.truncate(page.0.trim_end().len());
    page.0
}

/// The existing pages, with their sections.
const PAGES: [(&str, u8); 7] = [
    ("rp_ca", 1),
    ("rp_remoted", 1),
    ("rp_tcp", 1),
    ("rp_client_set_identity", 8),
    ("rp_client_start", 8),
    ("rp_server_set_identity", 8),
    ("rp_server_start", 8),
];

/// Section 8, for administrators, if it is configured by its environment; else 1.
fn section(program: &Program) -> u8 {
    if program.reads.is_some() { 8 } else { 1 }
}

/// The description after the name, in one line: the first sentence of a program's description.
fn summary(about: &str) -> String {
    let statement = statement(about);
    let mut letters = statement.chars();
    let first = letters.next().map(|letter| letter.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A page being written; each line of it ends with a line break.
struct Page(String);

impl Page {
    fn heading(&mut self, kind: &str, title: &str) {
        self.0.push_str(&format!(".{kind} \"{}\"\n", escaped(title)));
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(&escaped(line));
        self.0.push('\n');
    }

    fn text(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    fn synopsis(&mut self, program: &Program) {
        for usage in usages(program) {
            let arguments = usage.strip_prefix(program.name).unwrap_or_default();
            let name = escaped(program.name);
            self.0.push_str(&format!("\\fB{name}\\fR{}\n.br\n", escaped(arguments)));
        }
    }

    fn item(&mut self, name: &str, meaning: &str) {
        self.0.push_str(&format!(".TP\n\\fB{}\\fR\n", escaped(name)));
        self.line(meaning);
    }

    /// The program's examples, then those of its commands that are not among them.
    fn examples(&mut self, program: &Program, commands: &[Program]) {
        let programs = [program].into_iter().chain(commands);
        let texts: Vec<_> =
            programs.map(|program| program.examples.replace("{name}", program.name)).collect();
        let mut shown: Vec<&str> = Vec::new();
        for line in texts.iter().flat_map(|text| text.lines()) {
            if !shown.contains(&line) {
                shown.push(line);
            }
        }
        self.0.push_str(".nf\n");
        shown.into_iter().for_each(|line| self.line(line));
        self.0.push_str(".fi\n");
    }

    fn see_also(&mut self, name: &str) {
        let others = PAGES.iter().filter(|(page, _)| *page != name);
        let others = others.map(|(page, section)| format!("\\fB{}\\fR({section})", escaped(page)));
        self.0.push_str(&others.collect::<Vec<_>>().join(",\n"));
        self.0.push('\n');
    }

    fn arguments(&mut self, rows: &[(&str, &str)]) {
        for (argument, meaning) in rows {
            match *argument {
                "" => self.line(meaning),
                argument => self.item(argument, meaning),
            }
        }
    }

    /// Programs that read the same variables share a list.
    fn environment(&mut self, program: &Program, commands: &[Program]) {
        let mut lists: Vec<(Reader, Vec<&str>)> = Vec::new();
        for program in [program].into_iter().chain(commands) {
            let Some(reader) = program.reads else { continue };
            match lists.iter_mut().find(|(known, _)| *known == reader) {
                Some((_, names)) => names.push(program.name),
                None => lists.push((reader, vec![program.name])),
            }
        }
        if !lists.is_empty() {
            self.heading("SH", "ENVIRONMENT");
        }
        for (reader, names) in lists {
            if !commands.is_empty() {
                self.heading("SS", &names.join(", "));
            }
            for variable in VARIABLES.iter().filter(|row| row.read_by.contains(&reader)) {
                let default = match variable.default {
                    "" => String::new(),
                    default => format!(" (default: {default})"),
                };
                self.item(&variable.names.join(" or "), &format!("{}{default}", variable.meaning));
            }
        }
    }
}

/// Escapes the text: no character has a meaning in roff, and each is copied unchanged.
fn escaped(text: &str) -> String {
    const SIGNS: [(char, &str); 7] = [
        ('\\', "\\e"),
        ('-', "\\-"),
        ('"', "\\(dq"),
        ('\'', "\\(aq"),
        ('`', "\\(ga"),
        ('^', "\\(ha"),
        ('~', "\\(ti"),
    ];
    let text = SIGNS.iter().fold(text.to_owned(), |text, (sign, name)| text.replace(*sign, name));
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "rp_test",
        about: "Does nothing: a\ntest. Long.",
        usage: "KEY\n--list",
        arguments: &[("KEY", "a key,"), ("", ".or `\\n'")],
        examples: "{name} key.pem",
        reads: None,
    };

    #[test]
    fn a_page_has_what_help_says() {
        let expected = [
            r#".TH "RP_TEST" 1 "" "RestPipe VERSION""#,
            ".nh",
            ".ad l",
            r#".SH "NAME""#,
            r"rp_test \- does nothing",
            r#".SH "SYNOPSIS""#,
            r"\fBrp_test\fR KEY",
            ".br",
            r"\fBrp_test\fR \-\-list",
            ".br",
            r#".SH "DESCRIPTION""#,
            "Does nothing: a",
            "test. Long.",
            r#".SH "OPTIONS""#,
            ".TP",
            r"\fBKEY\fR",
            "a key,",
            r"\&.or \(ga\en\(aq",
            ".TP",
            r"\fB\-\-print\-man\fR",
            "print the manual page",
            ".TP",
            r"\fB\-\-print\-completion\fR",
            "print the completion for bash",
            ".TP",
            r"\fB\-h, \-\-help\fR",
            "print this text",
            ".TP",
            r"\fB\-V, \-\-version\fR",
            "print the version",
            r#".SH "EXAMPLES""#,
            ".nf",
            "rp_test key.pem",
            ".fi",
            r#".SH "EXIT STATUS""#,
            "0 done, 1 failed, 2 wrong arguments or environment",
            r#".SH "SEE ALSO""#,
            r"\fBrp_ca\fR(1),",
            r"\fBrp_remoted\fR(1),",
            r"\fBrp_tcp\fR(1),",
            r"\fBrp_client_set_identity\fR(8),",
            r"\fBrp_client_start\fR(8),",
            r"\fBrp_server_set_identity\fR(8),",
            r"\fBrp_server_start\fR(8)",
        ];
        let expected = expected.join("\n").replace("VERSION", env!("CARGO_PKG_VERSION"));
        assert_eq!(man(&PROGRAM, &[]), expected);
    }

    #[test]
    fn commands_have_sections_and_share_lists_of_variables() {
        let command = |name, reads| Program { name, reads, ..PROGRAM };
        let commands = [
            command("rp_test a", None),
            command("rp_test b", Some(Reader::RemotedEnd)),
            command("rp_test c", Some(Reader::RemotedEnd)),
        ];
        let page = man(&PROGRAM, &commands);
        let headings: Vec<&str> = page.lines().filter(|line| line.starts_with(".SS")).collect();
        let expected = ["a", "b", "c", "b, rp_test c"].map(|end| format!(".SS \"rp_test {end}\""));
        assert_eq!(headings, expected);
        assert_eq!(page.matches("RP_REMOTED_APIKEY\\fR").count(), 1);
        assert!(page.contains("\\fBrp_test c\\fR KEY\n"), "{page}");
    }

    #[test]
    fn a_command_repeats_no_example_of_its_program() {
        let examples = "rp_test a\nrp_test b";
        let program = Program { examples, ..PROGRAM };
        let command = Program { name: "rp_test a", examples: "{name}\n{name} c", ..PROGRAM };
        let page = man(&program, &[command]);
        assert!(page.contains("\n.nf\nrp_test a\nrp_test b\nrp_test a c\n.fi\n"), "{page}");
    }

    #[test]
    fn every_program_has_a_page_and_no_page_names_itself() {
        let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin")).unwrap();
        let mut programs: Vec<String> = sources
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        programs.sort();
        let mut pages = PAGES.map(|(name, _)| name);
        pages.sort();
        assert_eq!(programs, pages);
        let page = man(&Program { name: "rp_tcp", ..PROGRAM }, &[]);
        assert!(
            !page.contains("rp_tcp\\fR(1)") && page.ends_with("rp_server_start\\fR(8)"),
            "{page}"
        );
    }

    #[test]
    fn what_reads_the_environment_is_for_administrators() {
        let page = man(&Program { reads: Some(Reader::ServerStart), ..PROGRAM }, &[]);
        assert!(page.starts_with(".TH \"RP_TEST\" 8 "), "{page}");
        let port = ".TP\n\\fBBIND_PORT or RP_SERVER_BIND_PORT\\fR\n\
                    the pipe port; 0: any free one (default: 1234)\n";
        assert!(page.contains(port) && !page.contains("RP_CLIENT_TARGET_HOSTNAME"), "{page}");
    }
}
