//! The lab checks itself: its structure, its transports, its faults. Nothing of the resolver is
//! under test here.

#[path = "lab/mod.rs"]
mod lab;

use lab::expectations::{Expectation, Shape, Verdict};
use lab::message::flag;
use lab::{Answered, Ask, Lab, LabOptions, Transport};

/// Serves on fixed ports until interrupted, to be asked by other people's programs.
#[tokio::test]
#[ignore = "runs until it is stopped, for trying the lab by hand"]
async fn serve_for_trying() {
    let ports = lab::Ports {
        plain: 5399,
        tls: 8599,
        https: 4499,
    };
    let lab = Lab::start(LabOptions {
        ports,
        ipv6: true,
        ..LabOptions::default()
    })
    .await;
    println!("{}", lab.trust_anchor_ds());
    println!("{}", lab.ca_pem());
    for transport in Transport::ALL {
        println!("{}", lab.url(transport));
    }
    std::future::pending::<()>().await;
}

/// A resolver that others wrote, which forwards to the lab and trusts its root.
struct Unbound {
    process: std::process::Child,
    address: std::net::SocketAddr,
    _directory: tempfile::TempDir,
}

impl Unbound {
    async fn start(lab: &Lab) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let config = format!(
            r#"
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    use-syslog: no
    logfile: ""
    chroot: ""
    username: ""
    directory: "{directory}"
    pidfile: ""
    do-not-query-localhost: no
    module-config: "validator iterator"
    trust-anchor: "{anchor}"
    trust-anchor-signaling: no
    aggressive-nsec: no
    ede: yes
    val-log-level: 2
    cache-max-ttl: 60
    local-zone: "45.in-addr.arpa." nodefault
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{upstream}
"#,
            port = address.port(),
            directory = directory.path().display(),
            anchor = lab.trust_anchor_ds(),
            upstream = lab.address(Transport::Udp).port(),
        );
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, config).unwrap();
        let process = std::process::Command::new("unbound")
            .args(["-d", "-c"])
            .arg(&file)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("unbound is installed: apt install unbound");
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        Self {
            process,
            address,
            _directory: directory,
        }
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "needs unbound"]
async fn unbound_agrees_with_every_expectation() {
    let lab = Lab::start(LabOptions::default()).await;
    let unbound = Unbound::start(&lab).await;
    let mut disagreements = Vec::new();
    for (name, rtype, expected) in lab::expectations::expectations() {
        let ask = Ask::new(name, rtype).dnssec();
        let answered = ask.over_tcp(unbound.address).await.unwrap();
        let seen = Seen::of(&answered, rtype);
        let wanted = Seen::expected(expected);
        if seen != wanted && !UNBOUND_DIFFERS.contains(name) {
            disagreements.push(format!(
                "{name} {rtype}: expected {wanted:?}, unbound says {seen:?} {:?}",
                answered.extended_errors()
            ));
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

/// Names that this project judges more strictly: Unbound still takes SHA-1 digests, prefers none,
/// and lets a DS vouch for a revoked key.
const UNBOUND_DIFFERS: [&str; 3] = ["www.sha1ds.com", "www.sha1beside.com", "www.revoked.com"];

/// What of an answer an expectation speaks about.
#[derive(Debug, PartialEq)]
struct Seen {
    rcode: u16,
    authentic: bool,
    data: bool,
}

impl Seen {
    fn of(answered: &Answered, rtype: &str) -> Self {
        Self {
            rcode: answered.rcode,
            authentic: answered.has(flag::AD),
            data: !answered.rdata(rtype).is_empty(),
        }
    }

    fn expected(expectation: &Expectation) -> Self {
        Self {
            rcode: expectation.rcode,
            authentic: expectation.verdict == Verdict::Secure,
            data: expectation.shape == Shape::Data,
        }
    }
}
