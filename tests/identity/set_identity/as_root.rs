//! Root installs an identity for the owner of a directory, who has laid traps there: nothing of
//! root's may fall into that user's hands.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{SET_CLIENT, SET_SERVER, lab, set_identity};
use crate::openssl::Lab;
use restpipe::config::IdentityFiles;

const SERVICE: u32 = 4711;
const NOT_FOLLOWED: &str =
    "is a symbolic link in a directory of another user, which is not followed";

/// A directory of the service user. None if the test does not run as root.
fn place(lab: &Lab, name: &str) -> Option<PathBuf> {
    let place = lab.path(name);
    fs::create_dir(&place).unwrap();
    let is_root = chown(&place, Some(SERVICE), Some(SERVICE)).is_ok();
    if !is_root {
        eprintln!("skipped: only root can give a directory away");
    }
    is_root.then_some(place)
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

/// Runs one of the programs and returns its exit code and its single line.
fn run(program: &str, place: &Path, files: &[&Path]) -> (Option<i32>, String) {
    let output = set_identity(program, place, files);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn all(files: &IdentityFiles) -> [&Path; 3] {
    [&files.key, &files.crt, &files.ca]
}

#[test]
fn what_is_put_aside_is_neither_read_nor_given_away() {
    let lab = lab();
    let files = lab.server("server", "ca");
    let Some(place) = place(&lab, "place") else { return };
    let secret = lab.write("secret", "for root's eyes");
    let key = place.join("restpipe.server.key.pem");
    symlink(&secret, &key).unwrap();
    fs::hard_link(&secret, place.join("restpipe.server.crt.pem")).unwrap();
    // It blocks the last file, so that the others are rolled back.
    fs::create_dir(place.join("ca.crt.pem")).unwrap();

    let (code, line) = run(SET_SERVER, &place, &all(&files));
    assert_eq!(code, Some(1), "{line}");
    assert_eq!(fs::read_link(&key).unwrap(), secret, "what was there is there again");
    for file in fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()) {
        let is_copy = owner(&file) == SERVICE && fs::read(&file).is_ok_and(|it| !it.is_empty());
        assert!(!is_copy, "{} was given away", file.display());
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3, "something was left behind");

    fs::remove_dir(place.join("ca.crt.pem")).unwrap();
    let (code, line) = run(SET_SERVER, &place, &all(&files));
    assert_eq!(code, Some(0), "{line}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "for root's eyes");
    assert_eq!((owner(&secret), owner(&key)), (0, SERVICE));
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3, "something was left behind");
}

#[test]
fn no_link_of_the_service_user_is_followed() {
    let lab = lab();
    let files = lab.server("server", "ca");
    let client = lab.client("client", "ca");
    let Some(place) = place(&lab, "place") else { return };
    let is_refused = |program: &str, place: &Path, files: &[&Path], words: &str| {
        let (code, line) = run(program, place, files);
        assert_eq!(code, Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(words), "{words}: {line}");
    };

    // To a key and a certificate of root's, beside the ones to install.
    for (at, source) in all(&files).into_iter().enumerate() {
        let link = place.join("given.pem");
        symlink(source, &link).unwrap();
        let mut given = all(&files);
        given[at] = &link;
        let words = format!("given.pem: cannot be read: given.pem {NOT_FOLLOWED}");
        is_refused(SET_SERVER, &place, &given, &words);
        fs::remove_file(&link).unwrap();

        fs::hard_link(source, &link).unwrap();
        is_refused(SET_SERVER, &place, &given, "given.pem: cannot be read: it has a second name");
        fs::remove_file(&link).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }

    // To a CA, where the installed one matters.
    symlink(&files.ca, place.join("ca.crt.pem")).unwrap();
    let words = format!("ca.crt.pem {NOT_FOLLOWED}");
    is_refused(SET_CLIENT, &place, &[&client.key, &client.crt], &words);
    fs::remove_file(place.join("ca.crt.pem")).unwrap();

    // To a directory of root's, as the target or on the path to it.
    let roots = lab.path("roots");
    fs::create_dir_all(roots.join("inner")).unwrap();
    symlink(&roots, place.join("pki")).unwrap();
    for way in ["pki", "pki/inner", "pki/inner/new"] {
        is_refused(SET_SERVER, &place.join(way), &all(&files), &format!("pki {NOT_FOLLOWED}"));
    }
    assert_eq!(fs::read_dir(&roots).unwrap().count(), 1);
    assert_eq!(fs::read_dir(roots.join("inner")).unwrap().count(), 0);

    // A link made by root is followed.
    symlink(&place, lab.path("link")).unwrap();
    symlink(&files.key, lab.path("key")).unwrap();
    let (key, link) = (lab.path("key"), lab.path("link"));
    let (code, line) = run(SET_SERVER, &link, &[&key, &files.crt, &files.ca]);
    assert_eq!(code, Some(0), "{line}");
    assert_eq!(owner(&place.join("restpipe.server.key.pem")), SERVICE);
}

#[test]
fn directories_that_are_made_belong_to_whom_the_one_above_belongs_to() {
    let lab = lab();
    let files = lab.server("server", "ca");
    let Some(place) = place(&lab, "place") else { return };
    let inner = place.join("a/b");
    let (code, line) = run(SET_SERVER, &inner, &all(&files));
    assert_eq!(code, Some(0), "{line}");
    for made in ["a", "a/b", "a/b/restpipe.server.key.pem", "a/b/ca.crt.pem"] {
        assert_eq!(owner(&place.join(made)), SERVICE, "{made}");
    }
}

/// Opening a FIFO blocks until it has a writer.
#[test]
fn a_fifo_is_refused_without_a_wait() {
    let lab = lab();
    let files = lab.server("server", "ca");
    let fifo = lab.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let given = all(&files);
    for at in 0..given.len() {
        let mut given = given;
        given[at] = &fifo;
        let (code, line) = run(SET_SERVER, &lab.path("place"), &given);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains("fifo: cannot be read: not a regular file"), "{line}");
    }
    // As the target it is replaced, like anything but a directory.
    fs::create_dir(lab.path("place")).unwrap();
    fs::rename(&fifo, lab.path("place/ca.crt.pem")).unwrap();
    let (code, line) = run(SET_SERVER, &lab.path("place"), &given);
    assert_eq!(code, Some(0), "{line}");
    assert!(lab.path("place/ca.crt.pem").is_file());
}
