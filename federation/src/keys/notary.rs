//! Keys of a server that another server, which is trusted, vouches for.

use std::collections::BTreeMap;

use parley_engine::remote::WantedKey;
use ruma::{
    CanonicalJsonObject, ServerName,
    api::federation::discovery::get_remote_server_keys_batch::v2::{QueryCriteria, Request},
    serde::Base64,
};

use super::{
    Inner,
    published::{Published, is_signed_by},
};
use crate::outbound::client::{Client, Effort};

/// Answers of a notary on one server that are looked at.
const MAX_ANSWERS: usize = 20;

/// What a notary says of the keys of `server`.
pub(super) async fn ask(
    client: &Client,
    inner: &Inner,
    notary: &ServerName,
    server: &ServerName,
    wanted: &[&WantedKey],
) -> Result<Vec<Published>, String> {
    if notary == client.own_name() || notary == server {
        return Ok(Vec::new());
    }
    let criteria = wanted.iter().map(|key| {
        let mut criteria = QueryCriteria::new();
        criteria.minimum_valid_until_ts = Some(key.valid_at);
        (key.key_id.clone(), criteria)
    });
    let query = BTreeMap::from([(server.to_owned(), criteria.collect())]);
    let answer = client
        .send(notary, Request::new(query), Effort::VOUCHED)
        .await;
    let answer = answer.map_err(|error| error.to_string())?;
    let of_notary = inner.directly(notary, Effort::KEYS).await?;
    let of_notary: BTreeMap<String, Base64> = of_notary
        .keys
        .into_iter()
        .map(|(id, key)| (id.to_string(), key.key))
        .collect();
    let mut found = Vec::new();
    for published in answer.server_keys.iter().take(MAX_ANSWERS) {
        let json = published.json().get();
        let object: CanonicalJsonObject =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        if !is_signed_by(&object, notary, &of_notary) {
            return Err("the notary hasn't signed what it says".to_owned());
        }
        found.push(Published::check(server, json, inner.clock.now())?);
    }
    Ok(found)
}
