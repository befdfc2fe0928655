//! TCP connections over the pipe: which servers on this side peers may reach, and which local ports
//! lead to targets of a peer.
//!
//! In scope: the grammar. Not in scope: connecting and listening.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Bind;
use super::value::Expected;
use crate::event::peer::Role;
use crate::net::dial::Address;

/// Most targets, and most ports.
const MAX_ENTRIES: usize = 256;
/// Longest name of a client or a target.
const MAX_NAME: usize = 255;
/// The name that clients use for their server.
const SERVER: &str = "server";

/// Where the connections of a local port go: `server/TARGET` or `CLIENT/TARGET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelTarget {
    /// The client, or `None` for the server.
    pub client: Option<String>,
    /// The target's name on the other side.
    pub target: String,
}

impl FromStr for TunnelTarget {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ACCEPTED: &str = "NAME/TARGET, NAME being server or a client's";
        let (name, target) = text.split_once('/').ok_or(ACCEPTED)?;
        if !is_name(name) || !is_name(target) {
            return Err(ACCEPTED);
        }
        let client = (name != SERVER).then(|| name.to_owned());
        Ok(Self { client, target: target.to_owned() })
    }
}

impl fmt::Display for TunnelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client.as_deref().unwrap_or(SERVER), self.target)
    }
}

/// `NAME=ADDRESS,...`: the servers that peers may reach.
pub(super) fn targets(text: &str) -> Result<BTreeMap<String, Address>, Expected> {
    let expected =
        || format!("up to {MAX_ENTRIES} NAME=HOST:PORT or NAME=unix:PATH, separated by commas");
    let mut targets = BTreeMap::new();
    for entry in entries(text) {
        let (name, address) = entry.split_once('=').ok_or_else(expected)?;
        let address = address.trim().parse().map_err(|_| expected())?;
        let name = name.trim();
        if !is_name(name) || targets.len() == MAX_ENTRIES {
            return Err(expected());
        }
        if targets.insert(name.to_owned(), address).is_some() {
            return Err(format!("each name once; {name} stands twice"));
        }
    }
    Ok(targets)
}

/// `BIND=NAME/TARGET,...`: the ports that lead to targets of peers.
pub(super) fn listen(text: &str, role: Role) -> Result<Vec<(Bind, TunnelTarget)>, Expected> {
    let expected = || {
        let name = match role {
            Role::Client => SERVER,
            Role::Server => "CLIENT",
        };
        format!(
            "up to {MAX_ENTRIES} IP:PORT={name}/TARGET or unix:PATH={name}/TARGET, separated by commas"
        )
    };
    let mut ports = Vec::new();
    for entry in entries(text) {
        let (bind, forward) = entry.rsplit_once('=').ok_or_else(expected)?;
        let bind = bind.trim().parse().map_err(|_| expected())?;
        let forward: TunnelTarget = forward.trim().parse().map_err(|_| expected())?;
        let fits = match role {
            Role::Client => forward.client.is_none(),
            Role::Server => forward.client.is_some(),
        };
        if !fits || ports.len() == MAX_ENTRIES {
            return Err(expected());
        }
        ports.push((bind, forward));
    }
    Ok(ports)
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn is_name(text: &str) -> bool {
    let is_clean = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let read = targets("ssh=127.0.0.1:22, db=unix:/run/pg.sock,").unwrap();
        let shown: Vec<String> =
            read.iter().map(|(name, address)| format!("{name}={address}")).collect();
        assert_eq!(shown, ["db=unix:/run/pg.sock", "ssh=127.0.0.1:22"]);
        assert!(targets("").unwrap().is_empty());
        for wrong in ["ssh", "ssh=", "=127.0.0.1:22", "ssh=22", "a/b=h:1", "a=h:1,a=h:2"] {
            assert!(targets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_lead_to_the_other_role() {
        let read = listen("127.0.0.1:2222=web1/ssh,unix:/run/a=b.sock=web1/db", Role::Server);
        let shown: Vec<String> =
            read.unwrap().iter().map(|(bind, to)| format!("{bind} {to}")).collect();
        assert_eq!(shown, ["127.0.0.1:2222 web1/ssh", "unix:/run/a=b.sock web1/db"]);
        assert!(listen("[::1]:0=server/db", Role::Client).is_ok());
        for wrong in ["127.0.0.1:1=web1/ssh", "127.0.0.1=server/a", "127.0.0.1:1=server", "x"] {
            assert!(listen(wrong, Role::Client).is_err(), "{wrong}");
        }
        assert!(listen("127.0.0.1:1=server/ssh", Role::Server).is_err());
    }
}
