//! No test is left out: each file below `tests` is part of a test binary, or of something else that is built
//! or run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that no `mod` names, and their users.
const OTHERS: &[(&str, &str, &str)] = &[
    ("repository/readme/sums.rs", "Cargo.toml", "path = \"tests/repository/readme/sums.rs\""),
    ("operation/systemd/boot.sh", "tests/operation/systemd.rs", "/tests/operation/systemd/boot.sh"),
    ("operation/systemd/scenario.sh", "tests/operation/systemd/boot.sh", "scenario.sh"),
];

#[test]
fn every_file_below_tests_is_used() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = project.join("tests");
    let mut reached = BTreeSet::new();
    // Cargo makes a binary of each folder with a `main.rs`, and of each file beside them.
    for entry in fs::read_dir(&tests).unwrap() {
        let path = entry.unwrap().path();
        let main = if path.is_dir() { path.join("main.rs") } else { path };
        if main.exists() {
            reach(main, &mut reached);
        }
    }
    for (file, user, words) in OTHERS {
        let text = fs::read_to_string(project.join(user)).unwrap();
        assert!(text.contains(words), "{user} does not use {file}");
        reached.insert(tests.join(file));
    }
    let mut files = BTreeSet::new();
    collect(&tests, &mut files);
    let unused: Vec<_> = files.difference(&reached).collect();
    assert!(unused.is_empty(), "no `mod` names {unused:?}");
    let missing: Vec<_> = reached.difference(&files).collect();
    assert!(missing.is_empty(), "there is no {missing:?}");
}

/// `Cargo.toml` declares that the programs contain no tests, so that no harness is linked for them.
#[test]
fn programs_have_no_tests_in_themselves() {
    let mut files = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("cfg(test)") && !text.contains("#[test]"), "{}", file.display());
    }
}

/// Adds this file and all modules that it declares, each at the path where the compiler looks for it.
fn reach(file: PathBuf, reached: &mut BTreeSet<PathBuf>) {
    let text = fs::read_to_string(&file).unwrap();
    let dir = file.parent().unwrap();
    let below = match file.file_stem().unwrap().to_str().unwrap() {
        "main" | "mod" => dir.to_owned(),
        stem => dir.join(stem),
    };
    for (module, path) in modules(&text) {
        let [short, long] = [below.join(format!("{module}.rs")), below.join(module).join("mod.rs")];
        let next = match path {
            Some(path) => clean(&dir.join(path)),
            None if long.exists() => long,
            None => short,
        };
        if reached.insert(next.clone()) {
            reach(next, reached);
        }
    }
    reached.insert(file);
}

/// The modules that a file declares without a body, with the `#[path]` before them.
fn modules(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    let mut path = None;
    for line in text.lines() {
        let words = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(named) = line.strip_prefix("#[path = \"") {
            path = named.strip_suffix("\"]");
        } else if let Some(module) = words.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) {
            found.push((module, path.take()));
        }
    }
    found
}

/// A path without its `..`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => assert!(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

fn collect(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path);
        }
    }
}

#[test]
fn a_module_is_found_where_it_is_named() {
    let text = "mod a;\npub mod b;\n#[path = \"../c/mod.rs\"]\nmod c;\nmod d {\n}\n// mod e;\n    mod f;\n";
    assert_eq!(modules(text), [("a", None), ("b", None), ("c", Some("../c/mod.rs"))]);
}
