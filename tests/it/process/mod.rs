//! The program as other programs meet it: started with files and flags, read on its standard
//! output, told by signals, asked over sockets. The lab is its upstream.
//!
//! Nothing here waits for a time to pass: tests wait for lines, answers and exits, and give up
//! after [`PATIENCE`].

mod bootstrap;
mod cache_file;
mod certificate;
mod commands;
mod control;
mod explain;
mod mistakes;
mod reload;
mod start;
mod stop;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, OnceLock, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::lab::{Answered, Ask, Lab, LabOptions, Transport, Universe, ask::framed, rdata::rtype};

/// How long anything is waited for before the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A lab on a thread of its own, so that tests may block.
pub(super) struct RunningLab {
    lab: Arc<Lab>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
}

impl RunningLab {
    pub(super) fn start() -> Self {
        Self::start_with(LabOptions::default(), || ())
    }

    /// With the zones that all labs share; `before` runs first on the lab's thread.
    pub(super) fn start_with(options: LabOptions, before: impl FnOnce() + Send + 'static) -> Self {
        static UNIVERSE: OnceLock<Arc<Universe>> = OnceLock::new();
        let universe = UNIVERSE.get_or_init(|| Arc::new(Universe::new(SystemTime::now())));
        let options = LabOptions {
            universe: Some(Arc::clone(universe)),
            ..options
        };
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            before();
            block_on(async move {
                let lab = Arc::new(Lab::start(options).await);
                tell.send((lab, Handle::current())).unwrap();
                let _ = stopped.await;
            });
        });
        let (lab, runtime) = told.recv().unwrap();
        Self {
            lab,
            runtime,
            stop: Some(stop),
        }
    }

    /// Listens again after [`Lab::close`].
    #[track_caller]
    pub(super) fn reopen(&self) {
        let (tell, told) = mpsc::channel();
        let lab = Arc::clone(&self.lab);
        self.runtime.spawn(async move {
            let _ = tell.send(lab.reopen().await);
        });
        told.recv().unwrap().unwrap();
    }

    /// The tables that make it the upstream, over one transport, and its root the trust anchor.
    /// Writes its CA and anchor beside.
    fn upstream(&self, directory: &Path, transport: Transport) -> String {
        fs::write(directory.join("lab-ca.pem"), self.lab.ca_pem()).unwrap();
        let url = self.lab.url(transport);
        let ca = if transport.is_encrypted() {
            "ca = \"lab-ca.pem\"\n"
        } else {
            ""
        };
        fs::write(directory.join("lab.ds"), self.lab.trust_anchor_ds()).unwrap();
        format!(
            "[dnssec]\ntrust_anchors = [\"lab.ds\"]\n\
             [[upstream]]\nname = \"lab\"\nurl = \"{url}\"\n{ca}"
        )
    }

    /// How many A queries for exactly this name it got. DS and DNSKEY queries are left out: they are
    /// sent ahead, and may arrive after the answer was given.
    fn address_queries(&self, name: &str) -> usize {
        let name = format!("{name}.");
        let received = self.lab.record().queries();
        let address = received.iter().filter(|query| query.qtype() == rtype::A);
        address.filter(|query| query.qname() == name).count()
    }

    /// Waits until it has seen so many queries below a name.
    fn wait_for_queries(&self, name: &str, count: usize) {
        wait_until(&format!("{count} queries for {name} at the lab"), || {
            self.lab.record().queries_below(name).len() >= count
        });
    }
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

impl std::ops::Deref for RunningLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

#[track_caller]
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The lines of one output as they come.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let filled = lines.clone();
        thread::spawn(move || {
            let (heard, changed) = &*filled.0;
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                heard.lock().unwrap().lines.push(line);
                changed.notify_all();
            }
            heard.lock().unwrap().ended = true;
            changed.notify_all();
        });
        lines
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    pub(super) fn count(&self, part: &str) -> usize {
        let heard = self.0.0.lock().unwrap();
        let lines = heard.lines.iter();
        lines.filter(|line| line.contains(part)).count()
    }

    /// Waits until so many lines contain a text, and gives the last of these.
    #[track_caller]
    pub(super) fn wait_for(&self, part: &str, count: usize) -> String {
        let (heard, changed) = &*self.0;
        let found = |heard: &Heard| {
            let mut matching = heard.lines.iter().filter(|line| line.contains(part));
            matching.nth(count - 1).cloned()
        };
        let (heard, _) = changed
            .wait_timeout_while(heard.lock().unwrap(), PATIENCE, |heard| {
                found(heard).is_none() && !heard.ended
            })
            .unwrap();
        let line = found(&heard);
        // Nobody else shall find the lock poisoned.
        drop(heard);
        line.unwrap_or_else(|| panic!("waited in vain for {count} lines with {part:?}"))
    }
}

/// The program: as built for the tests, or another build of it.
fn binary() -> OsString {
    let other = env::var_os("TRUENAME_BINARY");
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_truename").into())
}

/// How truename is to be started: a directory of its own, which is also where it looks for its
/// configuration and keeps its state.
pub(super) struct Setup {
    directory: TempDir,
    arguments: Vec<String>,
    variables: Vec<(String, PathBuf)>,
    /// What runs the program, such as `ip netns exec`; usually nothing.
    pub(super) through: Vec<String>,
    /// Where it keeps its state, if not in its own directory.
    pub(super) state: Option<PathBuf>,
}

impl Setup {
    pub(super) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            variables: Vec::new(),
            through: Vec::new(),
            state: None,
        }
    }

    /// With `truename.toml` where it is looked for.
    pub(super) fn with_config(text: &str) -> Self {
        let setup = Self::new();
        setup.write("truename.toml", text);
        setup
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn arguments(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        self.arguments.extend(arguments);
        self
    }

    pub(super) fn variable(mut self, name: &str, value: impl Into<PathBuf>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// A command of the program in this directory, without the arguments of [`Self::arguments`].
    pub(super) fn command(&self) -> Command {
        let state = self.state.clone();
        let state = state.unwrap_or_else(|| self.path().join("state"));
        let mut words = self.through.iter().map(OsString::from).chain([binary()]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("STATE_DIRECTORY", state)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Starts it and waits for all readiness lines and the receipt.
    #[track_caller]
    pub(super) fn start(self) -> Truename {
        let truename = self.start_unheard();
        truename.out.wait_for("DNSSEC: ", 1);
        truename
    }

    /// Starts it without waiting for anything.
    pub(super) fn start_unheard(self) -> Truename {
        let mut command = self.command();
        command.args(&self.arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Truename {
            out: Lines::read(child.stdout.take().unwrap()),
            log: Lines::read(child.stderr.take().unwrap()),
            child,
            setup: self,
        }
    }

    /// Runs a command to its end.
    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command();
        command.args(arguments);
        Ended::of(command)
    }
}

/// A command that has ended.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    out: String,
    errors: String,
}

impl Ended {
    fn of(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut out, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let reading = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let ending = Ending(child);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        Self {
            status: ending.wait(),
            out: text,
            errors: reading.join().unwrap(),
        }
    }

    #[track_caller]
    fn succeeded(self) -> String {
        assert!(self.status.success(), "{self:#?}");
        assert_eq!(self.errors, "");
        self.out
    }

    #[track_caller]
    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A child that is killed when its test fails before it has ended.
struct Ending(Child);

impl Ending {
    fn wait(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program's end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running truename.
pub(super) struct Truename {
    pub(super) child: Child,
    pub(super) out: Lines,
    pub(super) log: Lines,
    pub(super) setup: Setup,
}

impl Truename {
    /// Where a transport listens: the first address printed for it.
    #[track_caller]
    pub(super) fn address(&self, transport: Transport) -> SocketAddr {
        let part = format!("listening {} ", transport.label());
        let line = self.out.wait_for(&part, 1);
        line.strip_prefix(&part).unwrap().parse().unwrap()
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()))
            .status();
        assert!(sent.unwrap().success());
    }

    /// Stops the program while it waits, and lets it go on.
    #[track_caller]
    fn stop_and_continue(&self) {
        self.wait_for_state('S');
        self.signal("STOP");
        self.wait_for_state('T');
        self.signal("CONT");
        self.wait_for_state('S');
    }

    /// Waits until the kernel shows the program in a state: `S` waits, `T` is stopped (proc(5)).
    #[track_caller]
    fn wait_for_state(&self, state: char) {
        let path = format!("/proc/{}/stat", self.child.id());
        wait_until(&format!("state {state} of the program"), || {
            let stat = fs::read_to_string(&path).unwrap();
            // Behind the name, which may hold anything.
            stat.rsplit_once(") ").unwrap().1.starts_with(state)
        });
    }

    /// Asks over UDP; the answer must come.
    #[track_caller]
    pub(super) fn ask(&self, name: &str) -> Answered {
        ask(self.address(Transport::Udp), &Ask::new(name, "A"))
    }

    /// Sends SIGHUP and waits until a text is in one more line of the log.
    #[track_caller]
    pub(super) fn reload(&self, part: &str) -> String {
        let before = self.log.count(part);
        self.signal("HUP");
        self.log.wait_for(part, before + 1)
    }

    /// Waits for its end. Kills nothing.
    #[track_caller]
    pub(super) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("truename's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Stops it, if it still runs, and starts it again as it was started.
    #[track_caller]
    fn restart(mut self) -> Self {
        if self.child.try_wait().unwrap().is_none() {
            self.stop();
        }
        std::mem::replace(&mut self.setup, Setup::new()).start()
    }

    /// Stops it as a service manager does; that must succeed.
    #[track_caller]
    pub(super) fn stop(&mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(
            (status.code(), status.signal()),
            (Some(0), None),
            "{:#?}",
            self.log.all()
        );
    }
}

impl Drop for Truename {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("its output: {:#?}", self.out.all());
            eprintln!("its log: {:#?}", self.log.all());
        }
    }
}

/// Asks over UDP, once; the answer must come.
#[track_caller]
pub(super) fn ask(server: SocketAddr, ask: &Ask) -> Answered {
    let socket = connect_udp(server);
    socket.send(&ask.encode()).unwrap();
    receive(&socket).unwrap()
}

/// A UDP socket connected to truename: what comes late for whoever had its port before is not heard.
pub(super) fn connect_udp(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next response on a socket that has a timeout.
pub(super) fn receive(socket: &UdpSocket) -> io::Result<Answered> {
    let mut buffer = vec![0; 65535];
    let length = uninterrupted(|| socket.recv(&mut buffer))?;
    Ok(Answered::parse(&buffer[..length]).unwrap())
}

/// Receives on a socket that has a timeout: with one set, the kernel does not take a wait up again
/// by itself when the process was stopped and went on (signal(7)).
pub(super) fn uninterrupted(mut receive: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match receive() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// One query on a TCP connection; none when the connection ends without an answer.
fn ask_on(mut stream: impl Read + io::Write, ask: &Ask) -> Option<Answered> {
    stream.write_all(&framed(&ask.encode())).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Answered::parse(&message)
}

/// An address that refuses connections for as long as the socket lives: bound but not listening, so
/// that nobody else gets the port.
fn refused() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Plain DNS on a free port, and nothing else.
pub(super) const PLAIN: &str = "[listen]\ndns = [\"127.0.0.1:0\"]\ndot = []\ndoq = []\ndoh = []\n";

/// A free port for each transport.
pub(super) const EVERYTHING: &str = "[listen]\ndns = [\"127.0.0.1:0\"]\ndot = [\"127.0.0.1:0\"]\n\
                          doq = [\"127.0.0.1:0\"]\ndoh = [\"127.0.0.1:0\"]\n";

/// Truename on a free port before the lab, over DoT.
fn before(lab: &RunningLab) -> Setup {
    let setup = Setup::new();
    let upstream = lab.upstream(setup.path(), Transport::Tls);
    setup.write("truename.toml", &format!("{PLAIN}{upstream}"));
    setup
}
