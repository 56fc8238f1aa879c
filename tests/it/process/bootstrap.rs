//! Upstreams that are known by name, in a process that may start before the network is there.

use super::*;
use crate::lab::{
    faults::FaultSet,
    message::{self, SERVFAIL},
};

/// A configuration whose one upstream is the lab by its name, looked up at the lab's plain port.
fn by_name(lab: &RunningLab) -> Setup {
    let name = lab.server_name();
    lab.faults().edit_answer(name, "A", |response| {
        let owner = response.question[..response.question.len() - 4].to_vec();
        response.rcode = 0;
        response.authority.clear();
        response.answer = vec![message::Record {
            owner,
            rtype: 1,
            ttl_s: 300,
            rdata: vec![127, 0, 0, 1],
        }];
    });
    let setup = Setup::new();
    let written = lab.upstream(setup.path(), Transport::Tls);
    let known = lab.url(Transport::Tls);
    let by_name = known.replace("127.0.0.1", name);
    let written = written.replace(&known, &by_name);
    let plain = lab.address(Transport::Udp);
    let config = format!("{PLAIN}{written}bootstrap = [\"{plain}\"]\n");
    setup.write("truename.toml", &config);
    setup
}

#[test]
fn an_upstream_by_name_joins_when_the_network_is_there() {
    let lab = RunningLab::start();
    let setup = by_name(&lab);
    let plain = |lost| move |set: &mut FaultSet| set.black_hole = lost;
    lab.faults().on(Transport::Udp, plain(true));
    let mut truename = setup.start();
    assert_eq!(truename.ask("localhost").rdata("A"), [[127, 0, 0, 1]]);
    assert_eq!(truename.ask("www.secure.com").rcode, SERVFAIL);
    lab.faults().on(Transport::Udp, plain(false));
    wait_until("an answer of the upstream", || {
        truename.ask("www.secure.com").rdata("A") == [[192, 0, 2, 80]]
    });
    truename
        .log
        .wait_for("found the addresses of an upstream", 1);
    truename.stop();
}

#[test]
fn check_shows_the_look_up() {
    let lab = RunningLab::start();
    let setup = by_name(&lab);
    let text = setup.run(&["check"]).succeeded();
    let name = lab.server_name();
    let line = format!(
        "ok    look-up lab ({name}.): is at {}, by {}",
        lab.address(Transport::Tls),
        lab.address(Transport::Udp)
    );
    assert!(text.contains(&line), "{line} is not in {text}");
    lab.faults().on(Transport::Udp, |set| set.rcode = Some(2));
    let ended = setup.run(&["check"]);
    assert_eq!(ended.status.code(), Some(1));
    let line = format!("fails look-up lab ({name}.): the addresses of {name}. cannot be found");
    assert!(ended.out.contains(&line), "{ended:#?}");
}
