use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;

use super::*;

/// A socket that answers flushes with the name it was told, on a thread that ends with it.
struct Served {
    directory: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bound = bind(&directory.path().join("a.sock")).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    ended = serve(bound, |command| async move { answer(command) }) => {
                        panic!("{ended:?}")
                    }
                }
            });
        });
        Self {
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.sock")
    }

    /// Sends octets, closes that side, and reads all lines.
    fn say(&self, octets: &[u8]) -> Vec<Response> {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        // It may have heard enough before the end.
        let _ = stream.write_all(octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}

fn answer(command: Command) -> Outcome {
    match command {
        Command::Flush { name } => Outcome::Flushed(Flushed {
            name: name.unwrap_or_else(|| ".".to_owned()),
            answers: 7,
        }),
        _ => Outcome::Error("not here".to_owned()),
    }
}

fn flushed(name: &str) -> Outcome {
    answer(Command::Flush {
        name: Some(name.to_owned()),
    })
}

fn error_of(response: &Response) -> &str {
    match &response.outcome {
        Outcome::Error(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_asked_is_answered() {
    let served = Served::start();
    let command = Command::Flush {
        name: Some("example.com".to_owned()),
    };
    assert_eq!(
        ask(&served.path(), command).unwrap(),
        flushed("example.com")
    );
    let refused = ask(&served.path(), Command::Reload).unwrap_err();
    assert_eq!(refused.to_string(), "not here");
}

#[test]
fn one_connection_may_ask_several_times_at_once() {
    let served = Served::start();
    let one = "{\"version\":1,\"command\":\"flush\",\"name\":\"a\"}\n";
    let all = "{\"version\":1,\"command\":\"flush\"}\n";
    let responses = served.say(format!("{one}{all}{one}").as_bytes());
    let outcomes: Vec<_> = responses.into_iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [flushed("a"), flushed("."), flushed("a")]);
}

#[test]
fn nonsense_is_told_so_and_goes_no_further() {
    let served = Served::start();
    for (octets, why) in [
        (&b"hello\n"[..], "the request is none"),
        (
            b"{\"version\":1,\"command\":\"explode\"}\n",
            "the request is none",
        ),
        (b"{\"version\":2,\"command\":\"status\"}\n", "has version 2"),
        (b"{\"version\":1,\"command\":\"status\"}", "no line"),
        (&[b'x'; 5_000], "longer than 4096 octets"),
        (&[0xff, b'\n'], "the request is none"),
    ] {
        let responses = served.say(octets);
        assert!(error_of(&responses[0]).contains(why), "{responses:?}");
    }
    assert!(served.say(b"").is_empty());
}

#[test]
fn those_who_say_nothing_do_not_keep_others_out_for_ever() {
    let served = Served::start();
    let silent: Vec<_> = (0..7)
        .map(|_| UnixStream::connect(served.path()).unwrap())
        .collect();
    assert_eq!(
        ask(&served.path(), Command::Flush { name: None }).unwrap(),
        flushed(".")
    );
    drop(silent);
}

#[test]
fn the_socket_is_for_its_user_alone_and_goes_when_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let bound = bind(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    drop(bound);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_live_socket_is_an_error_and_a_dead_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let bound = bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::Alive { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()));
    drop(bound);
    // As a process that was killed leaves it.
    drop(UnixListener::bind(&path).unwrap());
    fs::write(directory.path().join("a.sock.new"), b"").unwrap();
    let bound = bind(&path).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    // Somebody else's by now: it is not removed.
    fs::remove_file(&path).unwrap();
    let _others = UnixListener::bind(&path).unwrap();
    drop(bound);
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn other_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    fs::write(&path, b"precious").unwrap();
    assert!(matches!(bind(&path), Err(SocketError::NoSocket { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(bind(&long), Err(SocketError::System { .. })));
    let absent = directory.path().join("absent/a.sock");
    assert!(matches!(bind(&absent), Err(SocketError::System { .. })));
}

#[test]
fn who_asks_is_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let told = |path: &Path| ask(path, Command::Status).unwrap_err().to_string();
    assert!(told(&path).contains("is it running?"));
    let listener = UnixListener::bind(&path).unwrap();
    let answering = thread::spawn(move || {
        for line in ["", "SSH-2.0\n", "{\"version\":9,\"error\":\"no\"}\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 33];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
        }
    });
    assert!(told(&path).contains("does not answer"));
    assert!(told(&path).contains("another version"));
    assert!(told(&path).contains("it speaks version 9"));
    answering.join().unwrap();
}
