//! truename beside three validators that others wrote, on zones that tools of others signed: all
//! four ask the same resolver, and must say the same of every name. Where the others differ,
//! `rulings` names the case, what each says, and what decides.
//!
//! With `VERDICTS_TABLE` set to a path, what everybody said is written there as a table.

mod beside;
mod cases;
mod damaged;
mod good;
mod records;
mod rulings;
mod signing;
mod world;

use std::{collections::HashSet, env, fmt::Write as _, fs::OpenOptions, io::Write as _};

use cases::{Case, Tree};
use rulings::ruling;
use signing::{Denial, Recipe, Signer};
use world::{Said, Says, World};

const NAMES: [&str; 4] = ["truename", "Unbound", "BIND", "Knot Resolver"];

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn zones_as_signed_get_the_verdict_of_other_validators() {
    compare("Zones as signed", &good::tree(), "");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn zones_signed_with_sha1_get_it_where_sha1_is_taken() {
    compare("With SHA-1", &good::sha1_tree(), "sha1 = true\n");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn damaged_zones_get_the_verdict_of_other_validators() {
    compare("Damaged zones", &damaged::tree(), "");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn what_a_signer_refuses_is_known() {
    for signer in [Signer::Bind, Signer::Ldns, Signer::Knot] {
        for (algorithm, iterations) in [(5, 0), (13, 0), (13, 150), (13, 500), (13, 2500)] {
            let denial = Denial::Nsec3 {
                iterations,
                opt_out: false,
            };
            let recipe = Recipe::new(signer, algorithm, denial);
            let zone = "$ORIGIN a.\n$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 86400 300\n@ NS ns1\nns1 A 192.0.2.53\n";
            let refused = recipe.try_sign("a.", zone).is_err();
            assert_eq!(refused, recipe.is_refused(), "{recipe:?}");
        }
    }
}

fn compare(title: &str, tree: &Tree, dnssec: &str) {
    let world = World::start(&tree.plans, dnssec);
    let questions: Vec<_> = tree
        .cases
        .iter()
        .map(|case| case.question.clone())
        .collect();
    let mut all = world.ask(&questions);
    let mut wrong = String::new();
    for (case, said) in tree.cases.iter().zip(&mut all) {
        let mut complaint = String::new();
        judge(case, said, &mut complaint);
        if !complaint.is_empty() {
            // The others may have been short of time on a busy machine; truename has no second try.
            for again in world.ask(std::slice::from_ref(&case.question)) {
                let [_, unbound, bind, knot] = again;
                let [truename, ..] = said.clone();
                *said = [truename, unbound, bind, knot];
            }
            judge(case, said, &mut wrong);
        }
    }
    write_table(title, tree, &all);
    assert!(wrong.is_empty(), "{wrong}\n{}", world.logs());
}

/// Writes down what is wrong about what was said.
fn judge(case: &Case, said: &[Said; 4], wrong: &mut String) {
    let ruling = ruling(case);
    let others = ruling.map_or([case.right; 3], |ruling| ruling.says);
    let [unbound, bind, knot] = others;
    let expected = [case.right, unbound, bind, knot];
    let differ = said
        .iter()
        .zip(expected)
        .any(|(said, expected)| said.says != expected);
    // What is given out is the same, whoever gives it.
    let answers: HashSet<_> = said
        .iter()
        .filter(|said| [Says::Secure, Says::Insecure].contains(&said.says))
        .map(|said| &said.answer)
        .collect();
    if !differ && answers.len() <= 1 {
        return;
    }
    let says = said.each_ref().map(|said| said.says);
    let because = ruling.map_or("", |ruling| ruling.because);
    writeln!(
        wrong,
        "{} {}: expected {expected:?} {because}\n    said     {says:?}",
        case.zone, case.asked
    )
    .expect("strings take any text");
    if answers.len() > 1 {
        for (name, said) in NAMES.iter().zip(said) {
            writeln!(wrong, "    {name}: {:?}", said.answer).expect("strings take any text");
        }
    }
    if says[0] != case.right {
        wrong.push_str(&said[0].text);
    }
}

/// Adds what was said to the table the environment asks for.
fn write_table(title: &str, tree: &Tree, all: &[[Said; 4]]) {
    let Some(path) = env::var_os("VERDICTS_TABLE") else {
        return;
    };
    let mut table = format!(
        "## {title}\n\n| zone | question | right | {} | ruling |\n|---|---|---|---|---|---|---|---|\n",
        NAMES.join(" | ")
    );
    for (case, said) in tree.cases.iter().zip(all) {
        let says: Vec<_> = said.iter().map(|said| format!("{:?}", said.says)).collect();
        let because = ruling(case).map_or("", |ruling| ruling.because);
        let Case {
            zone, asked, right, ..
        } = case;
        let says = says.join(" | ");
        writeln!(
            table,
            "| {zone} | {asked} | {right:?} | {says} | {because} |"
        )
        .expect("strings take any text");
    }
    table.push('\n');
    let mut file = OpenOptions::new();
    let mut file = file.create(true).append(true).open(path).unwrap();
    file.write_all(table.as_bytes()).unwrap();
}
