//! `GET /_matrix/static/client/login/`: logging in on a page, for clients that know no way to log in which this server has,
//! <https://spec.matrix.org/v1.19/client-server-api/#login-fallback>

use axum::body::Body;
use http::{Response, StatusCode};

use crate::page::Page;

/// Where the page is.
pub(super) const PATHS: [&str; 2] = [
    "/_matrix/static/client/login",
    "/_matrix/static/client/login/",
];

/// Logs in with what was filled in and what the query says, and tells the client.
const SCRIPT: &str = include_str!("login.js");

/// What may happen in the page: its own style, its own script, and requests to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-5Zc3KhrIi/2nL2k90crRwy6FcYaWIyvI8Qr9WwRtlyk='; \
                      connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// Shows the page.
pub(super) async fn show() -> Response<Body> {
    let content = format!(
        "<form><p role=\"alert\"></p>\
         <p><label>User name <input name=\"user\" autocomplete=\"username\" required></label></p>\
         <p><label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label></p>\
         <button>Log in</button></form><script>{SCRIPT}</script>"
    );
    let page = Page {
        title: "Login",
        policy: POLICY,
        content: &content,
    };
    page.answer(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_the_script_and_no_other() {
        assert_eq!(crate::page::allows(POLICY, SCRIPT), Ok(()));
    }
}
