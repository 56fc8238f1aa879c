//! Where validators differ from what is right here, or from each other: what each says, and what
//! decides.

use super::{
    cases::Case,
    world::Says::{self, Bogus, Insecure, Secure},
};

/// Cases on which the others do not all say what is right.
pub(super) struct Ruling {
    /// The zones, `*` standing for anything.
    zones: &'static str,
    /// What is asked, `*` standing for anything.
    asked: &'static [&'static str],
    /// What Unbound, BIND and Knot Resolver say.
    pub(super) says: [Says; 3],
    /// What decides.
    pub(super) because: &'static str,
}

impl Ruling {
    fn is_about(&self, case: &Case) -> bool {
        matches(self.zones, &case.zone)
            && self.asked.iter().any(|asked| matches(asked, &case.asked))
    }
}

/// The ruling about a case.
pub(super) fn ruling(case: &Case) -> Option<&'static Ruling> {
    RULINGS.iter().find(|ruling| ruling.is_about(case))
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
        None => pattern == text,
    }
}

const RULINGS: &[Ruling] = &[];
