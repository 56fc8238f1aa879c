//! Zones as their signers left them: every signer, algorithm and kind of denial.

use super::{
    cases::Tree,
    signing::{Denial, Recipe, Signer},
    world::{
        Plan,
        Says::{self, Bogus, Insecure, Secure},
    },
};

const SIGNERS: [(Signer, &str); 3] = [
    (Signer::Bind, "bind"),
    (Signer::Ldns, "ldns"),
    (Signer::Knot, "knot"),
];

const ALGORITHMS: [u8; 8] = [5, 7, 8, 10, 13, 14, 15, 16];

const ITERATIONS: [u16; 7] = [0, 1, 50, 51, 150, 500, 2500];

/// What every signed zone of the tree has.
const CONTENT: &str = "\
    @ MX 10 Mail\n\
    www A 192.0.2.80\n\
    www TXT one\n\
    www TXT two\n\
    alias CNAME www\n\
    *.wild A 192.0.2.42\n\
    *.kin CNAME www\n\
    leaf.ent A 192.0.2.7\n\
    far DNAME anchor.realm.\n\
    abroad CNAME www.anchor.realm.\n\
    astray CNAME www.plain.realm.\n\
    nowhere CNAME nothing.anchor.realm.\n\
    sub NS ns.sub\n\
    ns.sub A 192.0.2.54\n";

/// What an answer rests on, beside the signatures of its data.
#[derive(Clone, Copy)]
enum Rests {
    /// Nothing.
    Alone,
    /// The denial that stands at the name itself.
    OnMatch,
    /// The proof that a name does not exist.
    OnGap,
    /// The denial of a DS at an unsigned delegation.
    OnDelegation,
    /// Nothing in this zone: the parent answers.
    OnParent,
    /// An unsigned zone elsewhere, to which a signed alias leads.
    OnOther,
    /// An unsigned zone below.
    OnUnsigned,
}

use Rests::{Alone, OnDelegation, OnGap, OnMatch, OnOther, OnParent, OnUnsigned};

/// Types whose data has names, with capitals in them: which types are signed in lower case
/// (RFC 4034, section 6.2; RFC 6840, section 5.1) shows in the signatures. HTTPS and SVCB have
/// none, since NSD would serve them in lower case, unlike what is signed.
const TYPES: &str = "\
    a PTR Host\n\
    a MX 10 Mail.Host\n\
    a RP Who What\n\
    a AFSDB 1 Host\n\
    a RT 1 Host\n\
    a KX 1 Host\n\
    a SRV 1 2 53 Host\n\
    a NAPTR 1 2 \"s\" \"SIP+D2U\" \"\" Host\n\
    a HTTPS 1 host alpn=h2\n\
    a SVCB 0 host\n\
    a CAA 0 issue \"Issuer.Realm\"\n\
    a TLSA 3 1 1 00ff\n\
    a SSHFP 1 1 000102030405060708090a0b0c0d0e0f10111213\n\
    a LOC 52 22 23.000 N 4 53 32.000 E -2.00m\n\
    a HINFO \"One\" \"Two\"\n\
    a TYPE65400 \\# 4 4a4b4c4d\n\
    a TXT \"\"\n\
    b CNAME A\n\
    c DNAME A\n\
    d AAAA 2001:DB8::80\n";

const TYPE_QUESTIONS: &[(&str, Says)] = &[
    ("a PTR", Secure),
    ("a MX", Secure),
    ("a RP", Secure),
    ("a AFSDB", Secure),
    ("a RT", Secure),
    ("a KX", Secure),
    ("a SRV", Secure),
    ("a NAPTR", Secure),
    ("a HTTPS", Secure),
    ("a SVCB", Secure),
    ("a CAA", Secure),
    ("a TLSA", Secure),
    ("a SSHFP", Secure),
    ("a LOC", Secure),
    ("a HINFO", Secure),
    ("a TYPE65400", Secure),
    ("a TXT", Secure),
    ("a A", Secure),
    ("b PTR", Secure),
    ("c DNAME", Secure),
    ("@ NS", Secure),
];

const QUESTIONS: &[(&str, Rests)] = &[
    ("@ DNSKEY", Alone),
    ("@ DS", OnParent),
    ("@ MX", Alone),
    ("@ SOA", Alone),
    ("www A", Alone),
    ("wWW TXT", Alone),
    ("www MX", OnMatch),
    ("alias A", Alone),
    ("any.wild A", OnGap),
    ("any.wild TXT", OnGap),
    ("*.wild A", Alone),
    ("any.kin A", OnGap),
    ("ent A", OnMatch),
    ("nothing A", OnGap),
    ("under.www A", OnGap),
    ("far DNAME", Alone),
    ("www.far A", Alone),
    ("abroad A", Alone),
    ("astray A", OnOther),
    ("nowhere A", Alone),
    ("sub DS", OnDelegation),
    ("www.sub A", OnUnsigned),
];

/// All zones and what is asked of them.
pub(super) fn tree() -> Tree {
    let mut tree = Tree::new();
    for (at, algorithm) in ALGORITHMS.into_iter().enumerate() {
        for (shift, (signer, name)) in SIGNERS.into_iter().enumerate() {
            let (denial, kind) = match (at + shift) % 3 {
                _ if algorithm == 5 => (Denial::Nsec, "nsec"),
                0 => (Denial::Nsec, "nsec"),
                1 => (Denial::NSEC3, "nsec3"),
                _ => (Denial::OPT_OUT, "optout"),
            };
            let recipe = Recipe::new(signer, algorithm, denial);
            add(
                &mut tree,
                &format!("{name}-{algorithm}-{kind}"),
                recipe,
                false,
            );
        }
    }
    for iterations in ITERATIONS {
        for (signer, name) in SIGNERS {
            let denial = Denial::Nsec3 {
                iterations,
                opt_out: false,
            };
            let recipe = Recipe::new(signer, 13, denial);
            if !recipe.is_refused() {
                let label = format!("{name}-iterations-{iterations}");
                add(&mut tree, &label, recipe, false);
            }
        }
    }
    for bits in [768, 1024, 4096] {
        let mut recipe = Recipe::new(Signer::Ldns, 8, Denial::Nsec);
        recipe.bits = bits;
        add(&mut tree, &format!("bits-{bits}"), recipe, false);
    }
    for (signer, name) in SIGNERS {
        let apex = format!("types-{name}.realm.");
        let recipe = Recipe::new(signer, 15, Denial::Nsec);
        tree.ask(&apex, TYPE_QUESTIONS);
        tree.plans.push(Plan::new(apex, Some(recipe), TYPES));
    }
    tree
}

/// The zones whose signatures rest on SHA-1, for who takes it.
pub(super) fn sha1_tree() -> Tree {
    let mut tree = Tree::new();
    for (signer, name) in SIGNERS {
        let recipe = Recipe::new(signer, 5, Denial::Nsec);
        add(&mut tree, &format!("{name}-5-nsec"), recipe, true);
        let recipe = Recipe::new(signer, 7, Denial::NSEC3);
        add(&mut tree, &format!("{name}-7-nsec3"), recipe, true);
    }
    tree
}

fn add(tree: &mut Tree, label: &str, recipe: Recipe, sha1: bool) {
    let apex = format!("{label}.realm.");
    let questions: Vec<_> = QUESTIONS
        .iter()
        .map(|(asked, rests)| (*asked, right(&recipe, *rests, sha1)))
        .collect();
    tree.ask(&apex, &questions);
    let sub = format!("sub.{apex}");
    tree.plans.push(Plan::new(sub, None, "www A 192.0.2.83\n"));
    tree.plans.push(Plan::new(apex, Some(recipe), CONTENT));
}

/// What is right where nothing is damaged.
fn right(recipe: &Recipe, rests: Rests, sha1: bool) -> Says {
    let supported = match recipe.algorithm {
        8 if recipe.bits < 1024 => false,
        5 | 7 => sha1,
        // Ed448.
        16 => false,
        _ => true,
    };
    let (iterations, opt_out) = match recipe.denial {
        Denial::Nsec => (0, false),
        Denial::Nsec3 {
            iterations,
            opt_out,
        } => (iterations, opt_out),
    };
    match rests {
        OnParent => Secure,
        OnOther => Insecure,
        _ if !supported => Insecure,
        Alone => Secure,
        _ if iterations > 500 => Bogus,
        _ if iterations > 50 => Insecure,
        OnUnsigned => Insecure,
        // ldns-signzone sets the flag, but leaves nothing out.
        OnDelegation if recipe.signer == Signer::Ldns => Secure,
        OnGap | OnDelegation if opt_out => Insecure,
        OnMatch | OnGap | OnDelegation => Secure,
    }
}
