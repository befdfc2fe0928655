//! The life of an identity: requested elsewhere and signed, listed, renewed, revoked; and a CA key
//! behind a passphrase. `openssl` confirms each step.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use restpipe::ca::{self, Ca, Order, Reason, RevocationTarget};
use restpipe::config::{CrlFile, IdentityFiles};
use restpipe::handler::Role;
use restpipe::identity::Identity;
use rustls::pki_types::UnixTime;

use crate::openssl::{ED25519, Lab, P256, P384, RSA_1024, RSA_2048, mode};
use crate::rp_ca::{self, content, made, refused};

/// The output of openssl in the lab's directory.
fn printed(lab: &Lab, arguments: &[&str]) -> String {
    let output =
        Command::new("openssl").args(arguments).current_dir(lab.path("")).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether openssl accepts a certificate, with the revocation list.
fn is_taken(lab: &Lab, crt: &str) -> bool {
    let verify = ["verify", "-crl_check", "-CRLfile", "ca.crl.pem", "-CAfile", "ca.crt.pem", crt];
    let output = Command::new("openssl").args(verify).current_dir(lab.path("")).output().unwrap();
    output.status.success()
}

/// Asserts that the programs that install identities accept this one.
#[track_caller]
fn assert_installed(lab: &Lab, files: &IdentityFiles, role: Role) {
    let program = match role {
        Role::Server => env!("CARGO_BIN_EXE_rp_server_set_identity"),
        Role::Client => env!("CARGO_BIN_EXE_rp_client_set_identity"),
    };
    let output = Command::new(program)
        .args([&files.key, &files.crt, &files.ca])
        .env_clear()
        .env("RP_SERVER_CERT_PATH", lab.path("place"))
        .env("RP_CLIENT_CERT_PATH", lab.path("place"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Creates a request with openssl: `NAME.key.pem` and `NAME.csr.pem`.
fn openssl_request(lab: &Lab, name: &str, kind: &[&str], subject: &str, more: &[&str]) {
    let (key, csr) = (format!("{name}.key.pem"), format!("{name}.csr.pem"));
    lab.key(&key, kind);
    let request = ["req", "-new", "-key", &key, "-subj", subject, "-out", &csr];
    lab.openssl(&[&request[..], more].concat());
}

#[test]
fn a_key_that_stays_where_it_is_gets_a_certificate() {
    let lab = Lab::new();
    made(&lab.path(""), &["init", "--dir", "pki"]);
    made(&lab.path(""), &["request", "hub.example.com", "--dir", "far"]);
    let far = lab.path("far");
    assert_eq!(mode(&far.join("hub.example.com.key.pem")), 0o600);
    let csr = "far/hub.example.com.csr.pem";
    lab.openssl(&["req", "-in", csr, "-noout", "-verify"]);
    let text = printed(&lab, &["req", "-in", csr, "-text"]);
    assert!(text.contains("CN = hub.example.com") && text.contains("prime256v1"), "{text}");

    fs::rename(lab.path(csr), lab.path("hub.example.com.csr.pem")).unwrap();
    let sign = ["sign", "hub.example.com.csr.pem", "--server", "--san", "10.0.0.5", "--dir", "pki"];
    let said = made(&lab.path(""), &sign);
    assert!(said.starts_with("certificate  hub.example.com.crt.pem\n"), "{said}");
    assert!(!said.contains("not granted"), "{said}");
    assert!(!lab.path("pki/hub.example.com.key.pem").exists());
    assert!(refused(&lab.path(""), 1, &sign).contains("hub.example.com.crt.pem: is there already"));

    let files = IdentityFiles {
        key: far.join("hub.example.com.key.pem"),
        crt: lab.path("hub.example.com.crt.pem"),
        ca: lab.path("pki/ca.crt.pem"),
    };
    assert_eq!(Identity::load(&files, Role::Server).unwrap().own().name, "hub.example.com");
    assert!(Identity::load(&files, Role::Client).is_err());
    assert_installed(&lab, &files, Role::Server);
    let text = printed(&lab, &["x509", "-in", "hub.example.com.crt.pem", "-text"]);
    assert!(text.contains("DNS:hub.example.com, IP Address:10.0.0.5"), "{text}");

    let again = ["request", "hub.example.com", "--dir", "far"];
    let before = content(&far);
    assert!(refused(&lab.path(""), 1, &again).contains("is there already"));
    assert_eq!(content(&far), before);
}

#[test]
fn requests_of_openssl_are_signed_for_every_good_key() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    for (name, kind) in [("p256", P256), ("p384", P384), ("ed25519", ED25519), ("rsa", RSA_2048)] {
        openssl_request(&lab, name, kind, &format!("/CN={name}"), &[]);
        made(&dir, &["sign", &format!("{name}.csr.pem"), "--client"]);
        let identity = Identity::load(&lab.files(name, "ca"), Role::Client).unwrap();
        assert_eq!(identity.own().name, name);
        lab.openssl(&[
            "verify",
            "-x509_strict",
            "-CAfile",
            "ca.crt.pem",
            &format!("{name}.crt.pem"),
        ]);
        assert_installed(&lab, &lab.files(name, "ca"), Role::Client);
        made(&dir, &["renew", name]);
        assert_installed(&lab, &lab.files(name, "ca"), Role::Client);
    }
    let p521 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
    let k256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"];
    for (name, kind, words) in [
        ("short", RSA_1024, "RSA of 1024 bits"),
        ("p521", &p521, "ECDSA on the curve 1.3.132.0.35"),
        ("k256", &k256, "ECDSA on the curve 1.3.132.0.10"),
        ("ed448", &["-algorithm", "ED448"], "of the kind 1.3.101.113"),
    ] {
        openssl_request(&lab, name, kind, &format!("/CN={name}"), &[]);
        let line = refused(&dir, 1, &["sign", &format!("{name}.csr.pem"), "--client"]);
        assert!(line.contains(words), "{line}");
    }
    openssl_request(&lab, "sha1", P256, "/CN=sha1", &["-sha1"]);
    let line = refused(&dir, 1, &["sign", "sha1.csr.pem", "--client"]);
    assert!(line.contains("sha1.csr.pem: the certificate request is not signed by its"), "{line}");
    assert!(!dir.join("sha1.crt.pem").exists());
}

#[test]
fn the_command_line_decides_and_what_is_left_out_is_told() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    let subject = "/O=Evil\nCorp/CN=web1/CN=other";
    let more = [
        "-addext",
        "subjectAltName=DNS:web1,DNS:hub.example.com,DNS:*.example.com,IP:10.0.0.9,email:a@b.c",
        "-addext",
        "extendedKeyUsage=serverAuth,clientAuth,codeSigning",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=digitalSignature,keyCertSign",
        "-addext",
        "tlsfeature=status_request",
    ];
    openssl_request(&lab, "web1", P256, subject, &more);
    let said = made(&dir, &["sign", "web1.csr.pem", "--client", "--san", "web1.example.com"]);
    let told: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("not granted  ")).collect();
    let expected = [
        "O=Evil\\nCorp",
        "CN=other",
        "DNS:hub.example.com",
        "DNS:*.example.com",
        "IP:10.0.0.9",
        "email:a@b.c",
        "use as a server",
        "use for signing code",
        "to be a CA",
        "key usage Digital Signature, Key Cert Sign",
        "extension 1.3.6.1.5.5.7.1.24",
    ];
    assert_eq!(told, expected);
    let text = printed(&lab, &["x509", "-in", "web1.crt.pem", "-text"]);
    assert!(text.contains("DNS:web1, DNS:web1.example.com\n"), "{text}");
    assert!(text.contains("Subject: CN = web1\n") && text.contains("CA:FALSE"), "{text}");
    for absent in ["Server Authentication", "Code Signing", "Certificate Sign", "Evil"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }

    // A request alone does not determine the name.
    fs::copy(lab.path("web1.csr.pem"), lab.path("from-mail.pem")).unwrap();
    let line = refused(&dir, 1, &["sign", "from-mail.pem", "--client"]);
    assert!(line.contains("asks for the name \"web1\"") && line.contains("--name"), "{line}");
    made(&dir, &["sign", "from-mail.pem", "--client", "--name", "web2"]);
    assert!(printed(&lab, &["x509", "-in", "web2.crt.pem", "-text"]).contains("CN = web2\n"));
    fs::remove_file(lab.path("web1.crt.pem")).unwrap();
    made(&dir, &["sign", "from-mail.pem", "--client", "--san", "web1"]);
    assert!(lab.path("web1.crt.pem").exists());

    for (subject, name) in [("/CN=a\u{1b}[2J", "CN=a"), ("/CN=*.example.com", "*.example.com")] {
        openssl_request(&lab, "odd", P256, subject, &["-utf8"]);
        let line = refused(&dir, 1, &["sign", "odd.csr.pem", "--client"]);
        assert!(line.contains("odd.csr.pem: the request asks for the name"), "{name}: {line}");
        assert!(!line.trim_end().chars().any(char::is_control), "{line}");
        fs::remove_file(lab.path("odd.csr.pem")).unwrap();
    }
    openssl_request(&lab, "nobody", P256, "/O=Example", &[]);
    made(&dir, &["sign", "nobody.csr.pem", "--client"]);
    fs::copy(lab.path("nobody.csr.pem"), lab.path("no body")).unwrap();
    assert!(
        refused(&dir, 1, &["sign", "no body", "--client"]).contains("give the name with --name")
    );
    refused(&dir, 2, &["sign", "nobody.csr.pem"]);
    refused(&dir, 2, &["sign", "nobody.csr.pem", "--client", "--name", "*"]);
}

#[test]
fn what_is_revoked_is_told_to_everybody() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    for name in ["web1", "web2"] {
        made(&dir, &["issue", name, "--client"]);
    }
    fs::copy(lab.path("web1.crt.pem"), lab.path("old.pem")).unwrap();
    made(&dir, &["renew", "web1", "--days", "30"]);
    assert_ne!(lab.read("old.pem"), lab.read("web1.crt.pem"));
    let said = made(&dir, &["verify", "web1.crt.pem"]);
    assert!(said.starts_with("valid for    client\nname         web1\n"), "{said}");

    let said = made(&dir, &["revoke", "web1", "--reason", "keyCompromise"]);
    assert_eq!(said.matches("revoked      web1 ").count(), 2, "{said}");
    for crt in ["old.pem", "web1.crt.pem"] {
        let line = refused(&dir, 1, &["verify", crt, "--client"]);
        assert!(line.contains(&format!("{crt}: the certificate was revoked on ")), "{line}");
        assert!(line.ends_with("(keyCompromise)\n"), "{line}");
        assert!(!is_taken(&lab, crt));
    }
    made(&dir, &["verify", "web2.crt.pem", "--client"]);
    assert!(is_taken(&lab, "web2.crt.pem"));
    let line = refused(&dir, 1, &["renew", "web1"]);
    assert!(line.contains("all certificates for web1 are revoked"), "{line}");

    let before = lab.read("ca.crl.pem");
    let said = made(&dir, &["revoke", "web1"]);
    assert_eq!(said.matches("already      web1 ").count(), 2, "{said}");
    assert_eq!(lab.read("ca.crl.pem"), before, "nothing was to be done");
    made(&dir, &["revoke", "web2.crt.pem"]);
    lab.openssl(&["crl", "-in", "ca.crl.pem", "-noout", "-CAfile", "ca.crt.pem", "-verify"]);
    let text = printed(&lab, &["crl", "-in", "ca.crl.pem", "-text"]);
    assert_eq!(text.matches("Serial Number: ").count(), 3, "{text}");
    assert_eq!(text.matches("Key Compromise").count(), 2, "{text}");
    let number = |text: &str| text.split_once("CRL Number: \n").unwrap().1.trim_start().to_owned();
    assert!(number(&text).starts_with("2\n"), "{text}");
    made(&dir, &["crl", "--days", "90"]);
    let text = printed(&lab, &["crl", "-in", "ca.crl.pem", "-text"]);
    assert!(number(&text).starts_with("3\n") && text.matches("Serial Number: ").count() == 3);

    let table = made(&dir, &["list"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(lines.len(), 4, "{table}");
    for line in &lines[1..] {
        assert_eq!(line[1].trim(), "client");
        assert!(line[5].trim().starts_with("20"), "{table}");
    }
    let serial = printed(&lab, &["x509", "-in", "web2.crt.pem", "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_lowercase();
    assert_eq!(lines[3][2].trim(), serial);

    let both = [lab.read("web2.crt.pem"), lab.read("old.pem")].concat();
    lab.write("both.pem", both);
    let line = refused(&dir, 1, &["revoke", "both.pem"]);
    let words = "both.pem: holds 2 certificates where one certificate alone is needed\n";
    assert!(line.ends_with(words), "{line}");
    assert!(refused(&dir, 1, &["revoke", "web3"]).contains("nothing was issued here for web3"));
    assert!(refused(&dir, 1, &["revoke", "ca.crt.pem"]).contains("is a CA's own certificate"));
    refused(&dir, 2, &["revoke", "web1", "--reason", "because"]);
    let another = Lab::new();
    made(&another.path(""), &["init"]);
    made(&another.path(""), &["issue", "web1", "--client"]);
    another.openssl(&["x509", "-in", "web1.crt.pem", "-out", lab.path("f.pem").to_str().unwrap()]);
    assert!(
        refused(&dir, 1, &["revoke", "f.pem"]).contains("not signed by the CA in ./ca.crt.pem")
    );
    assert!(refused(&dir, 1, &["verify", "f.pem"]).contains("is not signed by a CA in"));
    lab.write("ca.crl.pem", {
        made(&another.path(""), &["crl"]);
        another.read("ca.crl.pem")
    });
    for command in [&["verify", "web2.crt.pem"][..], &["list"], &["revoke", "web2"], &["crl"]] {
        let line = refused(&dir, 1, command);
        assert!(line.contains("ca.crl.pem: the revocation list is not signed by"), "{line}");
    }
}

#[test]
fn a_file_that_is_replaced_stays_readable_whatever_the_umask() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    made(&dir, &["issue", "web1", "--client"]);
    for command in ["crl", "renew web1"] {
        let line = format!("umask 077 && exec {} {command}", env!("CARGO_BIN_EXE_rp_ca"));
        let status = Command::new("sh").args(["-c", &line]).current_dir(&dir).output().unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    let mode = |file| fs::metadata(lab.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.crl.pem"), mode("web1.crt.pem")), (0o644, 0o644));
    assert_eq!((mode("ca.key.pem"), mode("web1.key.pem")), (0o600, 0o600));
}

#[test]
fn a_list_that_is_overdue_counts_and_is_warned_about() {
    let lab = Lab::new();
    let dir = lab.path("");
    // Read once: two readings may fall into different seconds.
    let now = UnixTime::now().as_secs();
    let ago = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(now - days * 86_400));
    ca::init(&dir, 3650, ago(100)).unwrap();
    let name: ca::Name = "web1".parse().unwrap();
    let order = |name: &ca::Name| Order {
        name: name.clone(),
        role: Role::Client,
        alternatives: Vec::new(),
        days: 365,
    };
    ca::issue(&dir, &order(&name), ago(90)).unwrap();
    ca::issue(&dir, &order(&"web2".parse().unwrap()), ago(90)).unwrap();
    let ca = Ca::new(&dir);
    ca.sign_list(7, ago(50)).unwrap();
    let revoked = ca.revoke(&RevocationTarget::Name(name), Reason::UNSPECIFIED, ago(40)).unwrap();
    assert_eq!(revoked.next_update, Some(ago(33).into()), "for as long as the list before");
    assert!(refused(&dir, 1, &["verify", "web1.crt.pem"]).contains("revoked on"));
    let output = rp_ca::rp_ca(&dir, &["verify", "web2.crt.pem"]);
    assert!(output.status.success());
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.contains("was due to be signed anew on"), "{warning}");
}

#[test]
fn a_renewed_certificate_has_the_same_names_role_and_key() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    made(&dir, &["issue", "hub", "--server", "--san", "::1", "--san", "hub.example.com"]);
    let text = |crt: &str| {
        let text =
            printed(&lab, &["x509", "-in", crt, "-text", "-certopt", "no_serial,no_validity"]);
        text.split_once("Signature Algorithm")
            .unwrap()
            .1
            .split("Signature Value")
            .next()
            .unwrap()
            .to_owned()
    };
    let (before, key) = (text("hub.crt.pem"), lab.read("hub.key.pem"));
    let old = lab.read("hub.crt.pem");
    let said = made(&dir, &["renew", "hub"]);
    assert!(said.contains("role         server"), "{said}");
    assert_ne!(lab.read("hub.crt.pem"), old);
    assert_eq!(text("hub.crt.pem"), before);
    assert_eq!(lab.read("hub.key.pem"), key, "no key is touched");
    assert_installed(&lab, &lab.files("hub", "ca"), Role::Server);
    let copies: Vec<_> = content(&dir.join("issued")).into_iter().map(|(_, copy)| copy).collect();
    assert!(copies.contains(&old) && copies.contains(&lab.read("hub.crt.pem")));

    // "Superseded" does not mean that the key is compromised.
    lab.write("old.pem", old);
    made(&dir, &["revoke", "old.pem", "--reason", "superseded"]);
    made(&dir, &["renew", "hub"]);
    // A certificate that was not issued here is kept.
    lab.write("hub.crt.pem", lab.read("ca.crt.pem"));
    let line = refused(&dir, 1, &["renew", "hub"]);
    assert!(line.contains("another one that was not issued here is in its place"), "{line}");
    assert_eq!(lab.read("hub.crt.pem"), lab.read("ca.crt.pem"));
    assert!(refused(&dir, 1, &["renew", "nobody"]).contains("nothing was issued here for nobody"));
}

#[test]
fn a_passphrase_keeps_the_key() {
    let lab = Lab::new();
    let dir = lab.path("");
    for (file, content) in [
        ("pass", "correct horse\n"),
        ("wrong", "correct hors\n"),
        ("empty", "\n"),
        ("two", "a\nb\n"),
    ] {
        let path = lab.write(file, content);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (file, words) in [
        ("empty", "empty: the passphrase is empty"),
        ("two", "two: a passphrase file has one line"),
    ] {
        assert!(refused(&dir, 1, &["init", "--passphrase-file", file]).contains(words));
        assert!(!lab.path("ca.key.pem").exists());
    }
    made(&dir, &["init", "--passphrase-file", "pass", "--name", "Prüfstelle"]);
    assert!(lab.read("ca.key.pem").starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    assert_eq!(mode(&lab.path("ca.key.pem")), 0o600);
    lab.openssl(&["pkey", "-in", "ca.key.pem", "-passin", "file:pass", "-out", "plain.pem"]);
    let text = printed(&lab, &["asn1parse", "-in", "ca.key.pem"]);
    for part in ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", "0927C0"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    made(&dir, &["issue", "web1", "--client", "--passphrase-file", "pass"]);
    assert_installed(&lab, &lab.files("web1", "ca"), Role::Client);
    made(&dir, &["list"]);
    made(&dir, &["verify", "web1.crt.pem"]);
    for command in [&["renew", "web1"][..], &["revoke", "web1"], &["crl"]] {
        let line = refused(&dir, 1, &[command, &["--passphrase-file", "wrong"]].concat());
        assert!(line.contains("ca.key.pem: the passphrase does not open this key"), "{line}");
        made(&dir, &[command, &["--passphrase-file", "pass"]].concat());
        if command[0] == "renew" {
            Identity::load(&lab.files("web1", "ca"), Role::Client).unwrap();
        }
    }
    fs::set_permissions(lab.path("pass"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = rp_ca::rp_ca(&dir, &["crl", "--passphrase-file", "pass"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("other users can read this file"));

    // Encrypted by openssl, in the current and the old format.
    let out = ["-in", "plain.pem", "-passout", "file:pass", "-out", "ca.key.pem"];
    lab.openssl(
        &[&["pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"], &out[..]]
            .concat(),
    );
    fs::set_permissions(lab.path("pass"), fs::Permissions::from_mode(0o600)).unwrap();
    made(&dir, &["issue", "web2", "--client", "--passphrase-file", "pass"]);
}

#[test]
fn the_terminal_is_asked_where_there_is_one() {
    let lab = Lab::new();
    let dir = lab.path("");
    let pass = lab.write("pass", "correct horse\n");
    fs::set_permissions(pass, fs::Permissions::from_mode(0o600)).unwrap();
    made(&dir, &["init", "--passphrase-file", "pass"]);
    let program = env!("CARGO_BIN_EXE_rp_ca");

    let output = Command::new("setsid").args(["-w", program, "crl"]).current_dir(&dir).output();
    let Ok(output) = output else {
        eprintln!("skipped: setsid is not installed");
        return;
    };
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains("there is no terminal") && line.contains("--passphrase-file"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");

    let mut script = Command::new("script");
    script.args(["-qec", &format!("tty; {program} crl"), "/dev/null"]).current_dir(&dir);
    let started = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: script is not installed");
        return;
    };
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"ca.key.pem: ") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut stdout, &mut byte).unwrap();
        seen.push(byte[0]);
    }
    // The prompt appears a moment before the terminal stops echoing.
    let terminal = String::from_utf8(seen.clone()).unwrap().lines().next().unwrap().to_owned();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let settings = Command::new("stty").args(["-a", "-F", &terminal]).output().unwrap();
        if String::from_utf8(settings.stdout).unwrap().contains(" -echo ") {
            break;
        }
        assert!(Instant::now() < until, "{terminal} shows what is typed");
    }
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"correct horse\n").unwrap();
    std::io::Read::read_to_end(&mut stdout, &mut seen).unwrap();
    assert!(child.wait().unwrap().success());
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("next update") && !seen.contains("horse"), "{seen}");
}

#[test]
fn renewing_after_one_certificate_was_revoked_says_what_is_so() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    made(&dir, &["issue", "web1", "--client"]);
    lab.write("old.pem", lab.read("web1.crt.pem"));
    made(&dir, &["renew", "web1"]);
    let serial = printed(&lab, &["x509", "-in", "web1.crt.pem", "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_lowercase();
    made(&dir, &["revoke", "old.pem"]);
    let line = refused(&dir, 1, &["renew", "web1"]);
    let words = format!("with it the key, though {serial} for web1 is not and still counts");
    assert!(line.contains(&words) && !line.contains("all certificates"), "{line}");
    made(&dir, &["verify", "web1.crt.pem"]);
    made(&dir, &["revoke", "web1"]);
    let line = refused(&dir, 1, &["renew", "web1"]);
    assert!(
        line.contains("all certificates for web1 are revoked, and with them their key"),
        "{line}"
    );

    // Another key of the same name, whose certificate is not in place.
    for file in ["web1.key.pem", "web1.crt.pem"] {
        fs::rename(lab.path(file), lab.path(&format!("old.{file}"))).unwrap();
    }
    made(&dir, &["issue", "web1", "--client"]);
    fs::rename(lab.path("old.web1.crt.pem"), lab.path("web1.crt.pem")).unwrap();
    let line = refused(&dir, 1, &["renew", "web1"]);
    assert!(line.contains("web1 with the key of this one are revoked"), "{line}");
}

#[test]
fn a_client_does_not_get_the_servers_name() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    for name in ["server", "Server"] {
        let line = refused(&dir, 1, &["issue", name, "--client"]);
        assert!(line.contains("by which clients call their server; choose another"), "{line}");
    }
    assert!(!lab.path("server.key.pem").exists());
    made(&dir, &["request", "server"]);
    let line = refused(&dir, 1, &["sign", "server.csr.pem", "--client"]);
    assert!(line.contains("by which clients call their server"), "{line}");
    made(&dir, &["sign", "server.csr.pem", "--client", "--name", "web1", "--san", "server"]);
    made(&dir, &["issue", "server2", "--client"]);
    fs::remove_file(lab.path("server.key.pem")).unwrap();
    made(&dir, &["issue", "server", "--server"]);
}

#[test]
fn a_key_that_others_can_read_is_warned_about() {
    let lab = Lab::new();
    let dir = lab.path("");
    made(&dir, &["init"]);
    fs::set_permissions(lab.path("ca.key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = rp_ca::rp_ca(&dir, &["issue", "web1", "--client"]);
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stderr).unwrap();
    let words = "every user of this machine may use the private key (mode 0644): chmod 600 it";
    assert!(
        line.starts_with("rp_ca issue: warning: ./ca.key.pem: ") && line.contains(words),
        "{line}"
    );
}

/// Two CAs of one name: a list of one says nothing about what the other has issued.
#[test]
fn a_list_is_that_of_the_ca_that_signed_it() {
    let [one, other] = [Lab::new(), Lab::new()];
    for lab in [&one, &other] {
        made(&lab.path(""), &["init", "--name", "Example CA"]);
        for name in ["web1", "web2"] {
            made(&lab.path(""), &["issue", name, "--client"]);
        }
    }
    made(&one.path(""), &["issue", "hub", "--server"]);
    made(&one.path(""), &["revoke", "web1"]);
    let list = one.read("ca.crl.pem");
    let [ours, theirs] = [&one, &other].map(|lab| lab.read("ca.crt.pem"));
    let chain = |lab: &Lab, name: &str| {
        let file = lab.path(&format!("{name}.crt.pem"));
        restpipe::identity::pem::certificates(&fs::read(&file).unwrap(), &file).unwrap()
    };
    let files = one.files("hub", "both");
    for cas in
        [[&ours, &theirs].map(Clone::clone).concat(), [theirs.clone(), ours.clone()].concat()]
    {
        one.write("both.crt.pem", cas);
        let judge = |list: &[u8], of: &Lab, name: &str| {
            one.write("list.pem", list);
            let crl = CrlFile { path: one.path("list.pem"), required: true };
            let now = UnixTime::now();
            let identity = Identity::load_with_crl(&files, &crl, Role::Server, now).unwrap();
            identity.judge(&chain(of, name), now).map_err(|fault| fault.to_string())
        };
        let revoked = Err("the certificate is revoked".to_owned());
        assert_eq!(judge(&list, &one, "web1"), revoked);
        for (lab, name) in [(&one, "web2"), (&other, "web1"), (&other, "web2")] {
            assert_eq!(judge(&list, lab, name), Ok(()), "{name}");
        }
        made(&other.path(""), &["revoke", "web2"]);
        let both = [list.clone(), other.read("ca.crl.pem")].concat();
        assert_eq!(judge(&both, &one, "web1"), revoked);
        assert_eq!(judge(&both, &other, "web2"), revoked);
        assert_eq!(judge(&both, &one, "web2"), Ok(()));
        assert_eq!(judge(&both, &other, "web1"), Ok(()));
    }
}
