//! What a started server listens on.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use parley::{Server, config::Config};
use reqwest::{Certificate, Client, ClientBuilder, StatusCode, Version};
use tempfile::TempDir;

const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.server.data_dir = folder.join("data");
    config.listener.address = ANY_PORT;
    config
}

fn client(adapt: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    // An error says that another test has installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20));
    adapt(builder).build().unwrap()
}

async fn status(client: &Client, url: String) -> StatusCode {
    client.get(url).send().await.unwrap().status()
}

/// A self-signed certificate for `localhost` beside its key, as PEM files.
fn write_certificate(folder: &Path) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

fn with_tls(folder: &Path) -> Config {
    let mut config = config(folder);
    config.listener.certificate = Some(folder.join("chain.pem"));
    config.listener.private_key = Some(folder.join("key.pem"));
    config
}

#[tokio::test]
async fn a_started_server_is_healthy_and_ready() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(config(folder.path())).await.unwrap();
    let client = client(|builder| builder);
    for path in ["health", "ready"] {
        let url = format!("http://{}/{path}", server.local_addr());
        assert_eq!(status(&client, url).await, 200, "{path}");
    }
    assert!(server.stop().await);
}

#[tokio::test]
async fn the_data_folder_is_made_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(config(folder.path())).await.unwrap();
    let data = folder.path().join("data");
    assert!(data.is_dir());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(data).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_on_a_listener_of_their_own() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path());
    config.metrics.address = Some(ANY_PORT);
    let server = Server::start(config).await.unwrap();
    let client = client(|builder| builder);
    let main = format!("http://{}", server.local_addr());
    let metrics = format!("http://{}", server.metrics_addr().unwrap());
    assert_eq!(status(&client, format!("{main}/metrics")).await, 404);
    assert_eq!(status(&client, format!("{metrics}/ready")).await, 200);
    let text = client
        .get(format!("{metrics}/metrics"))
        .send()
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    assert!(text.contains("parley_http_requests_total{"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn other_servers_can_have_a_listener_of_their_own() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path());
    config.federation_listener.address = Some(ANY_PORT);
    let server = Server::start(config).await.unwrap();
    let address = server.federation_addr().unwrap();
    assert_ne!(address, server.local_addr());
    let client = client(|builder| builder);
    let url = format!("http://{address}/_matrix/client/versions");
    assert_eq!(status(&client, url).await, 404);
    server.stop().await;
}

#[tokio::test]
async fn with_a_certificate_the_listener_speaks_tls_and_http_2() {
    let folder = TempDir::new().unwrap();
    let certificate = write_certificate(folder.path());
    let server = Server::start(with_tls(folder.path())).await.unwrap();
    let client = client(|builder| builder.tls_certs_only([certificate]));
    let url = format!("https://localhost:{}/health", server.local_addr().port());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.version(), Version::HTTP_2);
    assert!(server.stop().await);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let folder = TempDir::new().unwrap();
    write_certificate(folder.path());
    let server = Server::start(with_tls(folder.path())).await.unwrap();
    let url = format!("https://localhost:{}/health", server.local_addr().port());

    let renewed = write_certificate(folder.path());
    let client = client(|builder| builder.tls_certs_only([renewed]).pool_max_idle_per_host(0));
    client
        .get(&url)
        .send()
        .await
        .expect_err("the renewed certificate is in use before it is read");
    server.reload_certificates().unwrap();
    assert_eq!(status(&client, url.clone()).await, 200);

    fs::write(folder.path().join("chain.pem"), "nonsense").unwrap();
    let refusal = server.reload_certificates().unwrap_err().to_string();
    assert!(
        refusal.starts_with("cannot read the certificate "),
        "{refusal}"
    );
    assert_eq!(status(&client, url).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    write_certificate(folder.path());
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(folder.path().join("key.pem"), other).unwrap();
    let refusal = Server::start(with_tls(folder.path()))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refusal.contains("chain.pem cannot be used: "), "{refusal}");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_key() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(config(folder.path())).await.unwrap();
    let mut second = config(folder.path());
    second.listener.address = server.local_addr();
    let refusal = Server::start(second).await.err().unwrap().to_string();
    let expected = format!(
        "cannot listen on {} (`listener.address`): ",
        server.local_addr()
    );
    assert!(refusal.starts_with(&expected), "{refusal}");
    server.stop().await;
}

#[tokio::test]
async fn before_a_stop_ready_says_no_while_requests_are_answered() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path());
    config.server.drain_delay = Duration::from_secs(3);
    let server = Server::start(config).await.unwrap();
    let url = |path: &str| format!("http://{}/{path}", server.local_addr());
    let (ready, health) = (url("ready"), url("health"));
    let client = client(|builder| builder);
    let stop = tokio::spawn(server.stop());
    while status(&client, ready.clone()).await != 503 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&client, health).await, 200);
    assert!(stop.await.unwrap());
}
