//! A client that stays the same while the server comes back at other addresses.

use serde_json::{Value, json};

/// A logged-in device.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    /// Registers a user.
    pub(crate) async fn register(url: &str, name: &str) -> Self {
        let mut client = Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
            token: String::new(),
        };
        let body = json!({
            "auth": { "type": "m.login.dummy" },
            "username": name,
            "password": "correct horse battery staple",
        });
        let answer = client.post("/v3/register", body).await;
        client.token = answer["access_token"].as_str().unwrap().to_owned();
        client
    }

    /// The same device, with the server at another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}/_matrix/client{path}", self.url))
            .bearer_auth(&self.token)
    }

    /// Posts, and must be answered.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        answer(self.request(reqwest::Method::POST, path).json(&body))
            .await
            .unwrap()
    }

    /// Puts; `None` if the server is gone.
    pub(crate) async fn try_put(&self, path: &str, body: Value) -> Option<Value> {
        answer(self.request(reqwest::Method::PUT, path).json(&body)).await
    }

    /// Gets; `None` if the server is gone.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        answer(self.request(reqwest::Method::GET, path)).await
    }

    /// Event id and text of all messages of a room, oldest first.
    pub(crate) async fn history(&self, room: &str) -> Vec<(String, String)> {
        let mut messages = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/v3/rooms/{room}/messages?dir=f&limit=1000{from}");
            let page = self.try_get(&path).await.unwrap();
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

/// Sends a request. What is refused is a failure of the test; what isn't answered is not.
async fn answer(request: reqwest::RequestBuilder) -> Option<Value> {
    let response = request.send().await.ok()?;
    let status = response.status();
    let body: Value = response.json().await.ok()?;
    assert!(status.is_success(), "{status}: {body}");
    Some(body)
}
