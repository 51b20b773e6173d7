//! What rooms do when an account changes.

use futures::future::BoxFuture;
use ruma::UserId;

use super::Rooms;
use crate::{Result, hooks::AccountHooks, sessions::Session};

impl AccountHooks for Rooms {
    fn leave_all_rooms<'a>(
        &'a self,
        user_nid: i64,
        user_id: &'a UserId,
    ) -> BoxFuture<'a, Result<()>> {
        let session = Session::of_server(user_nid, user_id);
        Box::pin(async move { self.leave_all(&session).await })
    }

    fn on_profile_change<'a>(
        &'a self,
        user_nid: i64,
        user_id: &'a UserId,
        fields: &'a [&'a str],
    ) -> BoxFuture<'a, Result<()>> {
        let session = Session::of_server(user_nid, user_id);
        let shown = fields
            .iter()
            .any(|field| matches!(*field, "displayname" | "avatar_url"));
        Box::pin(async move {
            match shown {
                true => self.propagate_profile(&session).await,
                false => Ok(()),
            }
        })
    }
}
