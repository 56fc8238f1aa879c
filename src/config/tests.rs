//! Whole files: what they say, and what is said about broken ones.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::*;
use crate::{handler::Transport, listener, upstream::Strategy, wire::Name};

fn home() -> Surroundings {
    Surroundings {
        home: Some("/home/ann".into()),
        ..Surroundings::default()
    }
}

fn parse_file(text: &str) -> Result<Settings, Problems> {
    parse(
        text,
        Some(Path::new("truename.toml")),
        &home(),
        &Options::default(),
    )
}

fn parse_flags(upstreams: &[&str], listen: &[&str]) -> Result<Settings, Problems> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let options = Options {
        config: None,
        upstreams: owned(upstreams),
        listen: owned(listen),
        serves_nobody: false,
    };
    parse("", None, &home(), &options)
}

/// Every problem of `text`, as a person sees them.
fn complaints(text: &str) -> Vec<String> {
    let problems = parse_file(text).expect_err(text);
    problems.0.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_complaint(text: &str, expected: &str) {
    let found = complaints(text);
    assert_eq!(found, [format!("truename.toml:{expected}")], "{text}");
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The example of the planned configuration's section on configuration, without what is not built.
const BUILT: &str = r#"
[listen]
dns = ["127.0.0.1:53"]
dot = ["0.0.0.0:853"]
doq = ["0.0.0.0:853"]
doh = ["0.0.0.0:443"]
doh_path = "/dns-query"

[tls]
certificate = "fullchain.pem"
key = "key.pem"
names = ["router.lan", "192.168.1.1"]

[access]
allow = ["loopback", "private", "link-local"]
rate_limit = 0

[[upstream]]
url = "tls://127.0.0.1:853"
name = "office"
server_name = "dns.example"
addresses = ["192.0.2.1"]
ca = "office-ca.pem"
pin = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
weight = 3

[forward]
strategy = "spread"
timeout = "4s"

[[route]]
zones = ["corp.example", "168.192.in-addr.arpa"]
upstreams = ["office"]
dnssec = "off"

[[route]]
zones = ["lab.example"]
upstreams = ["office"]

[cache]
size = "32MiB"
min_ttl = "0s"
max_ttl = "1d"
max_negative_ttl = "1h"
serve_stale = "1d"
prefetch = true
file = "cache.bin"

[dnssec]
validate = true
trust_anchors = ["root.key"]
negative_trust_anchors = ["a.example until 2027-01-31", "b.example. until 2027-01-31T12:00:00Z"]
clock_names = ["ntp.example", "Time.Corp.Example."]
sha1 = true
skew = "1m"

[names]
hosts = []
special_use = false
rebinding_protection = false
rebinding_allow = []

[admin]
http = []
socket = "run/control.sock"

[state]
directory = "state"

[log]
level = "info"
format = "text"
queries = "off"
"#;

/// What the planned configuration's example has beyond that, each with its refusal.
const WHOLE: &str = r#"
[cache]

[names]
hosts = ["/etc/hosts"]
rebinding_protection = true
rebinding_allow = ["plex.direct"]

[[record]]
name = "nas.lan"
type = "A"
data = "192.168.1.5"
ttl = "5m"

[admin]
http = ["127.0.0.1:8053"]

[log]
queries = "all"
"#;

#[test]
fn the_whole_configuration_is_read() {
    let settings = parse(
        BUILT,
        Some(Path::new("/etc/truename/truename.toml")),
        &home(),
        &Options::default(),
    )
    .unwrap();
    assert_eq!(settings.listen.dns, addresses(&["127.0.0.1:53"]));
    assert_eq!(settings.listen.dot, addresses(&["0.0.0.0:853"]));
    assert_eq!(settings.listen.doq, addresses(&["0.0.0.0:853"]));
    assert_eq!(settings.listen.doh, addresses(&["0.0.0.0:443"]));
    assert_eq!(settings.listen.doh_path, "/dns-query");
    let negative = |name: &str, until| (Name::parse(name).unwrap(), until);
    assert_eq!(
        settings.dnssec,
        DnssecSettings {
            validate: true,
            trust_anchors: vec!["/etc/truename/root.key".into()],
            negative_trust_anchors: vec![
                negative("a.example", 1_801_353_600),
                negative("b.example", 1_801_396_800),
            ],
            private_zones: vec![Name::parse("lab.example").unwrap()],
            unvalidated_zones: vec![
                Name::parse("corp.example").unwrap(),
                Name::parse("168.192.in-addr.arpa").unwrap(),
            ],
            clock_names: vec![
                Name::parse("ntp.example").unwrap(),
                Name::parse("time.corp.example").unwrap(),
            ],
            sha1: true,
            skew: Duration::from_secs(60),
        }
    );
    assert!(!settings.names.special_use);
    let routed = ["lab.example", "corp.example", "168.192.in-addr.arpa"];
    assert_eq!(
        settings.names.routed,
        routed.map(|zone| Name::parse(zone).unwrap())
    );
    let files = settings.tls.files.as_ref().unwrap();
    assert_eq!(files.certificate, Path::new("/etc/truename/fullchain.pem"));
    assert_eq!(files.key, Path::new("/etc/truename/key.pem"));
    assert_eq!(settings.tls.names, ["router.lan", "192.168.1.1"]);
    assert_eq!(settings.access, crate::access::Settings::default());
    assert_eq!(settings.cache, crate::cache::Settings::default());
    assert_eq!(
        settings.cache_file.as_deref(),
        Some(Path::new("/etc/truename/state/cache.bin")),
        "seen from the state directory"
    );
    assert_eq!(
        settings.admin_socket.as_deref(),
        Some(Path::new("/etc/truename/state/run/control.sock"))
    );
    assert_eq!(settings.upstream.timeout, Duration::from_secs(4));
    let [office] = settings.upstream.upstreams.as_slice() else {
        panic!("{:?}", settings.upstream.upstreams);
    };
    assert_eq!(office.name, "office");
    assert_eq!(office.transport, Transport::Tls);
    assert_eq!(office.weight, 3);
    assert_eq!(settings.upstream.strategy, Strategy::Spread);
    assert_eq!(settings.upstream_entries.len(), 1);
    assert_eq!(
        settings.upstream_entries[0]
            .ca
            .as_ref()
            .map(|file| file.path.as_path()),
        Some(Path::new("/etc/truename/office-ca.pem"))
    );
    assert_eq!(
        settings.state_directory,
        Path::new("/etc/truename/state"),
        "relative paths are seen from the file"
    );
}

#[test]
fn every_unbuilt_key_is_refused_by_name() {
    let found = complaints(WHOLE);
    for (key, off) in unbuilt::UNBUILT {
        let asked = found
            .iter()
            .filter(|complaint| complaint.contains(&format!("`{key}`: not built yet; remove")))
            .count();
        assert_eq!(asked, 1, "{key} {off:?}");
    }
    assert_eq!(found.len(), unbuilt::UNBUILT.len(), "{found:#?}");
    assert!(
        found.contains(
            &"truename.toml:6:24: `names.rebinding_protection`: not built yet; remove the key or write false"
                .to_owned()
        )
    );
    assert!(
        found
            .iter()
            .any(|complaint| complaint.contains("`record`: not built yet; remove"))
    );
}

#[test]
fn a_route_must_lead_somewhere() {
    for (written, what) in [
        ("zones = [\"a.example\"]", "has no `upstreams`"),
        ("upstreams = [\"quad9\"]", "has no `zones`"),
        (
            "zones = [\"a.example\"]\nupstreams = [\"office\"]",
            "no upstream is called \"office\"; there are: quad9, cloudflare",
        ),
        (
            "zones = [\"a..example\"]\nupstreams = [\"quad9\"]",
            "is not a zone",
        ),
    ] {
        let found = complaints(&format!("[[route]]\n{written}"));
        assert!(
            found.iter().any(|complaint| complaint.contains(what)),
            "{found:?}"
        );
    }
}

#[test]
fn a_negative_trust_anchor_without_end_is_refused() {
    for (written, what) in [
        ("a.example", "does not say until when it holds"),
        ("a.example until", "does not say until when it holds"),
        ("a.example until tomorrow", "has no date"),
        ("a..example until 2027-01-31", "has no name"),
    ] {
        let found = complaints(&format!(
            "[dnssec]\nnegative_trust_anchors = [\"{written}\"]"
        ));
        assert!(found[0].contains(what), "{found:?}");
    }
    let found = complaints("[dnssec]\nskew = \"2h\"");
    assert!(found[0].contains("must be at most 1h"), "{found:?}");
}

#[test]
fn a_clock_name_that_opens_a_part_of_the_tree_is_refused() {
    for (written, what) in [
        (".", "is too wide"),
        ("com", "is too wide"),
        ("a..example", "is not a name"),
    ] {
        let found = complaints(&format!("[dnssec]\nclock_names = [\"{written}\"]"));
        assert!(found[0].contains(what), "{found:?}");
    }
}

#[test]
fn nothing_configured_is_the_defaults() {
    let settings = parse("", None, &home(), &Options::default()).unwrap();
    assert!(settings.dnssec.validate);
    assert_eq!(settings.source, None);
    assert_eq!(settings.listen, listener::Settings::default());
    assert_eq!(settings.tls, TlsSettings::default());
    assert_eq!(
        settings.state_directory,
        Path::new("/home/ann/.local/state/truename")
    );
    let entries = settings.upstream_entries.iter().map(|entry| &entry.url);
    assert!(entries.eq(DEFAULT_UPSTREAMS));
    assert_eq!(
        settings.certificate_names(),
        ["localhost", "127.0.0.1", "::1"]
    );
}

#[test]
fn a_machine_without_ipv6_has_defaults_without_it() {
    let surroundings = Surroundings {
        lacks_ipv6: true,
        ..home()
    };
    let parse = |text| parse(text, None, &surroundings, &Options::default()).unwrap();
    assert_eq!(parse("").listen.dns, addresses(&["127.0.0.1:5300"]));
    assert_eq!(parse("").listen.doh, addresses(&["127.0.0.1:8443"]));
    let written = parse("[listen]\ndns = [\"[::1]:53\"]");
    assert_eq!(written.listen.dns, addresses(&["[::1]:53"]));
}

#[test]
fn relative_paths_start_at_the_file() {
    let surroundings = Surroundings {
        working_directory: Some("/srv".into()),
        ..home()
    };
    for (source, expected) in [
        ("truename.toml", "/srv/state"),
        ("conf/truename.toml", "/srv/conf/state"),
        ("/etc/truename/truename.toml", "/etc/truename/state"),
    ] {
        let text = "[state]\ndirectory = \"state\"";
        let source = Some(Path::new(source));
        let settings = parse(text, source, &surroundings, &Options::default()).unwrap();
        assert_eq!(settings.state_directory, Path::new(expected));
    }
}

#[test]
fn an_absent_list_is_the_default_and_an_empty_one_is_off() {
    let settings = parse_file("[listen]\ndns = [\"127.0.0.1:0\"]\ndoq = []").unwrap();
    let default = listener::Settings::default();
    assert_eq!(settings.listen.dns, addresses(&["127.0.0.1:0"]));
    assert_eq!(settings.listen.doq, []);
    assert_eq!(settings.listen.dot, default.dot);
    assert_eq!(settings.listen.doh, default.doh);
    check_complaint(
        "[listen]\ndns = []\ndot = []\ndoq = []\ndoh = []",
        "1:1: `listen`: every list is empty, so nobody could ask; remove one to have its default",
    );
}

#[test]
fn each_mistake_is_told_with_line_key_and_remedy() {
    for (text, expected) in [
        (
            "[cache]\n\nsize = \"32 megs\"",
            "3:8: `cache.size`: \"32 megs\" is not a size; write it as \"32MiB\"",
        ),
        (
            "[cache]\nmax_neg_ttl = \"1h\"",
            "2:1: `cache.max_neg_ttl`: unknown key; did you mean `cache.max_negative_ttl`?",
        ),
        (
            "[listn]\n",
            "1:2: `listn`: unknown key; did you mean `listen`?",
        ),
        (
            "[log]\ncolour = true",
            "2:1: `log.colour`: unknown key; known here: queries, level, format",
        ),
        (
            "[cache]\nmin_ttl = 30",
            "2:11: `cache.min_ttl`: is a number, but must be text; write it like \"0s\"",
        ),
        (
            "[cache]\nmin_ttl = \"500ms\"",
            "2:11: `cache.min_ttl`: \"500ms\" is not a whole number of seconds; write it as \"1s\"",
        ),
        (
            "[cache]\nmin_ttl = \"2d\"",
            "2:11: `cache.min_ttl`: is longer than `cache.max_ttl` (1d); write a shorter one",
        ),
        (
            "[cache]\nsize = 100",
            "2:8: `cache.size`: must be from 64KiB to 64GiB; the default is 32MiB",
        ),
        (
            "[cache]\nsize = -1",
            "2:8: `cache.size`: must be a whole number from 0 to 18446744073709551615",
        ),
        (
            "[cache]\nserve_stale = \"8d\"",
            "2:15: `cache.serve_stale`: must be at most 7d; write \"0s\" to switch it off",
        ),
        (
            "[cache]\nprefetch = \"no\"",
            "2:12: `cache.prefetch`: is text, but must be true or false, without quotes",
        ),
        (
            "[listen]\ndns = \"127.0.0.1:53\"",
            "2:7: `listen.dns`: is text, but must be a list; write it like [\"127.0.0.1:53\"]",
        ),
        (
            "[listen]\ndns = [\n  \"127.0.0.1:53\",\n  \"192.168.1.1\",\n]",
            "4:3: `listen.dns`: \"192.168.1.1\" has no port; write \"192.168.1.1:53\"",
        ),
        (
            "[listen]\ndot = [\"127.0.0.1:443\"]\ndoh = [\"127.0.0.1:443\"]",
            "3:8: `listen.doh`: 127.0.0.1:443 is already in `listen.dot`, and both use TCP; choose \
             another port for one",
        ),
        (
            "[listen]\ndoh_path = \"dns-query{?dns}\"",
            "2:12: `listen.doh_path`: \"dns-query{?dns}\" is not a path; write it as \"/dns-query\"",
        ),
        (
            "[tls]\ncertificate = \"fullchain.pem\"",
            "2:15: `tls.certificate`: has no `tls.key` beside it; name the file with its private \
             key",
        ),
        (
            "[tls]\nkey = \"key.pem\"",
            "2:7: `tls.key`: has no `tls.certificate` beside it; name the file with its chain",
        ),
        (
            "[tls]\nnames = [\"*.lan\"]",
            "2:10: `tls.names`: \"*.lan\" is neither a host name nor an IP address; write it like \
             \"router.lan\" or \"192.168.1.1\", without port or wildcard",
        ),
        (
            "[access]\nallow = [\"privat\"]",
            "2:10: `access.allow`: \"privat\" is not a network; did you mean \"private\"?",
        ),
        (
            "[access]\nallow = [\"10.0.0.0/33\"]",
            "2:10: `access.allow`: \"10.0.0.0/33\" is not a network; write \"loopback\", \
             \"private\", \"link-local\", \"all\", or a prefix such as \"192.168.1.0/24\"",
        ),
        (
            "[access]\nrate_limit = \"20\"",
            "2:14: `access.rate_limit`: is text, but must be a whole number without quotes",
        ),
        (
            "[upstream]\nurl = \"quad9\"",
            "1:1: `upstream`: is a table, but must be a list of tables; write [[upstream]]",
        ),
        (
            "[[cache]]\nsize = \"1MiB\"",
            "1:1: `cache`: is a list, but must be a table; write [cache]",
        ),
        (
            "[[upstream]]\nname = \"office\"",
            "1:1: `upstream`: has no `url`; write one, such as url = \"quad9\"",
        ),
        (
            "[[upstream]]\nurl = \"quad9\"\naddresses = [\"192.0.2.1:853\"]",
            "3:14: `upstream.addresses`: \"192.0.2.1:853\" has a port, which belongs into `url`; \
             write \"192.0.2.1\"",
        ),
        (
            "[[upstream]]\nurl = \"quad9\"\nname = \"a\"\n[[upstream]]\nurl = \"cloudflare\"\nname = \
             \"a\"",
            "6:8: `upstream.name`: another upstream is already called \"a\"; give this one a `name` \
             of its own",
        ),
        (
            "[[upstream]]\nurl = \"qad9\"",
            "2:7: `upstream.url`: \"qad9\" is neither a url, nor an address, nor a known resolver; \
             did you mean \"quad9\"?",
        ),
        (
            "[[upstream]]\nurl = \"tls://dns.example\"",
            "2:7: `upstream.url`: the addresses of dns.example. must be looked up, and no upstream \
             can be asked that needs no look-up itself; add bootstrap = [\"9.9.9.9\"], or \
             `addresses`",
        ),
        (
            // One that routes name is asked for nothing else.
            "[[upstream]]\nurl = \"tls://dns.example\"\n[[upstream]]\nurl = \"192.0.2.1\"\n\
             [[route]]\nzones = [\"lan\"]\nupstreams = [\"192.0.2.1\"]",
            "2:7: `upstream.url`: the addresses of dns.example. must be looked up, and no upstream \
             can be asked that needs no look-up itself; add bootstrap = [\"9.9.9.9\"], or \
             `addresses`",
        ),
        (
            "[[upstream]]\nurl = \"tls://dns.example\"\nbootstrap = [\"tls://other.example\"]",
            "3:14: `upstream.bootstrap`: to find \"tls://other.example\", somebody else would have \
             to be asked first; write an address, such as \"9.9.9.9\" or \"tls://1.1.1.1\"",
        ),
        (
            "[listen]\ndns = [\"0.0.0.0:53\"]\n[[upstream]]\nurl = \"udp://127.0.0.1\"",
            "4:7: `upstream.url`: 127.0.0.1:53 is truename itself (`listen.dns`, line 2), which \
             would ask itself for ever; name another resolver",
        ),
        (
            "[listen]\ndot = [\"192.168.1.1:853\"]\n[[upstream]]\nurl = \"tls://a.example\"\n\
             bootstrap = [\"tls://192.168.1.1\"]",
            "5:14: `upstream.bootstrap`: 192.168.1.1:853 is truename itself (`listen.dot`, line 2), \
             which would ask itself for ever; name another resolver",
        ),
        (
            "[[upstream]]\nurl = \"udp://127.0.0.1:5300\"",
            "2:7: `upstream.url`: 127.0.0.1:5300 is truename itself (`listen.dns`), which would ask \
             itself for ever; name another resolver",
        ),
        (
            "[[upstream]]\nurl = \"quad9\"\npin = [\"abc\"]",
            "3:8: `upstream.pin`: \"abc\" is no pin; write \"sha256/\" and the digest in base64, 44 \
             characters",
        ),
        (
            "[[upstream]]\nurl = \"udp://192.0.2.1\"\nca = \"ca.pem\"",
            "3:6: `upstream.ca`: there is no certificate on \"udp://\"; remove this key or write \
             tls://",
        ),
        (
            "[forward]\ntimeout = \"5 seconds\"",
            "2:11: `forward.timeout`: \"5 seconds\" is not a duration; write it as \"5s\"",
        ),
        (
            "[forward]\ntimeout = \"1h\"",
            "2:11: `forward.timeout`: must be from 100ms to 30s",
        ),
        (
            "[log]\nlevel = \"verbose\"",
            "2:9: `log.level`: \"verbose\" is not known here; write one of \"error\", \"warn\", \
             \"info\", \"debug\", \"trace\"",
        ),
        (
            "[state]\ndirectory = \" \"",
            "2:13: `state.directory`: is empty; write a value or remove the key",
        ),
    ] {
        check_complaint(text, expected);
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    for text in [
        "[cache]\nsize = 32MiB\n",
        "[cache]\nsize\n",
        "[cache]\n[cache]\n",
    ] {
        let found = complaints(text);
        assert!(
            found[0].starts_with("truename.toml:2:"),
            "{text:?}: {found:?}"
        );
        assert!(found[0].contains("is not TOML here: "), "{found:?}");
    }
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let found =
        complaints("[log]\nlevel = 1\n[cache]\nsize = \"x\"\nfoo = 1\n[names]\nhosts = [\"x\"]\n");
    let lines: Vec<&str> = found
        .iter()
        .filter_map(|complaint| complaint.split(':').nth(1))
        .collect();
    assert_eq!(lines, ["2", "4", "5", "7"], "{found:?}");
}

#[test]
fn a_file_of_nonsense_does_not_fill_the_terminal() {
    let lines: Vec<String> = (0..100).map(|n| format!("key{n} = 1")).collect();
    let text = lines.join("\n");
    let problems = parse_file(&text).unwrap_err();
    let shown = problems.to_string();
    assert_eq!(shown.lines().count(), PROBLEMS_MAX + 1);
    assert!(shown.ends_with("and 80 more"), "{shown}");
}

#[test]
fn columns_count_characters() {
    check_complaint(
        "[tls]\nnames = [\"zürich ü\", \"a.lan\", 7]"
            .replace("zürich ü", "a.lan\", \"ü")
            .replace(", 7", "")
            .as_str(),
        "2:19: `tls.names`: \"ü\" is neither a host name nor an IP address; write it like \
         \"router.lan\" or \"192.168.1.1\", without port or wildcard",
    );
}

#[test]
fn listen_flags_replace_every_listener() {
    let listen = ["127.0.0.1:0", "doh://[::1]:8443", "dot://127.0.0.1:0"];
    let settings = parse_flags(&[], &listen).unwrap();
    assert_eq!(settings.listen.dns, addresses(&["127.0.0.1:0"]));
    assert_eq!(settings.listen.dot, addresses(&["127.0.0.1:0"]));
    assert_eq!(settings.listen.doh, addresses(&["[::1]:8443"]));
    assert_eq!(settings.listen.doq, []);
}

#[test]
fn wrong_flags_are_told_as_flags() {
    let problems = parse_flags(&[], &["tls://127.0.0.1:853", "dot://127.0.0.1"]).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "--listen: \"tls://\" is no listener; write IP:PORT for plain DNS, or dot://IP:PORT, \
         doh://IP:PORT, doq://IP:PORT\n\
         --listen: \"127.0.0.1\" has no port; write \"127.0.0.1:853\""
    );
    let problems = parse_flags(&["gopher://x"], &[]).unwrap_err();
    assert!(
        problems.to_string().starts_with("--upstream: "),
        "{problems}"
    );
}

#[test]
fn upstream_flags_replace_every_upstream() {
    let settings = parse_flags(&["udp://127.0.0.1:5353"], &[]).unwrap();
    let [only] = settings.upstream.upstreams.as_slice() else {
        panic!("{:?}", settings.upstream.upstreams);
    };
    assert_eq!(only.transport, Transport::Udp);
    assert_eq!(only.addresses, addresses(&["127.0.0.1:5353"]));
}

#[test]
fn the_effective_configuration_says_the_same_again() {
    for text in [
        "",
        BUILT,
        "[listen]\ndoq = []\n[access]\nallow = [\"all\"]\n[admin]\nsocket = \"\"\n",
    ] {
        let first = parse_file(text).unwrap();
        let again = parse_file(&first.effective()).unwrap();
        assert_eq!(again.effective(), first.effective());
        assert_eq!(again.listen, first.listen);
        assert_eq!(again.tls, first.tls);
        assert_eq!(again.access, first.access);
        assert_eq!(again.upstream, first.upstream);
        assert_eq!(again.cache, first.cache);
        assert_eq!(again.cache_file, first.cache_file);
        assert_eq!(again.admin_socket, first.admin_socket);
        assert_eq!(again.state_directory, first.state_directory);
        assert_eq!(again.log, first.log);
    }
}

#[test]
fn the_control_socket_is_found_in_a_broken_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("truename.toml");
    let options = Options {
        config: Some(path.clone()),
        ..Options::default()
    };
    let find = |text: &str| {
        std::fs::write(&path, text).unwrap();
        admin_socket(&options, &home()).unwrap()
    };
    let within = |name: &str| Some(directory.path().join(name));
    let state = "[state]\ndirectory = \"state\"\n";
    assert_eq!(find(state), within("state/truename.sock"));
    let broken = format!("{state}[admin]\nsocket = \"a.sock\"\n[cache]\nsiez = 1\nsize = \"x\"\n");
    assert_eq!(find(&broken), within("state/a.sock"));
    assert_eq!(find(&format!("{broken}dns = [[\n")), within("state/a.sock"));
    assert_eq!(find("[admin]\nsocket = \"\"\n"), None);
    assert_eq!(
        find("[admin]\nsocket = \"/run/a.sock\"\n"),
        Some("/run/a.sock".into())
    );
    std::fs::remove_file(&path).unwrap();
    assert!(admin_socket(&options, &home()).is_err());
}

#[test]
fn a_named_file_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.toml");
    let options = Options {
        config: Some(path.clone()),
        ..Options::default()
    };
    let error = load(&options, &home()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: no such file; correct `--config` or TRUENAME_CONFIG",
            path.display()
        )
    );
    std::fs::write(&path, b"[log]\n\n# \xfcber\n").unwrap();
    let error = load(&options, &home()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}:3: this line is not UTF-8; save the file as UTF-8 text",
            path.display()
        )
    );
    let options = Options {
        config: Some(directory.path().to_owned()),
        ..Options::default()
    };
    let error = load(&options, &home()).unwrap_err();
    assert!(matches!(error, LoadError::Unreadable { .. }), "{error}");
}

#[test]
fn roots_are_read_and_their_problems_have_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("truename.toml");
    std::fs::write(
        &path,
        "[[upstream]]\nurl = \"tls://192.0.2.1\"\nserver_name = \"a.example\"\nca = \"ca.pem\"\n",
    )
    .unwrap();
    let options = Options {
        config: Some(path.clone()),
        ..Options::default()
    };
    let error = load(&options, &home()).unwrap_err().to_string();
    let start = format!("{}:4:6: `upstream.ca`: cannot read ", path.display());
    assert!(error.starts_with(&start), "{error}");

    std::fs::write(directory.path().join("ca.pem"), "nothing").unwrap();
    let error = load(&options, &home()).unwrap_err().to_string();
    assert!(error.contains("no certificate in "), "{error}");

    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    std::fs::write(directory.path().join("ca.pem"), made.cert.pem()).unwrap();
    let settings = load(&options, &home()).unwrap();
    assert_eq!(settings.upstream.upstreams[0].ca, [made.cert.der().clone()]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = parse_file(&text);
    }

    #[test]
    fn no_value_makes_the_reader_panic(key in 0..BUILT.lines().count(), value in "\\PC{0,20}") {
        let line = BUILT.lines().nth(key).unwrap_or_default();
        let name = line.split(" = ").next().unwrap_or_default();
        let text = BUILT.replace(line, &format!("{name} = {value}"));
        let _ = parse_file(&text);
        let text = BUILT.replace(line, &format!("{name} = {value:?}"));
        let _ = parse_file(&text);
    }
}
