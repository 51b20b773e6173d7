//! `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid>

use parley_engine::{
    limits::Action,
    receipts::{ReadMarkers, ReceiptKind},
};
use ruma::{
    api::{
        client::receipt::create_receipt::v3::{self, ReceiptType, Response},
        error::ErrorKind,
    },
    events::receipt::ReceiptThread,
};
use serde_json::{Map, Value};

use crate::{
    ApiError, ClientApi, Incoming, Result,
    completed::{Completed, Completion},
};

/// A thread that is no text is as wrong as one that is empty, and has the same code.
pub(super) struct WithThread;

impl Completion for WithThread {
    type Request = v3::Request;

    fn complete(body: &mut Map<String, Value>, _: &[&str]) {
        if let Some(thread) = body.get_mut("thread_id")
            && !thread.is_string()
        {
            *thread = Value::String(String::new());
        }
    }
}

type Request = Completed<WithThread>;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request: Completed(request, _),
        session,
        ..
    } = incoming;
    api.engine
        .limits()
        .check(Action::Ephemeral, session.user_nid)?;
    let receipts = api.engine.receipts();
    let kind = match request.receipt_type {
        ReceiptType::Read => ReceiptKind::Public,
        ReceiptType::ReadPrivate => ReceiptKind::Private,
        ReceiptType::FullyRead if request.thread == ReceiptThread::Unthreaded => {
            let markers = ReadMarkers {
                fully_read: Some(request.event_id),
                ..ReadMarkers::default()
            };
            receipts
                .set_markers(&session, &request.room_id, markers)
                .await?;
            return Ok(Response::new());
        }
        ReceiptType::FullyRead => {
            return Err(ApiError::new(
                ErrorKind::InvalidParam,
                "the fully read marker is of the whole room: `thread_id` makes no sense with it",
            ));
        }
        _ => {
            return Err(ApiError::new(
                ErrorKind::InvalidParam,
                "the type is m.read, m.read.private or m.fully_read",
            ));
        }
    };
    receipts
        .set(
            &session,
            &request.room_id,
            kind,
            &request.thread,
            &request.event_id,
        )
        .await?;
    Ok(Response::new())
}
