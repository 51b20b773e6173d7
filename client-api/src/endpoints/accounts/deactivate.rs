//! `POST /_matrix/client/v3/account/deactivate`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use parley_engine::{interactive::Operation, limits::Action};
use ruma::api::{
    client::account::{
        ThirdPartyIdRemovalStatus,
        deactivate::v3::{Request, Response},
    },
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Some(session) = &incoming.session else {
        return Err(ApiError::new(
            ErrorKind::MissingToken,
            "an access token is required",
        ));
    };
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let operation = Operation {
        name: "deactivate account",
        session: Some(session),
        request_hash: incoming.hash_without_auth(),
    };
    api.engine
        .interactive()
        .authorise_by_password(&operation, incoming.auth.as_ref())
        .await?;
    api.engine
        .accounts()
        .deactivate(&session.user_id, incoming.erase)
        .await?;
    // As the specification wants it where no third-party identifier could be bound.
    Ok(Response::new(ThirdPartyIdRemovalStatus::Success))
}
