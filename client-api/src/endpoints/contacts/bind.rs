//! `POST /_matrix/client/v3/account/3pid/bind`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3account3pidbind>

use ruma::api::{client::account::bind_3pid::v3::Request, error::ErrorKind};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(_: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    Err(ApiError::new(
        ErrorKind::ServerNotTrusted,
        "this server trusts no identity server",
    ))
}
