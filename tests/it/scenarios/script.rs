//! The upstreams of a scenario: they say what the file tells them to, and the truth otherwise.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use truename::{
    handler::Transport,
    upstream::{Exchange, ExchangeError, Exchanged, Failure},
    wire::Question,
};

use crate::lab::{
    message::{Edns, Query, Response, flag},
    name::Name,
    universe::Universe,
};

/// What an upstream does when it is asked, and how long it takes.
#[derive(Clone)]
pub(super) struct Act {
    pub(super) says: Says,
    pub(super) after: Duration,
}

/// What an upstream says.
#[derive(Clone)]
pub(super) enum Says {
    /// It answers with this message.
    Octets(Vec<u8>),
    /// It keeps silent, so that time runs out.
    Nothing,
}

/// What is said to whom: the upstream, the name, the type.
type Key = (usize, Name, u16);

/// The upstreams.
pub(super) struct Script {
    universe: Arc<Universe>,
    names: Vec<Arc<str>>,
    /// What is said instead of the truth, and how many times still.
    lies: Mutex<HashMap<Key, (Act, Option<usize>)>>,
    /// What was asked.
    asked: Mutex<Vec<Key>>,
    /// Who was said to leave things out.
    blamed: Mutex<Vec<String>>,
    /// Whether all are known to be down.
    is_down: AtomicBool,
}

impl Script {
    /// So many honest upstreams, called `one`, `two` and `three`.
    pub(super) fn new(universe: Arc<Universe>, count: usize) -> Self {
        let names = ["one", "two", "three"];
        Self {
            universe,
            names: names.into_iter().take(count).map(Arc::from).collect(),
            lies: Mutex::default(),
            asked: Mutex::default(),
            blamed: Mutex::default(),
            is_down: AtomicBool::new(false),
        }
    }

    /// The upstreams that a word means: one of them, or all.
    pub(super) fn meant(&self, word: &str) -> Option<Vec<usize>> {
        if word == "all" {
            return Some((0..self.names.len()).collect());
        }
        let at = self.names.iter().position(|name| **name == *word)?;
        Some(vec![at])
    }

    /// From now on an upstream says this.
    pub(super) fn tell(&self, key: Key, act: Act, times: Option<usize>) {
        self.lies.lock().unwrap().insert(key, (act, times));
    }

    /// From now on all are honest.
    pub(super) fn be_honest(&self) {
        self.lies.lock().unwrap().clear();
    }

    /// From now on all are known to be down, or not.
    pub(super) fn be_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// How many exchanges there were since this was asked last, for one question or for all.
    pub(super) fn asked(&self, question: Option<(&Name, u16)>) -> usize {
        let asked = self.asked.lock().unwrap();
        let fits = |(_, name, rtype): &&Key| question.is_none_or(|it| it == (name, *rtype));
        asked.iter().filter(fits).count()
    }

    /// Counts from here.
    pub(super) fn forget_asked(&self) {
        self.asked.lock().unwrap().clear();
    }

    /// Whether this upstream was said to leave things out.
    pub(super) fn is_blamed(&self, name: &str) -> bool {
        self.blamed.lock().unwrap().iter().any(|it| it == name)
    }

    fn act(&self, key: &Key) -> Act {
        let mut lies = self.lies.lock().unwrap();
        if let Some((act, times)) = lies.get_mut(key) {
            match times {
                Some(0) => {}
                Some(left) => {
                    *left -= 1;
                    return act.clone();
                }
                None => return act.clone(),
            }
        }
        Act {
            says: Says::Octets(honest(&self.universe, &key.1, key.2).encode(65_535)),
            after: Duration::ZERO,
        }
    }
}

impl Exchange for Script {
    fn timeout(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn count(&self, _: &Question) -> usize {
        self.names.len()
    }

    fn is_down(&self, _: &Question) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    fn incomplete(&self, upstream: &str) {
        self.blamed.lock().unwrap().push(upstream.to_owned());
    }

    async fn exchange(
        &self,
        question: &Question,
        _: Instant,
        avoid: Option<&str>,
    ) -> Result<Exchanged, ExchangeError> {
        let mut names = self.names.iter();
        let at = names
            .position(|name| avoid != Some(&**name))
            .unwrap_or_default();
        let upstream = Arc::clone(&self.names[at]);
        let name = Name::from_wire(question.name.as_wire());
        let key = (at, name, question.qtype);
        self.asked.lock().unwrap().push(key.clone());
        let act = self.act(&key);
        if !act.after.is_zero() {
            tokio::time::sleep(act.after).await;
        }
        match act.says {
            Says::Octets(octets) => Ok(Exchanged {
                octets,
                age_s: 0,
                upstream,
                transport: Transport::Tls,
            }),
            Says::Nothing => Err(ExchangeError::new(upstream, Failure::Silent)),
        }
    }
}

/// What an honest upstream answers to a question with CD and DO.
pub(crate) fn honest(universe: &Universe, name: &Name, rtype: u16) -> Response {
    let mut question = name.as_wire().to_vec();
    question.extend(rtype.to_be_bytes());
    question.extend(1u16.to_be_bytes());
    universe.answer(&Query {
        id: 0,
        flags: flag::RD | flag::CD,
        question,
        qname: name.clone(),
        qtype: rtype,
        qclass: 1,
        edns: Some(Edns {
            udp_octets: 1232,
            dnssec_ok: true,
            ..Edns::default()
        }),
        well_formed: true,
    })
}
