//! The two programs that install identities, with files made by `openssl`: what they refuse and
//! with which message, what they accept, and that a failure changes nothing.

mod as_root;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use restpipe::ca::{self, Order};
use restpipe::config::IdentityFiles;
use restpipe::handler::Role;
use restpipe::identity::Identity;
use rustls::pki_types::UnixTime;

use crate::openssl::{CA, ED25519, Lab, P256, P384, RSA_1024, RSA_2048, SERVER, mode};

const SET_SERVER: &str = env!("CARGO_BIN_EXE_rp_server_set_identity");
const SET_CLIENT: &str = env!("CARGO_BIN_EXE_rp_client_set_identity");

/// Runs one of the programs with `place` as the target directory.
fn set_identity(program: &str, place: &Path, files: &[&Path]) -> Output {
    Command::new(program)
        .args(files)
        .env_clear()
        .env("RP_SERVER_CERT_PATH", place)
        .env("RP_CLIENT_CERT_PATH", place)
        .output()
        .unwrap()
}

/// Asserts exit code 1, one line with `words` and the file's name, and that nothing was written.
#[track_caller]
fn assert_refused(program: &str, lab: &Lab, files: &[&Path], at: &Path, words: &str) {
    let place = lab.path("place");
    let output = set_identity(program, &place, files);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}: {line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!(": {}: ", at.display())), "{words}: {line}");
    assert!(line.contains(words), "{words}: {line}");
    assert!(!place.exists(), "{words}: wrote something");
}

#[track_caller]
fn assert_accepted(program: &str, lab: &Lab, files: &IdentityFiles) {
    let place = lab.path("accepted");
    let output = set_identity(program, &place, &[&files.key, &files.crt, &files.ca]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}: {line}", files.crt.display());
    let role = if program == SET_SERVER { "server" } else { "client" };
    for (name, source) in [
        (format!("restpipe.{role}.key.pem"), &files.key),
        (format!("restpipe.{role}.crt.pem"), &files.crt),
        ("ca.crt.pem".to_owned(), &files.ca),
    ] {
        let installed = place.join(name);
        assert_eq!(fs::read(&installed).unwrap(), fs::read(source).unwrap());
        assert_eq!(mode(&installed), 0o600);
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3, "something was left behind");
    assert_eq!(mode(&place), 0o700);
    fs::remove_dir_all(place).unwrap();
}

/// A lab with a CA called `ca`.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.self_signed("ca", "/CN=Lab CA", P256, CA);
    lab
}

#[test]
fn identities_of_every_usual_make_are_accepted() {
    let lab = lab();
    for (name, kind) in [("p256", P256), ("p384", P384), ("ed25519", ED25519), ("rsa", RSA_2048)] {
        lab.signed(name, "/CN=localhost", kind, "ca", SERVER, &[]);
        assert_accepted(SET_SERVER, &lab, &lab.files(name, "ca"));
    }
    // The older formats of a key, from `openssl genrsa -traditional` and `openssl ecparam`.
    lab.openssl(&["pkey", "-in", "rsa.key.pem", "-traditional", "-out", "pkcs1.pem"]);
    assert!(lab.read("pkcs1.pem").starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
    let pkcs1 = IdentityFiles { key: lab.path("pkcs1.pem"), ..lab.files("rsa", "ca") };
    assert_accepted(SET_SERVER, &lab, &pkcs1);

    lab.openssl(&["pkey", "-in", "p256.key.pem", "-traditional", "-out", "sec1.pem"]);
    lab.openssl(&["ecparam", "-name", "prime256v1", "-out", "parameters.pem"]);
    lab.write("ecparam.pem", [lab.read("parameters.pem"), lab.read("sec1.pem")].concat());
    let sec1 = IdentityFiles { key: lab.path("ecparam.pem"), ..lab.files("p256", "ca") };
    assert_accepted(SET_SERVER, &lab, &sec1);

    lab.self_signed("rsa_ca", "/CN=RSA CA", RSA_2048, CA);
    assert_accepted(SET_CLIENT, &lab, &lab.client("by_rsa", "rsa_ca"));

    // No extended key usage at all allows both roles.
    lab.signed("both", "/CN=localhost", P256, "ca", "subjectAltName=DNS:localhost\n", &[]);
    assert_accepted(SET_SERVER, &lab, &lab.files("both", "ca"));
    assert_accepted(SET_CLIENT, &lab, &lab.files("both", "ca"));

    // A client needs no more than a common name.
    lab.signed("cn", "/CN=web1", P256, "ca", "extendedKeyUsage=clientAuth\n", &[]);
    assert_accepted(SET_CLIENT, &lab, &lab.files("cn", "ca"));
}

#[test]
fn an_intermediate_ca_is_sent_along_with_the_certificate() {
    let lab = lab();
    lab.signed("middle", "/CN=Middle CA", P256, "ca", CA, &[]);
    let alone = lab.server("leaf", "middle");
    let root = lab.path("ca.crt.pem");
    let files: &[&Path] = &[&alone.key, &alone.crt, &root];
    assert_refused(SET_SERVER, &lab, files, &alone.crt, "is not signed by a CA in");

    let chain =
        lab.write("chain.pem", [lab.read("leaf.crt.pem"), lab.read("middle.crt.pem")].concat());
    assert_accepted(SET_SERVER, &lab, &IdentityFiles { key: alone.key, crt: chain, ca: root });
}

#[test]
fn files_of_the_wrong_kind_are_refused_by_name() {
    let lab = lab();
    let IdentityFiles { key, crt, ca } = lab.server("good", "ca");
    let missing = lab.path("missing.pem");
    let text = lab.write("text.pem", "hello\n");
    let empty = lab.write("empty.pem", "");
    let cut = lab.write("cut.pem", &lab.read("good.crt.pem")[..200]);
    let damaged =
        lab.write("damaged.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let rubbish =
        lab.write("rubbish.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let large = lab.write("large.pem", vec![b'\n'; (1 << 20) + 1]);
    lab.openssl(&["x509", "-in", "good.crt.pem", "-outform", "DER", "-out", "der.pem"]);
    let der = lab.path("der.pem");
    lab.openssl(&["pkey", "-in", "good.key.pem", "-pubout", "-out", "public.pem"]);
    let public = lab.path("public.pem");
    let request = lab.path("good.csr.pem");
    let two_keys = lab.write("two.pem", lab.read("good.key.pem").repeat(2));
    let both = lab.write("both.pem", [lab.read("good.crt.pem"), lab.read("good.key.pem")].concat());
    let bad_key =
        lab.write("bad.key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let pass = ["-passout", "pass:secret", "-aes128"];
    lab.openssl(&[&["pkey", "-in", "good.key.pem", "-out", "pkcs8.pem"][..], &pass].concat());
    lab.openssl(
        &[&["pkey", "-traditional", "-in", "good.key.pem", "-out", "old.pem"][..], &pass].concat(),
    );
    assert!(String::from_utf8(lab.read("old.pem")).unwrap().contains("Proc-Type"));
    let (pkcs8, old) = (lab.path("pkcs8.pem"), lab.path("old.pem"));
    let directory = lab.path("");

    let key_is = |at: &Path, words| assert_refused(SET_SERVER, &lab, &[at, &crt, &ca], at, words);
    let crt_is = |at: &Path, words| assert_refused(SET_SERVER, &lab, &[&key, at, &ca], at, words);
    let ca_is = |at: &Path, words| assert_refused(SET_SERVER, &lab, &[&key, &crt, at], at, words);

    for is in [&key_is as &dyn Fn(&Path, &'static str), &crt_is, &ca_is] {
        is(&missing, "cannot be read: No such file");
        is(&directory, "cannot be read: Is a directory");
        is(&text, "is not PEM: there is no -----BEGIN line");
        is(&empty, "is not PEM: the file is empty");
        is(&large, "is larger than 1048576 bytes");
    }
    crt_is(&der, "is not PEM: it looks like DER");
    crt_is(&cut, "is not PEM: line 1: the section CERTIFICATE has no end line");
    crt_is(&damaged, "is not PEM: line 1: the section CERTIFICATE is not base64");
    crt_is(&rubbish, "the certificate cannot be read");
    ca_is(&rubbish, "the certificate cannot be read");
    key_is(&bad_key, "the private key is damaged or of an unknown kind");
    key_is(&crt, "holds a certificate where a private key is needed");
    key_is(&public, "holds a public key where a private key is needed");
    key_is(&two_keys, "holds 2 private keys");
    key_is(&pkcs8, "the private key is encrypted");
    key_is(&old, "the private key is encrypted");
    crt_is(&key, "holds a private key where a certificate is needed");
    crt_is(&request, "holds a certificate request where a certificate is needed");
    crt_is(&both, "holds a private key beside the certificate");
    ca_is(&key, "holds a private key where a certificate is needed");
    ca_is(&crt, "the certificate of CN=localhost is not a CA certificate");
}

#[test]
fn nothing_in_a_file_is_dropped_in_silence() {
    let lab = lab();
    let IdentityFiles { key, crt, ca } = lab.server("good", "ca");
    lab.self_signed("next", "/CN=Next CA", P256, CA);
    lab.openssl(&["req", "-new", "-key", "good.key.pem", "-subj", "/CN=a", "-out", "a.csr.pem"]);
    let text = |name: &str| String::from_utf8(lab.read(name)).unwrap();
    let (old, new) = (text("ca.crt.pem"), text("next.crt.pem"));
    let last = old.lines().count();
    let together =
        format!("line {last}: two lines have run together; put a line break before -----BEGIN");
    let damaged =
        format!("line {}: a BEGIN or END line is damaged or has other text beside it", last + 1);
    let beside = |what| {
        let first = last + 1;
        format!("holds {what} beside the certificate (line {first}) where a certificate alone is")
    };
    for (content, words) in [
        (format!("{}{new}", old.trim_end()), &together),
        (format!("{}\u{feff}{new}", old.trim_end()), &together),
        (format!("{old}{}", &new[1..]), &damaged),
        (format!("{old}{}", text("a.csr.pem")), &beside("a certificate request")),
    ] {
        let joined = lab.write("joined.pem", content);
        assert_refused(SET_SERVER, &lab, &[&key, &crt, &joined], &joined, words);
    }
    let joined = lab.write("joined.pem", format!("{}{new}", text("good.crt.pem").trim_end()));
    assert_refused(SET_SERVER, &lab, &[&key, &joined, &ca], &joined, "two lines have run together");
    let joined = lab.write(
        "joined.pem",
        format!("{}{}", text("good.key.pem").trim_end(), text("good.key.pem")),
    );
    assert_refused(SET_SERVER, &lab, &[&joined, &crt, &ca], &joined, "two lines have run together");

    // As written by `openssl x509 -text`, by editors on Windows, and by hand.
    lab.openssl(&["x509", "-in", "good.crt.pem", "-text", "-out", "text.crt.pem"]);
    let both =
        lab.write("both.pem", format!("\u{feff}{old}\u{feff}\r\n  {}", new.replace('\n', " \r\n")));
    assert_accepted(
        SET_SERVER,
        &lab,
        &IdentityFiles { key, crt: lab.path("text.crt.pem"), ca: both },
    );
}

#[test]
fn certificates_that_peers_would_refuse_are_refused_before() {
    let lab = lab();
    let good = lab.server("good", "ca");
    let client = lab.client("client", "ca");
    lab.self_signed("twin", "/CN=Lab CA", P256, CA);
    lab.self_signed("other", "/CN=Other CA", P256, CA);

    let signed = |name: &str, kind: &[&str], extensions: &str, more: &[&str]| {
        lab.signed(name, "/CN=localhost", kind, "ca", extensions, more);
        lab.files(name, "ca")
    };
    let server_is = |files: &IdentityFiles, at: &PathBuf, words: &str| {
        assert_refused(SET_SERVER, &lab, &[&files.key, &files.crt, &files.ca], at, words);
    };
    let crt_is = |files: &IdentityFiles, words: &str| server_is(files, &files.crt, words);

    let mismatched = IdentityFiles { key: client.key.clone(), ..good.clone() };
    server_is(&mismatched, &client.key, "the private key does not belong to the certificate in");
    crt_is(&signed("v1", P256, "", &[]), "is an X.509 version 1 certificate");
    crt_is(&signed("sha1", P256, SERVER, &["-sha1"]), "is signed with SHA-1");
    lab.self_signed("rsa_ca", "/CN=RSA CA", RSA_2048, CA);
    for (hash, words) in [("-sha1", "is signed with SHA-1"), ("-md5", "is signed with MD5")] {
        lab.signed("broken", "/CN=localhost", P256, "rsa_ca", SERVER, &[hash]);
        crt_is(&lab.files("broken", "rsa_ca"), words);
    }
    crt_is(&signed("weak", RSA_1024, SERVER, &[]), "has an RSA key of 1024 bits");
    crt_is(&signed("past", P256, SERVER, &["-days", "-1"]), "the certificate expired on 20");
    let dir = lab.path("later");
    let later = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + 86_400));
    ca::init(&dir, 10, later).unwrap();
    let name = "localhost".parse().unwrap();
    let order = Order { name, role: Role::Server, alternatives: Vec::new(), days: 5 };
    let made = ca::issue(&dir, &order, later).unwrap();
    let early = IdentityFiles { key: made.key, crt: made.crt, ca: dir.join("ca.crt.pem") };
    crt_is(&early, "the certificate is not valid before 20");
    let nameless = signed("nameless", P256, "extendedKeyUsage=serverAuth\n", &[]);
    crt_is(&nameless, "has no subject alternative name");
    crt_is(&client, "extended key usage forbids its use as a server; serverAuth is needed");
    for ca in ["twin", "other"] {
        let files = IdentityFiles { ca: lab.path(&format!("{ca}.crt.pem")), ..good.clone() };
        crt_is(&files, &format!("is not signed by a CA in {}", files.ca.display()));
    }
    crt_is(&lab.files("ca", "ca"), "is a CA's own certificate");
    lab.self_signed("alone", "/CN=localhost", P256, SERVER);
    crt_is(&lab.files("alone", "ca"), "is not signed by a CA in");

    // The same of the CA.
    let with_ca = |name: &str| IdentityFiles { ca: lab.path(name), ..good.clone() };
    let ca_is = |name: &str, words: &str| server_is(&with_ca(name), &lab.path(name), words);
    lab.signed("v1_ca", "/CN=Old CA", P256, "ca", "", &[]);
    ca_is("v1_ca.crt.pem", "is an X.509 version 1 certificate");
    lab.self_signed("weak_ca", "/CN=Weak CA", RSA_1024, CA);
    ca_is("weak_ca.crt.pem", "has an RSA key of 1024 bits");
    lab.signed("past_ca", "/CN=Past CA", P256, "ca", CA, &["-days", "-1"]);
    ca_is("past_ca.crt.pem", "the certificate expired on 20");
    lab.write("mixed.pem", [lab.read("ca.crt.pem"), lab.read("good.crt.pem")].concat());
    ca_is("mixed.pem", "the certificate of CN=localhost is not a CA certificate");

    // And of a client.
    let client_is = |files: &IdentityFiles, words: &str| {
        assert_refused(SET_CLIENT, &lab, &[&files.key, &files.crt, &files.ca], &files.crt, words);
    };
    client_is(&good, "extended key usage forbids its use as a client; clientAuth is needed");
    lab.signed("anonymous", "/O=Nobody", P256, "ca", "extendedKeyUsage=clientAuth\n", &[]);
    client_is(&lab.files("anonymous", "ca"), "the certificate has no name");
    lab.signed("control", "/CN=a\u{7f}b", P256, "ca", "extendedKeyUsage=clientAuth\n", &[]);
    client_is(&lab.files("control", "ca"), "has characters that are invisible or reorder others");
}

#[test]
fn a_client_needs_no_ca_where_one_is_in_place() {
    let lab = lab();
    let server = lab.server("server", "ca");
    let client = lab.client("client", "ca");
    lab.self_signed("other", "/CN=Other CA", P256, CA);
    let foreign = lab.client("foreign", "other");
    let place = lab.path("place");

    let ca = place.join("ca.crt.pem");
    let words = "no CA certificate is in place";
    assert_refused(SET_CLIENT, &lab, &[&client.key, &client.crt], &ca, words);
    let usage = set_identity(SET_SERVER, &place, &[&server.key, &server.crt]);
    assert_eq!(usage.status.code(), Some(2), "a server's CA may not be left out");

    let output = set_identity(SET_SERVER, &place, &[&server.key, &server.crt, &server.ca]);
    assert!(output.status.success());
    let output = set_identity(SET_CLIENT, &place, &[&foreign.key, &foreign.crt]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(line.contains(&format!("is not signed by a CA in {}", ca.display())), "{line}");

    let output = set_identity(SET_CLIENT, &place, &[&client.key, &client.crt]);
    assert!(output.status.success());
    let installed = IdentityFiles {
        key: place.join("restpipe.client.key.pem"),
        crt: place.join("restpipe.client.crt.pem"),
        ca,
    };
    assert_eq!(Identity::load(&installed, Role::Client).unwrap().own().name, "web1");
}

/// The administrator installs; the user that the node runs as reads.
#[test]
fn what_root_installs_belongs_to_whom_the_directory_belongs_to() {
    let lab = lab();
    let files = lab.server("server", "ca");
    let place = lab.path("place");
    fs::create_dir(&place).unwrap();
    // Only root may change the owner; otherwise it stays, also for the files.
    let _ = chown(&place, Some(4711), Some(4712));
    let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();

    // The second time there is something to replace.
    for _ in 0..2 {
        let output = set_identity(SET_SERVER, &place, &[&files.key, &files.crt, &files.ca]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for name in ["restpipe.server.key.pem", "restpipe.server.crt.pem", "ca.crt.pem"] {
            assert_eq!(owner(&place.join(name)), owner(&place), "{name}");
            assert_eq!(mode(&place.join(name)), 0o600);
        }
    }
}

#[test]
fn a_failure_leaves_the_old_identity_whole() {
    let lab = lab();
    let old = lab.server("old", "ca");
    lab.self_signed("ca2", "/CN=Next CA", P256, CA);
    let new = lab.server("new", "ca2");
    let names = ["restpipe.server.key.pem", "restpipe.server.crt.pem", "ca.crt.pem"];

    for obstacle in names {
        let place = lab.path(&format!("place-{obstacle}"));
        let output = set_identity(SET_SERVER, &place, &[&old.key, &old.crt, &old.ca]);
        assert!(output.status.success());
        // A directory in place of a file blocks even root.
        fs::remove_file(place.join(obstacle)).unwrap();
        fs::create_dir(place.join(obstacle)).unwrap();

        let output = set_identity(SET_SERVER, &place, &[&new.key, &new.crt, &new.ca]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(line.contains(&format!("{obstacle}: cannot be written: ")), "{line}");
        for (name, source) in names.into_iter().zip([&old.key, &old.crt, &old.ca]) {
            if name != obstacle {
                assert_eq!(fs::read(place.join(name)).unwrap(), fs::read(source).unwrap());
                assert_eq!(mode(&place.join(name)), 0o600);
            }
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 3, "something was left behind");
    }

    // Into a directory that is not empty but has no identity: files already written are removed again.
    let place = lab.path("fresh");
    fs::create_dir_all(place.join("ca.crt.pem")).unwrap();
    let output = set_identity(SET_SERVER, &place, &[&new.key, &new.crt, &new.ca]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
}

#[test]
fn wrong_usage_is_exit_2_and_help_names_the_environment() {
    for (program, role) in [(SET_SERVER, "SERVER"), (SET_CLIENT, "CLIENT")] {
        let run = |arguments: &[&str]| Command::new(program).args(arguments).output().unwrap();
        for wrong in [&[][..], &["a"], &["a", "b", "c", "d"], &["a", "b", "--no-such"], &["-x"]] {
            let output = run(wrong);
            assert_eq!(output.status.code(), Some(2), "{wrong:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
        }
        let help = run(&["--help"]);
        assert!(help.status.success());
        let help = String::from_utf8(help.stdout).unwrap();
        for name in ["CERT_PATH", "KEY_FILENAME", "CRT_FILENAME"] {
            assert!(help.contains(&format!("RP_{role}_{name}")), "{help}");
        }
        assert!(help.contains("RP_CA_CRT_FILENAME") && help.contains("/var/lib/restpipe"));
        let version = run(&["--version"]);
        assert!(String::from_utf8(version.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_wrong_environment_is_exit_2_and_an_unknown_name_a_warning() {
    let lab = lab();
    let files = lab.server("good", "ca");
    let run = |name: &str, value: &str| {
        let mut command = Command::new(SET_SERVER);
        command.args([&files.key, &files.crt, &files.ca]).env_clear();
        command.env("RP_SERVER_CERT_PATH", lab.path("place")).env(name, value);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, line) = run("RP_SERVER_KEY_FILENAME", "ca.crt.pem");
    assert_eq!((code, line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains("RP_CA_CRT_FILENAME"), "{line}");
    assert!(!lab.path("place").exists());

    let (code, line) = run("RP_SERVER_KEY_FILENAM", "x");
    assert_eq!((code, line.lines().count()), (Some(0), 2), "{line}");
    assert!(line.starts_with("rp_server_set_identity: warning: RP_SERVER_KEY_FILENAM "), "{line}");
    // The lab's certificates are of thirty days.
    assert!(line.contains("\nrp_server_set_identity: warning: the certificate (sha256 "), "{line}");
    assert!(lab.path("place/restpipe.server.key.pem").is_file());
}
