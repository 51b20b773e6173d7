//! One keep-alive HTTP/1.1 connection to the server, as cheap as it can be: the load program runs on the same
//! machine as the server that it measures.

use std::{pin::pin, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;

use crate::answers;

/// What need not be escaped in a segment of a path or in a value of a query (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where the server listens.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `host:port`, to connect to.
    address: String,
    host: HeaderValue,
    timeout: Duration,
}

/// A connection, opened when it's first needed and again when the server has closed it.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Reads and writes the socket. It's polled by whoever waits for an answer rather than by a task of its own,
    /// which saves two switches between tasks per request.
    driver: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server answered with another status than 200.
    #[error("{}", describe(*status, body))]
    Status { status: StatusCode, body: Bytes },
    /// The server took longer than `--timeout`.
    #[error("no answer in time")]
    Timeout,
    /// The connection could not be made, or broke.
    #[error("connection: {0}")]
    Connection(String),
}

impl Failure {
    /// A short name to count failures by.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Status { status, body } => match answers::errcode(body) {
                Some(errcode) => format!("{} {errcode}", status.as_u16()),
                None => status.as_u16().to_string(),
            },
            Self::Timeout => "timeout".to_owned(),
            Self::Connection(_) => "connection".to_owned(),
        }
    }
}

fn describe(status: StatusCode, body: &Bytes) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    let advice = if status == StatusCode::TOO_MANY_REQUESTS {
        "; switch the rate limits of the server off to measure it"
    } else {
        ""
    };
    format!("the server answered {status}: {text}{advice}")
}

impl Target {
    /// Understands `http://host:port`. Each answer may take `timeout` beyond the time that the request asks for.
    pub(crate) fn parse(url: &str, timeout: Duration) -> Result<Self> {
        let uri: Uri = url
            .parse()
            .with_context(|| format!("{url} is not an address"))?;
        if uri.scheme_str() != Some("http") {
            bail!(
                "{url}: only http:// can be measured; give the address at which the server itself listens"
            );
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            bail!("{url}: give the address without a path, e.g. http://127.0.0.1:8008");
        }
        let host = uri.host().context("the address has no host")?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(&address)?;
        Ok(Self {
            address,
            host,
            timeout,
        })
    }

    /// A client that isn't connected yet.
    pub(crate) fn client(&self) -> Client {
        Client {
            target: self.clone(),
            open: None,
        }
    }

    /// The same server with another time for an answer.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }
}

impl Client {
    /// A GET request; see [`Client::send`].
    pub(crate) async fn get(
        &mut self,
        token: Option<&HeaderValue>,
        path: String,
    ) -> Result<Bytes, Failure> {
        self.send(Method::GET, token, path, Bytes::new()).await
    }

    /// A POST request; see [`Client::send`].
    pub(crate) async fn post(
        &mut self,
        token: Option<&HeaderValue>,
        path: String,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, Failure> {
        self.send(Method::POST, token, path, body.into()).await
    }

    /// A PUT request; see [`Client::send`].
    pub(crate) async fn put(
        &mut self,
        token: Option<&HeaderValue>,
        path: String,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        self.send(Method::PUT, token, path, body).await
    }

    /// Sends a request and gives the body of the answer if its status is 200.
    ///
    /// A request that finds a kept connection closed is sent once more on a new one: all requests of this program
    /// may safely be repeated.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        token: Option<&HeaderValue>,
        path: String,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let uri = Uri::from_maybe_shared(Bytes::from(path))
            .map_err(|error| Failure::Connection(format!("not a path: {error}")))?;
        let timeout = self.target.timeout;
        let work = async {
            if let Some(open) = self.open.take() {
                let request = self.request(&method, token, &uri, &body)?;
                if let Ok(answer) = self.exchange(open, request).await {
                    return Ok(answer);
                }
            }
            let open = self.target.connect().await?;
            let request = self.request(&method, token, &uri, &body)?;
            self.exchange(open, request).await
        };
        let (status, body) = tokio::time::timeout(timeout, work)
            .await
            .map_err(|_| Failure::Timeout)??;
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(Failure::Status { status, body })
        }
    }

    fn request(
        &self,
        method: &Method,
        token: Option<&HeaderValue>,
        uri: &Uri,
        body: &Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.host.clone());
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if method != Method::GET {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }

    /// One request and its answer on an open connection, which is kept for the next if all went well.
    async fn exchange(
        &mut self,
        mut open: Open,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (answer, kept) = open.exchange(request).await;
        let answer = answer.map_err(|error| Failure::Connection(error.to_string()))?;
        if kept {
            self.open = Some(open);
        }
        Ok(answer)
    }
}

impl Open {
    /// Also gives whether the connection can be used again.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> (Result<(StatusCode, Bytes), hyper::Error>, bool) {
        let Self { sender, driver } = self;
        let mut answer = pin!(async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        });
        tokio::select! {
            biased;
            answer = &mut answer => (answer, true),
            // The server has closed the connection, possibly just behind its answer.
            _ = driver => (answer.await, false),
        }
    }
}

impl Target {
    async fn connect(&self) -> Result<Open, Failure> {
        let failed = |error: &dyn std::error::Error| Failure::Connection(error.to_string());
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        Ok(Open { sender, driver })
    }
}

/// A text as a segment of a path or as a value of a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Serves one list of canned answers per connection, then closes it; gives the number of connections made.
    async fn serve(listener: TcpListener, connections: Vec<Vec<&'static str>>) -> usize {
        let mut made = 0;
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            made += 1;
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        made
    }

    async fn listen() -> (TcpListener, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, Target::parse(&url, TIMEOUT).unwrap().client())
    }

    #[tokio::test]
    async fn two_requests_share_a_connection_whether_the_answer_has_a_length_or_chunks() {
        let (listener, mut client) = listen().await;
        let plain = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
        let server = tokio::spawn(serve(listener, vec![vec![chunked, plain]]));
        assert_eq!(
            client.get(None, "/a".to_owned()).await.unwrap(),
            "{\"a\":1}"
        );
        assert_eq!(client.get(None, "/b".to_owned()).await.unwrap(), "{}");
        assert_eq!(server.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_kept_connection_that_the_server_closed_is_made_anew() {
        let (listener, mut client) = listen().await;
        let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        let silent = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let server = tokio::spawn(serve(
            listener,
            vec![vec![closing], vec![silent], vec![silent]],
        ));
        for _ in 0..3 {
            assert_eq!(client.get(None, "/".to_owned()).await.unwrap(), "{}");
        }
        assert_eq!(server.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_rate_limit_is_an_error_that_says_what_to_do() {
        let (listener, mut client) = listen().await;
        let body = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 30\r\n\r\n{\"errcode\":\"M_LIMIT_EXCEEDED\"}";
        tokio::spawn(serve(listener, vec![vec![body]]));
        let failure = client.get(None, "/".to_owned()).await.unwrap_err();
        assert_eq!(failure.kind(), "429 M_LIMIT_EXCEEDED");
        assert!(
            failure.to_string().contains("switch the rate limits"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_runs_into_the_timeout() {
        let (listener, client) = listen().await;
        let mut client = client
            .target
            .with_timeout(Duration::from_millis(20))
            .client();
        let failure = client.get(None, "/".to_owned()).await.unwrap_err();
        assert_eq!(failure.kind(), "timeout");
        drop(listener);
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failed_connection() {
        let (listener, mut client) = listen().await;
        drop(listener);
        assert_eq!(
            client.get(None, "/".to_owned()).await.unwrap_err().kind(),
            "connection"
        );
    }

    #[test]
    fn only_plain_addresses_are_understood() {
        let parse = |url| Target::parse(url, TIMEOUT);
        assert_eq!(parse("http://[::1]:8008/").unwrap().address, "[::1]:8008");
        assert_eq!(parse("http://localhost").unwrap().address, "localhost:80");
        for url in [
            "https://example.org",
            "localhost:8008",
            "http://localhost/_matrix",
            "",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn identifiers_are_escaped() {
        assert_eq!(escape("!a/b:c.org"), "%21a%2Fb%3Ac.org");
    }
}
