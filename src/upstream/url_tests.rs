use super::*;

fn read(url: &str) -> UpstreamSettings {
    parse(url, Overrides::default()).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refuse(url: &str) -> UrlError {
    parse(url, Overrides::default()).unwrap_err()
}

fn shown(settings: &UpstreamSettings) -> String {
    let addresses: Vec<String> = settings.addresses.iter().map(ToString::to_string).collect();
    let name = settings
        .server_name
        .as_ref()
        .map_or_else(|| "-".into(), |name| name.to_str().into_owned());
    [
        settings.name.as_str(),
        settings.transport.label(),
        &addresses.join(","),
        &name,
        &settings.authority,
        &settings.path,
    ]
    .join(" ")
}

#[test]
fn urls_mean_what_people_expect() {
    for (url, expected) in [
        ("9.9.9.9", "9.9.9.9 udp 9.9.9.9:53 -  "),
        ("9.9.9.9:5353", "9.9.9.9:5353 udp 9.9.9.9:5353 -  "),
        ("2620:fe::fe", "2620:fe::fe udp [2620:fe::fe]:53 -  "),
        ("[::1]:5353", "[::1]:5353 udp [::1]:5353 -  "),
        ("udp://192.0.2.1", "udp://192.0.2.1 udp 192.0.2.1:53 -  "),
        ("TCP://[::1]/", "tcp://[::1] tcp [::1]:53 -  "),
        (
            "9.9.9.9#dns.quad9.net",
            "tls://dns.quad9.net dot 9.9.9.9:853 dns.quad9.net  ",
        ),
        (
            "9.9.9.9@8853#Dns.Quad9.Net",
            "tls://dns.quad9.net dot 9.9.9.9:8853 dns.quad9.net  ",
        ),
        (
            "2620:fe::fe#dns.quad9.net",
            "tls://dns.quad9.net dot [2620:fe::fe]:853 dns.quad9.net  ",
        ),
        (
            "[2620:fe::fe]:8853#dns.quad9.net",
            "tls://dns.quad9.net dot [2620:fe::fe]:8853 dns.quad9.net  ",
        ),
        ("tls://1.1.1.1", "tls://1.1.1.1 dot 1.1.1.1:853 1.1.1.1  "),
        (
            "tls://wikimedia-dns.org",
            "tls://wikimedia-dns.org dot 185.71.138.138:853,[2001:67c:930::1]:853 wikimedia-dns.org  ",
        ),
        (
            "quic://wikimedia-dns.org:784",
            "quic://wikimedia-dns.org:784 doq 185.71.138.138:784,[2001:67c:930::1]:784 wikimedia-dns.org  ",
        ),
        (
            "https://wikimedia-dns.org/dns-query{?dns}",
            "https://wikimedia-dns.org doh 185.71.138.138:443,[2001:67c:930::1]:443 wikimedia-dns.org wikimedia-dns.org /dns-query",
        ),
        (
            "https://[::1]:8443",
            "https://[::1]:8443 doh [::1]:8443 ::1 [::1]:8443 /dns-query",
        ),
        (
            "h3://127.0.0.1/q?a=b",
            "h3://127.0.0.1 doh3 127.0.0.1:443 127.0.0.1 127.0.0.1 /q?a=b",
        ),
        (
            "https://dns.example/secret#192.0.2.1,2001:db8::1",
            "https://dns.example doh 192.0.2.1:443,[2001:db8::1]:443 dns.example dns.example /secret",
        ),
        (
            "https://odvr.nic.cz",
            "https://odvr.nic.cz doh 193.17.47.1:443,[2001:148f:ffff::1]:443,185.43.135.1:443,[2001:148f:fffe::1]:443 odvr.nic.cz odvr.nic.cz /doh",
        ),
        (
            "Wikimedia",
            "wikimedia doh 185.71.138.138:443,[2001:67c:930::1]:443 wikimedia-dns.org wikimedia-dns.org /dns-query",
        ),
        (
            "nextdns:abc123",
            "nextdns doh 45.90.28.0:443,[2a07:a8c0::]:443,45.90.30.0:443,[2a07:a8c1::]:443 dns.nextdns.io dns.nextdns.io /abc123",
        ),
        (
            "tls://abc123.dns.nextdns.io",
            "tls://abc123.dns.nextdns.io dot 45.90.28.0:853,[2a07:a8c0::]:853,45.90.30.0:853,[2a07:a8c1::]:853 abc123.dns.nextdns.io  ",
        ),
    ] {
        assert_eq!(shown(&read(url)), expected, "{url}");
    }
}

#[test]
fn stamps_become_settings() {
    for (stamp, expected) in [
        (
            "sdns://AAEAAAAAAAAACjE5Mi4wLjIuNTM",
            "sdns:192.0.2.53 udp 192.0.2.53:53 -  ",
        ),
        (
            "sdns://AAAAAAAAAAAADVsyNjIwOmZlOjoxMV0",
            "sdns:2620:fe::11 udp [2620:fe::11]:53 -  ",
        ),
        (
            "sdns://AgMAAAAAAAAACjc2Ljc2LjIuMTEAFGZyZWVkbnMuY29udHJvbGQuY29tAy9wMg",
            "sdns:freedns.controld.com doh 76.76.2.11:443 freedns.controld.com freedns.controld.com /p2",
        ),
    ] {
        assert_eq!(shown(&read(stamp)), expected);
    }
    let pinned = read(
        "sdns://AgcAAAAAAAAADTE4NS45NS4yMTguNDIgsl8vNpZ_c5TwmTeIWzM_qjVtcZ_qzzjM6fA1UADz4XQcZG5zLmRpZ2l0YWxlLWdlc2VsbHNjaGFmdC5jaAovZG5zLXF1ZXJ5",
    );
    assert!(matches!(pinned.pins.as_slice(), [Pin::TbsCertificate(_)]));
    // A stamp without an address, for a host that nobody knows here.
    let unknown = read("sdns://AgIAAAAAAAAAAAALZG5zLmV4YW1wbGUKL2Rucy1xdWVyeQ");
    assert_eq!(unknown.addresses, []);
    assert_eq!(unknown.look_up.unwrap().host.to_string(), "dns.example.");
}

#[test]
fn every_name_of_the_catalogue_is_an_upstream() {
    for entry in catalogue::entries() {
        if entry.name == "nextdns" {
            assert_eq!(refuse(entry.name), UrlError::NeedsId);
            continue;
        }
        let settings = read(entry.name);
        assert_eq!(settings.name, entry.name);
        assert_eq!(settings.transport, Transport::Https);
        assert!(settings.addresses.len() >= 2);
        for host in std::iter::once(&entry.https_host).chain(entry.other_hosts) {
            let dot = read(&format!("tls://{host}"));
            assert_eq!(dot.addresses.len(), settings.addresses.len());
        }
    }
}

#[test]
fn mistakes_say_what_to_write_instead() {
    for (url, key, part) in [
        ("", "url", "is empty"),
        ("doh://1.1.1.1", "url", "write https://"),
        (
            "http://1.1.1.1/dns-query",
            "url",
            "plain HTTP is not offered",
        ),
        ("dot://1.1.1.1", "url", "write tls://"),
        ("doq://1.1.1.1", "url", "write quic://"),
        ("gopher://1.1.1.1", "url", "one of udp://"),
        ("cloudfare", "url", "did you mean \"cloudflare\"?"),
        ("dns.example", "url", "write it with its scheme"),
        ("mullvad", "url", "ended its public service on 2026-11-02"),
        ("tls://base.dns.mullvad.net", "url", "\"quad9\""),
        ("https://zero.dns0.eu/", "url", "dns4eu"),
        ("tls://", "url", "neither an address nor a host name"),
        (
            "tls://1.1.1.256",
            "url",
            "neither an address nor a host name",
        ),
        ("tls://a b", "url", "neither an address nor a host name"),
        ("tls://::1", "url", "[::1]"),
        ("tls://[::1", "url", "neither an address nor a host name"),
        ("tls://1.1.1.1:0", "url", "no port"),
        ("tls://1.1.1.1:65536", "url", "no port"),
        ("tls://1.1.1.1:+853", "url", "no port"),
        ("tls://dns.bücher.example", "url", "xn--"),
        ("https://me@dns.google/", "url", "user name"),
        ("tls://dns.google/dns-query", "url", "write https://"),
        ("https://dns.google/ä b", "url", "characters"),
        ("https://dns.example/#nowhere", "url", "neither an address"),
        ("udp://dns.example", "addresses", "add `addresses"),
        ("tcp://dns.example:5353", "addresses", "plain DNS"),
        ("9.9.9.9#1.1.1.1", "server_name", "host name"),
        ("dns.example#dns.example", "url", "neither an address"),
        ("nextdns", "url", "nextdns:abc123"),
        ("nextdns:", "url", "nextdns:abc123"),
        ("nextdns:a/b", "url", "nextdns:abc123"),
        ("sdns://AQ", "url", "DNSCrypt"),
        ("sdns://%%%", "url", "base64url"),
    ] {
        let error = refuse(url);
        let text = error.to_string();
        assert!(text.contains(part), "{url}: {text}");
        assert_eq!(error.key(), key, "{url}: {text}");
    }
}

#[test]
fn what_is_said_beside_the_url_wins() {
    let settings = parse(
        "tls://127.0.0.1:8853",
        Overrides {
            name: Some("office".to_owned()),
            server_name: Some("Dns.Example.".to_owned()),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            bootstrap: Vec::new(),
            pins: vec![format!("sha256/{}", BASE64.encode(&[9; 32]))],
            weight: Some(3),
            ca: Vec::new(),
        },
    )
    .unwrap();
    assert_eq!(shown(&settings), "office dot 192.0.2.1:8853 dns.example  ");
    assert_eq!(settings.pins, [Pin::Spki([9; 32])]);
    assert_eq!(settings.weight, 3);
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let with = |url: &str, change: fn(&mut Overrides)| {
        let mut overrides = Overrides::default();
        change(&mut overrides);
        parse(url, overrides).unwrap_err()
    };
    let name: fn(&mut Overrides) = |overrides| overrides.server_name = Some("a.example".to_owned());
    assert_eq!(with("udp://192.0.2.1", name).key(), "server_name");
    let pin: fn(&mut Overrides) = |overrides| overrides.pins = vec!["sha256/AAAA".to_owned()];
    assert_eq!(with("tcp://192.0.2.1", pin).key(), "pin");
    assert_eq!(
        with("tls://192.0.2.1", pin),
        UrlError::Pin("sha256/AAAA".to_owned())
    );
    let bad: fn(&mut Overrides) = |overrides| overrides.server_name = Some("a b".to_owned());
    assert_eq!(with("tls://192.0.2.1", bad).key(), "server_name");
}

#[test]
fn a_host_name_without_addresses_is_to_be_looked_up() {
    let with = |url: &str, bootstrap: &[&str]| {
        let overrides = Overrides {
            bootstrap: bootstrap.iter().map(|text| (*text).to_owned()).collect(),
            ..Overrides::default()
        };
        parse(url, overrides)
    };
    let upstream = with("https://dns.example:8443/q", &["9.9.9.9", "tls://1.1.1.1"]).unwrap();
    assert_eq!(
        shown(&upstream),
        "https://dns.example:8443 doh  dns.example dns.example:8443 /q"
    );
    let look_up = upstream.look_up.unwrap();
    assert_eq!(
        (look_up.host.to_string(), look_up.port),
        ("dns.example.".into(), 8443)
    );
    let servers: Vec<String> = look_up.servers.iter().map(shown).collect();
    assert_eq!(
        servers,
        [
            "9.9.9.9 udp 9.9.9.9:53 -  ",
            "tls://1.1.1.1 dot 1.1.1.1:853 1.1.1.1  "
        ]
    );
    assert_eq!(
        with("tls://dns.example", &[])
            .unwrap()
            .look_up
            .unwrap()
            .servers,
        []
    );
    // Who names servers wants them asked, whatever the catalogue knows.
    assert!(with("tls://dns.quad9.net", &[]).unwrap().look_up.is_none());
    assert!(
        with("tls://dns.quad9.net", &["9.9.9.9"])
            .unwrap()
            .look_up
            .is_some()
    );
    for (url, bootstrap, part) in [
        ("tls://192.0.2.1", "9.9.9.9", "is an address"),
        ("192.0.2.1#dns.example", "9.9.9.9", "the url has addresses"),
        (
            "tls://dns.example",
            "tls://other.example",
            "somebody else would have to be asked",
        ),
        (
            "tls://dns.example",
            "udp://other.example",
            "somebody else would have to be asked",
        ),
        ("tls://dns.example", "nine", "neither a url"),
        ("tls://dns.example", "9.9.9.9:0", "no port"),
    ] {
        let error = with(url, &[bootstrap]).unwrap_err();
        assert_eq!(error.key(), "bootstrap", "{url}: {error}");
        assert!(error.to_string().contains(part), "{url}: {error}");
    }
    assert_eq!(
        with("udp://dns.example", &["9.9.9.9"]).unwrap_err().key(),
        "addresses"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(sdns://|https://|tls://)?[!-~ä]{0,40}") {
        drop(parse(&text, Overrides::default()));
    }

    #[test]
    fn no_stamp_makes_it_panic(
        kind in 0..6_u8,
        octets in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
    ) {
        let text = data_encoding::BASE64URL_NOPAD.encode(&[&[kind], octets.as_slice()].concat());
        drop(parse(&format!("sdns://{text}"), Overrides::default()));
    }
}
