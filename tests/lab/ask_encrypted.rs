//! The test client over the encrypted transports: one connection for one query, the certificate
//! verified against one CA.

use super::Transport;
use super::ask::{ANSWER_WAIT, Answered, Ask, any_port, exchange_on, framed, unreadable};
use bytes::{Buf, Bytes};
use http::{Request, header};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

impl Ask {
    /// Asks over any transport; `ca_pem` and `server_name` matter where there is TLS.
    pub async fn over(
        &self,
        transport: Transport,
        server: SocketAddr,
        ca_pem: &str,
        server_name: &str,
    ) -> io::Result<Answered> {
        let config = client_config(transport, ca_pem);
        let asked = async {
            match transport {
                Transport::Udp => self.over_udp(server).await,
                Transport::Tcp => self.over_tcp(server).await,
                Transport::Tls => {
                    let mut stream = connect_tls(server, server_name, config.into()).await?;
                    exchange_on(&mut stream, &self.encode()).await
                }
                Transport::Https => {
                    let stream = connect_tls(server, server_name, config.into()).await?;
                    over_h2(stream, server_name, self.encode()).await
                }
                Transport::Http3 => {
                    let connection = connect_quic(server, server_name, config).await?;
                    over_h3(connection, server_name, self.encode()).await
                }
                Transport::Quic => {
                    let connection = connect_quic(server, server_name, config).await?;
                    // RFC 9250, section 4.2.1.
                    over_doq(&connection, &self.clone().id(0).encode()).await
                }
            }
        };
        tokio::time::timeout(ANSWER_WAIT, asked).await?
    }
}

/// TLS that trusts one CA and speaks a transport's protocol; connections made with one
/// configuration resume each other's sessions, on QUIC with early data.
///
/// # Panics
/// If the PEM holds no certificates.
pub fn client_config(transport: Transport, ca_pem: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.expect("certificates in PEM");
        roots.add(certificate).expect("a CA certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocol: &[u8] = match transport {
        Transport::Https => b"h2",
        Transport::Http3 => b"h3",
        Transport::Quic => b"doq",
        _ => b"dot",
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_early_data = true;
    config
}

/// Opens a TLS connection.
pub async fn connect_tls(
    server: SocketAddr,
    server_name: &str,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect(server).await?;
    TlsConnector::from(config).connect(name, stream).await
}

async fn connect_quic(
    server: SocketAddr,
    server_name: &str,
    config: ClientConfig,
) -> io::Result<quinn::Connection> {
    let config = QuicClientConfig::try_from(config).map_err(io::Error::other)?;
    let endpoint = quinn::Endpoint::client(any_port(server))?;
    let config = quinn::ClientConfig::new(Arc::new(config));
    let connecting = endpoint.connect_with(config, server, server_name);
    connecting
        .map_err(io::Error::other)?
        .await
        .map_err(io::Error::other)
}

async fn over_doq(connection: &quinn::Connection, message: &[u8]) -> io::Result<Answered> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&framed(message)).await?;
    send.finish().map_err(io::Error::other)?;
    let octets = recv.read_to_end(2 + 65535).await;
    let octets = octets.map_err(io::Error::other)?;
    let message = octets.get(2..).ok_or_else(unreadable)?;
    if octets != framed(message) {
        return Err(unreadable());
    }
    Answered::parse(message).ok_or_else(unreadable)
}

fn post(server_name: &str) -> Request<()> {
    Request::post(format!("https://{server_name}/dns-query"))
        .header(header::CONTENT_TYPE, "application/dns-message")
        .header(header::ACCEPT, "application/dns-message")
        .body(())
        .expect("a request")
}

async fn over_h2(
    stream: TlsStream<TcpStream>,
    server_name: &str,
    message: Vec<u8>,
) -> io::Result<Answered> {
    let (sender, connection) = h2::client::handshake(stream)
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    let exchange = async {
        let mut sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(post(server_name), false)?;
        body.send_data(Bytes::from(message), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut octets = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            octets.extend(&chunk);
        }
        Ok((head, octets))
    };
    let exchanged = exchange
        .await
        .map_err(|error: h2::Error| io::Error::other(error));
    driver.abort();
    let (head, octets) = exchanged?;
    answered(&head, &octets)
}

async fn over_h3(
    connection: quinn::Connection,
    server_name: &str,
    message: Vec<u8>,
) -> io::Result<Answered> {
    let connection = h3_quinn::Connection::new(connection);
    let (mut driver, mut sender) = h3::client::new(connection)
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    let exchange = async {
        let mut stream = sender.send_request(post(server_name)).await?;
        stream.send_data(Bytes::from(message)).await?;
        stream.finish().await?;
        let (head, ()) = stream.recv_response().await?.into_parts();
        let mut octets = Vec::new();
        while let Some(mut chunk) = stream.recv_data().await? {
            octets.extend(chunk.copy_to_bytes(chunk.remaining()));
        }
        Ok((head, octets))
    };
    let exchanged = exchange
        .await
        .map_err(|error: h3::error::StreamError| io::Error::other(error));
    driver.abort();
    let (head, octets) = exchanged?;
    answered(&head, &octets)
}

fn answered(head: &http::response::Parts, octets: &[u8]) -> io::Result<Answered> {
    if head.status != 200 {
        return Err(io::Error::other(format!("HTTP status {}", head.status)));
    }
    Answered::parse(octets).ok_or_else(unreadable)
}
