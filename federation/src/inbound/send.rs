//! `PUT /_matrix/federation/v1/send/{txnId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>

use ruma::api::{
    error::ErrorKind,
    federation::transactions::send_transaction_message::v1::{Request, Response},
};

use super::{Signed, edus};
use crate::{
    Federation,
    error::{FederationError, Result},
};

/// Events that a transaction may have, of either kind.
const MAX_PDUS: usize = 50;
const MAX_EDUS: usize = 100;

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let Signed { request, origin } = signed;
    if request.pdus.len() > MAX_PDUS || request.edus.len() > MAX_EDUS {
        return Err(FederationError::new(
            ErrorKind::BadJson,
            "a transaction has at most 50 PDUs and 100 EDUs",
        ));
    }
    let rooms = federation.engine().rooms();
    let answers = rooms.take_transaction(&origin, request.pdus).await?;
    edus::receive(&federation, &origin, request.edus).await;
    Ok(Response::new(answers.into_iter().collect()))
}
