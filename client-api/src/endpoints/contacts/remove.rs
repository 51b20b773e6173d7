//! `POST /_matrix/client/v3/account/3pid/{delete,unbind}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3account3piddelete>

use ruma::api::client::account::{ThirdPartyIdRemovalStatus, delete_3pid, unbind_3pid};

use crate::{ClientApi, Incoming, Result};

/// There is nothing to remove, and no identity server that this server could ask.
pub(super) async fn delete(
    _: ClientApi,
    _: Incoming<delete_3pid::v3::Request>,
) -> Result<delete_3pid::v3::Response> {
    let result = ThirdPartyIdRemovalStatus::NoSupport;
    Ok(delete_3pid::v3::Response::new(result))
}

/// The same for identity servers alone.
pub(super) async fn unbind(
    _: ClientApi,
    _: Incoming<unbind_3pid::v3::Request>,
) -> Result<unbind_3pid::v3::Response> {
    let result = ThirdPartyIdRemovalStatus::NoSupport;
    Ok(unbind_3pid::v3::Response::new(result))
}
