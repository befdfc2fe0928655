//! Copies the pages of the guide for rustdoc. A link to another page is `files.md#anchor` where they lie, and
//! `../files/index.html#anchor` where rustdoc shows them.

use std::path::PathBuf;
use std::{env, fs, io};

const PAGES: &str = "src/guide";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={PAGES}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    for entry in fs::read_dir(PAGES)? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        fs::write(out.join(entry.file_name()), for_rustdoc(&text))?;
    }
    Ok(())
}

fn for_rustdoc(text: &str) -> String {
    let mut parts = text.split("](");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_once(')').unwrap_or((part, ""));
        whole.push_str("](");
        match target.split_once(".md") {
            Some((page, anchor)) if !page.contains('/') => {
                whole.push_str(&format!("../{page}/index.html{anchor}"));
            }
            _ => whole.push_str(target),
        }
        whole.push(')');
        whole.push_str(rest);
    }
    whole
}
