//! Answering on the socket.

use std::{io, sync::Arc, time::Duration};

use nix::unistd::geteuid;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{Bound, Command, Outcome, Request, Response, VERSION};

/// Connections at a time; those beyond wait to be accepted.
const CONNECTIONS_MAX: usize = 8;
/// The longest request: a name takes a thousand octets when each of its own is escaped.
const LINE_OCTETS_MAX: u64 = 4_096;
/// How long a client may take for a request, or to read a response.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failure to accept, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers for ever: each request is given to `answer`.
///
/// # Errors
/// When the runtime does not take the socket.
pub async fn serve<A, F>(bound: Bound, answer: A) -> io::Result<()>
where
    A: Fn(Command) -> F + Clone + Send + 'static,
    F: Future<Output = Outcome> + Send,
{
    let listener = UnixListener::from_std(bound.listener.try_clone()?)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return Ok(()); // nobody closes it
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, answer).await {
                        debug!(%error, "a client of the control socket left");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept on the control socket");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse<A, F>(mut stream: UnixStream, answer: A) -> io::Result<()>
where
    A: Fn(Command) -> F,
    F: Future<Output = Outcome>,
{
    // The mode keeps others out already; this also when somebody changed it.
    let uid = stream.peer_cred()?.uid();
    if uid != geteuid().as_raw() && uid != 0 {
        warn!(uid, "another user wanted to use the control socket");
        let text = "only truename's user and root may use the control socket";
        return respond(&mut stream, Outcome::Error(text.to_owned())).await;
    }
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut reading = (&mut stream).take(LINE_OCTETS_MAX);
        timeout(PATIENCE, reading.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let outcome = match read(&line) {
            _ if !is_whole => Err("the request is no line, or longer than 4096 octets".to_owned()),
            read => read,
        };
        let outcome = match outcome {
            Ok(command) => answer(command).await,
            Err(why) => Outcome::Error(why),
        };
        respond(stream.get_mut(), outcome).await?;
        if !is_whole {
            return Ok(());
        }
    }
}

fn read(line: &[u8]) -> Result<Command, String> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| format!("the request is none: {error}"))?;
    if request.version == VERSION {
        Ok(request.command)
    } else {
        Err(format!(
            "the request has version {}, and this truename knows {VERSION}",
            request.version
        ))
    }
}

async fn respond(stream: &mut UnixStream, outcome: Outcome) -> io::Result<()> {
    let response = Response {
        version: VERSION,
        outcome,
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    timeout(PATIENCE, stream.write_all(&line)).await?
}
