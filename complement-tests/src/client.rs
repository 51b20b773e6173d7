//! A client of the tests: requests as JSON, answers that say what was expected when they are something else.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// The password of everyone who registers by [`Client::register`].
pub const PASSWORD: &str = "correct horse battery staple";

/// Someone who sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// The token sent along, if there is one.
    pub token: Option<String>,
    /// Who it is, once known.
    pub user_id: String,
    /// On which device, once known.
    pub device_id: String,
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        // Fails where another client of this process was there before, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::new(),
            base,
            token: None,
            user_id: String::new(),
            device_id: String::new(),
        }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The same client without a token.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    /// The same device, asking another node.
    #[must_use]
    pub fn at(&self, server: &crate::TestServer) -> Self {
        Self {
            base: server.client().base,
            ..self.clone()
        }
    }

    /// The address of the server, to send what the other methods can't.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None::<String>).await
    }

    /// A `POST` of JSON.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// A `PUT` of JSON.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    /// A `DELETE` with JSON.
    pub async fn delete(&self, path: &str, body: Value) -> Answer {
        self.send(Method::DELETE, path, Some(body.to_string()))
            .await
    }

    /// Any request, with any bytes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<impl Into<reqwest::Body>>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body);
        }
        Answer::of(request, format!("{method} {path}")).await
    }

    /// Registers with [`PASSWORD`] and stays logged in.
    pub async fn register(&mut self, name: &str) {
        let answer = self
            .post(
                "/_matrix/client/v3/register",
                json!({
                    "username": name,
                    "password": PASSWORD,
                    "auth": { "type": "m.login.dummy" },
                }),
            )
            .await;
        self.take_login(&answer.ok());
    }

    /// Another device of the same user.
    pub async fn log_in_again(&self) -> Self {
        let answer = self
            .post(
                "/_matrix/client/v3/login",
                json!({
                    "type": "m.login.password",
                    "identifier": { "type": "m.id.user", "user": self.user_id },
                    "password": PASSWORD,
                }),
            )
            .await;
        let mut other = self.clone();
        other.take_login(&answer.ok());
        other
    }

    /// Takes over what a login or registration gave.
    pub fn take_login(&mut self, login: &Value) {
        let text = |key: &str| login[key].as_str().expect(key).to_owned();
        self.token = Some(text("access_token"));
        self.user_id = text("user_id");
        self.device_id = text("device_id");
    }
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    request: String,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if it isn't JSON.
    pub body: Value,
}

impl Answer {
    /// Sends `request`, which errors call as `name` says.
    pub(crate) async fn of(request: reqwest::RequestBuilder, name: String) -> Self {
        let response = request.send().await.expect("the server answers");
        let status = response.status();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.expect("the answer is whole");
        Self {
            request: name,
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    /// The body of an answer with status 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(
            self.status, 200,
            "{} was answered {}",
            self.request, self.body
        );
        self.body
    }

    /// Demands that it is an error with that status and code.
    #[track_caller]
    pub fn is_refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.body["errcode"].as_str()),
            (status, Some(code)),
            "{} was answered {}",
            self.request,
            self.body
        );
        assert!(
            self.body["error"].is_string(),
            "{} was refused without a reason: {}",
            self.request,
            self.body
        );
    }
}
