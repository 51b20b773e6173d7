//! `POST /_matrix/client/v3/{register,account/password,account/3pid}/{email,msisdn}/requestToken`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3account3pidemailrequesttoken>

use ruma::api::{IncomingRequest, error::ErrorKind};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result, authentication::Scheme};

pub(super) async fn handle<R>(_: ClientApi, _: Incoming<R>) -> Result<RawJson>
where
    R: IncomingRequest<Authentication: Scheme>,
{
    Err(ApiError::new(
        ErrorKind::ThreepidMediumNotSupported,
        "this server sends neither mails nor text messages",
    ))
}
