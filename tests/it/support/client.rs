//! A client that keeps its connection, for each of the six transports, and sends whatever octets
//! it is given.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};
use tokio_rustls::TlsConnector;

use super::{HttpClient, Truename, Version, in_time, post};
use crate::lab::{Answered, Ask, Transport, ask::framed};

/// TCP, or TLS on it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to truename.
pub(crate) enum Client {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
    Http(HttpClient),
    Quic(
        quinn::Connection,
        #[expect(dead_code, reason = "it carries the connection")] quinn::Endpoint,
    ),
}

/// What became of octets that were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A message came back.
    Message(Vec<u8>),
    /// An HTTP status other than 200 came back.
    Status(u16),
    /// The stream or connection ended without an answer.
    Closed,
    /// A later query was answered, this one was not (UDP).
    Silence,
}

impl Outcome {
    /// The rcode of the message that came back.
    pub(crate) fn rcode(&self) -> Option<u16> {
        match self {
            Self::Message(octets) => Answered::parse(octets).map(|answered| answered.rcode),
            _ => None,
        }
    }
}

/// The id of the query that shows that an earlier one was passed over.
const SENTINEL_ID: u16 = 0xfeed;

impl Client {
    /// Connects over `listener`.
    pub(crate) async fn connect(truename: &Truename, listener: Transport) -> Self {
        in_time(
            "connecting",
            Box::pin(Self::try_connect(truename, listener)),
        )
        .await
    }

    async fn try_connect(truename: &Truename, listener: Transport) -> Self {
        let address = truename.address(listener);
        match listener {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(address).await.unwrap();
                Self::Udp(socket)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Self::Stream(Box::new(stream))
            }
            Transport::Tls => Self::Stream(Box::new(connect_tls(address, b"dot").await)),
            Transport::Https => Self::Http(HttpClient::connect(truename, Version::Http2).await),
            Transport::Http3 => Self::Http(HttpClient::connect(truename, Version::Http3).await),
            Transport::Quic => {
                let endpoint = quic_endpoint(b"doq");
                let connection = connect_quic(&endpoint, address).await;
                Self::Quic(connection, endpoint)
            }
        }
    }

    /// Asks and reads the answer.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Answered {
        let message = self.encode(ask);
        let what = format!("{} type {}", ask.name, ask.rtype);
        let octets = in_time(&what, Box::pin(self.exchange(&message))).await;
        match octets.expect("the connection holds") {
            Outcome::Message(octets) => Answered::parse(&octets)
                .unwrap_or_else(|| panic!("{what}: the answer cannot be read: {octets:02x?}")),
            other => panic!("{what}: {other:?}"),
        }
    }

    /// The octets of a query as this transport wants them.
    pub(crate) fn encode(&self, ask: &Ask) -> Vec<u8> {
        match self {
            Self::Quic(..) => ask.clone().id(0).encode(),
            _ => ask.encode(),
        }
    }

    /// Sends octets and says what became of them. Over UDP a good query follows, so that silence
    /// shows without waiting for it.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Outcome {
        in_time(
            "sending octets",
            Box::pin(async {
                if let Self::Udp(socket) = self {
                    let sentinel = Ask::new("www.secure.com", "A").id(SENTINEL_ID).encode();
                    // Longer than a datagram can be: it cannot even be sent.
                    if socket.send(message).await.is_err() {
                        return Outcome::Closed;
                    }
                    socket.send(&sentinel).await.unwrap();
                    let first = receive(socket).await;
                    if first.starts_with(&SENTINEL_ID.to_be_bytes()) {
                        return Outcome::Silence;
                    }
                    let second = receive(socket).await;
                    assert!(
                        second.starts_with(&SENTINEL_ID.to_be_bytes()),
                        "{second:02x?}"
                    );
                    return Outcome::Message(first);
                }
                self.exchange(message).await.unwrap_or(Outcome::Closed)
            }),
        )
        .await
    }

    async fn exchange(&mut self, message: &[u8]) -> io::Result<Outcome> {
        match self {
            Self::Udp(socket) => {
                socket.send(message).await?;
                Ok(Outcome::Message(receive(socket).await))
            }
            Self::Stream(stream) => {
                stream.write_all(&framed(message)).await?;
                stream.flush().await?;
                Ok(read_message(stream)
                    .await
                    .map_or(Outcome::Closed, Outcome::Message))
            }
            Self::Http(http) => {
                let reply = http.request(post(message)).await?;
                Ok(match reply.status {
                    200 => Outcome::Message(reply.body),
                    other => Outcome::Status(other),
                })
            }
            Self::Quic(connection, _) => {
                let (mut send, mut receive) = connection.open_bi().await?;
                send.write_all(&framed(message)).await?;
                send.finish().map_err(io::Error::other)?;
                let octets = receive.read_to_end(2 + 65535).await;
                let octets = octets.map_err(io::Error::other)?;
                let message = octets.get(2..).unwrap_or_default();
                assert_eq!(octets, framed(message), "one framed message and the end");
                Ok(Outcome::Message(message.to_vec()))
            }
        }
    }

    /// The stream itself, of TCP and DoT.
    pub(crate) fn stream(self) -> Box<dyn Stream> {
        match self {
            Self::Stream(stream) => stream,
            _ => panic!("this client has no stream"),
        }
    }
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65535];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}

/// The next message on a stream; none at its end.
pub(crate) async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    in_time("reading from a stream", async {
        let length = stream.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await.ok()?;
        Some(message)
    })
    .await
}

/// Connects with TLS, offering one protocol.
pub(super) async fn connect_tls(
    address: SocketAddr,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(Truename::NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(config(protocol)));
    connector.connect(name, stream).await.unwrap()
}

/// A QUIC client that offers one protocol.
pub(crate) fn quic_endpoint(protocol: &[u8]) -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let tls = QuicClientConfig::try_from(config(protocol)).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    endpoint
}

/// A QUIC connection.
pub(crate) async fn connect_quic(
    endpoint: &quinn::Endpoint,
    address: SocketAddr,
) -> quinn::Connection {
    let connecting = endpoint.connect(address, Truename::NAME).unwrap();
    in_time("the QUIC handshake", connecting).await.unwrap()
}

fn config(protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(Truename::CA.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}
