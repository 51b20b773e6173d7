//! Which addresses may be connected to.
//!
//! Whoever chooses a name chooses where it leads. Without this filter a server could be made to send requests to what only it
//! reaches: the services of its own machine, of its network, of its cloud provider.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that aren't public: <https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>, and multicast.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "64:ff9b:1::/48",
    "100::/63",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Says where may be connected to.
#[derive(Clone, Debug)]
pub(crate) struct AddressFilter {
    not_public: Vec<IpNet>,
    permitted: Vec<IpNet>,
}

impl AddressFilter {
    /// Public addresses, and those in `permitted`.
    pub(crate) fn new(permitted: &[IpNet]) -> Self {
        let networks = NOT_PUBLIC.iter().filter_map(|network| network.parse().ok());
        Self {
            not_public: networks.collect(),
            permitted: permitted.to_vec(),
        }
    }

    /// Whether an address may be connected to.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = carried(address);
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        is_in(&self.permitted) || !is_in(&self.not_public)
    }
}

/// The IPv4 address that an IPv6 address leads to, if it is of such a kind: mapped, by NAT64, by 6to4.
fn carried(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else {
        return address.to_canonical();
    };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let bits = (u32::from(high) << 16) | u32::from(low);
        IpAddr::from(bits.to_be_bytes())
    };
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        _ => IpAddr::V6(Ipv6Addr::from([a, b, c, d, e, f, g, h])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(permitted: &[&str], address: &str) -> bool {
        let permitted: Vec<IpNet> = permitted.iter().map(|net| net.parse().unwrap()).collect();
        AddressFilter::new(&permitted).allows(address.parse().unwrap())
    }

    #[test]
    fn every_network_of_the_list_is_one() {
        assert_eq!(AddressFilter::new(&[]).not_public.len(), NOT_PUBLIC.len());
    }

    #[test]
    fn only_public_addresses_are_connected_to() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!allows(&[], address), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(allows(&[], address), "{address}");
        }
    }

    #[test]
    fn a_permitted_network_is_connected_to_in_whatever_form_its_address_comes() {
        assert!(allows(&["10.0.0.0/8"], "10.1.2.3"));
        assert!(allows(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(!allows(&["10.0.0.0/8"], "192.168.1.1"));
        assert!(allows(&["fd00::/8"], "fd00::1"));
    }
}
