//! `GET /_matrix/federation/v1/query/profile`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>

use ruma::api::{
    error::ErrorKind,
    federation::query::get_profile_information::v1::{Request, Response},
};

use super::Signed;
use crate::{
    Federation,
    error::{FederationError, Result},
};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let engine = federation.engine();
    if signed.user_id.server_name() != engine.settings().server_name {
        return Err(FederationError::new(
            ErrorKind::InvalidParam,
            "the user is none of this server",
        ));
    }
    let fields = match &signed.field {
        None => engine.profiles().get(&signed.user_id).await?,
        Some(field) => {
            let name = field.as_str();
            let value = engine.profiles().get_field(&signed.user_id, name).await?;
            vec![(name.to_owned(), value)]
        }
    };
    let parsed = fields
        .into_iter()
        .filter_map(|(field, value)| Some((field, serde_json::from_str(&value).ok()?)));
    Ok(parsed
        .collect::<Vec<(String, serde_json::Value)>>()
        .into_iter()
        .collect())
}
