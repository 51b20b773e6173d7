//! A client that stays the same while the server comes back at other addresses.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The password of everyone.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// What came instead of an answer that says yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// Nothing: the server is gone.
    Gone,
    /// Something else than success.
    Refused(StatusCode),
}

/// A logged-in device.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    pub(crate) token: String,
    pub(crate) user_id: String,
    pub(crate) device_id: String,
}

impl Client {
    /// Registers a user.
    pub(crate) async fn register(url: &str, name: &str) -> Self {
        Self::try_register(url, name).await.unwrap()
    }

    /// Registers a user, if that is possible just now.
    pub(crate) async fn try_register(url: &str, name: &str) -> Result<Self, No> {
        let body = json!({
            "auth": { "type": "m.login.dummy" },
            "username": name,
            "password": PASSWORD,
        });
        Self::nobody(url).enter("/v3/register", body).await
    }

    /// Another device of the same user.
    pub(crate) async fn log_in_again(&self) -> Result<Self, No> {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": self.user_id },
            "password": PASSWORD,
        });
        self.enter("/v3/login", body).await
    }

    /// Who isn't logged in.
    pub(crate) fn nobody(url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
            token: String::new(),
            user_id: String::new(),
            device_id: String::new(),
        }
    }

    async fn enter(&self, path: &str, body: Value) -> Result<Self, No> {
        let answer = self.ask(Method::POST, path, Some(body)).await?;
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Ok(Self {
            token: text("access_token"),
            user_id: text("user_id"),
            device_id: text("device_id"),
            ..self.clone()
        })
    }

    /// The same device, with the server at another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    /// Sends a request.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, No> {
        let url = format!("{}/_matrix/client{path}", self.url);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|_| No::Gone)?;
        let status = response.status();
        let body: Value = response.json().await.map_err(|_| No::Gone)?;
        match status.is_success() {
            true => Ok(body),
            false => {
                // Shown if the test fails.
                println!("{path} was refused: {body}");
                Err(No::Refused(status))
            }
        }
    }

    /// Gets.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, No> {
        self.ask(Method::GET, path, None).await
    }

    /// Posts.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, No> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Puts.
    pub(crate) async fn put(&self, path: &str, body: Value) -> Result<Value, No> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// Event id and text of all messages of a room, oldest first.
    pub(crate) async fn history(&self, room: &str) -> Vec<(String, String)> {
        let mut messages = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/v3/rooms/{room}/messages?dir=f&limit=1000{from}");
            let page = self.get(&path).await.unwrap();
            for event in page["chunk"].as_array().unwrap() {
                if let Some(body) = event["content"]["body"].as_str() {
                    messages.push((
                        event["event_id"].as_str().unwrap().to_owned(),
                        body.to_owned(),
                    ));
                }
            }
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => return messages,
            }
        }
    }
}
