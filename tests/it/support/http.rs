//! HTTP as a client of DoH speaks it, versions 1.1, 2 and 3, with every header visible.

use std::{future::poll_fn, io};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, header::CONTENT_TYPE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::AbortHandle,
};
use tokio_rustls::client::TlsStream;

use super::{Truename, client::connect_tls, connect_quic, in_time, quic_endpoint};
use crate::lab::Transport;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
    Http3,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Http3];
}

/// A connection.
pub(crate) struct HttpClient {
    way: Way,
    driver: Option<AbortHandle>,
}

enum Way {
    Http1(Box<TlsStream<TcpStream>>),
    Http2(h2::client::SendRequest<Bytes>),
    Http3(
        h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
        #[expect(dead_code, reason = "it carries the connection")] quinn::Endpoint,
    ),
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl HttpReply {
    /// A header's value; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A request to the endpoint's host; `target` begins with a slash.
pub(crate) fn request(method: Method, target: &str, body: &[u8]) -> Request<Vec<u8>> {
    Request::builder()
        .method(method)
        .uri(format!("https://{}{target}", Truename::NAME))
        .body(body.to_vec())
        .unwrap()
}

/// A query in a POST.
pub(crate) fn post(message: &[u8]) -> Request<Vec<u8>> {
    let mut request = request(Method::POST, "/dns-query", message);
    let media_type = "application/dns-message".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, media_type);
    request
}

impl HttpClient {
    /// Connects.
    pub(crate) async fn connect(truename: &Truename, version: Version) -> Self {
        let tcp = truename.address(Transport::Https);
        let (way, driver) = match version {
            Version::Http1 => (
                Way::Http1(Box::new(connect_tls(tcp, b"http/1.1").await)),
                None,
            ),
            Version::Http2 => {
                let stream = connect_tls(tcp, b"h2").await;
                let (sender, connection) = h2::client::handshake(stream).await.unwrap();
                let driver = tokio::spawn(async move {
                    let _ = connection.await;
                });
                (Way::Http2(sender), Some(driver.abort_handle()))
            }
            Version::Http3 => {
                let endpoint = quic_endpoint(b"h3");
                let address = truename.address(Transport::Http3);
                let connection = connect_quic(&endpoint, address).await;
                let connection = h3_quinn::Connection::new(connection);
                let (mut driver, sender) = h3::client::new(connection).await.unwrap();
                let driver = tokio::spawn(async move {
                    poll_fn(|context| driver.poll_close(context)).await;
                });
                (Way::Http3(sender, endpoint), Some(driver.abort_handle()))
            }
        };
        Self { way, driver }
    }

    /// Sends a request and reads the response.
    pub(crate) async fn request(&mut self, request: Request<Vec<u8>>) -> io::Result<HttpReply> {
        in_time("an HTTP exchange", async {
            match &mut self.way {
                Way::Http1(stream) => http1(stream, request).await,
                Way::Http2(sender) => http2(sender, request).await.map_err(io::Error::other),
                Way::Http3(sender, _) => http3(sender, request).await.map_err(io::Error::other),
            }
        })
        .await
    }
}

impl Drop for HttpClient {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

async fn http1(
    stream: &mut TlsStream<TcpStream>,
    request: Request<Vec<u8>>,
) -> io::Result<HttpReply> {
    let (head, body) = request.into_parts();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut text = format!(
        "{} {target} HTTP/1.1\r\nhost: {}\r\n",
        head.method,
        Truename::NAME
    );
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(text.as_bytes()).await?;
    // A server may refuse before it has read all of the body.
    let _ = stream.write_all(&body).await;
    let _ = stream.flush().await;

    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
        headers.append(name, value.parse().map_err(io::Error::other)?);
    }
    let length = headers
        .get("content-length")
        .map_or("0", |value| value.to_str().unwrap());
    let mut body = vec![0; length.parse().map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    Ok(HttpReply {
        status: status.parse().map_err(io::Error::other)?,
        headers,
        body,
    })
}

async fn http2(
    sender: &mut h2::client::SendRequest<Bytes>,
    request: Request<Vec<u8>>,
) -> Result<HttpReply, h2::Error> {
    let mut ready = sender.clone().ready().await?;
    let (head, body) = request.into_parts();
    let (response, mut stream) =
        ready.send_request(Request::from_parts(head, ()), body.is_empty())?;
    if !body.is_empty() {
        // A server may refuse before it has read all of the body.
        let _ = stream.send_data(Bytes::from(body), true);
    }
    let (head, mut received) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = received.data().await {
        let chunk = chunk?;
        received.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok(HttpReply {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

async fn http3(
    sender: &mut h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    request: Request<Vec<u8>>,
) -> Result<HttpReply, h3::error::StreamError> {
    let (head, body) = request.into_parts();
    let mut stream = sender.send_request(Request::from_parts(head, ())).await?;
    if !body.is_empty() {
        // A server may refuse before it has read all of the body.
        let _ = stream.send_data(Bytes::from(body)).await;
    }
    let _ = stream.finish().await;
    let (head, ()) = stream.recv_response().await?.into_parts();
    let mut body = Vec::new();
    while let Some(mut chunk) = stream.recv_data().await? {
        body.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    Ok(HttpReply {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}
