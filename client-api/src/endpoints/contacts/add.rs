//! `POST /_matrix/client/v3/account/3pid/add`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3account3pidadd>

use ruma::api::{client::account::add_3pid::v3::Request, error::ErrorKind};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(_: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    // Refused before the password is asked for: there can't be such a session.
    Err(ApiError::new(
        ErrorKind::ThreepidAuthFailed,
        "no address was validated in this session",
    ))
}
