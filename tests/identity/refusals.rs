//! The side that finds an error logs it in one line with the peer's address, subject and
//! fingerprint; the other side logs that it was refused, by whom, and where to look. These are the
//! lines of the guide's table.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use restpipe::config::CrlFile;
use restpipe::event::peer::Role;
use restpipe::identity::{Identity, IdentityFault, pem};
use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

use crate::openssl::{CA, CLIENT, Lab, P256, RSA_1024, SERVER};
use crate::support::{Identities, Node, Setup, ask, client, server};

/// A CA made by `rp_ca`, and a directory for what `openssl` signs with it.
struct Scene {
    identities: Identities,
    lab: Lab,
}

impl Scene {
    fn new(clients: &[&str]) -> Self {
        let identities = Identities::new(clients);
        let lab = Lab::new();
        for file in ["ca.key.pem", "ca.crt.pem"] {
            lab.write(file, std::fs::read(identities.path(file)).unwrap());
        }
        lab.self_signed("other", "/CN=Another CA", P256, CA);
        Self { identities, lab }
    }

    /// A certificate with these dates, in days from now. `openssl x509` cannot set the first.
    fn dated(&self, name: &str, usage: ExtendedKeyUsagePurpose, from: i64, to: i64) {
        let key = KeyPair::from_pem(&String::from_utf8(self.lab.read("ca.key.pem")).unwrap());
        let ca = String::from_utf8(self.lab.read("ca.crt.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca, key.unwrap()).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let day = |days| OffsetDateTime::now_utc() + time::Duration::days(days);
        (params.not_before, params.not_after) = (day(from), day(to));
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        self.lab.write(&format!("{name}.key.pem"), key.serialize_pem());
        self.lab.write(&format!("{name}.crt.pem"), certificate.pem());
    }

    /// A certificate signed by `rp_ca`'s CA.
    fn signed(&self, name: &str, kind: &[&str], extensions: &str, more: &[&str]) {
        self.lab.signed(name, &format!("/CN={name}"), kind, "ca", extensions, more);
    }

    /// `certificate CN=NAME (sha256 ...)`, with the fingerprint from `openssl`.
    fn seen(&self, name: &str) -> String {
        let crt = self.lab.path(&format!("{name}.crt.pem"));
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(crt)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let digits = text.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
        assert_eq!(digits.len(), 64, "{text}");
        format!("certificate CN={name} (sha256 {digits})")
    }

    /// Writes `ca.crl.pem`, which revokes this certificate, beside `name`.
    fn revoke(&self, name: &str) {
        let [crt, ca_crt, ca_key] = [&format!("{name}.crt.pem"), "ca.crt.pem", "ca.key.pem"]
            .map(|file| self.lab.path(file));
        self.lab.revoke(&crt, &ca_crt, &ca_key, "ca.crl.pem");
    }

    fn path(&self, file: &str) -> String {
        self.lab.path(file).to_str().unwrap().to_owned()
    }

    /// Dials with `openssl s_client` and returns its output.
    fn dial(&self, pipe: SocketAddr, certificate: Option<&str>, more: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &pipe.to_string(), "-ign_eof"]);
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]).args(more);
        if let Some(name) = certificate {
            command.args(["-cert", &self.path(&format!("{name}.crt.pem"))]);
            command.args(["-key", &self.path(&format!("{name}.key.pem"))]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Listens with `openssl s_server`.
    fn listen(&self, name: &str, more: &[&str]) -> Listener {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1"]);
        command.args(["-cert", &self.path(&format!("{name}.crt.pem"))]);
        command.args(["-key", &self.path(&format!("{name}.key.pem"))]);
        command.args(["-cipher", "DEFAULT@SECLEVEL=0"]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "s_server does not listen");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.trim().parse().unwrap();
            }
        };
        Listener { child, address }
    }
}

struct Listener {
    child: Child,
    address: SocketAddr,
}

impl Listener {
    /// Its output about the one connection that it accepted.
    fn said(mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a log line, after time and level.
fn text(line: &str) -> &str {
    line.splitn(3, ' ').nth(2).unwrap().trim_start()
}

/// Waits for the line with this end and returns the text before it.
fn before(node: &Node, skip: usize, end: &str) -> String {
    let line = node.wait_log_from(skip, &[end]);
    let text = text(&line);
    text.strip_suffix(end)
        .unwrap_or_else(|| panic!("{text:?} does not end with {end:?}"))
        .to_owned()
}

fn short_waits(setup: Setup) -> Setup {
    setup.set("RP_CONNECTION_WAIT_S", 1)
}

#[test]
fn a_server_says_what_is_wrong_with_a_client_and_tells_it_by_an_alert() {
    let scene = Scene::new(&[]);
    let good = ExtendedKeyUsagePurpose::ClientAuth;
    scene.dated("late", good.clone(), -10, -1);
    scene.dated("early", good, 1, 10);
    scene.signed("usage", P256, SERVER, &[]);
    scene.lab.signed("foreign", "/CN=foreign", P256, "other", CLIENT, &[]);
    scene.signed("sha1", P256, CLIENT, &["-sha1"]);
    scene.signed("short", RSA_1024, CLIENT, &[]);
    scene.signed("authority", P256, &format!("{CA}extendedKeyUsage=clientAuth\n"), &[]);
    scene.signed("old", P256, "", &[]);
    scene.signed("gone", P256, CLIENT, &[]);
    scene.revoke("gone");
    let crl = scene.lab.read("ca.crl.pem");
    std::fs::write(scene.identities.path("ca.crl.pem"), crl).unwrap();
    let node = server(&scene.identities).start();
    let ca = scene.identities.path("ca.crt.pem").display().to_string();

    for (name, fault, alert) in [
        ("late", "the certificate expired on ", "certificate expired"),
        ("early", "the certificate is not valid before ", "certificate expired"),
        (
            "usage",
            "the certificate's extended key usage forbids its use as a client; clientAuth is needed",
            "unsupported certificate",
        ),
        ("foreign", &format!("the certificate is not signed by a CA in {ca}"), "unknown ca"),
        (
            "sha1",
            "the certificate is signed with SHA-1; SHA-256 or better is needed",
            "certificate unknown",
        ),
        (
            "short",
            "the certificate has an RSA key of 1024 bits; at least 2048 are needed",
            "certificate unknown",
        ),
        (
            "authority",
            "is a CA's own certificate; a node needs one of its own that the CA has signed",
            "certificate unknown",
        ),
        ("old", "is an X.509 version 1 certificate; version 3 is needed", "certificate unknown"),
        ("gone", "the certificate is revoked", "certificate revoked"),
    ] {
        let told = scene.dial(node.pipe(), Some(name), &[]);
        let line = node.wait_log(&[&format!("CN={name} ")]);
        let text = text(&line);
        let (address, rest) = text.split_once(": ").unwrap();
        assert!(address.parse::<SocketAddr>().is_ok(), "{text}");
        let expected = format!("refused: {}: {fault}", scene.seen(name));
        assert!(rest.starts_with(&expected), "{rest}\n{expected}");
        assert!(told.contains(&format!("alert {alert}")), "{name}: {told}");
    }

    let told = scene.dial(node.pipe(), None, &[]);
    before(&node, 0, ": refused: it sent no certificate");
    assert!(told.contains("alert certificate required"), "{told}");

    let told = scene.dial(node.pipe(), None, &["-tls1_2"]);
    before(&node, 0, ": refused: it does not speak TLS 1.3, and nothing older is accepted");
    assert!(told.contains("alert protocol version"), "{told}");

    let answer = ask(node.pipe(), "GET", "/client/localhost/time", &[], b"");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("pipe port of a RestPipe server"));
    before(
        &node,
        0,
        ": refused: it speaks plain HTTP; this is the pipe port, for RestPipe clients, and HTTP is \
         spoken on the local port",
    );
}

#[test]
fn a_client_says_what_is_wrong_with_a_server_and_tells_it_by_an_alert() {
    let scene = Scene::new(&["web1"]);
    let good = ExtendedKeyUsagePurpose::ServerAuth;
    scene.dated("late", good.clone(), -10, -1);
    scene.dated("early", good, 1, 10);
    scene.signed("usage", P256, "subjectAltName=DNS:localhost\nextendedKeyUsage=clientAuth\n", &[]);
    scene.lab.signed("foreign", "/CN=foreign", P256, "other", SERVER, &[]);
    scene.signed("sha1", P256, SERVER, &["-sha1"]);
    scene.signed("short", RSA_1024, SERVER, &[]);
    scene.signed("authority", P256, &format!("{CA}{SERVER}"), &[]);
    scene.signed("nameless", P256, "extendedKeyUsage=serverAuth\n", &[]);
    scene.signed("elsewhere", P256, "subjectAltName=DNS:a.example,IP:10.0.0.1\n", &[]);
    scene.signed("gone", P256, SERVER, &[]);
    scene.revoke("gone");
    let crl = scene.lab.read("ca.crl.pem");
    std::fs::write(scene.identities.path("ca.crl.pem"), crl).unwrap();
    let ca = scene.identities.path("ca.crt.pem").display().to_string();

    for (name, fault, alert) in [
        ("late", "the certificate expired on ", "certificate expired"),
        ("early", "the certificate is not valid before ", "certificate expired"),
        (
            "usage",
            "the certificate's extended key usage forbids its use as a server; serverAuth is needed",
            "unsupported certificate",
        ),
        ("foreign", &format!("the certificate is not signed by a CA in {ca}"), "unknown ca"),
        (
            "sha1",
            "the certificate is signed with SHA-1; SHA-256 or better is needed",
            "certificate unknown",
        ),
        (
            "short",
            "the certificate has an RSA key of 1024 bits; at least 2048 are needed",
            "certificate unknown",
        ),
        (
            "authority",
            "is a CA's own certificate; a node needs one of its own that the CA has signed",
            "certificate unknown",
        ),
        (
            "nameless",
            "the server certificate has no subject alternative name (a DNS name or an IP address), \
             so no client can check it",
            "certificate unknown",
        ),
        (
            "elsewhere",
            "the certificate is for a.example, 10.0.0.1, not for 127.0.0.1; RP_CLIENT_SERVER_NAME \
             sets the name to expect",
            "bad certificate",
        ),
        ("gone", "the certificate is revoked", "certificate revoked"),
    ] {
        let listener = scene.listen(name, &[]);
        let address = listener.address;
        let node = short_waits(client(&scene.identities, "web1", address)).start();
        let line = node.wait_log(&[&format!("CN={name} ")]);
        let expected = format!(
            "{address}: not connected: the server at {address} is refused: {}: {fault}",
            scene.seen(name)
        );
        assert!(text(&line).starts_with(&expected), "{line}\n{expected}");
        let said = listener.said();
        assert!(said.contains(&format!("alert {alert}")), "{name}: {said}");
    }

    let listener = scene.listen("gone", &["-tls1_2"]);
    let address = listener.address;
    let node = short_waits(client(&scene.identities, "web1", address)).start();
    let end = format!(
        "{address}: not connected: the server at {address} is refused: it does not speak TLS 1.3, and nothing \
         older is accepted"
    );
    assert_eq!(before(&node, 0, &end), "");
}

#[test]
fn a_refused_node_says_so_and_where_to_look() {
    let (ours, theirs) = (Scene::new(&["web1"]), Scene::new(&["web2"]));
    let ca = |scene: &Scene| std::fs::read(scene.identities.path("ca.crt.pem")).unwrap();
    let both = [ca(&ours), ca(&theirs)].concat();
    // Their nodes trust both CAs, ours only their own.
    std::fs::write(theirs.identities.path("ca.crt.pem"), both).unwrap();

    let node = server(&ours.identities).start();
    let address = node.pipe();
    let stranger = short_waits(client(&theirs.identities, "web2", address)).start();
    let end = format!(
        "{address}: not connected: the server at {address} refused this client's certificate \
         (unknown ca): see the server's log"
    );
    assert_eq!(before(&stranger, 0, &end), "");
    let line = node.wait_log(&["refused: certificate CN=web2 (sha256 "]);
    assert!(line.contains(": the certificate is not signed by a CA in "), "{line}");

    let node = server(&theirs.identities).start();
    let own = short_waits(client(&ours.identities, "web1", node.pipe())).start();
    own.wait_log(&["is refused: certificate CN=localhost (sha256 ", "not signed by a CA in "]);
    let before = before(
        &node,
        0,
        ": the client there refused this server's certificate (unknown ca): see the client's log",
    );
    assert!(before.parse::<SocketAddr>().is_ok(), "{before}");

    let lost = short_waits(client(&ours.identities, "web1", address))
        .set("RP_CLIENT_SERVER_NAME", "hub.example.com")
        .start();
    lost.wait_log(&[
        "certificate CN=localhost (sha256 ",
        ": the certificate is for localhost, 127.0.0.1, ::1, not for hub.example.com; \
         RP_CLIENT_SERVER_NAME sets the name to expect",
    ]);
}

#[test]
fn an_identity_that_cannot_be_used_is_not_started_with_and_the_list_is_part_of_it() {
    let scene = Scene::new(&["web1"]);
    let start = |setup: Setup| {
        let output = setup.command().stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let place = scene.identities.path("ca.crl.pem");
    let node = || server(&scene.identities);
    let shown = place.display();

    let (code, line) = start(node().set("RP_CRL_FILENAME", "ca.crl.pem"));
    assert_eq!(code, Some(1));
    assert!(line.contains(&format!("{shown}: cannot be read: No such file")), "{line}");

    for (content, words) in [
        (b"garbage".to_vec(), "is not PEM: there is no -----BEGIN line"),
        (scene.lab.read("other.crt.pem"), "holds a certificate where a revocation list is needed"),
    ] {
        std::fs::write(&place, content).unwrap();
        let (code, line) = start(node());
        assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.contains(&format!("{shown}: {words}")), "{line}");
    }

    scene.lab.signed("gone", "/CN=gone", P256, "other", CLIENT, &[]);
    for file in ["key", "crt"] {
        scene.lab.write(&format!("ca.{file}.pem"), scene.lab.read(&format!("other.{file}.pem")));
    }
    scene.revoke("gone");
    std::fs::write(&place, scene.lab.read("ca.crl.pem")).unwrap();
    let (code, line) = start(node());
    assert_eq!(code, Some(1));
    let ca = scene.identities.path("ca.crt.pem");
    let words = format!(
        "{shown}: the revocation list is from CN=Another CA, which is not a CA in {}",
        ca.display()
    );
    assert!(line.contains(&words), "{line}\n{words}");

    // Two CAs in one file, and a revocation list of one of them.
    let both = [std::fs::read(&ca).unwrap(), scene.lab.read("ca.crt.pem")].concat();
    std::fs::write(&ca, both).unwrap();
    let up = node().start();
    let peer = client(&scene.identities, "web1", up.pipe()).start();
    peer.get_when_up("/server/time");
    let told = scene.dial(up.pipe(), Some("gone"), &[]);
    assert!(told.contains("alert certificate revoked"), "{told}");
    up.wait_log(&["refused: certificate CN=gone ", ": the certificate is revoked"]);
}

#[test]
fn what_ends_soon_is_warned_about_on_both_sides() {
    let scene = Scene::new(&[]);
    scene.identities.ca(&["issue", "web9", "--client", "--days", "20"]);
    scene.lab.signed("gone", "/CN=gone", P256, "ca", CLIENT, &[]);
    scene.revoke("gone");
    let short = ["-gencrl", "-crldays", "3", "-out", "ca.crl.pem"];
    let ca = ["-config", "crl.conf", "-cert", "ca.crt.pem", "-keyfile", "ca.key.pem"];
    scene.lab.openssl(&[&["ca"], &ca[..], &short].concat());
    std::fs::write(scene.identities.path("ca.crl.pem"), scene.lab.read("ca.crl.pem")).unwrap();

    let node = server(&scene.identities).start();
    node.wait_log(&["ca.crl.pem: the next revocation list of CN=RestPipe CA ", " is due by "]);
    let peer = client(&scene.identities, "web9", node.pipe()).start();
    let own = "web9.crt.pem: this node's certificate (sha256 ";
    peer.wait_log(&[own, ") expires on ", " days: renew it"]);
    node.wait_log(&["web9: its certificate (sha256 ", " days: renew it"]);
}

#[test]
fn a_revoked_ca_in_between_takes_its_certificates_with_it() {
    let scene = Scene::new(&[]);
    let lab = &scene.lab;
    // `rp_ca`'s own CA signs no other CA, so openssl makes this one.
    lab.self_signed("ca", "/CN=Lab CA", P256, CA);
    lab.signed("middle", "/CN=Middle CA", P256, "ca", CA, &[]);
    let files = lab.client("web1", "middle");
    let chain = [lab.read("web1.crt.pem"), lab.read("middle.crt.pem")].concat();
    let chain = pem::certificates(&chain, &files.crt).unwrap();
    let judge = |crl: &str| {
        let crl = CrlFile { path: lab.path(crl), required: false };
        let server = lab.server("server", "ca");
        let now = UnixTime::now();
        Identity::load_with_crl(&server, &crl, Role::Server, now).unwrap().judge(&chain, now)
    };
    scene.revoke("other");
    assert_eq!(judge("ca.crl.pem"), Ok(()), "what is revoked is another");
    scene.revoke("middle");
    assert_eq!(judge("no.crl.pem"), Ok(()));
    assert_eq!(judge("ca.crl.pem"), Err(IdentityFault::Revoked));
}
