//! `GET /.well-known/matrix/support`: <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixsupport>

use ruma::api::{
    client::discovery::discover_support::{Contact, ContactRole, Request, Response},
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result, WellKnownSettings};

pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<Response> {
    let settings = &api.settings.well_known;
    let mut response = Response::with_contacts(contact(settings).into_iter().collect());
    response.support_page = settings.support_page.clone();
    if response.contacts.is_empty() && response.support_page.is_none() {
        return Err(ApiError::new(
            ErrorKind::NotFound,
            "this server doesn't tell whom to ask for help: no `well_known.support_...` is set",
        ));
    }
    Ok(response)
}

/// Whoever administers the server, if they are to be asked.
fn contact(settings: &WellKnownSettings) -> Option<Contact> {
    let email = settings.support_email.clone();
    let Some(user_id) = settings.support_user.clone() else {
        return email.map(|email| Contact::with_email_address(ContactRole::Admin, email));
    };
    let mut contact = Contact::with_matrix_id(ContactRole::Admin, user_id);
    contact.email_address = email;
    Some(contact)
}
