//! A tree of zones with a server, one resolver that knows them all and judges nothing, and the
//! validators that ask it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
};

use tempfile::TempDir;

use super::{
    super::{
        resolvers::{Unbound, answers},
        servers::{Server, nsd_with},
        stage::Truename,
        tools::{Daemon, PATIENCE, Shown, bind9_client, finish_within, free_port, program},
    },
    records::{SHA256, Zone},
    signing::Recipe,
};

/// What is done to a signed zone; it may have another one made by the same recipe.
pub(super) type Damage = fn(&mut Zone, &dyn Fn() -> Zone);

/// A zone of the tree.
pub(super) struct Plan {
    /// Absolute, with the final dot.
    pub(super) apex: String,
    /// Its records but SOA and NS, as a zone file has them.
    pub(super) content: String,
    /// How it is signed; not at all without.
    pub(super) recipe: Option<Recipe>,
    /// What is done to it then.
    pub(super) damage: Option<Damage>,
}

impl Plan {
    pub(super) fn new(apex: impl Into<String>, recipe: Option<Recipe>, content: &str) -> Self {
        Self {
            apex: apex.into(),
            content: content.to_owned(),
            recipe,
            damage: None,
        }
    }

    fn depth(&self) -> usize {
        self.apex
            .split('.')
            .filter(|label| !label.is_empty())
            .count()
    }

    fn parent(&self) -> Option<&str> {
        let (label, parent) = self.apex.split_once('.')?;
        let parent = if parent.is_empty() { "." } else { parent };
        (!label.is_empty()).then_some(parent)
    }

    fn build(&self, delegations: &str) -> Zone {
        let Self { apex, content, .. } = self;
        let text = format!(
            "$ORIGIN {apex}\n\
             $TTL 300\n\
             @ SOA ns1 hostmaster 1 3600 600 86400 300\n\
             @ NS ns1\n\
             ns1 A 192.0.2.53\n\
             {content}{delegations}"
        );
        let Some(recipe) = &self.recipe else {
            let text = format!("{text}\n");
            return Zone::unsigned(apex, text);
        };
        let mut zone = recipe.sign(apex, &text);
        if let Some(damage) = self.damage {
            damage(&mut zone, &|| recipe.sign(apex, &text));
        }
        zone
    }
}

/// Builds all zones, children before parents, whose DS come from them.
fn build(plans: &[Plan]) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    let deepest = plans.iter().map(Plan::depth).max().unwrap_or(0);
    for depth in (0..=deepest).rev() {
        let row: Vec<_> = plans.iter().filter(|plan| plan.depth() == depth).collect();
        let next = Mutex::new(row.iter());
        let built = Mutex::new(Vec::new());
        let parents = plans.iter();
        let parents: HashMap<&str, Option<&str>> = parents
            .map(|plan| (plan.apex.as_str(), plan.parent()))
            .collect();
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    loop {
                        let Some(plan) = next.lock().unwrap().next() else {
                            break;
                        };
                        let children = zones
                            .iter()
                            .filter(|zone| parents[zone.apex.as_str()] == Some(&plan.apex));
                        let zone = plan.build(&children.map(delegation).collect::<String>());
                        built.lock().unwrap().push(zone);
                    }
                });
            }
        });
        zones.extend(built.into_inner().unwrap());
    }
    zones
}

/// What a parent says about a zone.
fn delegation(zone: &Zone) -> String {
    let apex = &zone.apex;
    let ds = zone.ds.iter().map(|ds| format!("{apex} DS {ds}\n"));
    let ds: String = ds.collect();
    format!("{apex} NS ns1.{apex}\nns1.{apex} A 192.0.2.53\n{ds}")
}

/// What a validator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Secure,
    Insecure,
    Bogus,
    /// Nothing.
    Silence,
}

/// An answer, as far as validators are to agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) says: Says,
    /// The response code and the records of the answer in order, without TTLs and signatures.
    pub(super) answer: Vec<String>,
    /// All of it.
    pub(super) text: String,
}

/// A question: a name and a type.
pub(super) type Question = (String, &'static str);

/// What stands between the zones and a test.
pub(super) struct World {
    pub(super) truename: Truename,
    pub(super) unbound: Unbound,
    pub(super) bind: Other,
    pub(super) knot: Other,
    _recursor: Unbound,
    _server: Server,
    _directory: TempDir,
}

/// A program that is known by its port.
pub(super) struct Other {
    daemon: Daemon,
    port: u16,
}

impl World {
    /// Builds the zones and starts everything; `dnssec` is more for truename's `[dnssec]`.
    pub(super) fn start(plans: &[Plan], dnssec: &str) -> Self {
        // A missing program is known before half a minute of signing.
        for (name, package) in [("kresd", "knot-resolver"), ("named", "bind9")] {
            program(name, package);
        }
        let zones = build(plans);
        let root = zones.iter().find(|zone| zone.apex == ".");
        let root = root.expect("the tree has a root");
        let anchor = root.ds_by(SHA256);
        let texts: Vec<_> = zones.iter().map(Zone::text).collect();
        let apexes = zones.iter().map(|zone| zone.apex.as_str());
        let server = nsd_with(apexes.zip(texts.iter().map(String::as_str)));
        // Asked for a name, NSD answers from the closest of its zones, so that whoever asks it
        // for everything need not follow delegations to ports that those cannot name.
        let recursor = Unbound::start(&format!(
            "server:\n\
             \x20 module-config: \"iterator\"\n\
             {FORWARDER}{}",
            forward(server.port)
        ));
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        let ds_line = format!(". IN DS {anchor}");
        fs::write(here.join("root.ds"), format!("{ds_line}\n")).unwrap();
        let unbound = Unbound::start(&format!(
            "server:\n\
             \x20 module-config: \"validator iterator\"\n\
             \x20 trust-anchor-file: \"{}\"\n\
             {FORWARDER}{}",
            here.join("root.ds").display(),
            forward(recursor.port)
        ));
        let upstream = format!("udp://127.0.0.1:{}", recursor.port);
        Self {
            truename: Truename::start_with(&upstream, None, Some(&ds_line), dnssec),
            unbound,
            bind: bind(here, recursor.port, &anchor),
            knot: knot_resolver(here, recursor.port, &ds_line),
            _recursor: recursor,
            _server: server,
            _directory: directory,
        }
    }

    /// Asks everybody everything: truename, Unbound, BIND, Knot Resolver.
    pub(super) fn ask(&self, questions: &[Question]) -> Vec<[Said; 4]> {
        let ports = [
            self.truename.port("udp"),
            self.unbound.port,
            self.bind.port,
            self.knot.port,
        ];
        let all = thread::scope(|scope| {
            ports
                .map(|port| scope.spawn(move || ask(port, questions)))
                .map(|asked| asked.join().unwrap())
        });
        let [truename, unbound, bind, knot] = all.map(Vec::into_iter);
        let others = unbound.zip(bind).zip(knot);
        let all = truename.zip(others);
        all.map(|(truename, ((unbound, bind), knot))| [truename, unbound, bind, knot])
            .collect()
    }

    /// What everybody has logged.
    pub(super) fn logs(&self) -> String {
        format!(
            "truename:\n{}\nUnbound:\n{}\nBIND:\n{}\nKnot Resolver:\n{}",
            self.truename.log(),
            self.unbound.log(),
            self.bind.daemon.log(),
            self.knot.daemon.log()
        )
    }
}

/// What each Unbound needs here: nothing of what it knows about names by itself.
const FORWARDER: &str = "\x20 qname-minimisation: no\n\
     \x20 minimal-responses: no\n\
     \x20 local-zone: \".\" transparent\n";

fn forward(port: u16) -> String {
    format!(
        "forward-zone:\n\
         \x20 name: \".\"\n\
         \x20 forward-addr: 127.0.0.1@{port}\n"
    )
}

/// How long BIND tries: where the signature of a denial is missing it asks again to the end, and
/// the time it would take by itself is twelve seconds for each such name.
const BIND_PATIENCE_MS: u32 = 3000;

fn bind(here: &Path, upstream: u16, anchor: &str) -> Other {
    let port = free_port();
    let shown = here.display();
    let (numbers, digest) = anchor.rsplit_once(' ').expect("a DS has four fields");
    let config = format!(
        "options {{\n\
         \x20 directory \"{shown}\";\n\
         \x20 listen-on port {port} {{ 127.0.0.1; }};\n\
         \x20 listen-on-v6 {{ none; }};\n\
         \x20 pid-file none;\n\
         \x20 session-keyfile none;\n\
         \x20 forwarders {{ 127.0.0.1 port {upstream}; }};\n\
         \x20 forward only;\n\
         \x20 recursion yes;\n\
         \x20 allow-recursion {{ any; }};\n\
         \x20 dnssec-validation yes;\n\
         \x20 empty-zones-enable no;\n\
         \x20 servfail-ttl 0;\n\
         \x20 resolver-query-timeout {BIND_PATIENCE_MS};\n\
         \x20 max-cache-size 64M;\n\
         }};\n\
         controls {{ }};\n\
         trust-anchors {{ . static-ds {numbers} \"{digest}\"; }};\n"
    );
    let path = here.join("named.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program("named", "bind9"));
    command.arg("-g").arg("-c").arg(&path);
    other(command, here.join("named.log"), port)
}

fn knot_resolver(here: &Path, upstream: u16, ds_line: &str) -> Other {
    let port = free_port();
    let state = here.join("kresd");
    fs::create_dir(&state).unwrap();
    let config = format!(
        "net.listen('127.0.0.1', {port})\n\
         cache.size = 20 * MB\n\
         trust_anchors.remove('.')\n\
         trust_anchors.add('{ds_line}')\n\
         policy.add(policy.all(policy.FORWARD({{'127.0.0.1@{upstream}'}})))\n"
    );
    let path = here.join("kresd.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program("kresd", "knot-resolver"));
    command.arg("-n").arg("-c").arg(&path).arg(&state);
    other(command, here.join("kresd.log"), port)
}

fn other(mut command: Command, log: PathBuf, port: u16) -> Other {
    Other {
        daemon: Daemon::start(&mut command, log, || answers(port)),
        port,
    }
}

/// How many questions one process of dig asks, one after the other.
const QUESTIONS_PER_DIG: usize = 100;

/// Asks one validator.
fn ask(port: u16, questions: &[Question]) -> Vec<Said> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("questions");
    let mut shown = HashMap::new();
    for chunk in questions.chunks(QUESTIONS_PER_DIG) {
        let lines = chunk.iter().map(|(name, kind)| format!("{name} {kind}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        let mut dig = bind9_client("dig", port);
        dig.args(["+dnssec", "+time=20", "+tries=1", "-f"]);
        let ran = finish_within(dig.arg(&path), PATIENCE * 3);
        for response in Shown::all(&ran.stdout) {
            shown.insert(question_of(&response.text), response);
        }
    }
    let answers = questions.iter().map(|(name, kind)| {
        let key = format!("{} {kind}", name.to_ascii_lowercase());
        said(shown.get(&key))
    });
    answers.collect()
}

/// The question section of what dig shows.
fn question_of(text: &str) -> String {
    let lines = text.lines();
    let mut lines = lines.skip_while(|line| *line != ";; QUESTION SECTION:");
    let line = lines.nth(1).unwrap_or("");
    let fields: Vec<_> = line.split_whitespace().collect();
    match fields[..] {
        [name, _, kind] => format!(
            "{} {kind}",
            name.trim_start_matches(';').to_ascii_lowercase()
        ),
        _ => String::new(),
    }
}

fn said(shown: Option<&Shown>) -> Said {
    let Some(shown) = shown else {
        return Said {
            says: Says::Silence,
            answer: Vec::new(),
            text: String::new(),
        };
    };
    let says = match (shown.status.as_str(), shown.has("ad")) {
        ("NOERROR" | "NXDOMAIN", true) => Says::Secure,
        ("NOERROR" | "NXDOMAIN", false) => Says::Insecure,
        _ => Says::Bogus,
    };
    let records = shown.answer.iter().filter_map(|record| {
        let fields: Vec<_> = record.split(' ').collect();
        let (owner, kind) = (fields.first()?, fields.get(3)?);
        let data = fields.get(4..)?.join(" ");
        (*kind != "RRSIG").then(|| format!("{owner} {kind} {data}").to_ascii_lowercase())
    });
    let mut answer: Vec<_> = records.collect();
    answer.sort();
    answer.insert(0, shown.status.clone());
    Said {
        says,
        answer,
        text: shown.text.clone(),
    }
}
