//! `POST /_matrix/client/v3/user_directory/search`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch>

use parley_engine::limits::Action;
use ruma::api::client::user_directory::search_users::v3::{Request, Response, User};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    let limit = usize::try_from(u64::from(incoming.limit)).unwrap_or(usize::MAX);
    let directory = api.engine.user_directory();
    let (found, limited) = directory
        .search(session, &incoming.search_term, limit)
        .await?;
    let results = found.into_iter().map(|found| {
        let mut user = User::new(found.user_id);
        user.display_name = found.display_name;
        user.avatar_url = found.avatar_url;
        user
    });
    Ok(Response::new(results.collect(), limited))
}
