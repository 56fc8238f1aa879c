//! What must hold whichever way a query comes in and goes out.

use crate::{
    lab::{
        Answered, Ask, Transport,
        message::{NOERROR, NXDOMAIN, REFUSED, flag},
        name::wire,
    },
    support::{Client, World},
};

const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
const BADVERS: u16 = 16;

const OPTION_CLIENT_SUBNET: u16 = 8;
const OPTION_COOKIE: u16 = 10;
const OPTION_PADDING: u16 = 12;

/// Where the version stands in an OPT record without options, counted from the message's end.
const VERSION_FROM_END: usize = 5;

/// Runs everything for one pair.
pub(super) async fn run(listener: Transport, upstream: Transport) {
    let world = World::start(upstream).await;
    let client = Client::connect(&world.truename, listener).await;
    let mut suite = Suite {
        world,
        client,
        listener,
        upstream,
    };
    suite.data().await;
    suite.denials().await;
    suite.aliases().await;
    suite.large_answers().await;
    suite.spelling_is_kept().await;
    suite.edns().await;
    suite.dnssec_records_only_with_do().await;
    suite.padding().await;
    suite.odd_queries().await;
    suite.ttls_age().await;
    suite.upstream_learns_nothing().await;
}

struct Suite {
    world: World,
    client: Client,
    listener: Transport,
    upstream: Transport,
}

impl Suite {
    /// Asks and checks what holds for every answer.
    async fn ask(&mut self, ask: &Ask) -> Answered {
        let answered = self.client.ask(ask).await;
        let name = &ask.name;
        let id = if self.listener == Transport::Quic {
            0
        } else {
            ask.id
        };
        assert_eq!(answered.id, id, "{name}: the client's id");
        assert!(answered.has(flag::QR) && answered.has(flag::RA), "{name}");
        assert!(answered.has(flag::RD), "{name}: RD comes back");
        assert!(!answered.has(flag::AA), "{name}: AA is never ours");
        assert!(!answered.has(flag::AD), "{name}: nothing is proven yet");
        let mut question = wire(name);
        question.extend(ask.rtype.to_be_bytes());
        question.extend(ask.class.to_be_bytes());
        assert_eq!(answered.question, question, "{name}: the question as sent");
        assert_eq!(
            answered.options.is_some(),
            ask.udp_octets.is_some(),
            "{name}: an OPT when asked, and only then"
        );
        answered
    }

    async fn data(&mut self) {
        let www = self.ask(&Ask::new("www.secure.com", "A")).await;
        assert_eq!(
            (www.rcode, www.rdata("A")),
            (NOERROR, vec![&[192, 0, 2, 80][..]])
        );
        let www = self.ask(&Ask::new("www.secure.com", "AAAA")).await;
        assert_eq!(www.rdata("AAAA")[0][..4], [0x20, 0x01, 0x0d, 0xb8]);
        let apex = self.ask(&Ask::new("secure.com", "MX")).await;
        let mut preferences: Vec<_> = apex.rdata("MX").iter().map(|data| data[1]).collect();
        preferences.sort_unstable();
        assert_eq!(preferences, [10, 20]);
        let apex = self.ask(&Ask::new("secure.com", "TXT")).await;
        assert_eq!(apex.rdata("TXT").len(), 2);
        let spf = b"\x0ev=spf1 mx -all".as_slice();
        assert!(apex.rdata("TXT").contains(&spf), "{:?}", apex.rdata("TXT"));
        let service = self.ask(&Ask::new("_dns.secure.com", "SVCB")).await;
        let data = service.rdata("SVCB");
        assert!(data.len() == 1 && data[0].starts_with(&[0, 1]), "{data:?}");
        let unknown = self.ask(&Ask::new("unknown.secure.com", "TYPE65280")).await;
        let octets = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].as_slice();
        assert_eq!(unknown.rdata("TYPE65280"), [octets]);
        let many = self.ask(&Ask::new("pool.secure.com", "A")).await;
        assert_eq!(many.rdata("A").len(), 3);
        assert!(many.sections[1].is_empty() && many.sections[2].is_empty());
    }

    async fn denials(&mut self) {
        let absent = self.ask(&Ask::new("nothing.secure.com", "A")).await;
        assert_eq!(absent.rcode, NXDOMAIN);
        assert!(absent.answer().is_empty());
        assert_eq!(absent.sections[1].len(), 1, "SOA alone without DO");
        assert_eq!(absent.count("SOA"), 1);
        let empty = self.ask(&Ask::new("txt.secure.com", "A")).await;
        assert_eq!((empty.rcode, empty.count("SOA")), (NOERROR, 1));
        assert!(empty.answer().is_empty());
    }

    async fn aliases(&mut self) {
        let alias = self.ask(&Ask::new("alias.secure.com", "A")).await;
        assert_eq!(alias.answer().len(), 2);
        assert_eq!(alias.rdata("A"), [[192, 0, 2, 80]]);
        let chain = self.ask(&Ask::new("c1.cname.com", "A")).await;
        assert_eq!(chain.rdata("CNAME").len(), 5);
        assert_eq!(chain.rdata("A"), [[192, 0, 2, 80]]);
        let moved = self.ask(&Ask::new("www.secure.dname.com", "A")).await;
        assert_eq!(moved.rdata("DNAME").len(), 1);
        assert_eq!(moved.rdata("CNAME").len(), 1, "synthesised");
        assert_eq!(moved.rdata("A"), [[192, 0, 2, 80]]);
        let nowhere = self.ask(&Ask::new("nxdomain.cname.com", "A")).await;
        assert_eq!(nowhere.rcode, NXDOMAIN);
        assert_eq!((nowhere.rdata("CNAME").len(), nowhere.count("SOA")), (1, 1));
        let circle = self.ask(&Ask::new("loop1.cname.com", "A")).await;
        assert_ne!(circle.rcode, NXDOMAIN);
        assert!(circle.rdata("A").is_empty());
    }

    async fn large_answers(&mut self) {
        for (name, records, octets) in [
            ("large.secure.com", 10, 1232),
            ("huge.secure.com", 30, 4096),
            ("giant.secure.com", 80, 20_000),
        ] {
            let ask = Ask::new(name, "TXT").udp_octets(Some(4096));
            let answered = self.ask(&ask).await;
            let whole = if self.listener == Transport::Udp {
                assert!(answered.has(flag::TC), "{name}");
                assert!(
                    answered.answer().is_empty(),
                    "{name}: nothing instead of a part"
                );
                self.world.ask(Transport::Tcp, &ask).await
            } else {
                answered
            };
            assert!(!whole.has(flag::TC), "{name}");
            assert_eq!(whole.rdata("TXT").len(), records, "{name}");
            assert!(whole.octets.len() > octets, "{name}");
        }
    }

    async fn spelling_is_kept(&mut self) {
        for name in ["wWw.sEcUrE.cOm", "WWW.SECURE.COM", "www.secure.com"] {
            let answered = self.ask(&Ask::new(name, "A")).await;
            assert_eq!(answered.answer()[0].owner, wire(name), "{name}");
        }
        let fresh = self.ask(&Ask::new("MiXeD-cAsE.SeCuRe.CoM", "A")).await;
        assert_eq!(fresh.rdata("A"), [[192, 0, 2, 77]]);
    }

    async fn edns(&mut self) {
        let bare = self
            .ask(&Ask::new("www.secure.com", "A").udp_octets(None))
            .await;
        assert_eq!(bare.rdata("A"), [[192, 0, 2, 80]]);
        let mut later = self.client.encode(&Ask::new("www.secure.com", "A"));
        let at = later.len() - VERSION_FROM_END;
        later[at] = 1;
        assert_eq!(self.client.send(&later).await.rcode(), Some(BADVERS));
        // Options nobody knows are passed over (RFC 6891, section 6.1.2).
        let unknown = Ask::new("www.secure.com", "A").option(65001, b"what is this");
        let answered = self.ask(&unknown).await;
        assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
    }

    async fn dnssec_records_only_with_do(&mut self) {
        let plain = self.ask(&Ask::new("b.a.secure.com", "A")).await;
        assert_eq!(plain.count("RRSIG"), 0);
        let signed = self.ask(&Ask::new("b.a.secure.com", "A").dnssec()).await;
        assert_eq!(signed.count("RRSIG"), 1);
        let asked = self
            .ask(&Ask::new("b.a.secure.com", "A").dnssec().flags(flag::AD))
            .await;
        assert_eq!(asked.count("RRSIG"), 1);
        let absent = Ask::new("not-there.nsec.com", "A");
        let plain = self.ask(&absent).await;
        assert_eq!(plain.count("NSEC") + plain.count("RRSIG"), 0);
        let proven = self.ask(&absent.dnssec()).await;
        assert!(proven.count("NSEC") > 0 && proven.count("RRSIG") > 0);
        let again = self.ask(&Ask::new("b.a.secure.com", "A")).await;
        assert_eq!(again.count("RRSIG"), 0, "the cache keeps both forms apart");
    }

    async fn padding(&mut self) {
        let ask = Ask::new("www.secure.com", "A").option(OPTION_PADDING, &[0; 20]);
        let answered = self.ask(&ask).await;
        let padded = has_option(&answered, OPTION_PADDING);
        assert_eq!(
            padded,
            self.listener.is_encrypted(),
            "padding where it hides something"
        );
        if padded {
            assert_eq!(answered.octets.len() % 468, 0);
        }
        let answered = self.ask(&Ask::new("www.secure.com", "A")).await;
        assert!(
            !has_option(&answered, OPTION_PADDING),
            "nobody asked for it"
        );
    }

    async fn odd_queries(&mut self) {
        let before = self.world.lab.record().queries().len();
        let good = self
            .client
            .encode(&Ask::new("odd.secure.com", "A").udp_octets(None));
        for opcode in [1, 2, 3, 4, 5, 6, 15] {
            let mut odd = good.clone();
            odd[2] = opcode << 3;
            let outcome = self.client.send(&odd).await;
            assert_eq!(
                outcome.rcode(),
                Some(NOTIMP),
                "opcode {opcode}: {outcome:?}"
            );
        }
        let mut none = good[..12].to_vec();
        none[5] = 0;
        assert_eq!(
            self.client.send(&none).await.rcode(),
            Some(FORMERR),
            "QDCOUNT 0"
        );
        let mut two = good.clone();
        two[5] = 2;
        two.extend_from_slice(&good[12..]);
        assert_eq!(
            self.client.send(&two).await.rcode(),
            Some(FORMERR),
            "QDCOUNT 2"
        );
        for rtype in ["TYPE251", "TYPE252", "TYPE249", "TYPE250", "TYPE41"] {
            let odd = self
                .ask(&Ask::new("secure.com", rtype).udp_octets(None))
                .await;
            assert_eq!((odd.rcode, odd.answer().len()), (REFUSED, 0), "{rtype}");
        }
        for (class, name) in [
            (3, "id.server"),
            (3, "version.bind"),
            (254, "a.com"),
            (255, "a.com"),
        ] {
            let mut ask = Ask::new(name, "TXT");
            ask.class = class;
            assert_eq!(self.ask(&ask).await.rcode, REFUSED, "class {class}");
        }
        let any = self.ask(&Ask::new("secure.com", "TYPE255")).await;
        assert_eq!(
            (any.rcode, any.answer().len()),
            (NOERROR, 1),
            "ANY is answered small"
        );
        assert!(any.octets.len() < 100);
        assert_eq!(
            self.world.lab.record().queries().len(),
            before,
            "none of this is forwarded"
        );
    }

    async fn ttls_age(&mut self) {
        let ask = Ask::new("ttl3600.secure.com", "A");
        let first = self.ask(&ask).await.answer()[0].ttl_s;
        let second = self.ask(&ask).await.answer()[0].ttl_s;
        assert!(
            0 < second && second <= first && first <= 3600,
            "{first}, {second}"
        );
        assert_eq!(self.world.lab.record().queries_below(&ask.name).len(), 1);
    }

    async fn upstream_learns_nothing(&mut self) {
        let name = "a-name-with-letters.wild.secure.com";
        let ask = Ask::new(name, "A")
            .flags(flag::AD)
            .option(OPTION_CLIENT_SUBNET, &[0, 1, 24, 0, 198, 51, 100])
            .option(OPTION_COOKIE, b"clientsc")
            .option(65001, b"something private");
        let answered = self.ask(&ask).await;
        assert_eq!(answered.rdata("A"), [[192, 0, 2, 42]]);
        assert!(!has_option(&answered, OPTION_CLIENT_SUBNET));
        let seen = self.world.lab.record().queries_below(name);
        assert_eq!(seen.len(), 1, "one exchange");
        let seen = &seen[0];
        assert_eq!(seen.transport, self.upstream);
        let query = seen.query.as_ref().unwrap();
        assert_eq!(
            query.flags,
            flag::RD | flag::CD,
            "RD and CD and nothing else"
        );
        assert!(query.well_formed && query.dnssec_ok());
        let edns = query.edns.as_ref().unwrap();
        let codes: Vec<u16> = edns.options.iter().map(|(code, _)| *code).collect();
        if self.upstream.is_encrypted() {
            assert_eq!(codes, [OPTION_PADDING]);
            assert_eq!(seen.octets.len() % 128, 0, "padded to the block");
        } else {
            assert!(codes.is_empty(), "{codes:?}");
        }
        if self.upstream == Transport::Udp {
            assert_eq!(edns.udp_octets, 1232);
        }
        let spelt = query.qname_as_received();
        assert_eq!(
            spelt == spelt.to_ascii_lowercase(),
            self.upstream != Transport::Udp,
            "mixed case where anybody could answer"
        );
        let is_http = matches!(self.upstream, Transport::Https | Transport::Http3);
        if is_http || self.upstream == Transport::Quic {
            assert_eq!(query.id, 0);
        }
    }
}

fn has_option(answered: &Answered, code: u16) -> bool {
    let mut options = answered.options.iter().flatten();
    options.any(|(found, _)| *found == code)
}
