//! `GET` and `PUT /_matrix/client/v1/admin/lock/{userId}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv1adminlockuserid>

use ruma::api::client::admin::{is_user_locked, lock_user};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn get(
    api: ClientApi,
    incoming: Incoming<is_user_locked::v1::Request>,
) -> Result<is_user_locked::v1::Response> {
    let accounts = api.engine.accounts();
    let account = accounts
        .moderated(&incoming.session, &incoming.user_id)
        .await?;
    Ok(is_user_locked::v1::Response::new(account.locked))
}

pub(super) async fn set(
    api: ClientApi,
    incoming: Incoming<lock_user::v1::Request>,
) -> Result<lock_user::v1::Response> {
    let accounts = api.engine.accounts();
    let account = accounts
        .moderated(&incoming.session, &incoming.user_id)
        .await?;
    accounts
        .set_locked(&account.user_id, incoming.locked)
        .await?;
    Ok(lock_user::v1::Response::new(incoming.locked))
}
