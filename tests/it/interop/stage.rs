//! The program as built, on free ports, with the lab or another resolver behind it.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{runtime::Builder, sync::oneshot};

use super::tools::{PATIENCE, Ran, finish, terminate};
use crate::lab::{Lab, LabOptions, Transport};

/// A lab that runs beside a test which is not asynchronous.
pub(super) struct Backdrop {
    lab: Lab,
    // Its end tells the lab's thread to end.
    _stop: oneshot::Sender<()>,
}

impl Backdrop {
    pub(super) fn start() -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tell.send(Lab::start(LabOptions::default()).await)
                    .unwrap_or_else(|_| panic!("the test waits for its lab"));
                // It is never sent, only dropped.
                let _ = stopped.await;
            });
        });
        Self {
            lab: told.recv().unwrap(),
            _stop: stop,
        }
    }
}

impl std::ops::Deref for Backdrop {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// truename with the lab behind it.
pub(super) struct Stage {
    // Before the lab, so that it is not left without upstream while it ends.
    pub(super) truename: Truename,
    pub(super) lab: Backdrop,
}

impl Stage {
    /// The lab is asked over DoT.
    pub(super) fn start() -> Self {
        let lab = Backdrop::start();
        let upstream = lab.url(Transport::Tls);
        let truename = Truename::start(&upstream, Some(lab.ca_pem()), Some(&lab.trust_anchor_ds()));
        Self { truename, lab }
    }
}

/// A running truename; ended, it must have exited with 0.
pub(super) struct Truename {
    child: Child,
    binary: PathBuf,
    directory: TempDir,
    addresses: HashMap<String, SocketAddr>,
}

impl Truename {
    /// Starts it with one upstream, the PEM of the CA to trust for it, and the root's DS line;
    /// without that it does not validate.
    pub(super) fn start(upstream: &str, ca_pem: Option<&str>, anchor: Option<&str>) -> Self {
        Self::start_with(upstream, ca_pem, anchor, "")
    }

    /// The same with more lines for `[dnssec]`.
    pub(super) fn start_with(
        upstream: &str,
        ca_pem: Option<&str>,
        anchor: Option<&str>,
        more: &str,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let dnssec = match anchor {
            Some(anchor) => {
                fs::write(at("root.ds"), anchor).unwrap();
                "[dnssec]\ntrust_anchors = [\"root.ds\"]\n"
            }
            None => "[dnssec]\nvalidate = false\n",
        };
        let mut config = format!(
            "[listen]\n\
             dns = [\"127.0.0.1:0\"]\n\
             dot = [\"127.0.0.1:0\"]\n\
             doq = [\"127.0.0.1:0\"]\n\
             doh = [\"127.0.0.1:0\"]\n\
             [state]\n\
             directory = \"{}\"\n\
             {dnssec}{more}\
             [[upstream]]\n\
             url = \"{upstream}\"\n",
            at("state").display()
        );
        if let Some(pem) = ca_pem {
            let path = at("upstream-ca.pem");
            fs::write(&path, pem).unwrap();
            config.push_str(&format!("ca = \"{}\"\n", path.display()));
        }
        fs::write(at("truename.toml"), config).unwrap();
        let binary = env::var_os("TRUENAME_BINARY");
        let binary = binary.unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_truename")));
        let mut child = Command::new(&binary)
            .arg("run")
            .arg("--config")
            .arg(at("truename.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, told) = mpsc::channel();
        // It reads to the end, so that the program never waits for its reader.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut truename = Self {
            child,
            binary: binary.into(),
            directory,
            addresses: HashMap::new(),
        };
        while truename.addresses.len() < 6 {
            let line = told.recv_timeout(PATIENCE).unwrap_or_else(|error| {
                panic!("not ready, {error}:\n{}", truename.log());
            });
            let mut words = line.split(' ');
            if words.next() == Some("listening") {
                let label = words.next().unwrap().to_owned();
                let address = words.next().unwrap().parse().unwrap();
                truename.addresses.insert(label, address);
            }
        }
        truename
    }

    /// The port of a listener, by its label in the readiness lines.
    pub(super) fn port(&self, label: &str) -> u16 {
        self.addresses[label].port()
    }

    /// The address of a listener, by its label in the readiness lines.
    pub(super) fn address(&self, label: &str) -> SocketAddr {
        self.addresses[label]
    }

    /// The URL of the DoH endpoint.
    pub(super) fn doh_url(&self) -> String {
        format!("https://localhost:{}/dns-query", self.port("doh"))
    }

    /// The local CA, as `truename cert export` gives it.
    pub(super) fn ca(&self) -> PathBuf {
        let path = self.file("exported-ca.pem");
        let ran: Ran = finish(
            Command::new(&self.binary)
                .args(["cert", "export", "--output"])
                .arg(&path)
                .arg("--config")
                .arg(self.file("truename.toml")),
        );
        ran.succeeded();
        path
    }

    /// A path in a directory that goes away with it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn end(&mut self) -> Option<i32> {
        terminate(&self.child);
        for _ in 0..1000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        None
    }
}

impl Drop for Truename {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("truename's log:\n{}", self.log());
            let _ = self.child.kill();
            let _ = self.child.wait();
            return;
        }
        let status = self.end();
        let log = self.log();
        assert_eq!(status, Some(0), "it ends cleanly:\n{log}");
        for word in ["panicked", "ERROR"] {
            assert!(!log.contains(word), "{word} in the log:\n{log}");
        }
    }
}
