//! Running other programs, and reading what they print.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    net::{TcpListener, UdpSocket},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long something is waited for that takes a moment on a slow machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A program that must be installed.
///
/// # Panics
/// If it is not; the message is the line that installs it.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let administration = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(administration)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

/// What a program that ended left.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its exit status; none when a signal ended it.
    pub(super) status: Option<i32>,
    /// Its standard output.
    pub(super) stdout: String,
    /// Its standard error.
    pub(super) stderr: String,
    /// The command line, for messages.
    pub(super) line: String,
}

impl Ran {
    /// Everything it printed, if it succeeded.
    ///
    /// # Panics
    /// If it did not.
    pub(super) fn succeeded(self) -> Self {
        assert_eq!(self.status, Some(0), "{self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{}\nexit status {:?}\n{}{}",
            self.line, self.status, self.stdout, self.stderr
        )
    }
}

/// Runs a program to its end, without input.
pub(super) fn run(program: &Path, arguments: &[&str]) -> Ran {
    finish(Command::new(program).args(arguments))
}

/// Runs a prepared command to its end, without input, for at most two minutes.
pub(super) fn finish(command: &mut Command) -> Ran {
    finish_within(command, Duration::from_secs(120))
}

/// Runs a prepared command to its end, without input.
pub(super) fn finish_within(command: &mut Command, limit: Duration) -> Ran {
    let line = line_of(command);
    // A file takes any amount of output, a pipe nobody reads stops the program.
    let directory = tempfile::tempdir().unwrap();
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let started = Instant::now();
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break Some(ended);
        }
        if started.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let ran = Ran {
        status: ended.and_then(|status| status.code()),
        stdout: read(&stdout),
        stderr: read(&stderr),
        line,
    };
    assert!(ended.is_some(), "did not end within {limit:?}: {ran}");
    ran
}

fn line_of(command: &Command) -> String {
    let words = [command.get_program()];
    let words = words.into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// A program that runs beside the test, and ends with it.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with both outputs in a file, and waits until it answers.
    pub(super) fn start(command: &mut Command, log: PathBuf, answers: impl Fn() -> bool) -> Self {
        let line = line_of(command);
        let output = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut daemon = Self { child, log };
        let started = Instant::now();
        while !answers() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "{line} does not answer, {ended:?}:\n{}",
                daemon.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// What it printed so far.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a process to end.
pub(super) fn terminate(child: &Child) {
    let kill = format!("kill -TERM {}", child.id());
    run(Path::new("/bin/sh"), &["-c", &kill]).succeeded();
}

/// dig or delv, about to ask a port of 127.0.0.1.
///
/// Both set `SO_REUSEPORT`. If the server does too, as truename does, Linux may choose the server's
/// port as their own, and what goes from 127.0.0.1 and that port to the same place comes back to
/// its sender. From 127.0.0.2 it does not.
pub(super) fn bind9_client(name: &str, port: u16) -> Command {
    let mut command = Command::new(program(name, "bind9-dnsutils"));
    command.args(["@127.0.0.1", "-b", "127.0.0.2", "-p", &port.to_string()]);
    command
}

/// A port that nobody uses now, neither over TCP nor over UDP, for a server that must be given one.
/// If there are any, it is of those the system does not choose from, so that no client gets it
/// before the server has started; a resolver that draws ports by itself may, rarely.
pub(crate) fn free_port() -> u16 {
    /// Above the ports of well-known services.
    const PORTS: RangeInclusive<u16> = 10_000..=65_535;
    /// More than one run of the tests takes: where two run at once, they mostly begin apart.
    const PORTS_PER_PROCESS: usize = 256;
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let chosen: Vec<u16> = range.split_whitespace().flat_map(str::parse).collect();
    let is_chosen = |port: &u16| matches!(chosen[..], [from, to] if (from..=to).contains(port));
    let mut ports: Vec<u16> = PORTS.filter(|port| !is_chosen(port)).collect();
    if ports.is_empty() {
        ports = PORTS.collect();
    }
    let begin = process::id() as usize * PORTS_PER_PROCESS;
    let mut turns = ports.iter().map(|_| TURN.fetch_add(1, Ordering::Relaxed));
    let free = turns.find_map(|turn| {
        let port = ports[(begin + turn) % ports.len()];
        TcpListener::bind(("127.0.0.1", port)).ok()?;
        UdpSocket::bind(("127.0.0.1", port)).ok()?;
        Some(port)
    });
    free.expect("some port is free")
}

/// Figures worth keeping: past the test harness, which hides what passing tests print.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One response as dig or kdig shows it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The response code, such as `NOERROR`.
    pub(super) status: String,
    /// The flags, such as `qr`.
    pub(super) flags: Vec<String>,
    /// The records of the answer, their fields separated by single spaces.
    pub(super) answer: Vec<String>,
    /// All of it.
    pub(super) text: String,
}

impl Shown {
    /// Takes apart what is shown; none when there is no response.
    pub(super) fn all(text: &str) -> Vec<Self> {
        const HEADER: &str = ";; ->>HEADER<<-";
        let mut responses = text.split(HEADER);
        responses.next();
        responses.map(Self::one).collect()
    }

    fn one(text: &str) -> Self {
        let after = |label: &str| {
            let lower = text.to_ascii_lowercase();
            let at = lower.find(label).map(|at| at + label.len());
            at.and_then(|at| text.get(at..)).unwrap_or("")
        };
        let status = after("status: ");
        let status = status.split([',', ';']).next().unwrap_or("").trim();
        let flags = after(";; flags:").split(';').next().unwrap_or("");
        let answer = text
            .lines()
            .skip_while(|line| *line != ";; ANSWER SECTION:");
        let answer = answer
            .skip(1)
            .take_while(|line| !line.is_empty() && !line.starts_with(';'));
        Self {
            status: status.to_owned(),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            answer: answer
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect(),
            text: text.to_owned(),
        }
    }

    /// Whether there is a flag.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|present| present == flag)
    }

    /// The data of the answer's records of one type, in order.
    pub(super) fn data(&self, kind: &str) -> Vec<String> {
        let records = self.answer.iter();
        let mut data: Vec<String> = records
            .filter_map(|record| {
                let mut fields = record.splitn(5, ' ');
                let present = fields.nth(3)?;
                (present == kind).then(|| fields.next().unwrap_or("").to_owned())
            })
            .collect();
        data.sort();
        data
    }

    /// Checks the response code and the data of one type.
    #[track_caller]
    pub(super) fn expect(&self, status: &str, kind: &str, data: &[&str]) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.has("qr") && self.has("ra"), "{}", self.text);
        assert_eq!(self.data(kind), data, "{}", self.text);
        self
    }

    /// Checks that a text is shown.
    #[track_caller]
    pub(super) fn shows(&self, text: &str) -> &Self {
        assert!(self.text.contains(text), "no {text:?} in {}", self.text);
        self
    }

    /// Checks that a text is not shown.
    #[track_caller]
    pub(super) fn hides(&self, text: &str) -> &Self {
        assert!(!self.text.contains(text), "{text:?} in {}", self.text);
        self
    }
}
