//! `GET` and `POST /_matrix/client/v3/auth/{authType}/fallback/web`: stages of registration as a page, for clients that
//! don't know them, <https://spec.matrix.org/v1.19/client-server-api/#fallback>

use std::fmt::Write;

use axum::{
    body::Body,
    extract::{Path, Query, State},
};
use http::{Response, StatusCode};
use parley_engine::{limits::Action, settings::Policy};
use ruma::api::client::uiaa::{AuthData, AuthType};
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiError, ClientAddress, ClientApi, Result,
    page::{Page, escaped},
};

/// What may happen in a page: its own style, its own script, and its own form.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-d0C7hcTqSW+Ct4Eghp1fMZgx9wRRvR+cyLmgOG4iwVg='; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Tells the client that the stage is done, in each of the ways that clients listen for.
const DONE: &str = "if(window.onAuthDone){window.onAuthDone()}else if(window.opener){window.opener.postMessage('authDone','*')}";

/// The session that the stage belongs to.
#[derive(Deserialize)]
pub(super) struct Session {
    session: String,
}

/// What was filled in.
#[derive(Deserialize)]
pub(super) struct Form {
    session: String,
    #[serde(default)]
    token: String,
}

/// Shows the page of a stage.
pub(super) async fn show(
    State(api): State<ClientApi>,
    Path(stage): Path<String>,
    Query(Session { session }): Query<Session>,
) -> Result<Response<Body>> {
    let form = form(&api, &stage, &session, None).ok_or_else(unknown)?;
    Ok(page(StatusCode::OK, &form))
}

/// Takes what was filled in.
pub(super) async fn submit(
    State(api): State<ClientApi>,
    Path(stage): Path<String>,
    address: Option<axum::Extension<ClientAddress>>,
    axum::Form(given): axum::Form<Form>,
) -> Result<Response<Body>> {
    if let Some(axum::Extension(ClientAddress(address))) = address {
        let limits = api.engine.limits();
        limits.check(Action::Registration, address)?;
    }
    let mut data = json!({ "type": stage, "session": given.session });
    if !given.token.is_empty() {
        data["token"] = given.token.into();
    }
    let auth: AuthData = serde_json::from_value(data).map_err(|_| unknown())?;
    let interactive = api.engine.interactive();
    if interactive.complete_stage(&given.session, &auth).await? {
        let done = format!("<p>Done. You can close this page now.</p><script>{DONE}</script>");
        return Ok(page(StatusCode::OK, &done));
    }
    let wrong = Some("That was not accepted.");
    let form = form(&api, &stage, &given.session, wrong).ok_or_else(unknown)?;
    Ok(page(StatusCode::UNAUTHORIZED, &form))
}

fn unknown() -> ApiError {
    ApiError::new(
        ruma::api::error::ErrorKind::NotFound,
        "there is no page for this kind of authentication",
    )
}

/// The form of a stage, if it is one that has a page.
fn form(api: &ClientApi, stage: &str, session: &str, error: Option<&str>) -> Option<String> {
    let (text, button) = match AuthType::from(stage) {
        AuthType::Dummy => ("<p>There is nothing to prove here.</p>".to_owned(), "Continue"),
        AuthType::Terms => (documents(api.engine.accounts().terms()), "I agree"),
        AuthType::RegistrationToken => (
            "<p><label>Registration token <input name=\"token\" autocomplete=\"off\" required></label></p>"
                .to_owned(),
            "Continue",
        ),
        _ => return None,
    };
    let error = error.map(|error| format!("<p role=\"alert\">{}</p>", escaped(error)));
    Some(format!(
        "<form method=\"post\">{}{text}<input type=\"hidden\" name=\"session\" value=\"{}\">\
         <button>{button}</button></form>",
        error.unwrap_or_default(),
        escaped(session),
    ))
}

fn documents(policies: &[Policy]) -> String {
    let mut list = String::from("<p>To have an account here you have to agree to:</p><ul>");
    for policy in policies {
        // Writing to a text can't fail.
        let _ = write!(
            list,
            "<li lang=\"{}\"><a href=\"{}\" target=\"_blank\" rel=\"noopener\">{}</a></li>",
            escaped(&policy.language),
            escaped(policy.url.as_str()),
            escaped(&policy.name),
        );
    }
    list + "</ul>"
}

fn page(status: StatusCode, content: &str) -> Response<Body> {
    let page = Page {
        title: "Registration",
        policy: POLICY,
        content,
    };
    page.answer(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_the_script_and_no_other() {
        assert_eq!(crate::page::allows(POLICY, DONE), Ok(()));
    }
}
