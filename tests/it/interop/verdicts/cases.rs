//! A tree of zones to be, and what must be said about names in it.

use super::{
    signing::{Denial, Recipe, Signer},
    world::{Plan, Question, Says},
};

/// A question and what is right.
pub(super) struct Case {
    /// The first label of the zone, and what is asked in it: `bind-13-nsec www A`.
    pub(super) zone: String,
    pub(super) asked: String,
    pub(super) question: Question,
    pub(super) right: Says,
}

/// Zones below a common root, and questions.
pub(super) struct Tree {
    pub(super) plans: Vec<Plan>,
    pub(super) cases: Vec<Case>,
}

impl Tree {
    /// The recipe of zones that are only needed.
    pub(super) const PLAIN_RECIPE: Recipe = Recipe::new(Signer::Bind, 13, Denial::Nsec);

    /// A root, `realm.`, and in it `anchor.realm.`, signed, and `plain.realm.`, unsigned.
    pub(super) fn new() -> Self {
        let signed = Some(Self::PLAIN_RECIPE);
        Self {
            plans: vec![
                Plan::new(".", signed, ""),
                Plan::new("realm.", signed, ""),
                Plan::new("anchor.realm.", signed, "www A 192.0.2.81\n"),
                Plan::new("plain.realm.", None, "www A 192.0.2.82\n"),
            ],
            cases: Vec::new(),
        }
    }

    /// Adds questions about a zone: relative name and type, and what is right.
    pub(super) fn ask(&mut self, apex: &str, questions: &[(&'static str, Says)]) {
        let (zone, _) = apex.split_once('.').expect("apexes end with a dot");
        for (asked, right) in questions {
            let (label, kind) = asked.split_once(' ').expect("a name and a type");
            let name = match label {
                "@" => apex.to_owned(),
                label if apex == "." => format!("{label}."),
                label => format!("{label}.{apex}"),
            };
            self.cases.push(Case {
                zone: zone.to_owned(),
                asked: (*asked).to_owned(),
                question: (name, kind),
                right: *right,
            });
        }
    }
}
