//! Programs that others wrote as upstreams, Unbound over DoT and dnsdist over DoH, each with a lab
//! behind it: killed, stopped in their tracks, started again.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Labs, note,
    table::{HEAD, Trouble, all_held, measure},
};
use crate::{
    interop::tools::{free_port, program},
    lab::{Lab, Transport, faults::Identity, http::PATH},
    process::wait_until,
};

/// How long a program that is started again is away, and how often that happens.
const RESTART_DOWN: Duration = Duration::from_millis(500);
const RESTART_EVERY: Duration = Duration::from_secs(5);

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Unbound,
    Dnsdist,
}

/// A program on one port, with its files; killed when dropped.
struct Program {
    who: Who,
    port: u16,
    child: Option<Child>,
    directory: TempDir,
}

impl Program {
    /// Starts it in front of a lab, with that lab's certificate.
    fn start(who: Who, lab: &Lab) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let leaf = lab.ca().leaf_of(Identity::Right);
        fs::write(at("leaf.pem"), &leaf.chain_pem).unwrap();
        fs::write(at("leaf.key"), &leaf.key_pem).unwrap();
        let [port, plain] = [free_port(), free_port()];
        let (chain, key) = (at("leaf.pem"), at("leaf.key"));
        let behind = lab.address(Transport::Udp);
        let config = match who {
            Who::Unbound => format!(
                "server:\n\
                 \x20 interface: 127.0.0.1@{port}\n\
                 \x20 tls-port: {port}\n\
                 \x20 tls-service-pem: \"{chain}\"\n\
                 \x20 tls-service-key: \"{key}\"\n\
                 \x20 directory: \"{}\"\n\
                 \x20 chroot: \"\"\n\
                 \x20 username: \"\"\n\
                 \x20 pidfile: \"\"\n\
                 \x20 use-syslog: no\n\
                 \x20 do-daemonize: no\n\
                 \x20 do-ip6: no\n\
                 \x20 do-not-query-localhost: no\n\
                 \x20 module-config: \"iterator\"\n\
                 \x20 num-threads: 1\n\
                 remote-control:\n\
                 \x20 control-enable: no\n\
                 forward-zone:\n\
                 \x20 name: \".\"\n\
                 \x20 forward-addr: 127.0.0.1@{}\n",
                directory.path().display(),
                behind.port()
            ),
            Who::Dnsdist => format!(
                "setLocal(\"127.0.0.1:{plain}\")\n\
                 addDOHLocal(\"127.0.0.1:{port}\", \"{chain}\", \"{key}\", \"{PATH}\")\n\
                 newServer({{address=\"{behind}\", checkInterval=1}})\n"
            ),
        };
        fs::write(at("config"), config).unwrap();
        let mut program = Self {
            who,
            port,
            child: None,
            directory,
        };
        program.run();
        program
    }

    /// Starts it, perhaps again, and waits until it listens.
    fn run(&mut self) {
        let config = self.directory.path().join("config");
        let mut command = match self.who {
            Who::Unbound => Command::new(program("unbound", "unbound")),
            Who::Dnsdist => Command::new(program("dnsdist", "dnsdist")),
        };
        match self.who {
            Who::Unbound => command.args(["-d", "-p", "-c"]),
            Who::Dnsdist => command.args(["--supervised", "--disable-syslog", "-C"]),
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let child = command
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let address = ("127.0.0.1", self.port);
        wait_until("the program to listen", || {
            TcpStream::connect(address).is_ok()
        });
    }

    fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let kill = format!("kill -{name} {}", child.id());
            let sent = Command::new("/bin/sh").args(["-c", &kill]).status();
            assert!(sent.unwrap().success());
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The table that makes such a program an upstream; its CA is written beside.
fn upstream(who: Who, port: u16, lab: &Lab, directory: &Path) -> String {
    let name = format!("{who:?}").to_lowercase();
    fs::write(directory.join(format!("{name}.pem")), lab.ca_pem()).unwrap();
    let url = match who {
        Who::Unbound => format!("tls://127.0.0.1:{port}"),
        Who::Dnsdist => format!("https://127.0.0.1:{port}{PATH}"),
    };
    format!("[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\nca = \"{name}.pem\"\n")
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is done to a program.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Kill,
    Stop,
    Restart,
}

/// A program to which something is done.
struct Treated<'a> {
    program: &'a mut Program,
    deed: Deed,
}

impl Trouble for Treated<'_> {
    fn title(&self) -> (String, String) {
        let deed = match self.deed {
            Deed::Kill => "kill -9",
            Deed::Stop => "SIGSTOP",
            Deed::Restart => "restarts every 5 s",
        };
        let who = match self.program.who {
            Who::Unbound => "Unbound, dot",
            Who::Dnsdist => "dnsdist, doh",
        };
        (deed.to_owned(), who.to_owned())
    }

    fn begin(&mut self) {
        match self.deed {
            Deed::Kill => self.program.kill(),
            Deed::Stop => self.program.signal("STOP"),
            Deed::Restart => {}
        }
    }

    fn last(&mut self, time: Duration) {
        let start = Instant::now();
        while matches!(self.deed, Deed::Restart) && start.elapsed() + RESTART_DOWN < time {
            self.program.signal("TERM");
            sleep(RESTART_DOWN);
            self.program.kill();
            self.program.run();
            let left = time.saturating_sub(start.elapsed());
            sleep(left.min(RESTART_EVERY.saturating_sub(RESTART_DOWN)));
        }
        sleep(time.saturating_sub(start.elapsed()));
    }

    fn end(&mut self) {
        match self.deed {
            Deed::Kill => self.program.run(),
            Deed::Stop => self.program.signal("CONT"),
            Deed::Restart => {}
        }
    }
}

#[test]
#[ignore = "needs programs of others and minutes; .ci/run has a short version"]
fn unbound_and_dnsdist_are_killed_stopped_and_restarted_and_no_client_notices() {
    note(HEAD);
    let mut rows = Vec::new();
    for order in [[Who::Unbound, Who::Dnsdist], [Who::Dnsdist, Who::Unbound]] {
        for deed in [Deed::Kill, Deed::Stop, Deed::Restart] {
            let labs = Labs::start(&[Transport::Udp, Transport::Udp]);
            let [lab, other_lab] = [0, 1].map(|number| &*labs.labs[number].0);
            let mut first = Program::start(order[0], lab);
            let other = Program::start(order[1], other_lab);
            let tables = [
                (order[0], first.port, lab),
                (order[1], other.port, other_lab),
            ];
            let config = |here: &Path| {
                fs::write(here.join("lab.ds"), lab.trust_anchor_ds()).unwrap();
                let tables = tables.map(|(who, port, lab)| upstream(who, port, lab, here));
                let anchors = "[dnssec]\ntrust_anchors = [\"lab.ds\"]\n".to_owned();
                anchors + &tables.concat()
            };
            let treated = Treated {
                program: &mut first,
                deed,
            };
            rows.push(measure(&labs, config, treated));
        }
    }
    all_held(&rows);
}
