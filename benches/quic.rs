//! What a cache hit costs over HTTP/3 and over DoQ: `TRUENAME_BIN=… cargo bench --bench quic`, with `-- SECONDS` for each
//! (5 by default).
//!
//! truename runs on core 0; an upstream made here and the clients, 20 connections with 5 queries in flight each, on core 1. Only
//! truename's CPU time counts: the rate is bounded by the clients.
#![allow(clippy::indexing_slicing, reason = "nothing here comes from outside")]
#![allow(
    clippy::print_stdout,
    reason = "figures are what this program is there for"
)]

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
use tokio::task::JoinSet;
use truename::{handler::Transport, wire::Name};

const NAMES: u64 = 5_000;
const CONNECTIONS: u64 = 20;
const IN_FLIGHT: u64 = 5;
/// So many answers later each name has been asked for twenty times, if all keep step.
const WARM_UP: u64 = 20 * NAMES;
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn query(number: u64) -> Result<Vec<u8>, Failure> {
    let name = Name::parse(&format!("n{number}.example"))?;
    let mut octets = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    octets.extend_from_slice(name.as_wire());
    octets.extend_from_slice(&[0, 1, 0, 1]);
    Ok(octets)
}

/// The upstream: one address, for a day, is the answer to everything.
fn answer_all(socket: &UdpSocket) {
    let mut octets = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut octets) {
        // The question: a name up to the root's empty label, type and class.
        let name = octets[..length].get(12..).unwrap_or_default();
        let Some(root) = name.iter().position(|octet| *octet == 0) else {
            continue;
        };
        let mut answer = octets[..12 + root + 5].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4, 192, 0, 2, 1]);
        let _ = socket.send_to(&answer, from);
    }
}

/// Threads and processes started from here on run on this core too.
fn run_on(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// The program, killed with this value.
struct Truename {
    child: Child,
    doh3: SocketAddr,
    doq: SocketAddr,
}

impl Drop for Truename {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Truename {
    fn start(directory: &Path, upstream: SocketAddr) -> Result<Self, Failure> {
        let config = format!(
            "[listen]\ndns = []\ndot = []\ndoh = [\"{ANY_PORT}\"]\ndoq = [\"{ANY_PORT}\"]\n\
             [dnssec]\nvalidate = false\n[log]\nlevel = \"warn\"\n[[upstream]]\nurl = \"udp://{upstream}\"\n"
        );
        fs::write(directory.join("truename.toml"), config)?;
        let binary = env::var("TRUENAME_BIN");
        let binary = binary.map_err(|_| "set TRUENAME_BIN to a release build of truename")?;
        let mut child = Command::new(fs::canonicalize(binary)?)
            .args(["run", "--config", "truename.toml"])
            .current_dir(directory)
            .env("STATE_DIRECTORY", directory.join("state"))
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut started = Self {
            child,
            doh3: ANY_PORT,
            doq: ANY_PORT,
        };
        for line in BufReader::new(out).lines() {
            let line = line?;
            if let Some(address) = line.strip_prefix("listening doh3 ") {
                started.doh3 = address.parse()?;
            } else if let Some(address) = line.strip_prefix("listening doq ") {
                started.doq = address.parse()?;
            } else if line.starts_with("DNSSEC: ") {
                return Ok(started);
            }
        }
        Err("truename ended while it started".into())
    }

    /// CPU time so far, of the threads that live: all do as long as it runs. In nanoseconds, where /proc/PID/stat counts
    /// hundredths of a second.
    fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = text.split(' ').next().ok_or("schedstat is empty")?;
            nanoseconds += on_cpu.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

async fn connect(over: Transport, to: SocketAddr, ca: &[u8]) -> Result<quinn::Connection, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocol = if over == Transport::Http3 {
        "h3"
    } else {
        "doq"
    };
    config.alpn_protocols = vec![protocol.into()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config)?;
    let config = quinn::ClientConfig::new(Arc::new(config));
    let endpoint = quinn::Endpoint::client(ANY_PORT)?;
    Ok(endpoint.connect_with(config, to, "localhost")?.await?)
}

#[derive(Default)]
struct Work {
    answers: AtomicU64,
    is_over: AtomicBool,
}

/// Keeps its queries in flight on one connection until the work is over.
async fn ask_on(
    connection: quinn::Connection,
    over: Transport,
    first: u64,
    work: Arc<Work>,
) -> Result<(), Failure> {
    let mut sender = None;
    if over == Transport::Http3 {
        let streams = h3_quinn::Connection::new(connection.clone());
        let (mut driver, requests) = h3::client::new(streams).await?;
        tokio::spawn(
            async move { std::future::poll_fn(|context| driver.poll_close(context)).await },
        );
        sender = Some(requests);
    }
    let mut asking = JoinSet::new();
    for number in 0..IN_FLIGHT {
        let (connection, mut sender, work) =
            (connection.clone(), sender.clone(), Arc::clone(&work));
        asking.spawn(async move {
            let mut number = first + number;
            while !work.is_over.load(Ordering::Relaxed) {
                // A step that visits all names.
                number = (number + 1_237) % NAMES;
                let message = query(number)?;
                let response = match &mut sender {
                    Some(sender) => over_http3(sender, message).await?,
                    None => over_quic(&connection, &message).await?,
                };
                if response.get(6..8) != Some(&[0, 1]) {
                    return Err(Failure::from("a response without its one answer"));
                }
                work.answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    Ok(())
}

async fn over_http3(
    sender: &mut h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    message: Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let request = http::Request::post("https://localhost/dns-query")
        .header("content-type", "application/dns-message")
        .header("content-length", message.len())
        .body(())?;
    let mut stream = sender.send_request(request).await?;
    stream.send_data(Bytes::from(message)).await?;
    stream.finish().await?;
    stream.recv_response().await?;
    let mut response = Vec::new();
    while let Some(mut part) = stream.recv_data().await? {
        response.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    Ok(response)
}

async fn over_quic(connection: &quinn::Connection, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    send.write_all(&framed).await?;
    send.finish()?;
    let framed = receive.read_to_end(2_000).await?;
    Ok(framed.get(2..).unwrap_or_default().to_vec())
}

/// truename's CPU time for one answer, and what share of a core it took.
async fn measure(
    truename: &Truename,
    over: Transport,
    ca: &[u8],
    time: Duration,
) -> Result<(Duration, f64), Failure> {
    let to = if over == Transport::Http3 {
        truename.doh3
    } else {
        truename.doq
    };
    let work = Arc::new(Work::default());
    let answers = || work.answers.load(Ordering::Relaxed);
    let mut asking = JoinSet::new();
    for number in 0..CONNECTIONS {
        let connection = connect(over, to, ca).await?;
        let first = number * NAMES / CONNECTIONS;
        asking.spawn(ask_on(connection, over, first, Arc::clone(&work)));
    }
    while answers() < WARM_UP {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Some(ended) = asking.try_join_next() {
            ended??;
        }
    }
    let (answers_before, cpu_before) = (answers(), truename.cpu()?);
    tokio::time::sleep(time).await;
    let (answers, cpu) = (
        answers() - answers_before,
        truename.cpu()?.saturating_sub(cpu_before),
    );
    work.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    let each = cpu.checked_div(u32::try_from(answers)?);
    let share = cpu.as_secs_f64() / time.as_secs_f64();
    Ok((each.ok_or("no answer came in that time")?, share))
}

fn main() -> Result<(), Failure> {
    // cargo adds `--bench`.
    let seconds = env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(5));
    let directory = tempfile::tempdir()?;
    let upstream = UdpSocket::bind(ANY_PORT)?;
    let address = upstream.local_addr()?;
    run_on(1)?;
    thread::spawn(move || answer_all(&upstream));
    run_on(0)?;
    let truename = Truename::start(directory.path(), address)?;
    run_on(1)?;
    let ca = fs::read(directory.path().join("state/certificates/ca.pem"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (name, over) in [("HTTP/3", Transport::Http3), ("DoQ", Transport::Quic)] {
        let (cpu, share) = runtime.block_on(measure(&truename, over, &ca, time))?;
        let (cpu_us, percent) = (cpu.as_secs_f64() * 1e6, share * 1e2);
        println!("{name:7} {cpu_us:6.2} us of CPU per answer, {percent:3.0} % of a core");
    }
    Ok(())
}
