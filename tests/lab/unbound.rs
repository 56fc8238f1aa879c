//! Unbound in front of the lab, trusting its root: a validator that others wrote, to check that
//! the lab's zones and attacks are what they claim to be.

use super::{Lab, Transport};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often another port is tried.
const START_TRIES: usize = 5;

/// A running Unbound; it stops when dropped.
pub struct Unbound {
    process: Child,
    /// Where it listens, UDP and TCP.
    pub address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Unbound {
    /// Starts Unbound as a forwarder to the lab, without aggressive use of denial.
    ///
    /// # Panics
    /// If it is not installed.
    pub async fn start(lab: &Lab) -> Self {
        for _ in 0..START_TRIES {
            if let Some(unbound) = Self::start_once(lab).await {
                return unbound;
            }
        }
        panic!("unbound does not start");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// None when somebody else was faster to take the port.
    async fn start_once(lab: &Lab) -> Option<Self> {
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
        let process = Command::new("unbound")
            .args(["-d", "-c"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .expect("unbound is installed: apt install unbound");
        let mut unbound = Self {
            process,
            address,
            _directory: directory,
        };
        while unbound.process.try_wait().ok()?.is_none() {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Some(unbound);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
