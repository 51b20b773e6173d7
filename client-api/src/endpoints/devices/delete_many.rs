//! `POST /_matrix/client/v3/delete_devices`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3delete_devices>

use parley_engine::{interactive::Operation, limits::Action};
use ruma::api::client::device::delete_devices::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let operation = Operation {
        name: "delete devices",
        session: Some(session),
        request_hash: incoming.hash_without_auth(),
    };
    // An application service has no password to give.
    if session.appservice.is_none() {
        api.engine
            .interactive()
            .authorise_by_password(&operation, incoming.auth.as_ref())
            .await?;
    }
    let devices = incoming.devices.clone();
    api.engine
        .devices()
        .delete(session.user_nid, &session.user_id, devices)
        .await?;
    Ok(Response::new())
}
