//! The table of all environment variables: the source for parsing, `--help`, known names and the
//! guide.

/// One setting, under one or two names.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its names; a second one is an alternative spelling.
    pub names: &'static [&'static str],
    /// The default, as it would be written; empty if there is none.
    pub default: &'static str,
    /// What it sets, in a few words.
    pub meaning: &'static str,
    /// The programs that read it.
    pub read_by: &'static [Reader],
    /// Whether a file named by `RP_*_USER_CONFIG_MODULE` may also set it.
    pub allowed_in_file: bool,
}

/// A program that reads the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `rp_server_start`.
    ServerStart,
    /// `rp_client_start`.
    ClientStart,
    /// `rp_server_set_identity`.
    ServerSetIdentity,
    /// `rp_client_set_identity`.
    ClientSetIdentity,
    /// `rp_remoted broker`.
    RemotedBroker,
    /// `rp_remoted publish` and `rp_remoted connect`.
    RemotedEnd,
}

impl Reader {
    /// The variable that names a file of further settings.
    pub(super) fn settings_file(self) -> Option<&'static Variable> {
        match self {
            ServerStart | ServerSetIdentity => Some(&SERVER_FILE),
            ClientStart | ClientSetIdentity => Some(&CLIENT_FILE),
            RemotedBroker | RemotedEnd => None,
        }
    }

    /// Whether there may be a file of further settings, which `--config` names.
    pub fn takes_config(self) -> bool {
        self.settings_file().is_some()
    }
}

use Reader::{
    ClientSetIdentity, ClientStart, RemotedBroker, RemotedEnd, ServerSetIdentity, ServerStart,
};

const SERVER: &[Reader] = &[ServerStart];
const CLIENT: &[Reader] = &[ClientStart];
const NODES: &[Reader] = &[ServerStart, ClientStart];
const BROKER: &[Reader] = &[RemotedBroker];
const ENDS: &[Reader] = &[RemotedEnd];
const REMOTED: &[Reader] = &[RemotedBroker, RemotedEnd];
const OUT: &[Reader] = &[ClientStart, RemotedEnd];
/// Programs that run until they are stopped.
const RUNNING: &[Reader] = &[ServerStart, ClientStart, RemotedBroker, RemotedEnd];
const SERVER_IDENTITY: &[Reader] = &[ServerStart, ServerSetIdentity];
const CLIENT_IDENTITY: &[Reader] = &[ClientStart, ClientSetIdentity];
const ALL: &[Reader] = &[ServerStart, ClientStart, ServerSetIdentity, ClientSetIdentity];

const FILE_TOO: bool = true;
const PROCESS_ONLY: bool = false;

/// Defines a constant per row, used by parsing, and [`VARIABLES`], so that only variables in the
/// table can be read.
macro_rules! table {
    ($($id:ident: $names:expr, $default:expr, $read_by:expr, $file:expr, $meaning:expr;)+) => {
        $(pub(super) const $id: Variable = Variable {
            names: &$names,
            default: $default,
            meaning: $meaning,
            read_by: $read_by,
            allowed_in_file: $file,
        };)+

        /// All variables, in the order in which they are documented.
        pub const VARIABLES: &[Variable] = &[$($id),+];
    };
}

table! {
    PIPE_IP: ["BIND_IP", "RP_SERVER_BIND_INTERFACE"], "::", SERVER, FILE_TOO,
        "IP address that the pipe port is bound to; ::, every one, of IPv4 too";
    PIPE_PORT: ["BIND_PORT", "RP_SERVER_BIND_PORT"], "1234", SERVER, FILE_TOO,
        "the pipe port; 0: any free one";
    TARGET_HOSTNAME: ["RP_CLIENT_TARGET_HOSTNAME"], "localhost", CLIENT, FILE_TOO,
        "host name or IP address of the server, or several as HOST or HOST:PORT, separated by commas";
    TARGETS: ["RP_CLIENT_TARGETS"], "failover", CLIENT, FILE_TOO,
        "with several servers: failover, a pipe to the first that works, or all, a pipe to each";
    TARGET_PORT: ["RP_CLIENT_TARGET_PORT"], "1234", CLIENT, FILE_TOO,
        "the server's pipe port";
    SERVER_NAME: ["RP_CLIENT_SERVER_NAME"], "", CLIENT, FILE_TOO,
        "name to expect in the server's certificate, where it is not the host of RP_CLIENT_TARGET_HOSTNAME";
    PROXY: ["RP_CLIENT_PROXY"], "", CLIENT, FILE_TOO,
        "proxy to the server: http://USER:PASSWORD@HOST:PORT (CONNECT) or socks5://...; set to \
         nothing: none; not set: HTTPS_PROXY";
    HTTPS_PROXY: ["https_proxy", "HTTPS_PROXY"], "", OUT, FILE_TOO,
        "the machine's HTTP proxy, HOST or HOST:PORT, also with http:// and USER:PASSWORD@ before it: to a \
         server that is not this machine (see RP_CLIENT_PROXY), and to brokers with TLS (rwss, rwrs)";
    NO_PROXY: ["no_proxy", "NO_PROXY"], "", OUT, FILE_TOO,
        "names with all below them, addresses, each with a port or without, and ranges such as \
         10.0.0.0/8, separated by commas, that are reached without a proxy; * for all";
    SERVER_DIRECTORY: ["RP_SERVER_CERT_PATH"], "/var/lib/restpipe", SERVER_IDENTITY, FILE_TOO,
        "directory of the identity's files";
    CLIENT_DIRECTORY: ["RP_CLIENT_CERT_PATH"], "/var/lib/restpipe", CLIENT_IDENTITY, FILE_TOO,
        "directory of the identity's files";
    SERVER_KEY: ["RP_SERVER_KEY_FILENAME"], "restpipe.server.key.pem", SERVER_IDENTITY, FILE_TOO,
        "file name of the private key";
    SERVER_CRT: ["RP_SERVER_CRT_FILENAME"], "restpipe.server.crt.pem", SERVER_IDENTITY, FILE_TOO,
        "file name of the certificate";
    CLIENT_KEY: ["RP_CLIENT_KEY_FILENAME"], "restpipe.client.key.pem", CLIENT_IDENTITY, FILE_TOO,
        "file name of the private key";
    CLIENT_CRT: ["RP_CLIENT_CRT_FILENAME"], "restpipe.client.crt.pem", CLIENT_IDENTITY, FILE_TOO,
        "file name of the certificate";
    CA_CRT: ["RP_CA_CRT_FILENAME"], "ca.crt.pem", ALL, FILE_TOO,
        "file name of the certificate of the CA that peers are checked against";
    CRL: ["RP_CRL_FILENAME"], "ca.crl.pem", NODES, FILE_TOO,
        "file name of the revocation lists, beside the CA's certificate; used where it exists, and \
         must be there where this is set";
    HANDLER: ["RP_EVENT_HANDLER", "RP_EVENT_HANDLER_FQ_CLASS"], "example", NODES, FILE_TOO,
        "what answers events: example, none, files:DIR, files+rw:DIR, exec:DIR, http://HOST:PORT/PREFIX, \
         http+unix:PATH, or several as SEGMENT=HANDLER,... with *=HANDLER for what is left; a program \
         with handlers of its own has another default";
    EXEC_TIMEOUT: ["RP_EXEC_TIMEOUT_S"], "60", NODES, FILE_TOO,
        "seconds that a script of an `exec:` handler may run";
    RULES: ["RP_RULES_FILE"], "", NODES, FILE_TOO,
        "file of lines `allow PEER VERB NOUN`: what peers may ask; without one, anything";
    HEARTBEAT_INTERVAL: ["RP_CLIENT_HEARTBEAT_INTERVAL_S"], "5", CLIENT, FILE_TOO,
        "seconds between two heartbeats";
    HEARTBEAT_TIMEOUT: ["RP_CLIENT_HEARTBEAT_TIMEOUT_S"], "10", CLIENT, FILE_TOO,
        "seconds of silence after which the server is given up; twice the interval where only \
         that is set";
    SERVER_HTTP: ["RP_SERVER_HTTP_BIND"], "127.0.0.1:8081", SERVER, FILE_TOO,
        "the local HTTP port: IP:PORT or unix:PATH (mode 0660)";
    CLIENT_HTTP: ["RP_CLIENT_HTTP_BIND"], "127.0.0.1:8082", CLIENT, FILE_TOO,
        "the local HTTP port: IP:PORT or unix:PATH (mode 0660)";
    ALLOWED_HOSTS: ["RP_HTTP_ALLOWED_HOSTS"], "", NODES, FILE_TOO,
        "accepted Host names beside loopback ones, separated by commas; their web pages may use the port";
    UNPROVEN_BROWSERS: ["RP_HTTP_UNPROVEN_BROWSERS"], "0", NODES, FILE_TOO,
        "1: a browser may ask peers without showing for which page; any page can then ask";
    TRUSTED_PAGES: ["RP_HTTP_TRUSTED_PAGES"], "", NODES, FILE_TOO,
        "peers, as named in paths, whose web pages get the rights of the whole port instead of a \
         sandbox, separated by commas; * for all";
    LOOKUP_HOSTS: ["RP_SERVER_LOOKUP_HOSTS"], "", SERVER, FILE_TOO,
        "host names that are looked up where /client/HOST/ names no client, separated by commas; \
         localhost always counts";
    TCP_TARGETS: ["RP_TCP_TARGETS"], "", NODES, FILE_TOO,
        "servers that peers may reach, as NAME=HOST:PORT or NAME=unix:PATH, separated by commas";
    TCP_LISTEN: ["RP_TCP_LISTEN"], "", NODES, FILE_TOO,
        "local ports that lead to targets of the other side, as IP:PORT=NAME/TARGET or \
         unix:PATH=NAME/TARGET (mode 0660), separated by commas; NAME is server or a client's";
    CONNECTION_WAIT: ["RP_CONNECTION_WAIT_S"], "20", NODES, FILE_TOO,
        "seconds that a request waits for a peer that is away";
    REPLY_TIMEOUT: ["RP_REPLY_TIMEOUT_S"], "60", NODES, FILE_TOO,
        "seconds that a request waits for its reply";
    MAX_BODY: ["RP_MAX_BODY_BYTES"], "16777216", NODES, FILE_TOO,
        "largest body that is held in memory, in bytes: one for or from an original RestPipe";
    SERVER_HOOK: ["RP_SERVER_CONNECTION_STATE_CHANGE_EVENT_CLASS"], "", SERVER, FILE_TOO,
        "exec:PATH, a program that is run when a client comes or goes, and while there is none";
    CLIENT_HOOK: ["RP_CLIENT_CONNECTION_STATE_CHANGE_EVENT_CLASS"], "", CLIENT, FILE_TOO,
        "exec:PATH, a program that is run when the server is reached or not reached";
    STATSD_HOST: ["RP_STATSD_HOST"], "", NODES, FILE_TOO,
        "host name or IP address of statsd; localhost where only the port is set, and where neither is, \
         none";
    STATSD_PORT: ["RP_STATSD_PORT"], "8125", NODES, FILE_TOO,
        "the UDP port of statsd";
    REMOTED_BIND: ["RP_REMOTED_BIND"], "127.0.0.1:37791", BROKER, PROCESS_ONLY,
        "where the broker listens: IP:PORT or unix:PATH (mode 0660); wins over host and port in its \
         file of keys";
    REMOTED_CONFIG: ["RP_REMOTED_CONFIG"], "/var/lib/restpipe/remoted.json", BROKER, PROCESS_ONLY,
        "the broker's file of keys, as `rp_remoted keys` makes it";
    REMOTED_CRT: ["RP_REMOTED_CRT"], "", BROKER, PROCESS_ONLY,
        "file of the broker's certificate, PEM; with it the broker speaks TLS";
    REMOTED_KEY: ["RP_REMOTED_KEY"], "", BROKER, PROCESS_ONLY,
        "file of the private key to RP_REMOTED_CRT, PEM";
    REMOTED_IDLE: ["RP_REMOTED_IDLE_S"], "", BROKER, PROCESS_ONLY,
        "seconds without a byte after which joined connections are closed; 0: never; not set: what \
         the two sides ask for";
    REMOTED_PROXY: ["RP_REMOTED_BEHIND_PROXY"], "0", BROKER, PROCESS_ONLY,
        "1: who connects to the broker is what the web server in front says in X-Real-IP and \
         X-Real-Port";
    REMOTED_ORIGINALS: ["RP_REMOTED_ORIGINAL_PEERS"], "0", REMOTED, PROCESS_ONLY,
        "1: the other side may be a program of the original, which ends TLS without saying so; \
         such an end, which anybody on the path can cause, is then no error";
    REMOTED_APIKEY: ["RP_REMOTED_APIKEY"], "", ENDS, PROCESS_ONLY,
        "key for addresses that are given without one";
    HTTP_PROXY: ["HTTP_PROXY", "http_proxy"], "", ENDS, PROCESS_ONLY,
        "HTTP proxy to brokers without TLS (rws, rwr); it has to allow CONNECT too";
    DRAIN: ["RP_DRAIN_S"], "10", RUNNING, FILE_TOO,
        "seconds that a stopping node finishes what is in flight";
    DEBUG: ["DEBUG"], "0", RUNNING, FILE_TOO,
        "1: debug log, and failures of handlers are sent with their traceback; other values than 0 and 1 \
         are another program's, and change nothing";
    LOG_FORMAT: ["RP_LOG_FORMAT"], "text", RUNNING, FILE_TOO,
        "text: lines for people; json: one JSON object a line, of time, level and message";
    LOG_FILTER: ["RUST_LOG"], "", RUNNING, FILE_TOO,
        "log filter, such as warn or info,restpipe::link=trace; wins over DEBUG";
    SERVER_FILE: ["RP_SERVER_USER_CONFIG_MODULE"], "", SERVER_IDENTITY, PROCESS_ONLY,
        "file of NAME=value lines, as --config names it; what is set outside it wins";
    CLIENT_FILE: ["RP_CLIENT_USER_CONFIG_MODULE"], "", CLIENT_IDENTITY, PROCESS_ONLY,
        "file of NAME=value lines, as --config names it; what is set outside it wins";
}

/// Whether an empty value of this variable differs from unset.
pub(super) fn empty_counts(name: &str) -> bool {
    PROXY.names.contains(&name)
}

/// Whether this variable names a file of settings.
pub(super) fn names_a_file(name: &str) -> bool {
    [SERVER_FILE, CLIENT_FILE].iter().any(|variable| variable.names.contains(&name))
}

/// The variables that may hold a secret and are never shown.
pub(super) const SECRET: &[Variable] = &[REMOTED_APIKEY, PROXY, HTTPS_PROXY, HTTP_PROXY];

/// The variables that the machine sets for all its programs: of two spellings the first wins, as in
/// curl.
const OF_THE_MACHINE: &[Variable] = &[HTTPS_PROXY, HTTP_PROXY, NO_PROXY];

/// Whether two spellings of it may differ.
pub(super) fn may_differ(variable: &Variable) -> bool {
    OF_THE_MACHINE.iter().any(|other| other.names == variable.names)
}

/// Whether its value must not be shown.
pub(super) fn may_hold_password(variable: &Variable) -> bool {
    SECRET.iter().any(|other| other.names == variable.names)
}

/// The variable that has this name, in either spelling.
pub(super) fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.names.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_stands_once_and_every_variable_is_explained() {
        let mut seen = BTreeSet::new();
        for variable in VARIABLES {
            assert!(!variable.names.is_empty() && !variable.read_by.is_empty());
            assert!(!variable.meaning.is_empty(), "{:?}", variable.names);
            for name in variable.names {
                assert!(seen.insert(*name), "{name} stands twice");
                assert_eq!(find(name).map(|found| found.names), Some(variable.names));
            }
        }
        assert!(find("RP_NO_SUCH").is_none());
    }
}
