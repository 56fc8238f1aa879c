//! What damage means elsewhere: where aliases lead into damaged zones, and below zones whose denial
//! of delegations is damaged.

use super::{
    cases::Tree,
    damaged::{NSEC, NSEC3},
    signing::{Denial, Recipe, Signer},
    world::{
        Damage, Plan,
        Says::{self, Bogus, Insecure, Secure},
    },
};

const OPT_OUT: Recipe = Recipe::new(Signer::Bind, 13, Denial::OPT_OUT);

/// Aliases into zones of other kinds.
pub(super) fn add_links(tree: &mut Tree) {
    let content = "\
        bogus CNAME www.tampered.realm.\n\
        absent CNAME nothing.no-denial.realm.\n\
        insecure CNAME www.ds-none.realm.\n\
        chain CNAME bogus\n\
        tree DNAME tampered.realm.\n\
        *.wild CNAME www.tampered.realm.\n";
    tree.plans
        .push(Plan::new("links.realm.", Some(NSEC3), content));
    let questions = [
        ("bogus A", Bogus),
        ("bogus TXT", Secure),
        ("absent A", Bogus),
        ("insecure A", Insecure),
        ("insecure MX", Insecure),
        ("chain A", Bogus),
        ("www.tree A", Bogus),
        ("www.tree TXT", Secure),
        ("any.wild A", Bogus),
    ];
    tree.ask("links.realm.", &questions);
}

/// Zones at the top that deny delegations, well or not.
pub(super) fn add_parents(tree: &mut Tree) {
    let parents: [(&str, Recipe, Option<Damage>, Says, Says); 7] = [
        ("top-nsec.", NSEC, None, Insecure, Secure),
        ("top-nsec3.", NSEC3, None, Insecure, Secure),
        ("top-optout.", OPT_OUT, None, Insecure, Insecure),
        (
            "top-no-denial.",
            NSEC,
            Some(|zone, _| zone.remove_denial()),
            Bogus,
            Bogus,
        ),
        (
            "top-no-denial3.",
            NSEC3,
            Some(|zone, _| zone.remove_denial()),
            Bogus,
            Bogus,
        ),
        (
            "top-no-optout.",
            OPT_OUT,
            Some(|zone, _| zone.remove_denial()),
            Bogus,
            Bogus,
        ),
        (
            "top-unsigned-denial.",
            OPT_OUT,
            Some(|zone, _| {
                zone.remove(|record| record.kind == "RRSIG" && record.fields[0] == "NSEC3");
            }),
            Bogus,
            Bogus,
        ),
    ];
    for (top, recipe) in [("top-hidden-ds.", NSEC), ("top-hidden-ds3.", NSEC3)] {
        let mut plan = Plan::new(top, Some(recipe), "");
        plan.damage = Some(|zone, _| zone.remove_set("signed", "DS"));
        tree.plans.push(plan);
        let www = "www A 192.0.2.80\n";
        tree.plans
            .push(Plan::new(format!("signed.{top}"), Some(NSEC), www));
        let questions = [("www.signed A", Bogus), ("signed DS", Bogus)];
        tree.ask(top, &questions);
    }
    for (top, recipe, damage, below, denied) in parents {
        let mut plan = Plan::new(top, Some(recipe), "www A 192.0.2.80\n");
        plan.damage = damage;
        tree.plans.push(plan);
        let www = "www A 192.0.2.80\n";
        tree.plans.push(Plan::new(format!("bare.{top}"), None, www));
        tree.plans
            .push(Plan::new(format!("signed.{top}"), Some(NSEC), www));
        let questions = [
            ("www A", Secure),
            ("www.signed A", Secure),
            ("nothing.signed A", Secure),
            ("www.bare A", below),
            ("nothing.bare A", below),
            ("bare DS", denied),
            ("nothing A", denied),
        ];
        tree.ask(top, &questions);
    }
}
