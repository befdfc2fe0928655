//! `rp_ca` under bad conditions: damaged files, odd names, a full or read-only directory, and
//! concurrent runs. Each failure prints one line and leaves existing files intact.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use restpipe::ca::{self, Ca, CaError, Order, Reason, RevocationTarget};
use restpipe::event::peer::Role;
use rustls::pki_types::UnixTime;

use crate::openssl::Lab;
use crate::rp_ca::{self, content, made, refused};

/// A CA with an identity, a request, and a revocation list.
fn lab() -> Lab {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    made(&dir, &["issue", "web1", "--client"]);
    made(&dir, &["request", "web2"]);
    made(&dir, &["crl"]);
    lab
}

/// Damages `whole`: changes letters or bytes, truncates it, or replaces it with noise.
fn damaged(whole: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    match random.u8(0..8) {
        0 => bytes.truncate(random.usize(..whole.len())),
        1 => bytes = (0..random.usize(..300)).map(|_| random.u8(..)).collect(),
        2 => bytes.extend_from_slice(whole),
        3 => {
            let at = random.usize(..whole.len());
            bytes[at] = random.u8(..);
        }
        _ => {
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..whole.len());
                bytes[at] = random.alphanumeric() as u8;
            }
        }
    }
    bytes
}

/// Damages `file` repeatedly and counts the refusals of `act`.
fn refusals(
    lab: &Lab,
    file: &str,
    rounds: usize,
    mut act: impl FnMut(&Path) -> Result<(), CaError>,
) -> usize {
    let whole = lab.read(file);
    let mut random = fastrand::Rng::with_seed(8);
    let mut refused = 0;
    for _ in 0..rounds {
        let path = lab.write(file, damaged(&whole, &mut random));
        if let Err(error) = act(&path) {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "{line}");
            assert!(line.len() < 1000, "{line}");
            refused += 1;
        }
    }
    lab.write(file, whole);
    refused
}

#[test]
fn damaged_files_are_an_error_or_fine_but_never_a_panic() {
    const ROUNDS: usize = 400;
    let lab = lab();
    let dir = lab.path("");
    let now = UnixTime::now();
    let ca = Ca::new(&dir);
    let name = || "web1".parse::<ca::Name>().unwrap();
    let order = Order {
        name: "web2".parse().unwrap(),
        role: Role::Client,
        alternatives: Vec::new(),
        days: 1,
    };
    let sign = |csr: &Path| {
        let signed = ca.sign(csr, &order, now)?;
        fs::remove_file(signed.crt).unwrap();
        Ok(())
    };
    let few = ROUNDS / 4;
    assert!(refusals(&lab, "web2.csr.pem", ROUNDS, sign) > few);
    let guess = |csr: &Path| Ca::name_for(csr, &[]).map(|_| ());
    assert!(refusals(&lab, "web2.csr.pem", ROUNDS, guess) > few);

    let verify = |crt: &Path| ca.verify(crt, None, now).map(|_| ());
    assert!(refusals(&lab, "web1.crt.pem", ROUNDS, verify) > few);
    let crt = lab.path("web1.crt.pem");
    let good = || ca.verify(&crt, None, now).map(|_| ());
    assert!(refusals(&lab, "ca.crt.pem", ROUNDS, |_| good()) > few);
    assert!(refusals(&lab, "ca.crl.pem", ROUNDS, |_| good()) > few);
    assert!(refusals(&lab, "ca.crl.pem", ROUNDS, |_| ca.list().map(|_| ())) > few);
    let revoke =
        |file: &Path| ca.revoke(&RevocationTarget::File(file.into()), Reason::UNSPECIFIED, now);
    assert!(refusals(&lab, "web1.crt.pem", ROUNDS, |crt| revoke(crt).map(|_| ())) > few);
    fs::remove_file(lab.path("ca.crl.pem")).unwrap();

    let renew = || ca.renew(&name(), 1, now).map(|_| ());
    assert!(refusals(&lab, "web1.crt.pem", ROUNDS, |_| renew()) > few);
    let copies = content(&lab.path("issued"));
    for (copy, _) in &copies[1..] {
        fs::remove_file(copy).unwrap();
    }
    let copy = copies[0].0.clone();
    let copy = Path::new(&copy).strip_prefix(&dir).unwrap().to_str().unwrap();
    fs::remove_file(&crt).unwrap();
    let list = |_: &Path| {
        let (_, mut damaged) = ca.list()?;
        damaged.pop().map_or(Ok(()), Err)
    };
    assert!(refusals(&lab, copy, ROUNDS, list) > few);
    let by_name =
        || ca.revoke(&RevocationTarget::Name(name()), Reason::UNSPECIFIED, now).map(|_| ());
    assert!(refusals(&lab, copy, ROUNDS, |_| by_name()) > few);
}

#[test]
fn a_file_of_another_kind_is_named() {
    let lab = lab();
    let dir = lab.path("");
    for (command, words) in [
        (
            &["sign", "web2.key.pem", "--client", "--name", "a"][..],
            "web2.key.pem: holds a private key where one",
        ),
        (&["sign", "web1.crt.pem", "--client"], "web1.crt.pem: holds a certificate where one"),
        (&["verify", "web2.csr.pem"], "web2.csr.pem: holds a certificate request where a"),
        (&["revoke", "web2.csr.pem"], "web2.csr.pem: holds a certificate request where a"),
        (&["sign", "none.csr.pem", "--client"], "none.csr.pem: cannot be read: No such file"),
        (&["verify", "none.pem"], "none.pem: cannot be read: No such file"),
        (&["verify", "."], ".: cannot be read: Is a directory"),
        (&["revoke", "./none.pem"], "none.pem"),
        (&["crl", "--dir", "none"], "none/ca.crt.pem: there is no CA here"),
        (&["list", "--dir", "none"], "none/ca.crt.pem: there is no CA here"),
    ] {
        let line = refused(&dir, 1, command);
        assert!(line.contains(words), "{words}: {line}");
    }
    let both = [lab.read("web2.csr.pem"), lab.read("web2.csr.pem")].concat();
    lab.write("both.csr.pem", both);
    let line = refused(&dir, 1, &["sign", "both.csr.pem", "--client"]);
    assert!(line.contains("holds several where one certificate request is needed"), "{line}");
    made(&dir, &["crl"]);
    let list = String::from_utf8(lab.read("ca.crl.pem")).unwrap();
    lab.write("ca.crl.pem", format!("{}{list}", list.trim_end()));
    for command in [&["crl"][..], &["list"], &["verify", "web1.crt.pem"], &["revoke", "web1"]] {
        let line = refused(&dir, 1, command);
        let last = list.lines().count();
        let words = format!("ca.crl.pem: is not PEM: line {last}: two lines have run together");
        assert!(line.contains(&words), "{line}");
    }
    let request = String::from_utf8(lab.read("web2.csr.pem")).unwrap();
    lab.write("web2.csr.pem", format!("{}{request}", request.trim_end()));
    let line = refused(&dir, 1, &["sign", "web2.csr.pem", "--client"]);
    assert!(line.contains("two lines have run together"), "{line}");
    lab.write("ca.crl.pem", lab.read("ca.crt.pem"));
    for command in [&["crl"][..], &["list"], &["verify", "web1.crt.pem"], &["revoke", "web1"]] {
        let line = refused(&dir, 1, command);
        assert!(line.contains("ca.crl.pem: holds a certificate where a revocation list"), "{line}");
    }
    lab.write("big.pem", vec![b'\n'; (1 << 20) + 1]);
    assert!(refused(&dir, 1, &["verify", "big.pem"]).contains("is larger than 1048576 bytes"));
}

#[test]
fn odd_names_are_refused_and_stay_on_their_line() {
    let lab = lab();
    let dir = lab.path("");
    let before = content(&dir);
    let long = "a".repeat(256);
    for name in
        [&long, "a\nb", "a\u{1b}[2J", "*.example.com", "*", "хост", "host\u{202e}", "a b", "", "-"]
    {
        for command in [
            &["issue", name, "--client"][..],
            &["issue", "web3", "--client", "--san", name],
            &["request", name],
            &["sign", "web2.csr.pem", "--client", "--name", name],
            &["sign", "web2.csr.pem", "--client", "--san", name],
            &["renew", name],
            &["revoke", name],
        ] {
            let line = refused(&dir, 2, command);
            assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{line:?}");
            assert_eq!(content(&dir), before, "{command:?}");
        }
    }
    for name in [&long, "a\nb", "a\u{1b}[2J", "a\u{202e}b", "", " "] {
        let line = refused(&dir, 2, &["init", "--dir", "new", "--name", name]);
        assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{line:?}");
        assert!(!lab.path("new").exists());
    }
    let said = made(&dir, &["request", "web3", "--dir", "odd\ndir"]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn what_is_in_the_way_stays_and_nothing_is_half_made() {
    let lab = lab();
    let dir = lab.path("");
    for (taken, command) in [
        ("web3.key.pem", &["issue", "web3", "--client"][..]),
        ("web3.crt.pem", &["issue", "web3", "--client"]),
        ("web3.csr.pem", &["request", "web3"]),
        ("web2.crt.pem", &["sign", "web2.csr.pem", "--client"]),
        ("new/ca.key.pem", &["init", "--dir", "new"]),
        ("new/ca.crl.pem", &["init", "--dir", "new"]),
    ] {
        fs::create_dir_all(lab.path(taken)).unwrap();
        let (before, copies) = (content(&dir), content(&lab.path("issued")));
        let line = refused(&dir, 1, command);
        assert!(line.contains(&format!("{taken}: is there already")), "{line}");
        assert_eq!((content(&dir), content(&lab.path("issued"))), (before, copies));
        fs::remove_dir(lab.path(taken)).unwrap();
    }
    for (taken, command) in [
        ("ca.crl.pem", &["crl"][..]),
        ("ca.crl.pem", &["revoke", "web1"]),
        ("web1.crt.pem", &["renew", "web1"]),
        (".lock", &["crl"]),
        (".lock", &["issue", "web3", "--client"]),
        ("issued", &["issue", "web3", "--client"]),
        ("issued", &["revoke", "web1"]),
    ] {
        let (path, aside) = (lab.path(taken), lab.path("aside"));
        fs::rename(&path, &aside).unwrap();
        if taken == "issued" { fs::write(&path, "") } else { fs::create_dir(&path) }.unwrap();
        let before = content(&dir);
        let line = refused(&dir, 1, command);
        assert!(line.contains(&format!("{taken}: ")), "{line}");
        assert_eq!(content(&dir), before, "{command:?}");
        if taken == "issued" { fs::remove_file(&path) } else { fs::remove_dir(&path) }.unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    made(&dir, &["renew", "web1"]);
}

/// On a private file system of a few pages: first full, then read-only.
#[test]
fn a_full_or_read_only_directory_leaves_every_file_whole() {
    const SCRIPT: &str = r#"
        set -eu
        mount -t tmpfs -o size=96k none pki
        "$RP_CA" init --dir pki >/dev/null
        "$RP_CA" issue web1 --client --dir pki >/dev/null
        "$RP_CA" request web2 --dir pki >/dev/null
        "$RP_CA" crl --dir pki >/dev/null
        all_fail() {
            cp -a pki "$1"
            for command in "issue web3 --client" "request web3" "renew web1" "revoke web1" "crl" \
                "sign pki/web2.csr.pem --client" "init"
            do
                dir=pki
                [ "$command" != init ] || dir=pki/new
                if "$RP_CA" $command --dir "$dir" >out 2>err; then
                    echo "$1: $command went through"
                    exit 1
                fi
                [ "$(wc -l <err)" = 1 ] || { cat err; exit 1; }
                grep -q "$2" err || { echo "$command:"; cat err; exit 1; }
                rm -rf pki/new 2>/dev/null || true
                diff -r pki "$1"
            done
        }
        dd if=/dev/zero of=pki/filler bs=1k count=1000 2>/dev/null || true
        all_fail full "cannot be written: No space left"
        rm pki/filler
        mount -o remount,ro pki
        all_fail read-only "cannot be written: Read-only file system"
        mount -o remount,rw pki
        "$RP_CA" revoke web1 --dir pki >/dev/null
        echo all is well
    "#;
    let lab = Lab::new();
    fs::create_dir(lab.path("pki")).unwrap();
    let can_mount = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none"])
        .arg(lab.path("pki"))
        .stderr(Stdio::null())
        .status();
    if !can_mount.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", SCRIPT])
        .env("RP_CA", env!("CARGO_BIN_EXE_rp_ca"))
        .current_dir(lab.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("all is well\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn many_at_once_lose_nothing() {
    const EACH: usize = 6;
    let lab = lab();
    let dir = lab.path("");
    thread::scope(|scope| {
        for n in 0..EACH {
            let dir = &dir;
            scope.spawn(move || {
                let name = format!("host{n}");
                made(dir, &["issue", &name, "--client"]);
                made(dir, &["revoke", &name]);
            });
            scope.spawn(move || made(dir, &["renew", "web1"]));
        }
    });
    let table = made(&dir, &["list"]);
    assert_eq!(table.lines().count(), 1 + 1 + EACH + EACH, "{table}");
    for n in 0..EACH {
        let line = refused(&dir, 1, &["verify", &format!("host{n}.crt.pem")]);
        assert!(line.contains("revoked on"), "{line}");
    }
    made(&dir, &["verify", "web1.crt.pem"]);
    lab.openssl(&["crl", "-in", "ca.crl.pem", "-noout", "-CAfile", "ca.crt.pem", "-verify"]);

    // The same name concurrently: one run creates it, the others create nothing.
    let won: usize = thread::scope(|scope| {
        let issue = || rp_ca::rp_ca(&dir, &["issue", "same", "--client"]).status.success();
        let all: Vec<_> = (0..EACH).map(|_| scope.spawn(issue)).collect();
        all.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    });
    assert_eq!(won, 1);
    made(&dir, &["verify", "same.crt.pem"]);
    assert_eq!(made(&dir, &["list"]).matches("\nsame ").count(), 1);
}
