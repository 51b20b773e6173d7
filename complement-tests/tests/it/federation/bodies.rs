//! Bodies of requests, before it is known whose they are.

use std::time::Duration;

use axum::Router;
use futures::{StreamExt, stream};
use parley_conformance::{Peer, TestServer, authority, federated};
use reqwest::{Body, Client, Method};
use serde_json::json;

const MIB: usize = 1024 * 1024;
const PATH: &str = "/_matrix/federation/v1/send/1";
/// How long the server may take until it has read what was sent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who begins to send what they have no right signature for.
struct Sender<'a> {
    server: &'a TestServer,
    http: Client,
    header: String,
}

impl Sender<'_> {
    fn put(&self, body: Body) -> reqwest::RequestBuilder {
        let url = format!("https://{}{PATH}", self.server.name());
        let request = self.http.put(url).header("Authorization", &self.header);
        request.body(body)
    }

    /// Sends so many MiB of a body that never ends.
    fn hold(&self, mib: usize) -> tokio::task::JoinHandle<()> {
        let chunks = stream::iter((0..mib).map(|_| Ok::<_, std::io::Error>(vec![b' '; MIB])));
        let request = self.put(Body::wrap_stream(chunks.chain(stream::pending())));
        tokio::spawn(async move {
            request.send().await.expect_err("it never ends");
        })
    }

    /// Sends a body of so many MiB until the answer to it has a status.
    async fn until(&self, mib: usize, status: u16) {
        let answered = async {
            loop {
                // Who is refused before all is sent may find the connection closed.
                let answer = self.put(Body::from(vec![b' '; mib * MIB])).send().await;
                if answer.is_ok_and(|answer| answer.status() == status) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.expect("it is answered so in time");
    }
}

#[tokio::test]
async fn of_bodies_that_nobody_has_checked_so_much_is_taken_in_from_one_address() {
    federated(1, async |servers| {
        let server = &servers[0];
        let peer = Peer::start(Router::new()).await;
        let authority = reqwest::Certificate::from_der(&authority()).unwrap();
        let http = Client::builder().tls_certs_only([authority]);
        let sender = Sender {
            server,
            http: http.build().unwrap(),
            header: peer.authorization(server.name(), &Method::PUT, PATH, Some(&json!({}))),
        };
        // It is read, and then found to be nothing that could have been signed.
        sender.until(6, 400).await;
        let held: Vec<_> = (0..4).map(|_| sender.hold(15)).collect();
        sender.until(6, 429).await;
        // Whoever sends little is heard.
        let rooms = "/_matrix/federation/v1/publicRooms";
        peer.get(server, rooms).await.ok();
        held.iter().for_each(tokio::task::JoinHandle::abort);
        sender.until(6, 400).await;
    })
    .await;
}
