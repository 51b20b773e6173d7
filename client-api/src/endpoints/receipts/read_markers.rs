//! `POST /_matrix/client/v3/rooms/{roomId}/read_markers`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidread_markers>

use parley_engine::{limits::Action, receipts::ReadMarkers};
use ruma::api::client::read_marker::set_read_marker::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    api.engine
        .limits()
        .check(Action::Ephemeral, session.user_nid)?;
    let markers = ReadMarkers {
        fully_read: request.fully_read,
        public: request.read_receipt,
        private: request.private_read_receipt,
    };
    api.engine
        .receipts()
        .set_markers(&session, &request.room_id, markers)
        .await?;
    Ok(Response::new())
}
