//! Mail addresses and telephone numbers of users: this server keeps none, and says so in the specification's words.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information>

mod add;
mod add_by_credentials;
mod bind;
mod list;
mod remove;
mod request_token;

use axum::Router;
use ruma::api::client::account::{
    request_3pid_management_token_via_email, request_3pid_management_token_via_msisdn,
    request_password_change_token_via_email, request_password_change_token_via_msisdn,
    request_registration_token_via_email, request_registration_token_via_msisdn,
};

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, list::handle);
    let router = route(router, add::handle);
    let router = route(router, add_by_credentials::handle);
    let router = route(router, bind::handle);
    let router = route(router, remove::delete);
    let router = route(router, remove::unbind);
    let router = route(
        router,
        request_token::handle::<request_registration_token_via_email::v3::Request>,
    );
    let router = route(
        router,
        request_token::handle::<request_registration_token_via_msisdn::v3::Request>,
    );
    let router = route(
        router,
        request_token::handle::<request_password_change_token_via_email::v3::Request>,
    );
    let router = route(
        router,
        request_token::handle::<request_password_change_token_via_msisdn::v3::Request>,
    );
    let router = route(
        router,
        request_token::handle::<request_3pid_management_token_via_email::v3::Request>,
    );
    route(
        router,
        request_token::handle::<request_3pid_management_token_via_msisdn::v3::Request>,
    )
}
