//! What a cache hit costs over HTTP/3, and over `DoQ` to compare with what others measure:
//! `TRUENAME_BIN=target/release/truename cargo bench --bench http3 [-- SECONDS]`
//!
//! truename runs on core 0, with an upstream made here; 20 connections with 5 questions under way each ask from core 1 for names
//! that are in the cache. What counts is the CPU time of truename's process, not the rate: that is the generator's.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use truename::wire::Name;

const NAMES: u64 = 5_000;
const CONNECTIONS: u64 = 20;
const STREAMS: u64 = 5;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn query(number: u64) -> Result<Vec<u8>, Failure> {
    let name = Name::parse(&format!("n{number}.example"))?;
    let mut octets = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    octets.extend_from_slice(name.as_wire());
    octets.extend_from_slice(&[0, 1, 0, 1]);
    Ok(octets)
}

/// Answers each question with one address that holds for a day.
fn serve(socket: &UdpSocket) {
    let mut octets = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut octets) {
        // The question ends with its name's root, type and class.
        let name = octets
            .get(12..length)
            .and_then(|rest| rest.iter().position(|octet| *octet == 0));
        let Some(mut answer) = name
            .and_then(|end| octets.get(..12 + end + 5))
            .map(<[u8]>::to_vec)
        else {
            continue;
        };
        if let Some(header) = answer.get_mut(2..12) {
            header.copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        }
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4, 192, 0, 2, 1]);
        let _ = socket.send_to(&answer, from);
    }
}

fn run_on(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// truename, ended with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(directory: &Path, doh: u16, doq: u16, upstream: SocketAddr) -> Result<Self, Failure> {
        let config = format!(
            "[listen]\ndns = []\ndoh = [\"127.0.0.1:{doh}\"]\ndoq = [\"127.0.0.1:{doq}\"]\n\
             [dnssec]\nvalidate = false\n[access]\nrate_limit = 0\n\
             [[upstream]]\nurl = \"udp://{upstream}\"\n"
        );
        fs::write(directory.join("truename.toml"), config)?;
        let binary = env::var("TRUENAME_BIN")
            .map_err(|_| "set TRUENAME_BIN to a release build of truename")?;
        let mut child = Command::new(fs::canonicalize(binary)?)
            .args(["run", "--config", "truename.toml"])
            .current_dir(directory)
            .env("STATE_DIRECTORY", directory.join("state"))
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let server = Self(child);
        let ready = BufReader::new(out)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.starts_with("DNSSEC: "));
        if ready {
            Ok(server)
        } else {
            Err("truename did not start".into())
        }
    }

    /// CPU time so far.
    fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text
                .split(' ')
                .next()
                .ok_or("no schedstat")?
                .parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Http3,
    Quic,
}

async fn connect(protocol: Protocol, port: u16, ca: &[u8]) -> Result<quinn::Connection, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let alpn: &[u8] = match protocol {
        Protocol::Http3 => b"h3",
        Protocol::Quic => b"doq",
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config)?;
    let endpoint = quinn::Endpoint::client(LOOPBACK)?;
    let server = SocketAddr::new(LOOPBACK.ip(), port);
    let config = quinn::ClientConfig::new(Arc::new(config));
    Ok(endpoint.connect_with(config, server, "localhost")?.await?)
}

/// Asks one question after the other until told to end.
async fn ask_on(
    connection: quinn::Connection,
    protocol: Protocol,
    first: u64,
    work: Arc<Work>,
) -> Result<(), Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    let mut sender = None;
    if let Protocol::Http3 = protocol {
        let (mut driver, requests) =
            h3::client::new(h3_quinn::Connection::new(connection.clone())).await?;
        sender = Some(requests);
        tokio::spawn(
            async move { std::future::poll_fn(|context| driver.poll_close(context)).await },
        );
    }
    for stream in 0..STREAMS {
        let (connection, mut sender, work) =
            (connection.clone(), sender.clone(), Arc::clone(&work));
        tasks.spawn(async move {
            let mut number = first + stream;
            while !work.over.load(Ordering::Relaxed) {
                // A step that visits all names.
                number = (number + 1_237) % NAMES;
                let message = query(number)?;
                let length = match &mut sender {
                    Some(sender) => over_http3(sender, message).await?,
                    None => over_quic(&connection, &message).await?,
                };
                if length < 40 {
                    return Err(Failure::from("an answer without its address"));
                }
                work.answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn over_http3(
    sender: &mut h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    message: Vec<u8>,
) -> Result<usize, Failure> {
    let request = http::Request::post("https://localhost/dns-query")
        .header("content-type", "application/dns-message")
        .header("content-length", message.len())
        .body(())?;
    let mut stream = sender.send_request(request).await?;
    stream.send_data(Bytes::from(message)).await?;
    stream.finish().await?;
    stream.recv_response().await?;
    let mut length = 0;
    while let Some(part) = stream.recv_data().await? {
        length += part.remaining();
    }
    Ok(length)
}

async fn over_quic(connection: &quinn::Connection, message: &[u8]) -> Result<usize, Failure> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    send.write_all(&framed).await?;
    send.finish()?;
    Ok(receive.read_to_end(2_000).await?.len())
}

#[derive(Default)]
struct Work {
    answers: AtomicU64,
    over: AtomicBool,
}

/// CPU time of truename for one answer, and how many came in a second.
async fn measure(
    server: &Server,
    protocol: Protocol,
    port: u16,
    ca: &[u8],
    time: Duration,
) -> Result<(Duration, f64), Failure> {
    let work = Arc::new(Work::default());
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let connection = connect(protocol, port, ca).await?;
        asking.spawn(ask_on(
            connection,
            protocol,
            number * NAMES / CONNECTIONS,
            Arc::clone(&work),
        ));
    }
    // Until all names are in the cache.
    while work.answers.load(Ordering::Relaxed) < 4 * NAMES * STREAMS {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if asking.is_empty() || asking.try_join_next().is_some() {
            return Err("a connection ended early".into());
        }
    }
    let count = || work.answers.load(Ordering::Relaxed);
    let (before, cpu) = (count(), server.cpu()?);
    tokio::time::sleep(time).await;
    let (answers, cpu) = (count() - before, server.cpu()?.saturating_sub(cpu));
    work.over.store(true, Ordering::Relaxed);
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    let answers = u32::try_from(answers)?;
    Ok((cpu / answers, f64::from(answers) / time.as_secs_f64()))
}

fn main() -> Result<(), Failure> {
    let seconds = env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(5));
    let upstream = UdpSocket::bind(LOOPBACK)?;
    let address = upstream.local_addr()?;
    let free_port = || Ok::<_, Failure>(UdpSocket::bind(LOOPBACK)?.local_addr()?.port());
    let (doh, doq) = (free_port()?, free_port()?);
    let directory = tempfile::tempdir()?;
    run_on(0)?;
    let server = Server::start(directory.path(), doh, doq, address)?;
    run_on(1)?;
    thread::spawn(move || serve(&upstream));
    let ca = fs::read(directory.path().join("state/certificates/ca.pem"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (name, protocol, port) in [
        ("HTTP/3", Protocol::Http3, doh),
        ("DoQ", Protocol::Quic, doq),
    ] {
        let (cpu, rate) = runtime.block_on(measure(&server, protocol, port, &ca, time))?;
        println!(
            "{name:7} {:6.2} us of CPU per answer, {rate:8.0} answers/s",
            cpu.as_secs_f64() * 1e6
        );
    }
    Ok(())
}
