//! `GET` and `PUT /_matrix/client/v1/admin/suspend/{userId}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv1adminsuspenduserid>

use ruma::api::client::admin::{is_user_suspended, suspend_user};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn get(
    api: ClientApi,
    incoming: Incoming<is_user_suspended::v1::Request>,
) -> Result<is_user_suspended::v1::Response> {
    let accounts = api.engine.accounts();
    let account = accounts
        .moderated(&incoming.session, &incoming.user_id)
        .await?;
    Ok(is_user_suspended::v1::Response::new(account.suspended))
}

pub(super) async fn set(
    api: ClientApi,
    incoming: Incoming<suspend_user::v1::Request>,
) -> Result<suspend_user::v1::Response> {
    let accounts = api.engine.accounts();
    let account = accounts
        .moderated(&incoming.session, &incoming.user_id)
        .await?;
    accounts
        .set_suspended(&account.user_id, incoming.suspended)
        .await?;
    Ok(suspend_user::v1::Response::new(incoming.suspended))
}
