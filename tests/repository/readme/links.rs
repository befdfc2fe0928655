//! Links work wherever they are read: in the repository, in rustdoc's rendering of the guide, and in the Debian
//! package.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::{ROOT, pages};

#[test]
fn in_the_repository() {
    let followed: usize =
        pages().iter().map(|page| follow(&Path::new(ROOT).join(&page.path), &page.text)).sum();
    assert!(followed > 100, "{followed}");
    // Every page can be reached from the README.
    let readme = &pages()[0].text;
    for page in &pages()[1..] {
        assert!(readme.contains(&format!("({}", page.path.display())), "{}", page.path.display());
    }
}

#[test]
fn in_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(ROOT).join("scripts/package");
    let output = Command::new(script).arg("--guide").arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut followed = 0;
    for page in pages() {
        let place = match page.path.strip_prefix("src") {
            Ok(below) => dir.path().join(below),
            Err(_) => dir.path().join(&page.path),
        };
        let text = fs::read_to_string(&place).unwrap();
        followed += follow(&place, &text);
    }
    assert!(followed > 100, "{followed}");
}

/// Checks the links of a Markdown text at this path; returns how many lead to a file or a heading.
fn follow(path: &Path, text: &str) -> usize {
    let mut followed = 0;
    // A link's text may span two lines, but not its target.
    for target in text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
        if target.starts_with("https://") {
            continue;
        }
        let place = path.display();
        let (file, name) = target.split_once('#').unwrap_or((target, ""));
        let text = match file {
            "" => text.to_owned(),
            file => fs::read_to_string(path.parent().unwrap().join(file))
                .unwrap_or_else(|error| panic!("{place}: {target}: {error}")),
        };
        let mut headings = text.lines().filter(|line| line.starts_with('#'));
        let is_there = name.is_empty()
            || headings.any(|line| anchor(line.trim_start_matches('#').trim()) == name);
        assert!(is_there, "{place}: there is no section {target}");
        followed += 1;
    }
    followed
}

/// The anchor of a heading, as code forges generate it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The guide by itself: the rest of the crate would take a minute.
#[test]
fn in_what_rustdoc_makes_of_the_guide() {
    let dir = tempfile::tempdir().unwrap();
    let krate = dir.path().join("lib.rs");
    fs::write(&krate, format!("#[path = {:?}]\npub mod guide;\n", format!("{ROOT}/src/guide.rs")))
        .unwrap();
    let output = Command::new("rustdoc")
        .args(["--edition=2024", "--crate-name=restpipe", "-Dwarnings", "-o"])
        .arg(dir.path())
        .arg(&krate)
        .env("OUT_DIR", env!("OUT_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let guide = dir.path().join("restpipe/guide");
    let mut followed = 0;
    for page in pages().iter().filter(|page| page.path != Path::new("README.md")) {
        let path = guide.join(page.name()).join("index.html");
        let html = fs::read_to_string(&path).unwrap();
        let (_, main) = html.split_once("<main>").unwrap();
        let targets = main.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let place = path.display();
            assert!(!target.contains(".md"), "{place}: {target}");
            let (file, name) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.clone(),
                file => plain(&path.parent().unwrap().join(file)),
            };
            if !file.starts_with(&guide) {
                continue;
            }
            let html =
                fs::read_to_string(&file).unwrap_or_else(|e| panic!("{place}: {target}: {e}"));
            let is_there = name.is_empty() || html.contains(&format!("id=\"{name}\""));
            assert!(is_there, "{place}: there is no section {target}");
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed}");
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
