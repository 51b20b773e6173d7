//! `GET /_matrix/client/v3/login`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login>

use ruma::api::client::session::get_login_types::v3::{
    LoginType, PasswordLoginType, Request, Response,
};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(_: ClientApi, _: Incoming<Request>) -> Result<Response> {
    let password = LoginType::Password(PasswordLoginType::new());
    Ok(Response::new(vec![password]))
}
