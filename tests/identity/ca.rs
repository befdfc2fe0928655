//! `rp_ca` as a process: its files match its output, other tools accept them, and nothing is ever
//! overwritten.

use std::fs;

use restpipe::ca::{self, Order};
use restpipe::handler::Role;
use restpipe::identity::Identity;
use rustls::pki_types::UnixTime;

use crate::openssl::{CA, Lab, P256, RSA_2048, mode};
use crate::rp_ca::{content, made, refused};

#[test]
fn what_it_makes_is_accepted_here_and_by_openssl() {
    let lab = Lab::new();
    made(&lab.path(""), &["init", "--dir", "pki"]);
    let dir = lab.path("pki");
    let said = made(
        &dir,
        &["issue", "pipe.example.com", "--server", "--san", "localhost", "--san", "::1"],
    );
    made(&dir, &["issue", "web1", "--client", "--days", "7"]);
    made(&dir, &["issue", "10.0.0.5", "--server"]);

    assert_eq!(mode(&dir), 0o700);
    for name in ["ca", "pipe.example.com", "web1", "10.0.0.5"] {
        assert_eq!(mode(&dir.join(format!("{name}.key.pem"))), 0o600);
    }
    for (name, purpose) in
        [("pipe.example.com", "sslserver"), ("10.0.0.5", "sslserver"), ("web1", "sslclient")]
    {
        let crt = format!("pki/{name}.crt.pem");
        let ca = "pki/ca.crt.pem";
        lab.openssl(&["verify", "-x509_strict", "-CAfile", ca, "-purpose", purpose, &crt]);
    }
    lab.openssl(&["x509", "-in", "pki/pipe.example.com.crt.pem", "-text", "-out", "text"]);
    let text = String::from_utf8(lab.read("text")).unwrap();
    for part in [
        "Version: 3",
        "ecdsa-with-SHA256",
        "prime256v1",
        "DNS:pipe.example.com, DNS:localhost, IP Address:0:0:0:0:0:0:0:1",
        "TLS Web Server Authentication",
        "CA:FALSE",
        "Digital Signature",
        "Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("Client Authentication"));

    let server =
        Identity::load(&lab.files("pki/pipe.example.com", "pki/ca"), Role::Server).unwrap();
    assert_eq!(server.own().name, "pipe.example.com");
    assert!(said.contains(&server.own().fingerprint), "{said}");
    assert!(said.contains(&server.own().expires.to_string()), "{said}");
    lab.openssl(&[
        "x509",
        "-in",
        "pki/pipe.example.com.crt.pem",
        "-noout",
        "-fingerprint",
        "-sha256",
        "-out",
        "fingerprint",
    ]);
    let fingerprint = String::from_utf8(lab.read("fingerprint")).unwrap();
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().replace(':', "");
    assert_eq!(server.own().fingerprint, fingerprint.to_lowercase());

    let client = Identity::load(&lab.files("pki/web1", "pki/ca"), Role::Client).unwrap();
    assert_eq!(client.own().name, "web1");
    assert!(Identity::load(&lab.files("pki/web1", "pki/ca"), Role::Server).is_err());
}

#[test]
fn nothing_is_ever_overwritten() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    made(&dir, &["issue", "web1", "--client"]);
    let before = content(&dir);
    for again in [&["init"][..], &["issue", "web1", "--client"], &["issue", "ca", "--client"]] {
        assert!(refused(&dir, 1, again).contains("is there already"), "{again:?}");
        assert_eq!(content(&dir), before);
    }

    // One of the two files is enough, and the other is not created.
    for part in ["web1.key.pem", "ca.crt.pem"] {
        let lab = Lab::new();
        let dir = lab.path("");
        if part != "ca.crt.pem" {
            made(&dir, &["init"]);
        }
        lab.write(part, "mine");
        let before = content(&dir);
        let command: &[&str] =
            if part == "ca.crt.pem" { &["init"] } else { &["issue", "web1", "--client"] };
        assert!(refused(&dir, 1, command).contains(&format!("{part}: is there already")));
        assert_eq!(content(&dir), before);
    }

    // The target of a dangling link is not created either.
    let lab = Lab::new();
    std::os::unix::fs::symlink("elsewhere", lab.path("ca.key.pem")).unwrap();
    refused(&lab.path(""), 1, &["init"]);
    assert!(!lab.path("elsewhere").exists());
}

#[test]
fn an_identity_never_outlives_its_ca() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init", "--days", "10"]);
    let said = made(&dir, &["issue", "web1", "--client", "--days", "11"]);
    assert!(said.contains("UTC, with its CA"), "{said}");
    assert!(!made(&dir, &["issue", "web2", "--client", "--days", "9"]).contains("with its CA"));
    for name in ["ca", "web1"] {
        lab.openssl(&[
            "x509",
            "-in",
            &format!("{name}.crt.pem"),
            "-noout",
            "-enddate",
            "-out",
            name,
        ]);
    }
    assert_eq!(lab.read("ca"), lab.read("web1"));
}

#[test]
fn a_ca_made_by_openssl_signs_too() {
    for kind in [P256, RSA_2048] {
        let lab = Lab::new();
        lab.self_signed("ca", "/O=Example/CN=Corporate CA", kind, CA);
        made(&lab.path(""), &["issue", "localhost", "--server"]);
        Identity::load(&lab.files("localhost", "ca"), Role::Server).unwrap();
        lab.openssl(&["verify", "-CAfile", "ca.crt.pem", "localhost.crt.pem"]);

        made(&lab.path(""), &["issue", "lost", "--client"]);
        made(&lab.path(""), &["revoke", "lost"]);
        let checked = ["verify", "-crl_check", "-CRLfile", "ca.crl.pem", "-CAfile", "ca.crt.pem"];
        lab.openssl(&[&checked[..], &["localhost.crt.pem"]].concat());
        made(&lab.path(""), &["verify", "localhost.crt.pem"]);
        refused(&lab.path(""), 1, &["verify", "lost.crt.pem"]);
    }
}

#[test]
fn a_ca_that_cannot_sign_says_why() {
    let lab = Lab::new();
    let dir = lab.path("");
    let issue = ["issue", "web1", "--client"];
    assert!(refused(&dir, 1, &issue).contains("ca.crt.pem: there is no CA here"));

    lab.self_signed("other", "/CN=Other", P256, CA);
    lab.self_signed("leaf", "/CN=leaf", P256, "subjectAltName=DNS:leaf\n");
    made(&dir, &["init"]);
    let ca = lab.read("ca.crt.pem");
    for (crt, words) in [
        ("other", "ca.key.pem: the private key does not belong to the certificate in ./ca.crt.pem"),
        ("leaf", "ca.crt.pem: the certificate of CN=leaf is not a CA certificate"),
    ] {
        lab.write("ca.crt.pem", lab.read(&format!("{crt}.crt.pem")));
        let line = refused(&dir, 1, &issue);
        assert!(line.contains(words), "{line}");
    }
    lab.write("ca.crt.pem", ca);
    lab.write("ca.key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(refused(&dir, 1, &issue).contains("ca.key.pem: the private key is damaged"));
    assert!(!dir.join("web1.key.pem").exists());

    lab.write("file", "");
    let line = refused(&dir, 1, &["init", "--dir", "file/pki"]);
    assert!(line.contains("file/pki"), "{line}");
}

#[test]
fn a_ca_whose_subject_cannot_be_repeated_is_refused() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    lab.openssl(&["x509", "-in", "ca.crt.pem", "-outform", "DER", "-out", "der"]);
    // The type of the common name becomes 2.7732.3, which is rare but allowed.
    let mut der = lab.read("der");
    for at in 0..der.len() - 5 {
        if der[at..at + 5] == [6, 3, 0x55, 4, 3] {
            der[at + 2] = 0xbd;
        }
    }
    assert_ne!(der, lab.read("der"));
    lab.write("der", der);
    lab.openssl(&["x509", "-inform", "DER", "-in", "der", "-out", "ca.crt.pem"]);
    let line = refused(&dir, 1, &["issue", "web1", "--client"]);
    assert!(line.contains("ca.crt.pem: the certificate is refused: its subject"), "{line}");
}

#[test]
fn a_damaged_ca_is_an_error_or_fine_but_never_a_panic() {
    let lab = Lab::new();
    lab.self_signed("ca", "/C=NO/O=Example/CN=Corporate CA", P256, CA);
    let whole = lab.read("ca.crt.pem");
    let order = Order {
        name: "web1".parse().unwrap(),
        role: Role::Client,
        alternatives: Vec::new(),
        days: 1,
    };
    let mut random = fastrand::Rng::with_seed(2);
    let mut refused = 0;
    for _ in 0..500 {
        let mut changed = whole.clone();
        let position = random.usize(0..changed.len());
        changed[position] = random.alphanumeric() as u8;
        lab.write("ca.crt.pem", &changed);
        match ca::issue(&lab.path(""), &order, UnixTime::now()) {
            Ok(made) => {
                fs::remove_file(made.key).unwrap();
                fs::remove_file(made.crt).unwrap();
            }
            Err(error) => {
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn wrong_usage_is_exit_2_and_makes_nothing() {
    let lab = Lab::new();
    let dir = lab.path("");
    let long = "a".repeat(65);
    for wrong in [
        &[][..],
        &["make"],
        &["init", "extra"],
        &["init", "--no-such"],
        &["init", "--san", "a"],
        &["init", "--days", "0"],
        &["init", "--days", "36501"],
        &["init", "--days", "-1"],
        &["init", "--days", "soon"],
        &["init", "--days"],
        &["init", "--dir"],
        &["issue"],
        &["issue", "web1"],
        &["issue", "web1", "--server", "--client"],
        &["issue", "--client"],
        &["issue", "web1", "web2", "--client"],
        &["issue", "web1", "--client", "--san", "*.example.com"],
        &["issue", "web1", "--client", "--san", "a b"],
        &["issue", "../web1", "--client"],
        &["issue", ".web1", "--client"],
        &["issue", "web\n1", "--client"],
        &["issue", "", "--client"],
        &["issue", &long, "--client"],
    ] {
        refused(&dir, 2, wrong);
        assert_eq!(content(&dir), [], "{wrong:?}");
    }
    assert!(made(&dir, &["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_program_and_each_command_have_their_own_help() {
    let lab = Lab::new();
    let dir = lab.path("");
    let all = made(&dir, &["--help"]);
    for part in
        ["rp_ca init [--name CN] [--days N]", "rp_ca issue NAME --server|--client", "Example:"]
    {
        assert!(all.contains(part), "{all}");
    }
    let init = made(&dir, &["init", "--help"]);
    assert!(init.contains("Example:\n  rp_ca init --dir ca\n"), "{init}");
    assert!(init.contains("default: 3650") && !init.contains("NAME"), "{init}");
    let issue = made(&dir, &["issue", "web1", "--help"]);
    assert!(issue.contains("Example:\n  rp_ca issue "), "{issue}");
    assert!(issue.contains("default: 365"), "{issue}");
    assert_eq!(content(&dir), []);
}

#[test]
fn the_examples_of_the_help_work_as_they_stand() {
    let lab = Lab::new();
    let dir = lab.path("");
    let examples = |page: &[&str]| {
        let help = made(&dir, page);
        let (_, examples) = help.split_once("\nExample:\n").unwrap();
        let lines = examples.lines().take_while(|line| line.starts_with("  rp_ca "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        made(&dir, &words);
    };
    examples(&["--help"]).iter().for_each(run);
    for name in ["ca", "pipe.example.com", "fileserver"] {
        assert!(lab.path("ca").join(format!("{name}.key.pem")).is_file(), "{name}");
    }
    fs::remove_dir_all(lab.path("ca")).unwrap();
    // In order, as a reader would try them.
    for command in ["init", "issue", "request", "sign", "verify", "list", "renew", "revoke", "crl"]
    {
        let examples = examples(&[command, "--help"]);
        assert_eq!(examples.len(), if command == "issue" { 2 } else { 1 });
        examples.iter().for_each(run);
    }
}
