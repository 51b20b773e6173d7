//! Behaviour of connections and of what is observed of requests, over real sockets.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Bytes,
    routing::{get, post},
};
use parley_client_api::ClientAddress;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

use super::connections::Connections;
use crate::config::Listener;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

struct TestServer {
    address: SocketAddr,
    connections: Arc<Connections>,
}

async fn serve(limits: &Listener, routes: Router) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::new(limits);
    connections.serve(listener, None, crate::server::complete()(routes));
    TestServer {
        address,
        connections,
    }
}

impl TestServer {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request on a connection of its own and returns the whole answer.
    async fn request(&self, line: &str, headers: &[&str], body: &str) -> String {
        let mut stream = self.connect().await;
        write(
            &mut stream,
            line,
            &[headers, &["connection: close"]].concat(),
            body,
        )
        .await;
        read_to_end(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.request(&format!("GET {path}"), &[], "").await
    }
}

async fn write(stream: &mut TcpStream, line: &str, headers: &[&str], body: &str) {
    let length = body.len();
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let request =
        format!("{line} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // An aborted connection may be reset; what came before counts.
    let _ = timeout(LONG, stream.read_to_end(&mut answer))
        .await
        .expect("the connection hangs");
    String::from_utf8(answer).unwrap()
}

/// Reads until an answer with this end is there; the connection stays open.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(end) {
        let mut buffer = [0; 1024];
        let read = timeout(LONG, stream.read(&mut buffer))
            .await
            .expect("nothing comes")
            .unwrap();
        assert_ne!(read, 0, "the connection was closed after {answer:?}");
        answer += std::str::from_utf8(&buffer[..read]).unwrap();
    }
    answer
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn of_an_endpoint_that_panics_are_500_and_the_connection_lives_on() {
        async fn panics() -> &'static str {
            panic!("on purpose")
        }
        let routes = Router::new()
            .route("/panic", get(panics))
            .route("/fine", get(|| async { "fine" }));
        let server = serve(&Listener::default(), routes).await;
        let mut stream = server.connect().await;
        write(&mut stream, "GET /panic", &[], "").await;
        let answer = read_until(&mut stream, "}").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains(r#"{"errcode":"M_UNKNOWN""#), "{answer}");
        write(&mut stream, "GET /fine", &[], "").await;
        assert!(
            read_until(&mut stream, "fine")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }

    #[tokio::test]
    async fn where_no_endpoint_is_are_m_unrecognized() {
        let routes = Router::new().route("/only-get", get(|| async {}));
        let server = serve(&Listener::default(), routes).await;
        for (line, status) in [("GET /nowhere", 404), ("PUT /only-get", 405)] {
            let answer = server.request(line, &[], "").await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(
                answer.contains("content-type: application/json"),
                "{answer}"
            );
            assert!(answer.contains(r#""errcode":"M_UNRECOGNIZED""#), "{answer}");
        }
    }

    #[tokio::test]
    async fn carry_the_id_of_the_request() {
        let routes = Router::new().route("/", get(|| async {}));
        let trusting = Listener {
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
            ..Listener::default()
        };
        let header = ["x-request-id: from-the-proxy"];
        let answer = serve(&trusting, routes.clone())
            .await
            .request("GET /", &header, "")
            .await;
        assert!(
            answer.contains("x-request-id: from-the-proxy\r\n"),
            "{answer}"
        );
        let answer = serve(&Listener::default(), routes)
            .await
            .request("GET /", &header, "")
            .await;
        assert!(answer.contains("x-request-id: "), "{answer}");
        assert!(!answer.contains("from-the-proxy"), "{answer}");
    }
}

mod handlers {
    use super::*;

    #[tokio::test]
    async fn learn_the_address_of_the_client() {
        let address =
            |Extension(client): Extension<ClientAddress>| async move { client.0.to_string() };
        let routes = Router::new().route("/", get(address));
        let header = ["x-forwarded-for: 203.0.113.9"];
        let trusting = Listener {
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
            ..Listener::default()
        };
        let answer = serve(&trusting, routes.clone())
            .await
            .request("GET /", &header, "")
            .await;
        assert!(answer.ends_with("203.0.113.9"), "{answer}");
        let answer = serve(&Listener::default(), routes)
            .await
            .request("GET /", &header, "")
            .await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }
}

mod limits {
    use super::*;

    async fn length(body: Bytes) -> String {
        body.len().to_string()
    }

    #[tokio::test]
    async fn of_heads_are_answered_with_431() {
        let routes = Router::new().route("/", get(|| async {}));
        let limits = Listener {
            max_header_size: 8 << 10,
            ..Listener::default()
        };
        let server = serve(&limits, routes).await;
        let large = format!("cookie: {}", "x".repeat(9 << 10));
        let answer = server.request("GET /", &[&large], "").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn of_time_end_connections_that_send_nothing_or_half_a_head() {
        let limits = Listener {
            idle_timeout: SHORT,
            ..Listener::default()
        };
        let server = serve(&limits, Router::new()).await;
        for sent in ["", "GE", "GET / HTTP/1.1\r\nhost: "] {
            let mut stream = server.connect().await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            read_to_end(&mut stream).await;
        }
    }

    #[tokio::test]
    async fn of_time_end_bodies_that_pause() {
        let routes = Router::new().route("/", post(length));
        let limits = Listener {
            body_timeout: SHORT,
            ..Listener::default()
        };
        let server = serve(&limits, routes).await;
        let mut stream = server.connect().await;
        let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }

    #[tokio::test]
    async fn of_connections_let_more_wait_until_one_ends() {
        let routes = Router::new().route("/", get(|| async { "done" }));
        let limits = Listener {
            max_connections: 1,
            ..Listener::default()
        };
        let server = serve(&limits, routes).await;
        let mut first = server.connect().await;
        write(&mut first, "GET /", &[], "").await;
        read_until(&mut first, "done").await;
        let mut second = server.connect().await;
        write(&mut second, "GET /", &[], "").await;
        let waits = timeout(SHORT, second.read_u8()).await.is_err();
        assert!(waits, "the second connection was served beside the first");
        drop(first);
        read_until(&mut second, "done").await;
    }
}

mod stopping {
    use super::*;

    /// A request that is being answered until `finish`, and a future of its answer.
    async fn slow(server: &TestServer, begun: &Notify) -> TcpStream {
        let mut stream = server.connect().await;
        write(&mut stream, "GET /slow", &[], "").await;
        begun.notified().await;
        stream
    }

    async fn server_with_slow_endpoint() -> (TestServer, Arc<Notify>, Arc<Notify>) {
        let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (Arc::clone(&begun), Arc::clone(&finish));
        let handler = move || async move {
            tell.notify_one();
            wait.notified().await;
            "finished"
        };
        let routes = Router::new().route("/slow", get(handler));
        (serve(&Listener::default(), routes).await, begun, finish)
    }

    #[tokio::test]
    async fn finishes_requests_and_accepts_no_more() {
        let (server, begun, finish) = server_with_slow_endpoint().await;
        let mut request = slow(&server, &begun).await;
        let connections = Arc::clone(&server.connections);
        let stop = tokio::spawn(async move { connections.stop(LONG).await });
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        finish.notify_one();
        assert!(read_to_end(&mut request).await.ends_with("finished"));
        assert!(stop.await.unwrap(), "a request was given up");
    }

    #[tokio::test]
    async fn gives_up_requests_that_take_too_long() {
        let (server, begun, _finish) = server_with_slow_endpoint().await;
        let mut request = slow(&server, &begun).await;
        assert!(!server.connections.stop(SHORT).await);
        assert_eq!(read_to_end(&mut request).await, "");
    }

    #[tokio::test]
    async fn ends_idle_connections_at_once() {
        let routes = Router::new().route("/", get(|| async { "done" }));
        let server = serve(&Listener::default(), routes).await;
        let _untouched = server.connect().await;
        let mut idle = server.connect().await;
        write(&mut idle, "GET /", &[], "").await;
        read_until(&mut idle, "done").await;
        let stopped = timeout(LONG / 2, server.connections.stop(LONG)).await;
        assert_eq!(stopped, Ok(true));
    }
}

mod what_is_seen {
    use super::*;

    /// Collects what is logged on this thread.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn in_the_log_is_the_template_of_the_path_and_no_secret() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let routes = Router::new().route("/rooms/{room_id}", get(|| async {}));
        let server = serve(&Listener::default(), routes).await;
        for path in [
            "/rooms/hidden?access_token=hidden",
            "/hidden?access_token=hidden",
        ] {
            server
                .request(
                    &format!("GET {path}"),
                    &["authorization: Bearer hidden"],
                    "",
                )
                .await;
        }
        server.connections.stop(LONG).await;
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let ours = |line: &&str| line.contains("request{id=");
        let lines: Vec<_> = log.lines().filter(ours).collect();
        assert!(
            lines
                .iter()
                .any(|line| line.contains("path=\"/rooms/{room_id}\"")),
            "{log}"
        );
        assert!(
            lines
                .iter()
                .any(|line| line.contains("answered status=404")),
            "{log}"
        );
        assert!(!lines.iter().any(|line| line.contains("hidden")), "{log}");
    }

    #[tokio::test]
    async fn in_the_metrics_are_requests_by_template_and_class_of_status() {
        let recorder = super::super::metrics::install_recorder().unwrap();
        let routes = Router::new().route("/measured/{id}", get(|| async {}));
        let server = serve(&Listener::default(), routes).await;
        server.get("/measured/1").await;
        server.get("/measured/2").await;
        server.connections.stop(LONG).await;
        let metrics = recorder.render();
        let counted =
            "parley_http_requests_total{method=\"GET\",path=\"/measured/{id}\",status=\"2xx\"} 2";
        assert!(metrics.contains(counted), "{metrics}");
        let timed =
            "parley_http_request_duration_seconds_count{method=\"GET\",path=\"/measured/{id}\"} 2";
        assert!(metrics.contains(timed), "{metrics}");
        assert!(
            metrics.contains("parley_http_requests_in_flight "),
            "{metrics}"
        );
    }
}
