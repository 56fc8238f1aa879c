//! What is answered while this machine's clock cannot be right: the names that set a clock, as
//! upstreams tell them and marked so; nothing else that would have to be judged. What was learned
//! under a wrong clock is dropped when it is set.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError},
};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::{
    anchors::time_text,
    clock::{Cause, Change, Gate, Now, Signed, Status},
    dnssec::{self, Window},
    reply::{ExtendedError, Failure},
    wire::{Name, Question, rtype},
};

use super::{Shared, driver::Found};

/// The longest an answer that nobody could judge is kept, seconds: long enough to set a clock.
const TTL_MAX_S: u32 = 60;

/// Time servers that operating systems, routers and devices ask as they come; each stands for the
/// names below it too.
const TIME_SERVERS: &[&str] = &[
    // All zones and vendors of the pool: 2.debian.pool.ntp.org, 0.openwrt.pool.ntp.org, ...
    "pool.ntp.org",
    "time.cloudflare.com",
    "time.google.com",
    "time1.google.com",
    "time2.google.com",
    "time3.google.com",
    "time4.google.com",
    "time.android.com",
    "time.apple.com",
    "time-ios.apple.com",
    "time-macos.apple.com",
    "time.asia.apple.com",
    "time.euro.apple.com",
    "time.windows.com",
    "time.aws.com",
    "time.facebook.com",
    "ntp.ubuntu.com",
    "time.nist.gov",
    "ntp.nict.jp",
    "ptbtime1.ptb.de",
    "ptbtime2.ptb.de",
    "ptbtime3.ptb.de",
    "ptbtime4.ptb.de",
    "nts.netnod.se",
    "ntppool1.time.nl",
    "ntppool2.time.nl",
    "time.fritz.box",
    "ntp.aliyun.com",
    "ntp.tencent.com",
    "cn.ntp.org.cn",
];

/// The gate before the validator.
#[derive(Debug)]
pub(super) struct Gated {
    gate: Arc<Gate>,
    /// The names that set a clock, each with those below it.
    names: ArcSwap<HashSet<Name>>,
}

/// What the clock allows for a question.
pub(super) enum Ruling {
    /// It is judged like any other.
    Judge,
    /// Nobody can judge it, and it is answered all the same.
    Unjudged,
    /// It waits for the clock.
    Wait(Failure),
}

impl Gated {
    fn new(gate: Arc<Gate>, configured: &[Name]) -> Self {
        Self {
            gate,
            names: ArcSwap::from_pointee(names(configured)),
        }
    }

    fn sets_a_clock(&self, question: &Question) -> bool {
        if !matches!(question.qtype, rtype::A | rtype::AAAA) {
            return false;
        }
        let names = self.names.load();
        let mut at = Some(question.name.clone());
        while let Some(name) = at {
            if names.contains(&name) {
                return true;
            }
            at = name.parent();
        }
        false
    }
}

fn names(configured: &[Name]) -> HashSet<Name> {
    let built_in = TIME_SERVERS
        .iter()
        .filter_map(|name| Name::parse(name).ok());
    built_in.chain(configured.iter().cloned()).collect()
}

impl Shared {
    /// Validates only while `gate` says that the clock can be right. Meanwhile the well-known time
    /// servers and `names`, with what is below them, are answered without.
    #[must_use]
    pub fn with_clock_gate(self, gate: Arc<Gate>, names: &[Name]) -> Self {
        Self {
            gated: Some(Gated::new(gate, names)),
            ..self
        }
    }

    /// Takes other names that set a clock, beside the well-known ones.
    pub fn apply_clock_names(&self, configured: &[Name]) {
        if let Some(gated) = &self.gated {
            gated.names.store(Arc::new(names(configured)));
        }
    }

    /// Looks at the clock: when it was set, what was judged by the old time is forgotten.
    pub fn look_at_clock(&self, now: &Now) {
        if let Some(gated) = &self.gated
            && let Some(change) = gated.gate.look(now)
        {
            self.clock_changed(gated, change, now);
        }
    }

    /// Takes the times of the root's signatures, fetched just now, as evidence about the clock.
    pub fn root_signed(&self, window: &Window, now: &Now) {
        let signed = Signed {
            from_unix_s: window.from_unix_s,
            until_unix_s: window.until_unix_s,
        };
        if let Some(gated) = &self.gated
            && let Some(change) = gated.gate.root_signed(signed, now)
        {
            self.clock_changed(gated, change, now);
        }
    }

    /// Whether the clock cannot be right, as far as anybody watches it.
    #[must_use]
    pub fn is_clock_cold(&self) -> bool {
        self.gated
            .as_ref()
            .is_some_and(|gated| gated.gate.is_cold())
    }

    /// How far the clock can be trusted; `None` when nobody watches it.
    #[must_use]
    pub fn clock_status(&self, now: &Now) -> Option<Status> {
        self.gated.as_ref().map(|gated| gated.gate.status(now))
    }

    /// Takes note of a verdict that may be the clock's fault.
    pub(super) fn doubt_clock(&self) {
        if let Some(gated) = &self.gated {
            gated.gate.doubt();
        }
    }

    fn clock_changed(&self, gated: &Gated, change: Change, now: &Now) {
        if change.is_of_judgement() {
            self.judge_anew();
        }
        let (before, after) = (change.before, change.after);
        if after.is_cold() && after != before {
            warn!("{}", Wrong(&gated.gate.status(now)));
        } else if before.is_cold() && !after.is_cold() {
            info!(clock = %time_text(now.unix_s), "the clock is right again: everything resolves");
        } else if change.stepped_s != 0 {
            info!(
                by_s = change.stepped_s,
                "the clock was set: what was judged by the old time is forgotten"
            );
        }
    }

    /// Forgets what was judged, and has what is on its way judged again.
    fn judge_anew(&self) {
        let mut forgotten = self
            .forgotten
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(settings) = self.dnssec.load_full() {
            self.dnssec.store(Some(Arc::new((*settings).clone())));
        }
        self.forget(&mut forgotten, &Name::root());
    }
}

/// What the clock allows for `question`.
pub(super) fn ruling(shared: &Shared, question: &Question, settings: &dnssec::Settings) -> Ruling {
    let Some(gated) = &shared.gated else {
        return Ruling::Judge;
    };
    if !gated.gate.is_cold() {
        return Ruling::Judge;
    }
    let now = shared.now();
    // Where nothing is validated, the time does not matter; but a clock that is behind must not
    // bring back what has ended.
    let passed_unix_s = gated.gate.status(&now).passed_unix_s;
    if settings
        .negative_above(&question.name, now.unix_s.max(passed_unix_s))
        .is_some()
    {
        return Ruling::Judge;
    }
    if gated.sets_a_clock(question) {
        return Ruling::Unjudged;
    }
    Ruling::Wait(Failure::Clock(Wrong(&gated.gate.status(&now)).to_string()))
}

/// Marks an answer that nobody could judge.
pub(super) fn mark(found: &mut Found) {
    found.secure = false;
    found.ttl_cap_s = Some(TTL_MAX_S);
    // Once the clock is right it would be judged.
    found.ends = true;
    found.extended_error = Some(ExtendedError {
        code: 0,
        text: "not validated: this machine's clock is wrong, and this name serves to set it".into(),
    });
}

/// What is wrong with the clock, and what to do. Fits an extended error.
#[derive(Debug)]
pub struct Wrong<'a>(pub &'a Status);

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shows = time_text(self.0.shows_unix_s);
        let passed = time_text(self.0.passed_unix_s);
        let is_ahead = self.0.state == crate::clock::State::Cold(Cause::Ahead);
        let relation = if is_ahead {
            "but it is about"
        } else {
            "but it is after"
        };
        write!(
            f,
            "the clock of this machine is wrong: it shows {shows}, {relation} {passed}; set it. \
             Until then only time servers resolve"
        )
    }
}
