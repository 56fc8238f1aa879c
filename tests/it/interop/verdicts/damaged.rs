//! Zones to which something was done after they were signed, or at their parent.

use super::{
    beside,
    cases::Tree,
    records::{SHA1, SHA384, spoil},
    signing::{Denial, Recipe, Signer},
    world::{
        Damage, Plan,
        Says::{self, Bogus, Insecure, Secure},
    },
};

const CONTENT: &str = "\
    www A 192.0.2.80\n\
    www TXT one\n\
    @ MX 10 www\n\
    alias CNAME www\n\
    *.wild A 192.0.2.42\n\
    far A 192.0.2.8\n\
    tree DNAME anchor.realm.\n\
    leaf.ent A 192.0.2.7\n";

pub(super) const NSEC: Recipe = Tree::PLAIN_RECIPE;
pub(super) const NSEC3: Recipe = Recipe::new(Signer::Ldns, 8, Denial::NSEC3);

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

const ALL_BOGUS: &[(&str, Says)] = &[
    ("www A", Bogus),
    ("nothing A", Bogus),
    ("any.wild A", Bogus),
    ("@ DNSKEY", Bogus),
    ("@ DS", Secure),
];
const ALL_INSECURE: &[(&str, Says)] = &[
    ("www A", Insecure),
    ("nothing A", Insecure),
    ("any.wild A", Insecure),
    ("@ DNSKEY", Insecure),
    ("@ DS", Secure),
];
const ALL_SECURE: &[(&str, Says)] = &[
    ("www A", Secure),
    ("nothing A", Secure),
    ("any.wild A", Secure),
    ("@ DNSKEY", Secure),
    ("@ DS", Secure),
];
const WWW_BOGUS: &[(&str, Says)] = &[
    ("www A", Bogus),
    ("alias A", Bogus),
    ("www TXT", Secure),
    ("nothing A", Secure),
];
const WWW_SECURE: &[(&str, Says)] = &[("www A", Secure), ("alias A", Secure)];
const DENIAL_BOGUS: &[(&str, Says)] = &[
    ("www A", Secure),
    ("www MX", Bogus),
    ("nothing A", Bogus),
    ("any.wild A", Bogus),
    ("ent A", Bogus),
];
const GAP_BOGUS: &[(&str, Says)] = &[("www A", Secure), ("nothing A", Bogus)];

const HIDDEN: &[(&str, Says)] = &[("www A", Bogus), ("alias A", Bogus)];

/// A zone in `realm.`, how it is signed, what is done to it, and what is right.
type Row = (
    &'static str,
    Recipe,
    Damage,
    &'static [(&'static str, Says)],
);

/// Damage to the zone itself.
const ZONES: &[Row] = &[
    (
        "wrong-key",
        NSEC,
        |zone, again| zone.replace_set("www", "A", &again()),
        WWW_BOGUS,
    ),
    (
        "tampered",
        NSEC,
        |zone, _| zone.edit("www", "A", |record| record.put(0, "192.0.2.66")),
        WWW_BOGUS,
    ),
    (
        "tampered3",
        NSEC3,
        |zone, _| zone.edit("www", "A", |record| record.put(0, "192.0.2.66")),
        WWW_BOGUS,
    ),
    (
        "no-rrsig",
        NSEC,
        |zone, _| zone.remove_signatures("www", "A"),
        WWW_BOGUS,
    ),
    (
        "no-rrsigs",
        NSEC,
        |zone, _| zone.remove(|record| record.kind == "RRSIG"),
        ALL_BOGUS,
    ),
    (
        "stripped",
        NSEC,
        |zone, _| zone.remove(|record| ["RRSIG", "NSEC", "DNSKEY"].contains(&record.kind.as_str())),
        ALL_BOGUS,
    ),
    (
        "no-denial",
        NSEC,
        |zone, _| zone.remove_denial(),
        DENIAL_BOGUS,
    ),
    (
        "no-denial3",
        NSEC3,
        |zone, _| zone.remove_denial(),
        DENIAL_BOGUS,
    ),
    (
        "no-nsec-rrsig",
        NSEC,
        |zone, _| zone.remove(|record| record.kind == "RRSIG" && record.fields[0] == "NSEC"),
        DENIAL_BOGUS,
    ),
    (
        "no-nsec3-rrsig",
        NSEC3,
        |zone, _| zone.remove(|record| record.kind == "RRSIG" && record.fields[0] == "NSEC3"),
        DENIAL_BOGUS,
    ),
    (
        "gap",
        NSEC,
        |zone, _| zone.remove_set("far", "NSEC"),
        GAP_BOGUS,
    ),
    (
        "next",
        NSEC,
        |zone, _| zone.edit("far", "NSEC", |record| record.fields[0].insert(0, 'z')),
        GAP_BOGUS,
    ),
    (
        "bitmap",
        NSEC,
        |zone, _| {
            zone.edit("www", "NSEC", |record| {
                record.fields.retain(|field| field != "TXT");
            });
        },
        &[("www MX", Bogus), ("www TXT", Secure)],
    ),
    (
        "bitmap3",
        NSEC3,
        |zone, _| {
            zone.edit_every("NSEC3", |record| {
                record.fields.retain(|field| field != "TXT");
            });
        },
        &[("www MX", Bogus), ("www TXT", Secure)],
    ),
    (
        "opted-out",
        NSEC3,
        |zone, _| zone.edit_every("NSEC3", |record| record.put(1, "1")),
        &[("nothing A", Bogus), ("www MX", Bogus), ("www A", Secure)],
    ),
    (
        "swapped",
        NSEC,
        |zone, _| zone.copy_set("www", "A", "other"),
        &[("other A", Bogus), ("www A", Secure)],
    ),
    (
        "swapped3",
        NSEC3,
        |zone, _| zone.copy_set("www", "A", "other"),
        &[("other A", Bogus), ("www A", Secure)],
    ),
    (
        "unproved",
        NSEC,
        |zone, _| zone.copy_set("*.wild", "A", "forged.wild"),
        &[("forged.wild A", Bogus), ("any.wild A", Secure)],
    ),
    (
        "unproved3",
        NSEC3,
        |zone, _| zone.copy_set("*.wild", "A", "forged.wild"),
        &[("forged.wild A", Bogus), ("any.wild A", Secure)],
    ),
    (
        "labels-few",
        NSEC,
        |zone, _| zone.edit_signature("www", "A", |record| record.put(2, "2")),
        WWW_BOGUS,
    ),
    (
        "labels-many",
        NSEC,
        |zone, _| zone.edit_signature("www", "A", |record| record.put(2, "4")),
        WWW_BOGUS,
    ),
    (
        "original-ttl",
        NSEC,
        |zone, _| zone.edit_signature("www", "A", |record| record.put(3, "301")),
        WWW_BOGUS,
    ),
    (
        "ttl",
        NSEC,
        |zone, _| zone.edit("www", "A", |record| record.ttl = 3000),
        WWW_SECURE,
    ),
    (
        "signer",
        NSEC,
        |zone, _| zone.edit_signature("www", "A", |record| record.put(7, "realm.")),
        WWW_BOGUS,
    ),
    (
        "other-algorithm",
        NSEC,
        |zone, _| zone.edit_signature("www", "A", |record| record.put(1, "14")),
        WWW_BOGUS,
    ),
    (
        "bad-beside-good",
        NSEC,
        |zone, _| zone.add_bad_signatures("www", "A", 1),
        WWW_SECURE,
    ),
    (
        "three-bad-beside-good",
        NSEC,
        |zone, _| zone.add_bad_signatures("www", "A", 3),
        WWW_SECURE,
    ),
    (
        "twelve-bad",
        NSEC,
        |zone, _| {
            zone.add_bad_signatures("www", "A", 12);
            zone.remove_first_signature("www", "A");
        },
        WWW_BOGUS,
    ),
    (
        "unknown-beside-good",
        NSEC,
        |zone, _| zone.add_unknown_signature("www", "A"),
        WWW_SECURE,
    ),
    (
        "keyless",
        NSEC,
        |zone, _| zone.remove_set("@", "DNSKEY"),
        ALL_BOGUS,
    ),
    (
        "key-unsigned",
        NSEC,
        |zone, _| zone.remove_signatures("@", "DNSKEY"),
        ALL_BOGUS,
    ),
    (
        "key-added",
        NSEC,
        |zone, again| {
            let mut keys = again().set("@", "DNSKEY");
            keys.retain(|record| record.kind == "DNSKEY");
            zone.records.extend(keys);
        },
        ALL_BOGUS,
    ),
    (
        "key-signature",
        NSEC,
        |zone, _| zone.edit_signature("@", "DNSKEY", |record| spoil(&mut record.fields, 1)),
        ALL_BOGUS,
    ),
    (
        "key-signed-by-others",
        NSEC,
        |zone, _| {
            let tag = zone.ds[0].split(' ').next().unwrap().to_owned();
            zone.remove(|record| {
                record.kind == "RRSIG" && record.fields[0] == "DNSKEY" && record.fields[6] == tag
            });
        },
        ALL_BOGUS,
    ),
    (
        "ns-unsigned",
        NSEC,
        |zone, _| zone.remove_signatures("@", "NS"),
        &[("www A", Secure), ("@ NS", Bogus), ("nothing A", Secure)],
    ),
    (
        "additional",
        NSEC,
        |zone, _| zone.remove_signatures("www", "A"),
        &[("@ MX", Secure), ("www A", Bogus)],
    ),
    (
        "alias-unsigned",
        NSEC,
        |zone, _| zone.remove_signatures("alias", "CNAME"),
        &[
            ("alias A", Bogus),
            ("alias CNAME", Bogus),
            ("www A", Secure),
        ],
    ),
    (
        "dname-unsigned",
        NSEC,
        |zone, _| zone.remove_signatures("tree", "DNAME"),
        &[("www.tree A", Bogus), ("tree DNAME", Bogus)],
    ),
    (
        "hidden-type",
        NSEC,
        |zone, _| zone.remove_set("www", "A"),
        HIDDEN,
    ),
    (
        "hidden-type3",
        NSEC3,
        |zone, _| zone.remove_set("www", "A"),
        HIDDEN,
    ),
    (
        "hidden-name",
        NSEC,
        |zone, _| zone.remove_name("www"),
        HIDDEN,
    ),
    (
        "hidden-name3",
        NSEC3,
        |zone, _| zone.remove_name("www"),
        HIDDEN,
    ),
    (
        "hidden-alias",
        NSEC,
        |zone, _| zone.remove_set("alias", "CNAME"),
        &[
            ("alias A", Bogus),
            ("alias CNAME", Bogus),
            ("alias TXT", Bogus),
        ],
    ),
    (
        "hidden-alias3",
        NSEC3,
        |zone, _| zone.remove_set("alias", "CNAME"),
        &[
            ("alias A", Bogus),
            ("alias CNAME", Bogus),
            ("alias TXT", Bogus),
        ],
    ),
    (
        "hidden-dname",
        NSEC,
        |zone, _| zone.remove_set("tree", "DNAME"),
        &[("www.tree A", Bogus), ("tree A", Secure)],
    ),
    (
        "hidden-dname3",
        NSEC3,
        |zone, _| zone.remove_set("tree", "DNAME"),
        &[("www.tree A", Bogus)],
    ),
    (
        "hidden-wildcard",
        NSEC,
        |zone, _| zone.remove_name("*.wild"),
        &[("any.wild A", Bogus)],
    ),
    (
        "hidden-wildcard3",
        NSEC3,
        |zone, _| zone.remove_name("*.wild"),
        &[("any.wild A", Bogus)],
    ),
    (
        "hidden-wildcard-type",
        NSEC,
        |zone, _| zone.remove_set("*.wild", "A"),
        &[("any.wild A", Bogus)],
    ),
    (
        "hidden-wildcard-type3",
        NSEC3,
        |zone, _| zone.remove_set("*.wild", "A"),
        &[("any.wild A", Bogus)],
    ),
    (
        "hidden-leaf",
        NSEC,
        |zone, _| zone.remove_name("leaf.ent"),
        &[("leaf.ent A", Bogus), ("ent A", Secure)],
    ),
    (
        "no-wildcard-proof",
        NSEC,
        |zone, _| zone.remove_set("@", "NSEC"),
        &[("nothing A", Bogus)],
    ),
    (
        "zone-key-flag",
        NSEC,
        |zone, _| zone.edit("@", "DNSKEY", |record| record.put(0, "1")),
        ALL_BOGUS,
    ),
];

/// Damage at the parent: to the DS.
const DELEGATIONS: &[Row] = &[
    (
        "ds-mismatch",
        NSEC,
        |zone, again| zone.ds = again().ds,
        ALL_BOGUS,
    ),
    ("ds-spoiled", NSEC3, |zone, _| zone.spoil_ds(), ALL_BOGUS),
    (
        "ds-none",
        NSEC,
        |zone, _| zone.ds.clear(),
        &[
            ("www A", Insecure),
            ("nothing A", Insecure),
            ("@ DS", Secure),
        ],
    ),
    ("ds-tag", NSEC, |zone, _| zone.put_in_ds(0, "1"), ALL_BOGUS),
    (
        "ds-algorithm-other",
        NSEC,
        |zone, _| zone.put_in_ds(1, "8"),
        ALL_BOGUS,
    ),
    (
        "ds-algorithm-unknown",
        NSEC,
        |zone, _| zone.put_in_ds(1, "200"),
        ALL_INSECURE,
    ),
    (
        "ds-algorithm-gost",
        NSEC,
        |zone, _| zone.put_in_ds(1, "12"),
        ALL_INSECURE,
    ),
    (
        "ds-algorithm-dsa",
        NSEC,
        |zone, _| zone.put_in_ds(1, "3"),
        ALL_INSECURE,
    ),
    (
        "ds-algorithm-md5",
        NSEC,
        |zone, _| zone.put_in_ds(1, "1"),
        ALL_INSECURE,
    ),
    (
        "ds-digest-unknown",
        NSEC,
        |zone, _| zone.put_in_ds(2, "200"),
        ALL_INSECURE,
    ),
    (
        "ds-digest-gost",
        NSEC,
        |zone, _| zone.put_in_ds(2, "3"),
        ALL_INSECURE,
    ),
    (
        "ds-sha1",
        NSEC,
        |zone, _| zone.ds = vec![zone.ds_by(SHA1)],
        ALL_INSECURE,
    ),
    (
        "ds-sha384",
        NSEC,
        |zone, _| zone.ds = vec![zone.ds_by(SHA384)],
        ALL_SECURE,
    ),
    (
        "ds-all",
        NSEC,
        |zone, _| zone.ds.extend([zone.ds_by(SHA1), zone.ds_by(SHA384)]),
        ALL_SECURE,
    ),
    (
        "ds-sha1-beside-wrong",
        NSEC,
        |zone, _| {
            zone.spoil_ds();
            zone.ds.push(zone.ds_by(SHA1));
        },
        ALL_BOGUS,
    ),
    (
        "ds-wrong-beside-good",
        NSEC,
        |zone, again| zone.ds.extend(again().ds),
        ALL_SECURE,
    ),
    (
        "ds-second-algorithm",
        NSEC,
        |zone, _| {
            let good = zone.ds.clone();
            zone.put_in_ds(1, "8");
            zone.ds.extend(good);
        },
        ALL_SECURE,
    ),
    (
        "ds-three-spoiled-beside-good",
        NSEC,
        |zone, _| {
            let good = zone.ds.clone();
            for start in ["00", "11", "22"] {
                zone.ds.extend(good.clone());
                let ds = zone.ds.last_mut().unwrap();
                let at = ds.rfind(' ').unwrap() + 1;
                ds.replace_range(at..at + 2, start);
            }
        },
        ALL_SECURE,
    ),
    (
        "ds-unknown-beside-good",
        NSEC,
        |zone, _| {
            let good = zone.ds.clone();
            zone.put_in_ds(1, "200");
            zone.ds.extend(good);
        },
        ALL_SECURE,
    ),
    (
        "ds-unknown-beside-wrong",
        NSEC,
        |zone, again| {
            zone.put_in_ds(1, "200");
            zone.ds.extend(again().ds);
        },
        ALL_BOGUS,
    ),
    (
        "ds-for-zone-without",
        NSEC,
        |zone, _| {
            zone.remove(|record| ["RRSIG", "NSEC", "DNSKEY"].contains(&record.kind.as_str()));
        },
        ALL_BOGUS,
    ),
];

/// Signatures at other times: the zone, from and to in seconds from now, and what is right.
type Window = (&'static str, i64, i64, &'static [(&'static str, Says)]);

const WINDOWS: &[Window] = &[
    ("expired", -10 * DAY, -2 * DAY, ALL_BOGUS),
    ("expired-30-minutes", -10 * DAY, -30 * MINUTE, ALL_BOGUS),
    ("expired-2-minutes", -10 * DAY, -2 * MINUTE, ALL_SECURE),
    ("future", 2 * DAY, 10 * DAY, ALL_BOGUS),
    ("future-30-minutes", 30 * MINUTE, 10 * DAY, ALL_BOGUS),
    ("future-2-minutes", 3 * MINUTE, 10 * DAY, ALL_SECURE),
    ("backwards", 2 * DAY, -2 * DAY, ALL_BOGUS),
];

/// All zones and what is asked of them.
pub(super) fn tree() -> Tree {
    let mut tree = Tree::new();
    for (label, recipe, damage, questions) in ZONES.iter().chain(DELEGATIONS) {
        let apex = format!("{label}.realm.");
        tree.ask(&apex, questions);
        let mut plan = Plan::new(apex, Some(*recipe), CONTENT);
        plan.damage = Some(*damage);
        tree.plans.push(plan);
    }
    for algorithm in [8, 10, 13, 14, 15] {
        let apex = format!("spoiled-{algorithm}.realm.");
        tree.ask(&apex, WWW_BOGUS);
        let recipe = Recipe::new(Signer::Knot, algorithm, Denial::Nsec);
        let mut plan = Plan::new(apex, Some(recipe), CONTENT);
        plan.damage = Some(|zone, _| {
            zone.edit_signature("www", "A", |record| spoil(&mut record.fields, 1));
        });
        tree.plans.push(plan);
    }
    for (label, from_s, to_s, questions) in WINDOWS {
        let apex = format!("{label}.realm.");
        let mut recipe = Recipe::new(Signer::Ldns, 13, Denial::Nsec);
        recipe.window_s = Some((*from_s, *to_s));
        tree.ask(&apex, questions);
        tree.plans.push(Plan::new(apex, Some(recipe), CONTENT));
    }
    let revoked = Recipe {
        revoked: true,
        ..NSEC
    };
    tree.ask("revoked.realm.", ALL_BOGUS);
    tree.plans
        .push(Plan::new("revoked.realm.", Some(revoked), CONTENT));
    beside::add_links(&mut tree);
    beside::add_parents(&mut tree);
    tree
}
