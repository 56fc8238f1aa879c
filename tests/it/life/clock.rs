//! Started with a wall clock that cannot be right, by a shim under the C library; then the clock
//! is set.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Labs, ms, note};
use crate::{
    lab::{
        Answered, Ask, Transport,
        message::{NOERROR, SERVFAIL, flag},
    },
    process::{PLAIN, Setup, Truename, ask, wait_until},
};

/// Moves the wall clock of a program by the seconds in a file, which is read each time.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset_s(void) {
    char text[32];
    const char *path = getenv("CLOCK_SHIM_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t octets = read(file, text, sizeof text - 1);
    close(file);
    if (octets <= 0) return 0;
    text[octets] = 0;
    return strtol(text, 0, 10);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += offset_s();
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"#;

/// A time server, as a router has it.
const TIME_SERVER: &str = "0.debian.pool.ntp.org";

/// Anything else.
const OTHERS: [&str; 3] = ["www.secure.com", "www.secure.net", "any.wild.nsec3.com"];

/// The longest that what nobody could judge may be kept, seconds.
const COLD_TTL_MAX_S: u32 = 60;

/// 10 years, seconds.
const TEN_YEARS_S: i64 = 10 * 365 * 86_400;

/// A truename whose clock is off.
struct Shifted {
    truename: Truename,
    offset: PathBuf,
    _labs: Labs,
}

impl Shifted {
    fn start(offset_s: i64) -> Self {
        let labs = Labs::start(&[Transport::Tls, Transport::Https]);
        let setup = Setup::new();
        let here = setup.path().to_owned();
        setup.write(
            "truename.toml",
            &format!("{PLAIN}{}", labs.config(setup.path())),
        );
        let offset = setup.write("offset", &offset_s.to_string());
        let truename = setup
            .variable("LD_PRELOAD", shim(&here))
            .variable("CLOCK_SHIM_OFFSET", &offset)
            .start();
        Self {
            truename,
            offset,
            _labs: labs,
        }
    }

    fn server(&self) -> SocketAddr {
        self.truename.address(Transport::Udp)
    }

    fn ask(&self, name: &str) -> Answered {
        ask(self.server(), &Ask::new(name, "A").flags(flag::AD))
    }

    /// Sets the clock to what it is.
    fn set_right(&self) -> Instant {
        fs::write(&self.offset, "0").unwrap();
        Instant::now()
    }
}

fn shim(here: &Path) -> PathBuf {
    let (source, object) = (here.join("shim.c"), here.join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .args([&object, &source])
        .status();
    let compiled = compiled.expect("cc is there, since Rust links with it");
    assert!(compiled.success());
    object
}

fn is_secure(answered: &Answered) -> bool {
    answered.rcode == NOERROR && answered.has(flag::AD) && !answered.answer().is_empty()
}

fn started_with_a_wrong_clock(what: &str, offset_s: i64) {
    let shifted = Shifted::start(offset_s);
    let started = Instant::now();
    let mut cold = None;
    wait_until("the time server's address", || {
        let answered = shifted.ask(TIME_SERVER);
        let found = answered.rcode == NOERROR;
        cold = Some(answered);
        found
    });
    let first = started.elapsed();
    let cold = cold.unwrap();
    assert!(!cold.has(flag::AD), "nobody could prove it: {cold:?}");
    assert!(!cold.extended_errors().is_empty(), "it is marked: {cold:?}");
    let ttls = cold.answer().iter().map(|record| record.ttl_s);
    assert!(ttls.max().unwrap() <= COLD_TTL_MAX_S, "{cold:?}");
    for name in OTHERS {
        let answered = shifted.ask(name);
        assert_eq!(answered.rcode, SERVFAIL, "{name}: {answered:?}");
        let errors = answered.extended_errors();
        assert!(
            errors.iter().any(|(_, text)| text.contains("clock")),
            "{name} says why: {errors:?}"
        );
    }

    let set = shifted.set_right();
    wait_until("a validated answer", || is_secure(&shifted.ask(OTHERS[0])));
    let normal = set.elapsed();
    for name in OTHERS.iter().chain([&TIME_SERVER]) {
        let answered = shifted.ask(name);
        assert!(
            is_secure(&answered),
            "{name}, nothing wrong is left: {answered:?}"
        );
        assert!(
            answered.extended_errors().is_empty(),
            "{name}: {answered:?}"
        );
    }
    note(&format!("| {what} | {} | {} |", ms(first), ms(normal)));
}

#[test]
#[ignore = "compiles a shim, and waits for the clock; .ci/run has it"]
fn a_clock_that_is_wrong_at_the_start_is_survived_and_leaves_nothing() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_s = i64::try_from(now.as_secs()).unwrap();
    note(
        "| clock at the start | time server resolves ms | all is normal after the clock is set ms |\n|---|---|---|",
    );
    started_with_a_wrong_clock("1970", 100 - now_s);
    started_with_a_wrong_clock("ten years ahead", TEN_YEARS_S);
}

#[test]
#[ignore = "compiles a shim, and waits for the clock; .ci/run has it"]
fn a_clock_that_is_set_wrong_while_truename_runs_leaves_nothing_wrong() {
    let shifted = Shifted::start(0);
    for name in OTHERS {
        assert!(is_secure(&shifted.ask(name)), "{name}");
    }
    for offset_s in [-TEN_YEARS_S, TEN_YEARS_S] {
        fs::write(&shifted.offset, offset_s.to_string()).unwrap();
        // Whatever it makes of that, it must not last.
        for name in OTHERS {
            shifted.ask(name);
            std::thread::sleep(Duration::from_millis(500));
        }
        shifted.set_right();
        for name in OTHERS {
            wait_until(&format!("a validated answer for {name}"), || {
                is_secure(&shifted.ask(name))
            });
        }
    }
}
