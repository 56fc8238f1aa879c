//! A web server as small as can be: one page, whatever is asked.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// The page.
pub(super) const PAGE: &str =
    "<!doctype html><title>found</title><p>This is the page behind the name.</p>";

/// A server on a free port of 127.0.0.1, for as long as the process lives.
pub(super) struct Web {
    port: u16,
    hosts: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let hosts = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&hosts);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve(&stream, &seen));
            }
        });
        Self { port, hosts }
    }

    /// The page's URL below a name.
    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{name}:{}/", self.port)
    }

    /// The `host` fields of the requests so far.
    pub(super) fn hosts(&self) -> Vec<String> {
        self.hosts.lock().unwrap().clone()
    }
}

/// Serves one request; a client that goes away is no concern of ours.
fn serve(mut stream: &TcpStream, hosts: &Mutex<Vec<String>>) {
    // Browsers open connections that they do not use.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if let Some(host) = line.to_ascii_lowercase().strip_prefix("host:") {
            hosts.lock().unwrap().push(host.trim().to_owned());
        }
        if line.is_empty() {
            break;
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
    let _ = write!(stream, "{head}content-length: {}\r\n\r\n{PAGE}", PAGE.len());
}
