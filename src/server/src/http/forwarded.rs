//! Who sent a request that came through proxies.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether what this address says about others is believed.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The last address that a trusted proxy vouches for.
///
/// `X-Forwarded-For` is read from its end, where the nearest proxy wrote: whatever is before the
/// first address that isn't a trusted proxy's was in that one's power.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    for header in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        let Ok(header) = header.to_str() else {
            return client;
        };
        for entry in header.rsplit(',') {
            if !is_trusted(client, trusted) {
                return client;
            }
            match parse(entry.trim()) {
                Some(address) => client = address,
                None => return client,
            }
        }
    }
    client
}

/// Some proxies write the port too.
fn parse(entry: &str) -> Option<IpAddr> {
    let address = entry.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap());
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(X_FORWARDED_FOR, header.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn the_header_of_a_stranger_is_ignored() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_names_its_client() {
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &["::ffff:203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn what_the_client_itself_wrote_is_ignored() {
        assert_eq!(
            client("10.0.0.1", &["198.51.100.1, 203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(
            client("10.0.0.1", &["198.51.100.1", "203.0.113.9"]),
            "203.0.113.9"
        );
    }

    #[test]
    fn a_chain_of_trusted_proxies_is_followed() {
        let chain = ["198.51.100.1, 203.0.113.9, 10.0.0.3", "10.0.0.2"];
        assert_eq!(client("10.0.0.1", &chain), "203.0.113.9");
    }

    #[test]
    fn nonsense_ends_the_chain() {
        assert_eq!(client("10.0.0.1", &["203.0.113.9, unknown"]), "10.0.0.1");
        assert_eq!(
            client("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
        assert_eq!(client("10.0.0.1", &[""]), "10.0.0.1");
    }

    #[test]
    fn without_the_header_the_peer_is_the_client() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
