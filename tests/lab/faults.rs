//! What can be made to go wrong, per transport, at any time. All off, the lab is an honest and
//! fast upstream.

use super::Transport;
use super::message::{Query, Record, Response};
use super::name::Name;
use super::rdata::{rtype, type_number};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The section a record is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// A packet that says the victim lives at [`FORGED_ADDRESS`], and one thing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// The id is another.
    WrongId,
    /// The question's name is another.
    WrongName,
    /// The question's type is another.
    WrongType,
    /// The question's letters have the other case (0x20).
    WrongCase,
    /// There is no question.
    NoQuestion,
    /// It is marked as a query.
    NotResponse,
    /// FORMERR with another id.
    Formerr,
    /// SERVFAIL with another id.
    Servfail,
    /// TC with another id.
    Truncated,
    /// It comes from another port (UDP only).
    WrongPort,
    /// Half a header.
    HalfHeader,
    /// Nothing at all.
    Empty,
    /// Octets that mean nothing.
    Noise,
}

impl Forgery {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::WrongId,
        Self::WrongName,
        Self::WrongType,
        Self::WrongCase,
        Self::NoQuestion,
        Self::NotResponse,
        Self::Formerr,
        Self::Servfail,
        Self::Truncated,
        Self::WrongPort,
        Self::HalfHeader,
        Self::Empty,
        Self::Noise,
    ];
}

/// Where forged packets and tampered answers point to: nothing sound does.
pub const FORGED_ADDRESS: [u8; 4] = [203, 0, 113, 66];

/// Damage to the octets of an otherwise honest response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Ends after so many octets.
    CutAt(usize),
    /// So many octets more at the end.
    Trailing(usize),
    /// The answer's owner is a compression pointer to itself.
    CompressionLoop,
    /// The header counts 65535 answers.
    LyingCounts,
    /// The answer is an A record of three octets.
    ShortAddress,
    /// The whole response is noise of so many octets behind the right id.
    Noise(usize),
    /// The question comes twice, and is counted.
    TwoQuestions,
}

/// What goes wrong on one transport. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct FaultSet {
    /// Applies only to the first so many queries, then switches itself off.
    pub first: Option<u32>,
    /// Applies only to names at or below this one.
    pub below: Option<Name>,

    /// Added before each answer.
    pub latency: Duration,
    /// So many of a thousand queries are not answered.
    pub loss_permille: u32,
    /// No query is answered.
    pub black_hole: bool,
    /// These are sent at once, before the true answer.
    pub forged_first: Vec<Forgery>,

    /// TC and nothing else.
    pub truncate: bool,
    /// This response code and nothing else.
    pub rcode: Option<u16>,
    /// The answer itself has another id.
    pub wrong_id: bool,
    /// The answer itself has another question.
    pub wrong_question: bool,
    /// The answer's OPT is missing.
    pub drop_opt: bool,
    /// AD is set.
    pub set_ad: bool,
    /// Records of these types are missing; see [`DNSSEC_TYPES`].
    pub strip_types: Vec<u16>,
    /// A and AAAA records are changed after signing.
    pub tamper: bool,
    /// Every TTL, seconds.
    pub ttl_s: Option<u32>,
    /// Records are added.
    pub extra: Vec<(Section, Record)>,
    /// The octets are damaged.
    pub damage: Option<Damage>,
    /// Each answer is sent twice.
    pub duplicate: bool,

    /// New connections are reset at once.
    pub refuse: bool,
    /// New connections are accepted, then nothing happens on them.
    pub stall: bool,
    /// The connection (or the HTTP/2, HTTP/3 or DoQ stream) ends in the middle of the answer.
    pub cut: bool,
    /// The connection is closed after each answer.
    pub close_after_answer: bool,
    /// The connection is closed after being idle for so long.
    pub close_idle: Option<Duration>,
    /// So many answers are collected and sent in reverse (TCP, TLS).
    pub reorder: Option<usize>,
    /// The stream is reset instead of an answer (HTTP/2, HTTP/3, DoQ).
    pub reset_stream: bool,
    /// GOAWAY after each answer (HTTP/2, HTTP/3).
    pub go_away: bool,

    /// This HTTP status instead of 200.
    pub http_status: Option<u16>,
    /// This `location`, for redirects.
    pub http_location: Option<String>,
    /// This `content-type` instead of `application/dns-message`.
    pub http_type: Option<String>,
    /// This `alt-svc`, with which an upstream offers HTTP/3 (RFC 7838).
    pub http_alt_svc: Option<String>,
    /// A body of so many octets.
    pub http_body_octets: Option<usize>,
}

/// Everything that DNSSEC added to DNS, for [`FaultSet::strip_types`].
pub const DNSSEC_TYPES: [u16; 6] = [
    rtype::RRSIG,
    rtype::NSEC,
    rtype::NSEC3,
    rtype::NSEC3PARAM,
    rtype::DS,
    rtype::DNSKEY,
];

/// The certificate that TLS shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// The right one.
    #[default]
    Right,
    /// Signed by the lab's CA, for another name.
    WrongName,
    /// Signed by the lab's CA, expired a month ago.
    Expired,
    /// The right name, signed by itself.
    SelfSigned,
}

/// Makes the response to a query for an overridden name; the honest one is given to start from.
pub type Answerer = Arc<dyn Fn(&Query, Response) -> Override + Send + Sync>;

/// What is sent instead of the honest response.
#[derive(Clone)]
pub enum Override {
    /// A response, encoded as the transport wants it.
    Response(Box<Response>),
    /// Octets; the first two are replaced by the query's id.
    Raw(Vec<u8>),
    /// Nothing.
    Silence,
    /// Whatever this makes of query and honest response.
    With(Answerer),
}

/// The faults of one lab, shared with its servers.
#[derive(Default)]
pub struct Faults {
    sets: [Mutex<FaultSet>; 6],
    overrides: Mutex<HashMap<(Name, u16), Override>>,
    identity: Mutex<Identity>,
    vanished: AtomicBool,
    crashing: AtomicBool,
    /// Deals out losses evenly and the same way each time.
    dice: Mutex<u64>,
}

impl Faults {
    /// Changes the faults of one transport.
    pub fn on(&self, transport: Transport, change: impl FnOnce(&mut FaultSet)) {
        change(&mut self.lock(transport));
    }

    /// Changes the faults of every transport.
    pub fn everywhere(&self, change: impl Fn(&mut FaultSet)) {
        for transport in Transport::ALL {
            change(&mut self.lock(transport));
        }
    }

    /// Switches everything off, overrides included.
    pub fn reset(&self) {
        self.everywhere(|set| *set = FaultSet::default());
        self.overrides.lock().expect("not poisoned").clear();
        self.show(Identity::Right);
        self.vanish(false);
        self.crash(false);
    }

    /// Takes the host off the network without a word, or brings it back: nothing is read from or
    /// written to any socket, connections that stand included; what TCP was given waits.
    pub fn vanish(&self, gone: bool) {
        self.vanished.store(gone, Ordering::Relaxed);
    }

    pub(super) fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Whether connections end with a reset, and QUIC without a word, when the lab is closed.
    pub fn crash(&self, crashing: bool) {
        self.crashing.store(crashing, Ordering::Relaxed);
    }

    pub(super) fn is_crashing(&self) -> bool {
        self.crashing.load(Ordering::Relaxed)
    }

    /// Answers one name and type otherwise than the zones say, over every transport.
    pub fn set_answer(&self, name: &str, rtype: &str, answer: Override) {
        let key = (Name::parse(name), type_number(rtype));
        let mut overrides = self.overrides.lock().expect("not poisoned");
        overrides.insert(key, answer);
    }

    /// Answers one name and type with what a closure makes of the query and the honest response.
    pub fn answer_with(
        &self,
        name: &str,
        rtype: &str,
        answerer: impl Fn(&Query, Response) -> Override + Send + Sync + 'static,
    ) {
        self.set_answer(name, rtype, Override::With(Arc::new(answerer)));
    }

    /// Changes one name and type's honest response before it is sent.
    pub fn edit_answer(
        &self,
        name: &str,
        rtype: &str,
        edit: impl Fn(&mut Response) + Send + Sync + 'static,
    ) {
        self.answer_with(name, rtype, move |_, mut honest| {
            edit(&mut honest);
            Override::Response(Box::new(honest))
        });
    }

    /// Forgets an override.
    pub fn unset_answer(&self, name: &str, rtype: &str) {
        let key = (Name::parse(name), type_number(rtype));
        let mut overrides = self.overrides.lock().expect("not poisoned");
        overrides.remove(&key);
    }

    /// Chooses the certificate of connections from now on.
    pub fn show(&self, identity: Identity) {
        *self.identity.lock().expect("not poisoned") = identity;
    }

    pub(super) fn identity(&self) -> Identity {
        *self.identity.lock().expect("not poisoned")
    }

    /// The faults of a transport as they are now, whatever `first` and `below` say.
    pub(super) fn current(&self, transport: Transport) -> FaultSet {
        self.lock(transport).clone()
    }

    /// The faults for one query: nothing when they are not meant for it. Counts `first` down.
    pub(super) fn for_query(&self, transport: Transport, query: Option<&Query>) -> FaultSet {
        let mut set = self.lock(transport);
        if let (Some(below), Some(query)) = (&set.below, query)
            && !query.qname.is_at_or_below(below)
        {
            return FaultSet::default();
        }
        match &mut set.first {
            Some(0) => return FaultSet::default(),
            Some(left) => *left -= 1,
            None => {}
        }
        set.clone()
    }

    pub(super) fn override_for(&self, query: &Query) -> Option<Override> {
        let overrides = self.overrides.lock().expect("not poisoned");
        overrides.get(&(query.qname.clone(), query.qtype)).cloned()
    }

    /// Whether a query is lost; in the long run so many of a thousand are.
    pub(super) fn is_lost(&self, loss_permille: u32) -> bool {
        let mut dice = self.dice.lock().expect("not poisoned");
        *dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*dice >> 33) % 1000 < u64::from(loss_permille)
    }

    fn lock(&self, transport: Transport) -> std::sync::MutexGuard<'_, FaultSet> {
        let set = &self.sets[super::index(transport)];
        set.lock().expect("nobody panics with the faults")
    }
}
