//! Converts the parameters of a request to a path below the directory.
//!
//! The kernel refuses paths that lead out of the directory; this module first refuses those that
//! could, and those with a special meaning.

use std::path::PathBuf;

use super::problem::FileProblem;
use crate::event::errors;

/// Prefix of files that are still being written. They are hidden from callers.
pub(super) const UNFINISHED: &str = ".restpipe-put-";

/// The path of a file: at least one component.
pub(super) fn of_file(parameters: &[String]) -> Result<PathBuf, FileProblem> {
    match parameters {
        [] => Err(bad("the path names no file; ask file//PATH")),
        names => join(names),
    }
}

/// The path of a directory: `.` for the root; a trailing slash is allowed.
pub(super) fn of_directory(parameters: &[String]) -> Result<PathBuf, FileProblem> {
    let names = match parameters {
        [names @ .., last] if last.is_empty() => names,
        names => names,
    };
    if names.is_empty() { Ok(PathBuf::from(".")) } else { join(names) }
}

fn join(names: &[String]) -> Result<PathBuf, FileProblem> {
    let mut path = PathBuf::new();
    for name in names {
        match name.as_str() {
            "" => return Err(bad("a name in it is empty")),
            "." | ".." => return Err(bad("it has a . or .. in it")),
            name if name.contains(['/', '\0']) => {
                return Err(bad("a name in it has an encoded slash or a zero byte"));
            }
            name if name.starts_with(UNFINISHED) => {
                return Err(bad("names of this kind are kept for files being written"));
            }
            name => path.push(name),
        }
    }
    Ok(path)
}

fn bad(message: &str) -> FileProblem {
    FileProblem::refused(errors::BAD_PATH, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Target;

    fn file(parameters: &str) -> Option<String> {
        let target = Target::parse(&format!("file//{parameters}")).unwrap();
        of_file(target.parameters()).ok().map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_plain_names_make_a_path() {
        for (given, expected) in [
            ("a", "a"),
            ("a/b.txt", "a/b.txt"),
            ("a%20b/%C3%A4", "a b/\u{e4}"),
            ("...", "..."),
            ("..a/.b", "..a/.b"),
            ("a%5Cb", "a\\b"),
            ("%252e%252e/a", "%2e%2e/a"),
            ("C:/a", "C:/a"),
            ("~/a", "~/a"),
        ] {
            assert_eq!(file(given).as_deref(), Some(expected), "{given}");
        }
        for given in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "./a",
            "a/./b",
            "%2e%2e/a",
            "%2E./a",
            "a%2Fb",
            "%2Fetc",
            "..%2Fa",
            "a%00",
            "%00",
            ".restpipe-put-1",
        ] {
            assert_eq!(file(given), None, "{given}");
        }
    }

    #[test]
    fn a_directory_may_be_the_whole_and_end_in_a_slash() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let directory = |given: &[&str]| of_directory(&names(given)).ok();
        assert_eq!(directory(&[]), Some(".".into()));
        assert_eq!(directory(&[""]), Some(".".into()));
        assert_eq!(directory(&["a", "b", ""]), Some("a/b".into()));
        assert_eq!(directory(&["a", "", ""]), None);
        assert_eq!(directory(&[".."]), None);
    }
}
