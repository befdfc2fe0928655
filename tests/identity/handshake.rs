//! Two peers shake hands over byte vectors: identities made by `rp_ca`'s code and by `openssl`
//! interoperate, and each side refuses what it must.

use std::sync::Arc;
use std::time::Duration;

use restpipe::ca::{self, Order};
use restpipe::config::IdentityFiles;
use restpipe::handler::Role;
use restpipe::identity::{Identity, PeerCertificate};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::ServerSessionMemoryCache;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection,
};

use crate::openssl::{self, CA, Lab, P256, RSA_1024, RSA_2048};

/// The outcome of a handshake on each side.
struct Outcome {
    client: Result<(), String>,
    server: Result<(), String>,
    ends: (ClientConnection, ServerConnection),
}

impl Outcome {
    #[track_caller]
    fn names(&self) -> (String, String) {
        assert_eq!((&self.client, &self.server), (&Ok(()), &Ok(())));
        let (client, server) = &self.ends;
        let peer = |chain: Option<&[_]>, role| PeerCertificate::read(&chain.unwrap()[0], role);
        (
            peer(server.peer_certificates(), Role::Client).unwrap().name,
            peer(client.peer_certificates(), Role::Server).unwrap().name,
        )
    }

    #[track_caller]
    fn assert_client_refuses(&self, words: &str) {
        let why = self.client.as_ref().unwrap_err();
        assert!(why.contains(words), "{why}");
        assert!(self.server.is_err(), "the server was not told");
    }

    #[track_caller]
    fn assert_server_refuses(&self, words: &str) {
        let why = self.server.as_ref().unwrap_err();
        assert!(why.contains(words), "{why}");
        assert!(self.client.is_err(), "the client was not told");
    }
}

fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Outcome {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = Connection::from(ClientConnection::new(client, name).unwrap());
    let mut server = Connection::from(ServerConnection::new(server).unwrap());
    let (mut of_client, mut of_server) = (Ok(()), Ok(()));
    // A TLS 1.3 handshake takes three flights; the last ones may carry alerts.
    for _ in 0..8 {
        deliver(&mut client, &mut server, &mut of_server);
        deliver(&mut server, &mut client, &mut of_client);
    }
    if of_client.is_ok() && of_server.is_ok() {
        assert!(!client.is_handshaking() && !server.is_handshaking());
    }
    let (Connection::Client(client_end), Connection::Server(server_end)) = (client, server) else {
        unreachable!("made so above")
    };
    Outcome { client: of_client, server: of_server, ends: (client_end, server_end) }
}

/// Delivers the pending bytes of `from`. Keeps the first error of `to`.
fn deliver(from: &mut Connection, to: &mut Connection, outcome: &mut Result<(), String>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() && outcome.is_ok() {
        to.read_tls(&mut bytes).unwrap();
        if let Err(error) = to.process_new_packets() {
            *outcome = Err(error.to_string());
        }
    }
}

fn now() -> UnixTime {
    UnixTime::now()
}

/// A CA and one identity of each role, made by the code behind `rp_ca`.
fn own_pair(lab: &Lab, dir: &str) -> (IdentityFiles, IdentityFiles) {
    let dir = lab.path(dir);
    ca::init(&dir, 10, now()).unwrap();
    let issue = |name: &str, role| {
        let order = Order { name: name.parse().unwrap(), role, alternatives: Vec::new(), days: 5 };
        let made = ca::issue(&dir, &order, now()).unwrap();
        IdentityFiles { key: made.key, crt: made.crt, ca: dir.join("ca.crt.pem") }
    };
    (issue("localhost", Role::Server), issue("web1", Role::Client))
}

fn server(files: &IdentityFiles) -> Arc<ServerConfig> {
    Identity::load(files, Role::Server).unwrap().server_config()
}

fn client(files: &IdentityFiles) -> Arc<ClientConfig> {
    Identity::load(files, Role::Client).unwrap().client_config()
}

/// `files` with the CAs in `cas` as trust anchors.
fn trusting(lab: &Lab, files: &IdentityFiles, cas: &[&IdentityFiles]) -> IdentityFiles {
    let cas: Vec<u8> = cas.iter().flat_map(|of| std::fs::read(&of.ca).unwrap()).collect();
    IdentityFiles { ca: lab.write(&format!("trusted-{}.pem", cas.len()), cas), ..files.clone() }
}

#[test]
fn identities_of_one_ca_meet() {
    let lab = Lab::new();
    let (localhost, web1) = own_pair(&lab, "own");
    let outcome = meet(client(&web1), server(&localhost), "localhost");
    assert_eq!(outcome.names(), ("web1".to_owned(), "localhost".to_owned()));
    let (client_end, _) = &outcome.ends;
    assert_eq!(client_end.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(
        client_end.negotiated_key_exchange_group().unwrap().name(),
        rustls::NamedGroup::X25519MLKEM768
    );
}

#[test]
fn identities_of_openssl_meet_also_through_an_intermediate_ca() {
    let lab = Lab::new();
    lab.self_signed("ca", "/CN=Lab CA", RSA_2048, CA);
    lab.signed("middle", "/CN=Middle CA", P256, "ca", CA, &[]);
    let (localhost, web1) = (lab.server("server", "ca"), lab.client("client", "middle"));
    let chain = [lab.read("client.crt.pem"), lab.read("middle.crt.pem")].concat();
    let web1 =
        IdentityFiles { crt: lab.write("chain.pem", chain), ca: localhost.ca.clone(), ..web1 };
    for name in ["localhost", "127.0.0.1"] {
        meet(client(&web1), server(&localhost), name).names();
    }
}

#[test]
fn a_chain_goes_through_several_cas_and_names_none_of_them_twice() {
    let lab = Lab::new();
    lab.self_signed("ca", "/CN=Lab CA", RSA_2048, CA);
    let mut above = "ca".to_owned();
    let mut chain = Vec::new();
    for at in 1..=5 {
        let name = format!("middle{at}");
        lab.signed(&name, &format!("/CN=Middle CA {at}"), P256, &above, CA, &[]);
        chain.insert(0, lab.read(&format!("{name}.crt.pem")));
        above = name;
    }
    let (localhost, web1) = (lab.server("server", "ca"), lab.client("client", &above));
    chain.insert(0, lab.read("client.crt.pem"));
    // The CA itself is not needed, and harmless.
    chain.push(lab.read("ca.crt.pem"));
    let with = |chain: &[Vec<u8>]| IdentityFiles {
        crt: lab.write("chain.pem", chain.concat()),
        ca: localhost.ca.clone(),
        ..web1.clone()
    };
    meet(client(&with(&chain)), server(&localhost), "localhost").names();

    for (more, subject) in [(0, "CN=web1"), (2, "CN=Middle CA 4")] {
        let twice = [&chain[..6], &chain[more..=more]].concat();
        let fault = Identity::load(&with(&twice), Role::Client).unwrap_err().to_string();
        let expected =
            format!(": the certificate chain has more than one certificate of {subject};");
        assert!(fault.contains(&expected), "{fault}");
    }
    chain.push(lab.read("server.crt.pem"));
    let fault = Identity::load(&with(&chain), Role::Client).unwrap_err().to_string();
    assert!(fault.contains(": the certificate chain has 7 intermediate certificates"), "{fault}");
}

#[test]
fn makers_mix_when_each_side_trusts_both_cas() {
    let lab = Lab::new();
    lab.self_signed("ca", "/CN=Lab CA", P256, CA);
    let theirs = (lab.server("server", "ca"), lab.client("client", "ca"));
    let ours = own_pair(&lab, "own");
    let both = |files: &IdentityFiles| trusting(&lab, files, &[&theirs.0, &ours.0]);
    meet(client(&both(&ours.1)), server(&both(&theirs.0)), "localhost").names();
    meet(client(&both(&theirs.1)), server(&both(&ours.0)), "localhost").names();
}

#[test]
fn no_session_is_ever_resumed() {
    let lab = Lab::new();
    let (localhost, web1) = own_pair(&lab, "own");
    let (client, server) = (client(&web1), server(&localhost));
    let willing_client = {
        let mut config = (*client).clone();
        config.resumption = Resumption::default();
        Arc::new(config)
    };
    let willing_server = {
        let mut config = (*server).clone();
        config.send_tls13_tickets = 2;
        config.session_storage = ServerSessionMemoryCache::new(32);
        Arc::new(config)
    };
    // The last row shows that the test can fail: both of these would resume.
    for (client, server, tickets, resumes) in [
        (&client, &server, false, false),
        (&willing_client, &server, false, false),
        (&client, &willing_server, true, false),
        (&willing_client, &willing_server, true, true),
    ] {
        let meet = || meet(Arc::clone(client), Arc::clone(server), "localhost");
        meet().names();
        let again = meet();
        again.names();
        let kind = again.ends.0.handshake_kind();
        assert_eq!(kind == Some(HandshakeKind::Resumed), resumes, "{kind:?}");
        assert_eq!(again.ends.0.tls13_tickets_received() > 0, tickets);
    }
}

#[test]
fn a_client_refuses_a_server_that_it_should_not_believe() {
    let lab = Lab::new();
    let (localhost, web1) = own_pair(&lab, "own");
    let (stranger, _) = own_pair(&lab, "other");

    meet(client(&web1), server(&localhost), "example.com")
        .assert_client_refuses("not valid for name");
    meet(client(&web1), server(&localhost), "127.0.0.1")
        .assert_client_refuses("not valid for name");
    meet(client(&web1), server(&stranger), "localhost").assert_client_refuses("UnknownIssuer");

    // A client's identity cannot act as a server. Our programs would refuse to load it that way.
    let web1_as_server = Identity::load(&web1, Role::Client).unwrap().server_config();
    meet(client(&web1), web1_as_server, "web1").assert_client_refuses("extended key usage");
}

#[test]
fn a_server_refuses_a_client_that_it_should_not_believe() {
    let lab = Lab::new();
    let (localhost, web1) = own_pair(&lab, "own");
    let (_, stranger) = own_pair(&lab, "other");
    let config = server(&localhost);

    let (key, crt) = (stranger.key, stranger.crt);
    let bare = |certified: Option<(&std::path::Path, &std::path::Path)>| {
        let mut roots = RootCertStore::empty();
        let pem = |path: &std::path::Path| restpipe::identity::pem::read_file(path).unwrap();
        let certificates = |path: &std::path::Path| {
            restpipe::identity::pem::certificates(&pem(path), path).unwrap()
        };
        roots.add_parsable_certificates(certificates(&web1.ca));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match certified {
            None => builder.with_no_client_auth(),
            Some((key, crt)) => {
                let key = restpipe::identity::pem::private_key(&pem(key), key).unwrap();
                builder.with_client_auth_cert(certificates(crt), key).unwrap()
            }
        })
    };
    meet(bare(None), Arc::clone(&config), "localhost").assert_server_refuses("no certificates");
    meet(bare(Some((&key, &crt))), Arc::clone(&config), "localhost")
        .assert_server_refuses("UnknownIssuer");
    let localhost_as_client = bare(Some((&localhost.key, &localhost.crt)));
    meet(localhost_as_client, config, "localhost").assert_server_refuses("extended key usage");
}

#[test]
fn an_identity_that_ends_while_its_node_runs_is_refused_by_peers() {
    let lab = Lab::new();
    let (localhost, _) = own_pair(&lab, "own");
    let dir = lab.path("own");
    let past = UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() - 2 * 86_400));
    let order = Order {
        name: "old".parse().unwrap(),
        role: Role::Client,
        alternatives: Vec::new(),
        days: 1,
    };
    // The CA must have been valid then.
    let old_dir = lab.path("old");
    ca::init(&old_dir, 10, past).unwrap();
    let made = ca::issue(&old_dir, &order, past).unwrap();
    let old = IdentityFiles { key: made.key, crt: made.crt, ca: dir.join("ca.crt.pem") };
    let old_ca = IdentityFiles { ca: old_dir.join("ca.crt.pem"), ..old.clone() };
    let both = trusting(&lab, &localhost, &[&localhost, &old_ca]);

    let now_error = Identity::load(&old_ca, Role::Client).unwrap_err();
    assert!(now_error.to_string().contains("the certificate expired on 20"), "{now_error}");
    let trusting_us = trusting(&lab, &old, &[&localhost, &old_ca]);
    let then = Identity::load_at(&trusting_us, Role::Client, past).unwrap();
    meet(then.client_config(), server(&both), "localhost").assert_server_refuses("expired");
}

#[test]
fn a_weak_key_is_not_even_loaded() {
    let lab = Lab::new();
    lab.self_signed("ca", "/CN=Lab CA", P256, CA);
    lab.signed("weak", "/CN=web1", RSA_1024, "ca", openssl::CLIENT, &[]);
    assert!(Identity::load(&lab.files("weak", "ca"), Role::Client).is_err());
}
