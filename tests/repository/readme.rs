//! The README and the guide are correct: their links work wherever they are read, their tables match the code,
//! and their commands work as written.

mod links;
mod session;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Identities, client, server};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A document, and its path from the root of the project.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Its name, such as `files`.
    fn name(&self) -> &str {
        self.path.file_stem().unwrap().to_str().unwrap()
    }

    /// Its code blocks: the info string of the fence, and the lines without the fence's indentation.
    fn blocks(&self) -> Vec<(&str, Vec<&str>)> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let indent = line.len() - line.trim_start().len();
            let Some(language) = line.trim_start().strip_prefix("```") else { continue };
            let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
            blocks.push((language, block.map(|line| line.get(indent..).unwrap_or("")).collect()));
        }
        blocks
    }
}

/// The README, and every page of the guide.
fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md")];
    let guide = fs::read_dir(Path::new(ROOT).join("src/guide")).unwrap();
    paths.extend(guide.map(|entry| Path::new("src/guide").join(entry.unwrap().file_name())));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(Path::new(ROOT).join(&path)).unwrap();
        Page { path, text }
    };
    paths.into_iter().map(read).collect()
}

fn page(name: &str) -> Page {
    pages().into_iter().find(|page| page.name() == name).unwrap()
}

/// The program from the guide page about custom handlers, up to date whichever tests are run: plain `cargo
/// test` builds examples, too.
fn sums() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // TARGET/PROFILE/deps/readme-...
    let profile = test.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--locked", "--example", "sums", "--profile"]);
    build.arg(if profile.ends_with("release") { "release" } else { "dev" });
    build.arg("--target-dir").arg(profile.parent().unwrap());
    let output = build.current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile.join("examples/sums")
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    let lines = page("README").text.lines().count();
    assert!(lines <= 450, "{lines}");
}

/// Printed output and tables are exempt; everything else is for people to read.
#[test]
fn no_line_is_too_long_to_read() {
    for page in pages() {
        let blocks = page.blocks();
        let printed: Vec<_> =
            blocks.iter().flat_map(|(_, block)| block).map(|l| l.trim()).collect();
        let is_printed = |line: &str| line.starts_with('|') || printed.contains(&line.trim());
        for line in page.text.lines().filter(|line| line.chars().count() > 120) {
            assert!(is_printed(line), "{}: {line}", page.path.display());
        }
    }
}

/// Without a language, rustdoc takes a block for Rust.
#[test]
fn every_block_of_code_says_what_it_is() {
    const LANGUAGES: [&str; 8] =
        ["text", "sh", "console", "python", "json", "nginx", "rust,no_run", "toml"];
    for page in pages() {
        for (language, block) in page.blocks() {
            let place = page.path.display();
            assert!(LANGUAGES.contains(&language), "{place}: {language:?}: {block:?}");
        }
    }
}

#[test]
fn the_program_with_its_own_handlers_answers() {
    let identities = Identities::new(&["fileserver"]);
    let server = server(&identities).start();
    let client = client(&identities, "fileserver", server.pipe()).program(sums()).start();

    let answer = server.get_when_up("/client/fileserver/sum//1/2/39");
    assert_eq!(answer.json(), json!({"sum": 42}));
    let answer = server.get("/client/fileserver/sum//1/two");
    assert_eq!((answer.status, answer.header("X-Event-Return-Code")), (500, Some("251")));
    let id = answer.header("RP-Request-Id").unwrap();
    client.wait_log(&["WARN", &format!("localhost: get_sum failed (request {id}): ParseIntError")]);
    let answer = server.ask("POST", "/client/fileserver/note", &[], b"hello");
    assert_eq!(answer.text(), "5 bytes from localhost");
    assert_eq!(client.get("/server/cat//a").json(), json!({"result_from_server": "a"}));
}
