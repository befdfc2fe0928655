//! Generates the tables of settings and errors, and the excerpts of files. `UPDATE_GUIDE=1` rewrites them.

use std::path::Path;
use std::{env, fs};

use restpipe::config::{Reader, VARIABLES, Variable};
use restpipe::event::errors::ERRORS;
use restpipe::handler::Exec;

use super::{ROOT, page, pages};

#[test]
fn the_table_of_settings_is_that_of_the_code() {
    let mut table = String::from("| variable | read by | default | meaning |\n|---|---|---|---|\n");
    for variable in VARIABLES {
        let names = variable.names.map_names(" or ");
        let default = code(variable.default);
        let meaning = marked(variable.meaning);
        table.push_str(&format!("| {names} | {} | {default} | {meaning} |\n", readers(variable)));
    }
    let process_only: Vec<_> = VARIABLES.iter().filter(|row| !row.allowed_in_file).collect();
    let names: Vec<_> = process_only.iter().map(|row| row.names.map_names(", ")).collect();
    table.push_str(
        "\nThese are read from the environment of the process only, not from a file of settings:\n",
    );
    table.push_str(&wrapped(&format!("{}.", names.join(", "))));
    check("configuration", "settings", &table);
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let mut table = String::from("| status | `error` | when |\n|---|---|---|\n");
    for error in ERRORS {
        table.push_str(&format!("| {} | `{}` | {} |\n", error.status, error.name, error.when));
    }
    check("requests", "errors", &table);
    assert!(ERRORS.is_sorted_by_key(|error| error.status));

    // The README has the important ones, in the same words.
    let readme = page("README");
    let (_, section) = readme.text.split_once("\n## Errors\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let mut found = 0;
    for (status, rest) in rows.filter(|(status, _)| status.parse::<u16>().is_ok()) {
        let (names, _) = rest.split_once(" | ").unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            let is_known = |e: &restpipe::event::errors::AnswerError| {
                e.name == name && e.status.to_string() == status
            };
            assert!(ERRORS.iter().any(is_known), "{status} {name}");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn programs_and_sites_stand_there_as_they_are_shipped() {
    let (_, program) = include_str!("sums.rs").split_once("\n\n").unwrap();
    check("library", "program", &format!("```rust,no_run\n{program}```\n"));
    let site = include_str!("../../../scripts/nginx/rpclient.local");
    check("installation", "site", &format!("```nginx\n{site}```\n"));
}

#[test]
fn every_variable_that_is_named_is_known() {
    let known = |name: &str| {
        VARIABLES.iter().any(|variable| variable.names.contains(&name))
            || Exec::VARIABLES.contains(&name)
            || restpipe::lifecycle::hook::VARIABLES.contains(&name)
            || name == "RP_QUERY_"
    };
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for page in pages() {
        let words = page.text.split(|c| !is_word(c));
        for word in words.filter(|word| word.starts_with("RP_") && *word != "RP_") {
            assert!(known(word), "{}: nothing reads {word}", page.path.display());
        }
    }
    for name in Exec::VARIABLES {
        assert!(page("scripts").text.contains(&format!("`{name}`")), "{name}");
    }
    for name in restpipe::lifecycle::hook::VARIABLES {
        assert!(page("monitoring").text.contains(&format!("`{name}`")), "{name}");
    }
}

/// Compares the text between two marks of a page, or replaces it.
fn check(name: &str, mark: &str, table: &str) {
    let page = page(name);
    let (begin, end) = (format!("<!-- begin {mark} -->\n"), format!("<!-- end {mark} -->\n"));
    let (before, rest) = page.text.split_once(&begin).unwrap();
    let (found, after) = rest.split_once(&end).unwrap();
    let expected = format!("\n{table}\n");
    if found == expected {
        return;
    }
    let path = Path::new(ROOT).join(&page.path);
    assert!(
        env::var_os("UPDATE_GUIDE").is_some(),
        "{} is stale: UPDATE_GUIDE=1 cargo test --test readme",
        path.display()
    );
    fs::write(path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
}

fn readers(variable: &Variable) -> String {
    let mut readers: Vec<&str> = Vec::new();
    for reader in variable.read_by {
        readers.push(match reader {
            Reader::ServerStart => "server",
            Reader::ClientStart => "client",
            Reader::RemotedBroker => "broker",
            Reader::RemotedEnd => "publish, connect",
            Reader::ServerSetIdentity | Reader::ClientSetIdentity => continue,
        });
    }
    readers.join(", ")
}

trait MapNames {
    fn map_names(&self, between: &str) -> String;
}

impl MapNames for [&str] {
    fn map_names(&self, between: &str) -> String {
        self.iter().map(|name| code(name)).collect::<Vec<_>>().join(between)
    }
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

/// The text of `--help` in Markdown: anything but plain words becomes code.
fn marked(text: &str) -> String {
    let mut in_code = false;
    let words = text.split(' ').map(|word| {
        if in_code || word.contains('`') {
            in_code ^= word.matches('`').count() % 2 == 1;
            return word.to_owned();
        }
        let mut core = word.trim_end_matches([',', ';', ':', ')']);
        core = if core.ends_with("...") { core } else { core.trim_end_matches('.') };
        let (open, core) = if core.starts_with('(') { core.split_at(1) } else { ("", core) };
        if core.contains(['_', '*', '=', '/', '@', '[', ':']) {
            format!("{open}`{core}`{}", &word[open.len() + core.len()..])
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Wrapped into lines of limited length.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 115 => line.push_str(&format!(" {word}")),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}
