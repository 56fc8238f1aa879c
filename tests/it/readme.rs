//! The README keeps its word: each of its commands is run by something, each of its
//! configurations is one.

use std::{collections::BTreeSet, fs, path::Path};

use truename::config::{self, Options, Surroundings};

/// Every command of the README, and what proves that it works: tests by name, scripts by path,
/// with the text that must be found there.
const COMMANDS: [(&str, Proof); 5] = [
    (
        "cargo run --release",
        // The default ports may be anybody's, and the default upstreams are the internet's.
        Proof(
            "tests/it/process/start.rs",
            "fn built_in_defaults_are_unprivileged_loopback_and_the_catalogue",
        ),
    ),
    ("cargo test", Proof(".ci/run", "cargo test --locked")),
    (
        "cargo run --release --example lab",
        Proof(".ci/run", ".ci/lab"),
    ),
    (
        "cargo run --release -- query www.secure.com --server udp://127.0.0.1:5300",
        // One of the commands that the lab prints and .ci/lab runs.
        Proof("examples/lab.rs", "query www.secure.com --server udp://"),
    ),
    (
        "truename cert export --output truename-ca.pem",
        Proof(
            "tests/it/process/certificate.rs",
            "\"cert\", \"export\", \"--output\"",
        ),
    ),
];

/// What exercises a command: a file, and a text by which it is found there.
struct Proof(&'static str, &'static str);

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks of one language, each with the line it begins at.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            let (_, block) = found.last_mut().unwrap();
            block.push_str(line);
            block.push('\n');
        } else if line.strip_prefix("```") == Some(language) {
            inside = true;
            found.push((number + 2, String::new()));
        }
    }
    assert!(!inside, "a block is not closed");
    found
}

#[test]
fn every_command_of_the_readme_is_exercised() {
    let readme = read("README.md");
    let commands: Vec<_> = blocks(&readme, "sh")
        .into_iter()
        .flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for command in &commands {
        let known = COMMANDS.iter().any(|(known, _)| known == command);
        assert!(known, "nothing is known to exercise `{command}`");
    }
    for (command, Proof(path, text)) in COMMANDS {
        let told = commands.iter().any(|told| told == command);
        assert!(told, "`{command}` is no longer in the README");
        assert!(read(path).contains(text), "{path} lacks {text:?}");
    }
}

#[test]
fn every_configuration_of_the_readme_is_one() {
    let readme = read("README.md");
    let configurations = blocks(&readme, "toml");
    assert!(configurations.len() >= 2);
    for (line, text) in configurations {
        let (surroundings, options) = (Surroundings::default(), Options::default());
        let parsed = config::parse(&text, None, &surroundings, &options);
        assert!(parsed.is_ok(), "line {line}: {}", parsed.unwrap_err());
    }
}

/// The keys of the README's table, each with its section.
fn keys_of_the_readme() -> Vec<(String, String)> {
    let readme = read("README.md");
    let table = readme.split("| key | default | meaning |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| "));
    let mut found = Vec::new();
    for row in rows {
        let keys = row.split(" | ").next().unwrap();
        let mut section = "";
        for written in keys.split(", ").map(|key| key.trim_matches('`')) {
            let key = match written.rsplit_once('.') {
                Some((before, key)) => {
                    section = before;
                    key
                }
                None => written,
            };
            found.push((section.to_owned(), key.to_owned()));
        }
    }
    found
}

/// What is complained of when a section says `line`.
fn complaint(section: &str, line: &str) -> String {
    let text = match section {
        "upstream" | "route" => format!("[[{section}]]\n{line}\n"),
        section => format!("[{section}]\n{line}\n"),
    };
    let (surroundings, options) = (Surroundings::default(), Options::default());
    let problems = config::parse(&text, None, &surroundings, &options).unwrap_err();
    problems.to_string()
}

#[test]
fn every_key_of_the_readme_is_known() {
    let keys = keys_of_the_readme();
    assert!(keys.len() > 20, "{} keys", keys.len());
    for (section, key) in keys {
        // A value of a kind that no key takes: an unknown key is complained of otherwise.
        let problems = complaint(&section, &format!("{key} = 1979-05-27"));
        let named = format!("`{section}.{key}`");
        assert!(problems.contains(&named), "{named}: {problems}");
        assert!(!problems.contains("unknown"), "{named}: {problems}");
    }
}

#[test]
fn every_key_that_is_known_is_in_the_readme() {
    let keys = keys_of_the_readme();
    let sections: BTreeSet<&str> = keys.iter().map(|(section, _)| section.as_str()).collect();
    for section in sections {
        let problems = complaint(section, "zzzzzzzzzzzz = 1");
        let known = problems.split("known here: ").nth(1).unwrap();
        let known = known.lines().next().unwrap();
        for key in known.split(", ") {
            let told = keys.contains(&(section.to_owned(), key.to_owned()));
            assert!(told, "`{section}.{key}` is not in the README");
        }
    }
}
