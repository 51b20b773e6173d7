//! `POST /_matrix/client/v3/login`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login>

use parley_engine::{accounts::Account, devices::LoginOptions, limits::Action};
use ruma::api::{
    IncomingRequest, Metadata,
    auth_scheme::AppserviceTokenOptional,
    client::{
        session::login::v3::{self, DiscoveryInfo, HomeserverInfo, LoginInfo, Response},
        uiaa::UserIdentifier,
    },
    error::{DeserializationError, ErrorKind},
    path_builder::VersionHistory,
};
use serde::Deserialize;

use crate::{ApiError, ClientApi, Incoming, Result};

/// Ruma's request, which panics where there is no `type` (ruma-client-api 0.25): that is looked for first.
pub(super) struct Request(v3::Request);

impl Metadata for Request {
    const METHOD: http::Method = v3::Request::METHOD;
    const RATE_LIMITED: bool = v3::Request::RATE_LIMITED;
    type Authentication = AppserviceTokenOptional;
    type PathBuilder = VersionHistory;
    const PATH_BUILDER: VersionHistory = v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct OnlyType {
            #[serde(rename = "type")]
            _type: String,
        }
        serde_json::from_slice::<OnlyType>(request.body())?;
        v3::Request::try_from_http_request_inner(request, path).map(Self)
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    incoming.limit_by_address(&api, Action::Login)?;
    let account = prove(&api, &incoming).await?;
    let Request(request) = incoming.request;
    let options = LoginOptions {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh_token: request.refresh_token,
    };
    let login = api
        .engine
        .devices()
        .log_in(account.user_nid, &account.user_id, options)
        .await?;
    let mut response = Response::new(login.user_id, login.access_token, login.device_id);
    response.refresh_token = login.refresh_token;
    response.expires_in = login.expires_in;
    let homeserver = api
        .settings
        .well_known
        .homeserver_url
        .clone()
        .map(HomeserverInfo::new);
    response.well_known = homeserver.map(DiscoveryInfo::new);
    Ok(response)
}

/// The account of whom the request proves to be.
async fn prove(api: &ClientApi, incoming: &Incoming<Request>) -> Result<Account> {
    #[expect(deprecated, reason = "old clients send `user`")]
    let account = match &incoming.0.login_info {
        LoginInfo::Password(given) => {
            let user = named_user(given.identifier.as_ref(), given.user.as_deref())?;
            let accounts = api.engine.accounts();
            accounts.log_in_by_password(user, &given.password).await?
        }
        LoginInfo::Token(given) => api.engine.accounts().log_in_by_token(&given.token).await?,
        LoginInfo::ApplicationService(given) => {
            let appservice = super::appservice(api, incoming.session.as_deref())?;
            let user = named_user(given.identifier.as_ref(), given.user.as_deref())?;
            let accounts = api.engine.accounts();
            accounts.log_in_by_appservice(appservice, user).await?
        }
        other if other.login_type() == "org.matrix.login.jwt" => {
            let data = other.data();
            let token = data.get("token").and_then(|token| token.as_str());
            let token = token.ok_or_else(|| missing("token"))?;
            api.engine.accounts().log_in_by_jwt(token).await?
        }
        _ => {
            return Err(ApiError::new(
                ErrorKind::Unknown,
                "this server knows no such way to log in",
            ));
        }
    };
    Ok(account)
}

/// Whom the client names, by the identifier or, as before r0.4, by `user`.
fn named_user<'a>(identifier: Option<&'a UserIdentifier>, old: Option<&'a str>) -> Result<&'a str> {
    match (identifier, old) {
        (Some(UserIdentifier::Matrix(identifier)), _) => Ok(&identifier.user),
        (None, Some(user)) => Ok(user),
        (Some(other), _)
            if !matches!(other.identifier_type(), "m.id.thirdparty" | "m.id.phone") =>
        {
            Err(ApiError::new(
                ErrorKind::Unknown,
                "this server knows no such identifier",
            ))
        }
        (Some(_), _) => Err(ApiError::new(
            ErrorKind::Forbidden,
            "only identifiers of type m.id.user are supported",
        )),
        (None, None) => Err(missing("identifier")),
    }
}

fn missing(field: &str) -> ApiError {
    ApiError::new(ErrorKind::MissingParam, format!("`{field}` is missing"))
}
