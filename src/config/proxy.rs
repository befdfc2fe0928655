//! The proxy to the server: `RP_CLIENT_PROXY`, or else the settings of the machine.

use std::net::IpAddr;

use super::environment::Settings;
use super::error::ConfigError;
use super::variables as var;
use crate::net::dial::{Exceptions, Proxy};

/// The proxy to this host, a name or an address without brackets. `NO_PROXY` excludes hosts from
/// both variables; `HTTPS_PROXY` is never used for this machine itself.
pub(super) fn read(
    settings: &Settings,
    host: &str,
    port: u16,
) -> Result<Option<Proxy>, ConfigError> {
    let own = settings.find(&var::PROXY)?;
    let variable = match own {
        Some(given) if given.text.is_empty() => return Ok(None),
        Some(_) => &var::PROXY,
        None if settings.find(&var::HTTPS_PROXY)?.is_none() || is_this_machine(host) => {
            return Ok(None);
        }
        None => &var::HTTPS_PROXY,
    };
    if settings.read(&var::NO_PROXY, Exceptions::parse)?.cover(host, port) {
        return Ok(None);
    }
    settings.read(variable, |text| text.parse().map_err(str::to_owned)).map(Some)
}

fn is_this_machine(host: &str) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.parse().map_or_else(|_| host.eq_ignore_ascii_case("localhost"), is_loopback)
}

#[cfg(test)]
mod tests {
    use super::super::{ClientConfig, Environment};

    fn proxy(pairs: &[(&str, &str)]) -> String {
        let host = ("RP_CLIENT_TARGET_HOSTNAME", "pipe.example");
        let with_host = [&[host], pairs].concat();
        let env = Environment::from_pairs(with_host);
        assert!(!format!("{env:?}").contains("SECRET"));
        match ClientConfig::from_environment(&env) {
            Ok((config, warnings)) => {
                assert_eq!(warnings, []);
                assert!(!format!("{config:?}").contains("SECRET"));
                config.proxy.map_or_else(|| "none".to_owned(), |proxy| proxy.to_string())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_nodes_own_setting_wins_over_the_machines() {
        let machine = ("HTTPS_PROXY", "http://me:SECRET@machine:3128");
        let own = ("RP_CLIENT_PROXY", "socks5://me:SECRET@own:1080");
        assert_eq!(proxy(&[]), "none");
        assert_eq!(proxy(&[machine]), "http://machine:3128");
        assert_eq!(proxy(&[("https_proxy", "small:1")]), "http://small:1");
        assert_eq!(proxy(&[machine, ("https_proxy", "small:1")]), "http://small:1");
        assert_eq!(proxy(&[machine, own]), "socks5://own:1080");
        assert_eq!(proxy(&[machine, ("RP_CLIENT_PROXY", "")]), "none");
    }

    #[test]
    fn exceptions_hold_for_both_and_this_machine_is_one_of_the_machines() {
        let machine = ("HTTPS_PROXY", "machine:3128");
        let own = ("RP_CLIENT_PROXY", "own:1080");
        for (name, list) in
            [("NO_PROXY", "example"), ("no_proxy", "x, .example:1234"), ("NO_PROXY", "*")]
        {
            assert_eq!(proxy(&[machine, (name, list)]), "none");
            assert_eq!(proxy(&[own, (name, list)]), "none");
        }
        assert_eq!(proxy(&[own, ("NO_PROXY", "example:1")]), "http://own:1080");
        for host in ["localhost", "127.0.0.2", "::1"] {
            let target = ("RP_CLIENT_TARGET_HOSTNAME", host);
            assert_eq!(proxy(&[machine, target]), "none");
            assert_eq!(proxy(&[own, target]), "http://own:1080");
        }
    }

    #[test]
    fn each_of_several_servers_has_its_own() {
        let proxies = |pairs: &[(&str, &str)]| {
            let hosts = ("RP_CLIENT_TARGET_HOSTNAME", "a.example,b.example:9,localhost");
            let env = Environment::from_pairs([&[hosts], pairs].concat());
            let targets = ClientConfig::from_environment(&env).unwrap().0.targets();
            targets.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let plain = ["a.example:1234", "b.example:9", "localhost:1234"];
        assert_eq!(proxies(&[]), plain);
        let machine = ("HTTPS_PROXY", "http://me:SECRET@machine:3128");
        let by_machine = " through http://machine:3128";
        assert_eq!(
            proxies(&[machine, ("NO_PROXY", "b.example:1,a.example")]),
            [plain[0].to_owned(), plain[1].to_owned() + by_machine, plain[2].to_owned()]
        );
        let own = ("RP_CLIENT_PROXY", "socks5://own");
        let by_own = " through socks5://own:1080";
        assert_eq!(
            proxies(&[own, ("NO_PROXY", "b.example:9")]),
            [plain[0].to_owned() + by_own, plain[1].to_owned(), plain[2].to_owned() + by_own]
        );
    }

    #[test]
    fn a_wrong_address_is_refused_and_not_shown() {
        for name in ["RP_CLIENT_PROXY", "HTTPS_PROXY", "https_proxy"] {
            assert_eq!(
                proxy(&[(name, "https://me:SECRET@proxy")]),
                format!("{name} is \"...\"; accepted is {}", super::Proxy::ACCEPTED)
            );
        }
    }
}
