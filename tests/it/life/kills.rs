//! SIGKILL at random moments while state is written: at the first start, at the end, when files
//! are made anew. The next start is always a clean one, with the last good state.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use super::{Dice, Labs, is_full, note};
use crate::{
    lab::{Ask, Transport, message::NOERROR, message::flag},
    process::{EVERYTHING, Setup, Truename, ask, wait_until},
};

/// How long a start takes at most; kills come within that time.
const START: Duration = Duration::from_millis(150);

/// How long an end takes at most.
const END: Duration = Duration::from_millis(40);

/// What a log says of state that was not good.
const COMPLAINTS: [&str; 4] = ["damaged", "set aside", "cannot read", "not used"];

/// The files that are made when they are missing. The authority is not among them: devices trust
/// it, and once it is there it must stay.
const MADE_AGAIN: [&str; 4] = [
    "trust-anchors.state",
    "clock",
    "cache.bin",
    "certificates/leaf.pem",
];

fn setup(labs: &Labs, here: &Path) -> Setup {
    let mut setup = Setup::new();
    setup.state = Some(here.join("state"));
    let config = format!(
        "{EVERYTHING}[cache]\nfile = \"{}\"\n{}",
        here.join("state/cache.bin").display(),
        labs.config(setup.path())
    );
    setup.write("truename.toml", &config);
    setup
}

fn kill(truename: &mut Truename) {
    // It may have ended by itself.
    let _ = truename.child.kill();
    let _ = truename.child.wait();
}

/// Checks that truename started as if nothing had happened.
#[track_caller]
fn check(truename: &Truename, receipt: &str) {
    let log = truename.log.all();
    let complaint = log.iter().find(|line| {
        let is_of_leaf = line.contains("leaf");
        !is_of_leaf && COMPLAINTS.iter().any(|part| line.contains(part))
    });
    assert_eq!(complaint, None, "{log:#?}");
    assert_eq!(truename.out.wait_for("DNSSEC: ", 1), receipt);
    let query = Ask::new("www.secure.com", "A").flags(flag::AD);
    let answered = ask(truename.address(Transport::Udp), &query);
    assert_eq!(answered.rcode, NOERROR, "{answered:?}");
    assert!(answered.has(flag::AD), "{answered:?}");
}

fn kills(times: usize) {
    let mut dice = Dice::new();
    let labs = Labs::start(&[Transport::Tls, Transport::Https]);
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let authority: PathBuf = here.join("state/certificates/ca.pem");
    let mut first = setup(&labs, here).start();
    let receipt = first.out.wait_for("DNSSEC: ", 1);
    let authority_was = fs::read(&authority).unwrap();
    kill(&mut first);
    drop(first);
    let mut counts = [0; 3];
    for round in 0..times {
        let way = usize::try_from(dice.below(3)).expect("small");
        counts[way] += 1;
        match way {
            // While it starts, and has something to write.
            0 => {
                let which = usize::try_from(dice.below(4)).expect("small");
                let _ = fs::remove_file(here.join("state").join(MADE_AGAIN[which]));
                let mut truename = setup(&labs, here).start_unheard();
                sleep(dice.between(Duration::ZERO, START));
                kill(&mut truename);
            }
            // While it ends, and writes what it learned.
            1 => {
                let mut truename = setup(&labs, here).start();
                for number in 0..3 {
                    let name = format!("kill{round}-{number}.wild.secure.com");
                    truename.ask(&name);
                }
                truename.signal("TERM");
                sleep(dice.between(Duration::ZERO, END));
                kill(&mut truename);
            }
            // While a reload makes the certificate that is missing.
            _ => {
                let mut truename = setup(&labs, here).start();
                fs::remove_file(here.join("state/certificates/leaf.pem")).unwrap();
                truename.signal("HUP");
                sleep(dice.between(Duration::ZERO, END));
                kill(&mut truename);
            }
        }
        let mut truename = setup(&labs, here).start_unheard();
        wait_until("a start after a kill", || {
            let is_over = truename.child.try_wait().unwrap().is_some();
            assert!(
                !is_over,
                "round {round}, way {way}: {:#?}",
                truename.log.all()
            );
            truename.out.count("DNSSEC: ") > 0
        });
        check(&truename, &receipt);
        assert!(
            fs::read(&authority).unwrap() == authority_was,
            "round {round}, way {way}: the authority that devices trust has changed"
        );
        kill(&mut truename);
    }
    note(&format!(
        "{times} kills: {} at the start, {} at the end, {} at a reload; every start after that was clean",
        counts[0], counts[1], counts[2]
    ));
}

#[test]
fn twenty_kills_at_random_moments_leave_the_last_good_state() {
    kills(20);
}

#[test]
#[ignore = "minutes; .ci/run has a short version"]
fn hundreds_of_kills_at_random_moments_leave_the_last_good_state() {
    kills(if is_full() { 500 } else { 100 });
}
