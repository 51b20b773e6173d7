//! Push rules, what they notified of, and where notifications are pushed to.

mod delete_rule;
mod get_actions;
mod get_enabled;
mod get_global_rules;
mod get_notifications;
mod get_pushers;
mod get_rule;
mod get_rules;
mod set_actions;
mod set_enabled;
mod set_pusher;
mod set_rule;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, get_rules::handle);
    let router = route(router, get_global_rules::handle);
    let router = route(router, get_rule::handle);
    let router = route(router, set_rule::handle);
    let router = route(router, delete_rule::handle);
    let router = route(router, get_enabled::handle);
    let router = route(router, set_enabled::handle);
    let router = route(router, get_actions::handle);
    let router = route(router, set_actions::handle);
    let router = route(router, get_pushers::handle);
    let router = route(router, get_notifications::handle);
    route(router, set_pusher::handle)
}
