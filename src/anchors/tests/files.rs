//! The files we ship, the files people write, and the state file.

use std::path::Path;

use hickory_proto::dnssec::{PublicKey, TrustAnchors};
use proptest::prelude::*;

use super::lab::{DAY_S, date, keeper, name, proved, revoked, root_keys};
use crate::{
    anchors::{
        ANCHORS_PER_FILE_MAX, Keeper, Key, ReadError, RecordError, Seed, Source, StateFault,
        XmlError, built_in, parse,
    },
    clock,
    dnssec::ds_of_key,
    wire::Name,
};

const XML: &str = include_str!("../../../trust-anchors/root-anchors.xml");
const KEYS: &str = include_str!("../../../trust-anchors/root.key");
const SHA256_OF_2024: &str = "683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16";

fn read(text: &str) -> Result<Vec<Seed>, ReadError> {
    parse(Path::new("a.key"), text)
}

fn message(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn shipped_forms_say_the_same_as_the_copies_in_hickory() {
    let root = Name::root();
    let built_in = built_in();
    let tags: Vec<u16> = built_in.iter().map(|seed| seed.key.tag()).collect();
    assert_eq!(tags, [20326, 38696]);
    let xml = read(XML).unwrap();
    let theirs = TrustAnchors::default();
    assert_eq!(theirs.len(), 2);
    for (place, rdata) in root_keys().iter().enumerate() {
        let key = Key::Dnskey(rdata.clone());
        assert_eq!(key.tag(), tags[place]);
        assert!(built_in[place].key.names(&root, rdata));
        assert_eq!(built_in[place].key.ds(&root), key.ds(&root));
        assert_eq!(xml[place].key, built_in[place].key);
        let published = theirs.get(place);
        assert_eq!(published.map(PublicKey::public_bytes), rdata.get(4..));
    }
    assert_eq!(read(KEYS).unwrap().len(), 2);
    assert_eq!(xml[0].valid_from_s, Some(date("2017-02-02")));
    assert_eq!(xml[1].valid_from_s, Some(date("2024-07-18")));
    assert!(xml.iter().all(|seed| seed.holds_at(clock::FLOOR_UNIX_S)));
}

#[test]
fn records_as_people_write_them() {
    let plain = read(&format!(". DS 38696 8 2 {SHA256_OF_2024}")).unwrap();
    let lower = SHA256_OF_2024.to_lowercase();
    let (half, rest) = SHA256_OF_2024.split_at(31);
    for text in [
        format!(".\t172800\tIN\tDS\t38696 8 2 {lower}\r\n"),
        format!("$TTL 2d\n\n; a comment\n. in 2d ds 38696 8 2 {half} {rest} ; KSK"),
        format!(". IN DS 38696 8 2 ( ; first half\n  {half}\n  {rest} )\n"),
        format!("\u{feff}. IN DS (38696 8 2\n{half}){rest}"),
        format!(". DS 38696 8 2 {lower}\n. DS 38696 8 2 {SHA256_OF_2024}"),
    ] {
        assert_eq!(read(&text).unwrap(), plain, "{text}");
    }
    let other = read(&format!("Island.Example IN DS 38696 8 2 {SHA256_OF_2024}")).unwrap();
    assert_eq!(other[0].zone, name("island.example."));
}

#[test]
fn files_of_other_tools() {
    let key = KEYS.lines().nth(2).unwrap().split(" ; ").next().unwrap();
    let unbound = |state: &str| {
        format!(
            "; autotrust trust anchor file\n;;id: . 1\n;;last_queried: 1795132800 ;;Fri\n\
             {key} ;{{id = 38696 (ksk), size = 2048b}} ;;state={state} ;;count=0\n"
        )
    };
    let plain = read(key).unwrap();
    assert_eq!(read(&unbound("2 [  VALID  ]")).unwrap(), plain);
    assert_eq!(read(&unbound("3 [ MISSING ]")).unwrap(), plain);
    for state in [
        "1 [ ADDPEND ]",
        "4 [ REVOKED ]",
        "5 [ REMOVED ]",
        "0 [  START  ]",
    ] {
        let message = message(&unbound(state));
        assert!(
            message.starts_with("a.key:4: the comment says"),
            "{message}"
        );
    }
    // What dnssec-keygen and dig write.
    let keygen = format!("; This is a key-signing key, keyid 38696, for .\n; Created: 20\n{key}\n");
    assert_eq!(read(&keygen).unwrap(), plain);
    let dig =
        format!("\n; <<>> DiG 9.20 <<>> . DNSKEY\n;; ANSWER SECTION:\n{key}\n\n;; Query time: 1\n");
    assert_eq!(read(&dig).unwrap(), plain);
}

#[test]
fn mistakes_are_named_with_line_and_remedy() {
    let digest = SHA256_OF_2024;
    let with_flags = |flags: &str| KEYS.replace("257", flags);
    let cases = [
        (
            format!("\n\n. IN DS 38696 8 2 {}", &digest[1..]),
            "a.key:3: the digest is not 32 octets",
        ),
        (
            format!(". IN DS 38696 8 1 {}", &digest[..40]),
            "a.key:1: algorithm 8 with digest type 1",
        ),
        (
            format!(". IN DS 38696 12 2 {digest}"),
            "a.key:1: algorithm 12 with digest type 2",
        ),
        (
            format!(". IN DS 99999 8 2 {digest}"),
            "a.key:1: \"99999\" is no number for the key tag",
        ),
        (
            format!(". IN DS 38696 RSASHA256 2 {digest}"),
            "\"RSASHA256\" is no number for the alg",
        ),
        (
            format!(". IN DS 38696 +8 2 {digest}"),
            "\"+8\" is no number",
        ),
        (
            format!(". CH DS 38696 8 2 {digest}"),
            "a record of type CH is no trust anchor",
        ),
        (
            format!("IN DS 38696 8 2 {digest}"),
            "\"IN\" is no zone's name",
        ),
        (
            format!("172800 IN DS 38696 8 2 {digest}"),
            "\"172800\" is no zone's name",
        ),
        (
            ". IN NS a.root-servers.net.".into(),
            "a record of type NS is no trust anchor",
        ),
        (
            "trust-anchors {\n".into(),
            "a.key:1: no DS or DNSKEY record",
        ),
        (". IN".into(), "no DS or DNSKEY record"),
        (". IN DS 38696 8".into(), "no DS or DNSKEY record"),
        (
            format!("\n. IN DS ( 38696 8 2 {digest}\n"),
            "a.key:2: the parentheses",
        ),
        (
            format!(". IN DS 38696 8 2 {digest} )"),
            "a.key:1: the parentheses",
        ),
        (with_flags("256"), "a.key:2: key 20325 has no SEP flag"),
        (with_flags("385"), "a.key:2: key 20454 has the REVOKE flag"),
        (with_flags("1"), "a.key:2: key 20070 cannot anchor a zone"),
        (
            KEYS.replace(" 3 8 ", " 3 5 "),
            "a.key:2: key 20323 cannot anchor a zone",
        ),
        (
            KEYS.replace("AwEAAa", "AwEA?a"),
            "the public key is not base64",
        ),
        ("; nothing\n".into(), "a.key holds no anchor"),
        (String::new(), "a.key holds no anchor"),
        (
            "<html></html>".into(),
            "a.key:1: the file's outermost element",
        ),
    ];
    for (text, expected) in cases {
        let message = message(&text);
        assert!(message.contains(expected), "{message}\n{expected}");
        assert!(
            message.contains("a.key") && !message.contains('\n'),
            "{message}"
        );
    }
}

#[test]
fn anchors_in_one_file_are_bounded() {
    let line = |number| format!("z{number}.example DS 38696 8 2 {SHA256_OF_2024}\n");
    let most: String = (0..ANCHORS_PER_FILE_MAX).map(line).collect();
    assert_eq!(read(&most).unwrap().len(), ANCHORS_PER_FILE_MAX);
    let more: String = (0..1000).map(line).collect();
    assert!(matches!(read(&more), Err(ReadError::TooMany { .. })));
    let digest = XML
        .split_once("<KeyDigest")
        .unwrap()
        .1
        .split_once("</KeyDigest>")
        .unwrap()
        .0;
    let many = format!("<KeyDigest{digest}</KeyDigest>").repeat(1000);
    assert!(read(&format!("<TrustAnchor><Zone>.</Zone>{many}</TrustAnchor>")).is_err());
}

#[test]
fn missing_and_huge_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.key");
    let error = crate::anchors::read(&path).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()));
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = crate::anchors::read(&path).unwrap_err();
    assert!(matches!(error, ReadError::NotText { .. }), "{error}");
    std::fs::write(&path, KEYS).unwrap();
    assert_eq!(crate::anchors::read(&path).unwrap(), read(KEYS).unwrap());
}

#[test]
fn dates_in_xml_are_honoured() {
    let until = XML.replace(
        "validFrom=\"2017-02-02T00:00:00+00:00\"",
        "validFrom='2017-02-02T00:00:00+00:00'\n validUntil = \"2027-01-11T00:00:00Z\"",
    );
    let seeds = read(&until).unwrap();
    let revoked_s = date("2027-01-11");
    assert!(seeds[0].holds_at(revoked_s - 1) && !seeds[0].holds_at(revoked_s));
    assert!(!seeds[1].holds_at(date("2024-07-18") - 1));
}

#[test]
fn xml_that_is_not_the_format_is_refused() {
    let fault = |text: &str| match read(text).unwrap_err() {
        ReadError::Xml { fault, line, .. } => (line, fault),
        other => panic!("{other}"),
    };
    assert_eq!(fault("<a/>").1, XmlError::NotAnchors);
    let edit = |from: &str, to: &str| {
        assert!(XML.contains(from), "{from}");
        fault(&XML.replacen(from, to, 1)).1
    };
    for (from, to) in [
        (
            "<TrustAnchor",
            "<!DOCTYPE x [<!ENTITY y \"z\">]><TrustAnchor",
        ),
        ("<Zone>.", "<Zone>&dot;"),
        ("<Zone>.", "<Zone><![CDATA[.]]>"),
        ("</Zone>", "</zone>"),
        ("</TrustAnchor>", ""),
        ("</TrustAnchor>", "</TrustAnchor>more"),
        ("id=\"KSK-2017\"", "id=KSK-2017"),
        ("id=\"KSK-2017\"", "id=\"1\" id=\"2\""),
        ("-->", ""),
    ] {
        assert_eq!(edit(from, to), XmlError::Malformed, "{to}");
    }
    assert_eq!(edit("<Zone>.</Zone>", ""), XmlError::Element("Zone"));
    assert_eq!(
        edit("<KeyTag>20326</KeyTag>", ""),
        XmlError::Element("KeyTag")
    );
    assert_eq!(
        edit("</Zone>", "</Zone><Zone>a.</Zone>"),
        XmlError::Element("Zone")
    );
    assert_eq!(
        edit("2017-02-02T", "2017-02-30T"),
        XmlError::Time("validFrom")
    );
    assert_eq!(edit("<Flags>257", "<Flags>256"), XmlError::Mismatch(20326));
    assert_eq!(
        edit("<DigestType>2", "<DigestType>200"),
        XmlError::Record(RecordError::UnsupportedDs {
            algorithm: 8,
            digest_type: 200
        })
    );
    let deep = "<TrustAnchor>".repeat(100_000);
    assert_eq!(fault(&deep).1, XmlError::Malformed);
    let (line, _) = fault(&XML.replace("2024-07-18", "2024-07-xx"));
    let expected = 1 + XML
        .lines()
        .position(|line| line.contains("KSK-2024\""))
        .unwrap();
    assert_eq!(line, expected);
    // Elements of later versions are no reason to fail.
    let more = XML.replacen("<Zone>", "<New a='1'><Zone>x</Zone></New><Zone>", 1);
    assert_eq!(read(&more).unwrap(), read(XML).unwrap());
}

/// A keeper with a key in each state.
fn eventful() -> Keeper {
    let [one, two] = root_keys();
    let root = Name::root();
    let t = date("2026-12-01");
    let mut third = two.clone();
    third[100] ^= 1;
    let mut fourth = two.clone();
    fourth[100] ^= 2;
    let mut keeper = keeper(&root, &[&one, &two, &third], t);
    let withdrawn = revoked(&one);
    keeper
        .take(&proved(&root, &[&withdrawn, &two, &third]), t)
        .unwrap();
    keeper
        .take(&proved(&root, &[&two, &third]), t + 31 * DAY_S)
        .unwrap();
    let set = proved(&root, &[&two, &revoked(&third), &fourth]);
    keeper.take(&set, t + 32 * DAY_S).unwrap();
    keeper
}

#[test]
fn state_comes_back_from_its_text() {
    let keeper = eventful();
    let text = keeper.to_text();
    for label in ["removed", "revoked", "valid", "pending"] {
        assert!(text.contains(&format!("\nkey {label} since 202")), "{text}");
    }
    let again = Keeper::from_text(&text, 0).unwrap();
    assert_eq!(again.to_text(), text);
    assert_eq!(again.anchors(), keeper.anchors());
    assert_eq!(again.floor(), keeper.floor());
    let mut built = Keeper::new(5);
    built.seed(&built_in(), Source::BuiltIn, clock::FLOOR_UNIX_S);
    assert_eq!(Keeper::from_text(&built.to_text(), 5), Ok(built));
}

#[test]
fn broken_state_is_refused_with_its_line() {
    let text = eventful().to_text();
    let fault = |text: &str| Keeper::from_text(text, 0).unwrap_err();
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fault(&text.replacen(from, to, 1)).fault
    };
    assert_eq!(edit("anchors 1", "anchors 2"), StateFault::FirstLine);
    assert_eq!(fault("").fault, StateFault::FirstLine);
    assert_eq!(edit("\nend\n", "\n"), StateFault::CutShort);
    assert_eq!(
        edit("key valid", "key vaild"),
        StateFault::Word("vaild".into())
    );
    assert_eq!(
        edit("\nkey removed", "\nkey pending"),
        StateFault::Time("-".into())
    );
    assert_eq!(
        edit("until -", "until 2027"),
        StateFault::Word("2027".into())
    );
    assert_eq!(
        edit("passed 2027-", "passed 27-"),
        StateFault::Time(
            text.split_once("passed 20")
                .unwrap()
                .1
                .split_once('\n')
                .unwrap()
                .0
                .into()
        )
    );
    assert_eq!(
        edit("zone .", "zone .."),
        StateFault::Record(RecordError::Owner("..".into()))
    );
    let zone = text.lines().find(|line| line.starts_with("zone")).unwrap();
    assert_eq!(edit(zone, ""), StateFault::Zone);
    assert_eq!(edit(zone, &format!("{zone}\n{zone}")), StateFault::Zone);
    let key = text.lines().find(|line| line.starts_with("key")).unwrap();
    let many = format!("{key}\n").repeat(100);
    assert_eq!(edit(key, &many), StateFault::TooMany);
    let error = fault(&text.replacen("zone . ", "zone ", 1));
    assert_eq!(
        error.line,
        1 + text.lines().position(|line| line == zone).unwrap()
    );
}

proptest! {
    #[test]
    fn no_text_panics_the_readers(
        at in 0..3000_usize,
        with in "[ -~\n]{0,6}",
        cut in 0..10_usize,
    ) {
        for text in [XML, KEYS, &eventful().to_text()] {
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            let text = format!("{}{with}{}", &text[..at], &text[end..]);
            let _ = read(&text);
            let _ = Keeper::from_text(&text, 0);
        }
    }

    #[test]
    fn whatever_text_is_read_round_trips(
        at in 0..3000_usize,
        with in "[0-9a-z .\n]{1,2}",
    ) {
        let text = eventful().to_text();
        let at = at.min(text.len());
        let end = (at + with.len()).min(text.len());
        let text = format!("{}{with}{}", &text[..at], &text[end..]);
        if let Ok(keeper) = Keeper::from_text(&text, 0) {
            prop_assert_eq!(Keeper::from_text(&keeper.to_text(), 0), Ok(keeper));
        }
    }
}

#[test]
fn digest_of_a_key_depends_on_its_zone() {
    let [key, _] = root_keys();
    let root = ds_of_key(&Name::root(), &key).unwrap();
    let other = ds_of_key(&name("example."), &key).unwrap();
    assert_eq!(root.key_tag, other.key_tag);
    assert_ne!(root.digest, other.digest);
}
