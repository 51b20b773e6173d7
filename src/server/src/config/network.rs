//! Networks in CIDR notation, where an address alone means just itself.

use ipnet::IpNet;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _, ser::SerializeSeq as _};

pub(super) fn serialize<S: Serializer>(
    networks: &[IpNet],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(networks.len()))?;
    for network in networks {
        list.serialize_element(&network.to_string())?;
    }
    list.end()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| parse(text).map_err(D::Error::custom))
        .collect()
}

fn parse(text: &str) -> Result<IpNet, String> {
    let address = || {
        text.parse()
            .map(|address: std::net::IpAddr| IpNet::from(address))
    };
    text.parse()
        .or_else(|_| address())
        .map_err(|_| format!("`{text}` is neither an address nor a network such as \"10.0.0.0/8\""))
}
