//! Another server, which says and does what a test wants.

use std::{
    collections::HashMap,
    future::IntoFuture,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Json, Router, extract::State, routing::get};
use parley_federation::{Names, NamesAnswer, Service};
use reqwest::Method;
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    Answer, TestServer,
    certificates::{self, TlsListener},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Another server, at an address of this machine that is its name.
#[derive(Debug)]
pub struct Peer {
    name: OwnedServerName,
    pair: Ed25519KeyPair,
    der: Vec<u8>,
    published: Published,
    http: reqwest::Client,
    serving: JoinHandle<()>,
}

/// The keys that it publishes, and how often they were asked for.
#[derive(Clone, Debug, Default)]
struct Published {
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
}

impl Peer {
    /// Starts a server that publishes its key, and answers otherwise as `router` does.
    pub async fn start(router: Router) -> Self {
        Self::start_as(router, &["127.0.0.1"]).await
    }

    /// The same with a certificate for these names.
    pub async fn start_as(router: Router, names: &[&str]) -> Self {
        Self::listen(Ipv4Addr::LOCALHOST, router, names).await
    }

    /// The same at another address of this machine, for rooms that tell servers apart by their names without the port.
    pub async fn start_at(address: Ipv4Addr, router: Router) -> Self {
        Self::listen(address, router, &[&address.to_string()]).await
    }

    async fn listen(address: Ipv4Addr, router: Router, names: &[&str]) -> Self {
        // Fails where another of this process was there before, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind((address, 0)).await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("the port has an address");
        let name = address.to_string();
        let name = OwnedServerName::try_from(name).expect("an address is a server's name");
        let published = Published::default();
        let keys = get(tell_keys).with_state(published.clone());
        let router = router.route("/_matrix/key/v2/server", keys);
        let acceptor =
            certificates::acceptor(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let listener = TlsListener { listener, acceptor };
        let serving = axum::serve(listener, router).into_future();
        let der = Ed25519KeyPair::generate();
        let peer = Self {
            name,
            pair: Ed25519KeyPair::from_der(&der, "peer".to_owned()).expect("a key"),
            der: der.to_vec(),
            published,
            http: client(),
            serving: tokio::spawn(async move { serving.await.expect("the listener works") }),
        };
        let now = u64::from(MilliSecondsSinceUnixEpoch::now().get());
        peer.publish(peer.keys_until(now + DAY_MS));
        peer
    }

    /// Its name.
    pub fn name(&self) -> &OwnedServerName {
        &self.name
    }

    /// What it signs with.
    pub fn pair(&self) -> &Ed25519KeyPair {
        &self.pair
    }

    /// The same key under another name, for those who answer in its stead.
    pub fn pair_as(&self, version: &str) -> Ed25519KeyPair {
        Ed25519KeyPair::from_der(&self.der, version.to_owned()).expect("a key")
    }

    /// Its key as it would publish it, signed, valid until then.
    pub fn keys_until(&self, valid_until: u64) -> Value {
        let key = Base64::<Standard>::new(self.pair.public_key().to_vec());
        self.sign(json!({
            "server_name": self.name,
            "valid_until_ts": valid_until,
            "verify_keys": { "ed25519:peer": { "key": key.encode() } },
            "old_verify_keys": {},
        }))
    }

    /// What it publishes from now on; gives what it published before.
    pub fn publish(&self, keys: Value) -> Value {
        let mut published = self.published.keys.lock().expect("nobody panicked");
        std::mem::replace(&mut *published, keys)
    }

    /// How often it was asked for its keys.
    pub fn asked_for_keys(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    /// An object with its signature.
    pub fn sign(&self, object: Value) -> Value {
        let mut object: CanonicalJsonObject =
            serde_json::from_value(object).expect("an object of canonical JSON");
        sign_json(self.name.as_str(), &self.pair, &mut object).expect("an object can be signed");
        serde_json::to_value(object).expect("an object is JSON")
    }

    /// The header by which it signs a request to `destination`.
    pub fn authorization(
        &self,
        destination: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> String {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(body.into_bytes()).expect("a request");
        let destination = destination.try_into().expect("a server's name");
        let input = XMatrixSigningInput::new(self.name.clone(), destination, &self.pair);
        let signed = XMatrix::sign_http_request(&request, input);
        signed.expect("the request can be signed").to_string()
    }

    /// Asks a server, signed.
    pub async fn get(&self, server: &TestServer, path: &str) -> Answer {
        self.send(server, Method::GET, path, None).await
    }

    /// Puts something to a server, signed.
    pub async fn put(&self, server: &TestServer, path: &str, body: Value) -> Answer {
        self.send(server, Method::PUT, path, Some(body)).await
    }

    /// Posts something to a server, signed.
    pub async fn post(&self, server: &TestServer, path: &str, body: Value) -> Answer {
        self.send(server, Method::POST, path, Some(body)).await
    }

    /// Any request, signed.
    pub async fn send(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let header = self.authorization(server.name(), &method, path, body.as_ref());
        self.send_with(server, method, path, body, Some(&header))
            .await
    }

    /// Any request, with that header instead of the right one.
    pub async fn send_with(
        &self,
        server: &TestServer,
        method: Method,
        path: &str,
        body: Option<Value>,
        authorization: Option<&str>,
    ) -> Answer {
        let url = format!("https://{}{path}", server.name());
        let mut request = self.http.request(method.clone(), url);
        if let Some(header) = authorization {
            request = request.header("Authorization", header);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request, format!("{method} {path} of a server")).await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A client that trusts the tests' authority.
fn client() -> reqwest::Client {
    let authority = reqwest::Certificate::from_der(&certificates::authority());
    let authority = authority.expect("the authority has a certificate");
    let client = reqwest::Client::builder().tls_certs_only([authority]);
    client.build().expect("a client")
}

async fn tell_keys(State(published): State<Published>) -> Json<Value> {
    published.asked.fetch_add(1, Ordering::SeqCst);
    Json(published.keys.lock().expect("nobody panicked").clone())
}

/// Names that a test knows.
#[derive(Debug, Default)]
pub struct TestNames {
    /// The addresses of hosts.
    pub addresses: HashMap<String, Vec<IpAddr>>,
    /// The services of names such as `_matrix-fed._tcp.example.org`.
    pub services: HashMap<String, Vec<Service>>,
}

impl Names for TestNames {
    fn addresses<'a>(&'a self, host: &'a str) -> NamesAnswer<'a, IpAddr> {
        let found = self.addresses.get(host).cloned().unwrap_or_default();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn services<'a>(&'a self, name: &'a str) -> NamesAnswer<'a, Service> {
        let found = self.services.get(name).cloned().unwrap_or_default();
        Box::pin(std::future::ready(Ok(found)))
    }
}
