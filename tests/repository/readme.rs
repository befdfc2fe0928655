//! The README says what is true: its program works as it stands there, and its tables are those
//! of the code.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use restpipe::config::VARIABLES;
use restpipe::event::errors::ERRORS;
use restpipe::handler::Exec;
use serde_json::json;

use crate::support::{Identities, client, server};

const README: &str = include_str!("../../README.md");
const SUMS: &str = include_str!("readme/sums.rs");
const SITE: &str = include_str!("../../scripts/nginx/rpclient.local");

/// The program, up to date whichever tests are asked for: `cargo test` alone builds examples too.
fn sums() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // TARGET/PROFILE/deps/readme-...
    let profile = test.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--locked", "--example", "sums", "--profile"]);
    build.arg(if profile.ends_with("release") { "release" } else { "dev" });
    build.arg("--target-dir").arg(profile.parent().unwrap());
    let output = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile.join("examples/sums")
}

#[test]
fn the_program_with_its_own_handlers_stands_there_as_it_is_built() {
    let (_, program) = SUMS.split_once("\n\n").unwrap();
    let indented: String = program
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
        .collect();
    assert!(README.contains(&indented), "the README has another program than\n{indented}");
}

#[test]
fn the_site_of_nginx_stands_there_as_it_is_shipped() {
    // Its text says at the top where the file goes, and the README in its own words.
    let lines = SITE.lines().skip_while(|line| line.starts_with('#'));
    let indented: String = lines.map(|line| format!("    {line}\n")).collect();
    assert!(README.contains(&indented), "the README has another site than\n{indented}");
}

#[test]
fn the_program_with_its_own_handlers_answers_as_it_says() {
    let identities = Identities::new(&["fileserver"]);
    let server = server(&identities).start();
    let client = client(&identities, "fileserver", server.pipe()).program(sums()).start();

    let request = "/client/fileserver/sum//1/2/39";
    let answer = server.get_when_up(request);
    assert!(
        README.contains(&format!("curl http://localhost:8081{request}\n    {}", answer.text()))
    );
    assert_eq!(answer.json(), json!({"sum": 42}));
    let answer = server.get("/client/fileserver/sum//1/two");
    assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (500, Some("251")));
    let id = answer.header("X-Request-Id").unwrap();
    client.wait_log(&["WARN", &format!("localhost: get_sum failed (request {id}): ParseIntError")]);
    let answer = server.ask("POST", "/client/fileserver/note", &[], b"hello");
    assert_eq!(answer.text(), "5 bytes from localhost");
    assert_eq!(client.get("/server/cat//a").json(), json!({"result_from_server": "a"}));
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere_and_the_contents_have_every_section() {
    let headings = |signs: &str| -> BTreeSet<String> {
        README.lines().filter_map(|line| line.strip_prefix(signs)).map(anchor).collect()
    };
    let sections = headings("## ");
    let anchors = &sections | &headings("### ");
    // A link may be broken over two lines, but not its target.
    let targets = || README.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let mut links = 0;
    for target in targets() {
        match target.strip_prefix('#') {
            Some(name) => assert!(anchors.contains(name), "there is no section {target}"),
            None if target.starts_with("https://") => {}
            None => {
                let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target);
                assert!(file.is_file(), "there is no file {target}");
            }
        }
        links += 1;
    }
    assert!(links > 50, "{links}");

    let (_, contents) = README.split_once("\nContents: ").unwrap();
    let (contents, _) = contents.split_once("\n\n").unwrap();
    for section in sections.iter().filter(|section| *section != "licence") {
        assert!(contents.contains(&format!("(#{section})")), "the contents lack {section}");
    }
}

/// What is printed stands there as it is, and so do tables; all else is for people to read.
#[test]
fn its_lines_are_not_too_long_to_read() {
    let is_prose = |line: &&str| !line.starts_with('|') && !line.starts_with("    ");
    for line in README.lines().filter(is_prose) {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn the_configuration_table_is_that_of_the_code() {
    let (_, section) = README.split_once("\n## Configuration\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for name in Exec::VARIABLES {
        assert!(README.contains(&format!("`{name}`")), "the README lacks {name}");
    }
    for variable in VARIABLES {
        for name in variable.names {
            let row = rows.iter().find(|row| row[1].contains(&format!("`{name}`")));
            let row = row.unwrap_or_else(|| panic!("the README lacks {name}"));
            let shown = row[2];
            // Without a default of its own it may say in words what counts instead.
            let is_true =
                shown == variable.default || (variable.default.is_empty() && !shown.contains('/'));
            assert!(is_true, "{name}: the README says {shown:?}, the code {:?}", variable.default);
        }
    }
    // What nodes read, and what they tell the programs that they run.
    let known = |name: &str| {
        VARIABLES.iter().any(|variable| variable.names.contains(&name))
            || Exec::VARIABLES.contains(&name)
            || restpipe::lifecycle::hook::VARIABLES.contains(&name)
            || name == "RP_QUERY_"
    };
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for word in
        README.split(|c| !is_word(c)).filter(|word| word.starts_with("RP_") && *word != "RP_")
    {
        assert!(known(word), "the README names {word}, which the code does not know");
    }
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let (_, section) = README.split_once("\n## Answers and errors\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let documented: BTreeSet<(u16, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter_map(|(status, rest)| Some((status.parse().ok()?, rest.split_once(" | ")?.0)))
        .flat_map(|(status, errors): (u16, &str)| {
            errors.split(", ").map(move |error| (status, error.trim_matches('`')))
        })
        .filter(|(_, error)| !error.is_empty())
        .collect();
    let said: BTreeSet<_> = ERRORS.iter().map(|error| (error.status, error.name)).collect();
    let missing: Vec<_> = said.difference(&documented).collect();
    assert!(missing.is_empty(), "the README lacks {missing:?}");
    let unknown: Vec<_> = documented.difference(&said).collect();
    assert!(unknown.is_empty(), "the README has {unknown:?}, which nothing says");
}
