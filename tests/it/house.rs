//! The house keeps its floors: imports run downwards only (ARCHITECTURE.md), and nothing of the
//! test certificates reaches the program.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every room and its floor.
const FLOORS: &[(&str, u8)] = &[
    ("clock", 0),
    ("durable", 0),
    ("entropy", 0),
    ("metrics", 0),
    ("wire", 0),
    ("access", 1),
    ("anchors", 1),
    ("cache", 1),
    ("certificates", 1),
    ("dnssec", 1),
    ("handler", 1),
    ("names", 1),
    ("reply", 1),
    ("net", 2),
    ("listener", 3),
    ("upstream", 3),
    ("resolver", 4),
    ("admin", 5),
    ("config", 5),
    ("app", 6),
    ("cli", 6),
    ("main", 7),
    ("lib", 7),
];

/// Neighbours on one floor that may know each other: the first knows the second.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("wire", "clock"),
    ("anchors", "dnssec"),
    ("reply", "cache"),
    ("reply", "handler"),
    ("cli", "app"),
];

/// Lower floors that are none of a room's business all the same.
const STRANGERS: &[(&str, &str)] = &[
    ("listener", "cache"),
    ("listener", "dnssec"),
    ("listener", "reply"),
    ("upstream", "cache"),
    ("upstream", "dnssec"),
    ("upstream", "reply"),
    ("resolver", "listener"),
    ("resolver", "net"),
    ("resolver", "certificates"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The code of a file up to its unit tests, which may know more.
fn code(path: &Path) -> String {
    if path.file_stem().is_some_and(|stem| stem == "tests")
        || path.iter().any(|part| part == "tests")
    {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_owned()
}

fn floor(room: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .unwrap_or_else(|| panic!("`{room}` is not in the table of floors"))
        .1
}

/// The rooms a text names by `crate::room`, also within `use crate::{a::.., b};`.
fn rooms_named(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let first_word = |text: &str| -> String {
            text.chars()
                .take_while(|char| char.is_alphanumeric() || *char == '_')
                .collect()
        };
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut fresh = true;
            for (at, char) in list.char_indices() {
                match char {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => fresh = true,
                    char if fresh && char.is_alphabetic() => {
                        rooms.push(first_word(&list[at..]));
                        fresh = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            rooms.push(first_word(rest));
        }
    }
    rooms
}

#[test]
fn imports_run_downwards() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        for named in rooms_named(&code(&path)) {
            if named == room {
                continue;
            }
            let down = floor(&named) < floor(room);
            let allowed = down && !STRANGERS.contains(&(room, &named));
            if !allowed && !NEIGHBOURS.contains(&(room, &named)) {
                wrong.push(format!(
                    "{}: `{room}` must not know `{named}`",
                    inside.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_program_does_not_know_the_test_certificates() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    for path in files {
        let code = code(&path);
        assert!(
            !code.contains("../certs") && !code.contains("\"certs/"),
            "{}",
            path.display()
        );
    }
}
