//! `POST /_matrix/key/v2/query`: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query>

use futures::{StreamExt, TryStreamExt, stream};
use ruma::api::{
    error::ErrorKind,
    federation::discovery::get_remote_server_keys_batch::v2::{Request, Response},
};

use super::query_keys::keys_of;
use crate::{
    Federation,
    error::{FederationError, Result},
};

/// Servers of one request.
const MAX_SERVERS: usize = 200;
/// Servers that are asked at once.
const AT_ONCE: usize = 10;

pub(super) async fn handle(federation: Federation, request: Request) -> Result<Response> {
    if request.server_keys.len() > MAX_SERVERS {
        return Err(FederationError::new(
            ErrorKind::InvalidParam,
            format!("at most {MAX_SERVERS} servers can be asked for at once"),
        ));
    }
    let now = federation.engine().clock().now();
    let each = request.server_keys.into_iter().map(|(server, criteria)| {
        let federation = federation.clone();
        async move {
            let until = criteria
                .values()
                .filter_map(|criteria| criteria.minimum_valid_until_ts)
                .max();
            keys_of(&federation, &server, until.unwrap_or(now)).await
        }
    });
    let keys: Vec<_> = stream::iter(each).buffered(AT_ONCE).try_collect().await?;
    Ok(Response::new(keys.into_iter().flatten().collect()))
}
