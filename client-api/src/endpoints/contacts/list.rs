//! `GET /_matrix/client/v3/account/3pid`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3account3pid>

use ruma::api::client::account::get_3pids::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

/// Not by ruma's type, which leaves an empty list out.
pub(super) async fn handle(_: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    Ok(RawJson(r#"{"threepids":[]}"#.into()))
}
