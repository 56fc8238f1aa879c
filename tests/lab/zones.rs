//! The lab's tree, declared: every zone, how it is signed and delegated, and what is wrong with
//! it. `expectations.rs` says what a validator must make of each name.
//!
//! A record line is `owner [ttl] TYPE rdata`, as in zone files: names without a dot at the end
//! are relative to the zone, `@` is the apex. Two types are short for many records: `FILL r o`
//! (r TXT records of o octets) and `MANY n` (n addresses). SOA, NS, the name server's address,
//! DNSKEY, delegations and denial records are added to every zone.
//!
//! No name here is special-use (RFC 6761), and no address is private, so that a resolver under
//! test keeps its rules for both. One exception: `loopback.insecure.com` is this machine, for
//! clients that fetch something below a name.

/// How a zone proves that something does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// NSEC (RFC 4034, section 4).
    Nsec,
    /// NSEC3 (RFC 5155).
    Nsec3 {
        /// Additional iterations.
        iterations: u16,
        /// The salt.
        salt: &'static [u8],
        /// Whether insecure delegations are left out of the chain.
        opt_out: bool,
    },
}

/// NSEC3 as RFC 9276 wants it.
pub const NSEC3: Denial = Denial::Nsec3 {
    iterations: 0,
    salt: &[],
    opt_out: false,
};

/// NSEC3 with opt-out.
pub const OPT_OUT: Denial = Denial::Nsec3 {
    iterations: 0,
    salt: &[],
    opt_out: true,
};

/// What the parent says about a zone's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// A right DS for each of these digest types.
    Secure(&'static [u8]),
    /// No DS.
    Insecure,
    /// A DS whose digest fits no key.
    WrongDs,
    /// A SHA-1 DS that fits and a SHA-256 DS that does not (RFC 4509, section 3).
    Sha1BesideWrongSha256,
    /// A DS with an algorithm nobody knows.
    UnknownAlgorithm,
    /// A DS with a digest type nobody knows.
    UnknownDigest,
    /// A right DS beside one of an unknown algorithm and one that fits no key.
    RightAmongOthers,
}

/// What is wrong with a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Signatures of everything but the keys ended a month ago.
    Expired,
    /// Signatures of the keys ended a month ago.
    ExpiredKeys,
    /// Signatures of everything but the keys begin in a month.
    Future,
    /// Signed with a key that is not in the DNSKEY RRset.
    WrongKey,
    /// Nothing but the keys is signed.
    NoSignature,
    /// The keys are not signed.
    NoKeySignature,
    /// RDATA of A, AAAA, TXT and MX changed after signing.
    Tampered,
    /// There is no DNSKEY RRset.
    NoDnskey,
    /// Denial records are missing in responses.
    StrippedDenial,
    /// The signer's name is the parent's.
    WrongSigner,
    /// So many broken signatures stand before the good one.
    BadBeforeGood(u8),
    /// Signed with algorithms 8 and 13, the first perhaps broken (RFC 6840, section 5.11).
    TwoAlgorithms {
        /// Whether the signatures of algorithm 8 are broken.
        first_is_broken: bool,
    },
    /// TTLs are ten times what was signed.
    RaisedTtl,
    /// The only key is revoked (RFC 5011).
    RevokedKey,
    /// The only key lacks the ZONE flag.
    NoZoneFlag,
    /// The only key has protocol 4.
    WrongProtocol,
    /// So many more keys of algorithm 15 with one and the same tag, and as many signatures that
    /// any of them could have made (KeyTrap, CVE-2023-50387).
    KeyTrap(u8),
}

/// One zone.
#[derive(Clone, Copy, Debug)]
pub struct ZoneSpec {
    /// The apex.
    pub apex: &'static str,
    /// The DNSSEC algorithm; none for an unsigned zone.
    pub algorithm: Option<u8>,
    /// Whether keys and data have a key each.
    pub split_keys: bool,
    /// How it denies.
    pub denial: Denial,
    /// What its parent says.
    pub delegation: Delegation,
    /// What is wrong.
    pub defect: Option<Defect>,
    /// Its records, a line each.
    pub records: &'static str,
}

impl ZoneSpec {
    /// A sound zone: one P-256 key, NSEC, a SHA-256 DS.
    const fn signed(apex: &'static str, records: &'static str) -> Self {
        Self {
            apex,
            algorithm: Some(13),
            split_keys: false,
            denial: Denial::Nsec,
            delegation: Delegation::Secure(&[2]),
            defect: None,
            records,
        }
    }

    const fn unsigned(apex: &'static str, records: &'static str) -> Self {
        Self {
            algorithm: None,
            delegation: Delegation::Insecure,
            ..Self::signed(apex, records)
        }
    }

    const fn broken(apex: &'static str, defect: Defect) -> Self {
        Self {
            defect: Some(defect),
            ..Self::signed(apex, PLAIN)
        }
    }

    const fn algorithm(self, algorithm: u8) -> Self {
        Self {
            algorithm: Some(algorithm),
            ..self
        }
    }

    const fn split(self) -> Self {
        Self {
            split_keys: true,
            ..self
        }
    }

    const fn denial(self, denial: Denial) -> Self {
        Self { denial, ..self }
    }

    const fn delegation(self, delegation: Delegation) -> Self {
        Self { delegation, ..self }
    }
}

/// What every plain zone holds.
const PLAIN: &str = "
    @ A 192.0.2.1
    @ MX 10 mail
    @ TXT \"v=spf1 -all\"
    mail A 192.0.2.25
    www A 192.0.2.80
    www AAAA 2001:db8::80
    alias CNAME www
    b.a A 192.0.2.11
    *.wild A 192.0.2.42
";

const SECURE: &str = "
    @ A 192.0.2.1
    @ AAAA 2001:db8::1
    @ MX 10 mail
    @ MX 20 Backup-Mail.Secure.COM.
    @ TXT \"v=spf1 mx -all\"
    @ TXT \"second; string with spaces\" \"and a part\"
    @ CAA 0 issue \"ca.secure.com\"
    @ HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1
    mail A 192.0.2.25
    backup-mail A 192.0.2.26
    www A 192.0.2.80
    www AAAA 2001:db8::80
    www HTTPS 0 pool
    pool A 192.0.2.81
    pool A 192.0.2.82
    pool A 192.0.2.83
    pool HTTPS 1 . alpn=h2,h3 port=8443
    _dns SVCB 1 dns alpn=dot port=8853
    dns A 192.0.2.53
    _sip._tcp SRV 10 60 5060 sip
    _sip._tcp SRV 20 0 5060 Sip2
    sip A 192.0.2.60
    sip2 A 192.0.2.61
    txt TXT \"only text here\"
    alias CNAME www
    Mixed-Case A 192.0.2.77
    b.a A 192.0.2.11
    deep.er.and.deep.er A 192.0.2.12
    *.wild A 192.0.2.42
    *.wild TXT \"wild\"
    ttl0 0 A 192.0.2.100
    ttl1 1 A 192.0.2.101
    ttl3600 3600 A 192.0.2.102
    ttlmax 2147483647 A 192.0.2.103
    many MANY 60
    large FILL 10 200
    huge FILL 30 200
    giant FILL 80 250
    one-giant FILL 1 20000
    unknown TYPE65280 0123456789abcdef
";

const CNAME: &str = "
    secure CNAME www.secure.com.
    nsec3 CNAME www.nsec3.com.
    insecure CNAME www.insecure.com.
    bogus CNAME www.tampered.com.
    expired CNAME www.expired.com.
    nxdomain CNAME nothing.secure.com.
    nodata CNAME txt.secure.com.
    wildcard CNAME any.wildcard.com.
    dname CNAME www.secure.dname.com.
    there-and-back CNAME back.insecure.com.
    loop1 CNAME loop2
    loop2 CNAME loop1
    self CNAME self
    c1 CNAME c2
    c2 CNAME c3
    c3 CNAME c4
    c4 CNAME c5
    c5 CNAME www.secure.com.
    l1 CNAME l2
    l2 CNAME l3
    l3 CNAME l4
    l4 CNAME l5
    l5 CNAME l6
    l6 CNAME l7
    l7 CNAME l8
    l8 CNAME l9
    l9 CNAME l10
    l10 CNAME l11
    l11 CNAME l12
    l12 CNAME l13
    l13 CNAME l14
    l14 A 192.0.2.14
";

const WILDCARD: &str = "
    * A 192.0.2.42
    * MX 10 mail.secure.com.
    exists A 192.0.2.43
    below.exists A 192.0.2.44
    *.cname CNAME www.secure.com.
    *.out CNAME www.insecure.com.
    *.text TXT \"expanded\"
    host.text A 192.0.2.45
    ent.ent A 192.0.2.46
";

const DNAME: &str = "
    secure DNAME secure.com.
    insecure DNAME insecure.com.
    bogus DNAME tampered.com.
    loop DNAME loop.dname.com.
    long DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc.dname.com.
    old DNAME new
    a.new A 192.0.2.90
";

/// The whole tree; parents before children.
pub const ZONES: &[ZoneSpec] = &[
    ZoneSpec::signed(".", "").algorithm(8).split(),
    ZoneSpec::signed("com", "").split().denial(NSEC3),
    ZoneSpec::signed("net", "").split().denial(OPT_OUT),
    ZoneSpec::signed("org", "").algorithm(8),
    ZoneSpec::signed("arpa", "1.2.3.45.in-addr PTR www.secure.com."),
    // Sound zones, one for each algorithm.
    ZoneSpec::signed("secure.com", SECURE).split(),
    ZoneSpec::signed("rsasha256.com", PLAIN).algorithm(8),
    ZoneSpec::signed("rsasha512.com", PLAIN).algorithm(10),
    ZoneSpec::signed("ecdsap256.com", PLAIN),
    ZoneSpec::signed("ecdsap384.com", PLAIN)
        .algorithm(14)
        .delegation(Delegation::Secure(&[4])),
    ZoneSpec::signed("ed25519.com", PLAIN).algorithm(15),
    ZoneSpec::signed("secure.net", PLAIN),
    // Names that set a clock.
    ZoneSpec::signed("ntp.org", "pool A 192.0.2.123\n*.pool A 192.0.2.123"),
    // Denial.
    ZoneSpec::signed("nsec.com", PLAIN),
    ZoneSpec::signed("nsec3.com", PLAIN).denial(NSEC3),
    ZoneSpec::signed("salted.com", PLAIN).denial(Denial::Nsec3 {
        iterations: 5,
        salt: &[0xaa, 0xbb, 0xcc, 0xdd],
        opt_out: false,
    }),
    ZoneSpec::signed("iterations.com", PLAIN).denial(Denial::Nsec3 {
        iterations: 1500,
        salt: &[0xaa],
        opt_out: false,
    }),
    ZoneSpec::signed("iterations200.com", PLAIN).denial(Denial::Nsec3 {
        iterations: 200,
        salt: &[0xaa],
        opt_out: false,
    }),
    ZoneSpec::signed("optout.com", PLAIN).denial(OPT_OUT),
    ZoneSpec::signed("signed.optout.com", PLAIN),
    ZoneSpec::unsigned("unsigned.optout.com", PLAIN),
    ZoneSpec::unsigned("cut.ent.optout.com", PLAIN),
    // Expansion.
    ZoneSpec::signed("wildcard.com", WILDCARD),
    ZoneSpec::signed("wildcard3.com", WILDCARD).denial(NSEC3),
    ZoneSpec::signed("cname.com", CNAME),
    ZoneSpec::signed("dname.com", DNAME),
    ZoneSpec::signed("renamed.com", "@ DNAME secure.com.\n@ TXT \"moved\"").denial(NSEC3),
    // Cuts: a child of a child, a cut below an empty non-terminal, islands.
    ZoneSpec::signed("secure.org", PLAIN),
    ZoneSpec::signed("deep.secure.org", PLAIN),
    ZoneSpec::signed("deeper.deep.secure.org", PLAIN).denial(NSEC3),
    ZoneSpec::signed("cut.ent.secure.org", PLAIN),
    ZoneSpec::unsigned("insecure.secure.org", PLAIN),
    ZoneSpec::signed("wrongds.secure.org", PLAIN).delegation(Delegation::WrongDs),
    ZoneSpec::unsigned(
        "insecure.com",
        "
        @ A 192.0.2.1
        www A 192.0.2.80
        www AAAA 2001:db8::80
        alias CNAME www
        to-secure CNAME www.secure.com.
        back CNAME www.secure.com.
        *.wild A 192.0.2.42
        txt TXT \"nobody signed this\"
        loopback A 127.0.0.1
        large FILL 10 200
    ",
    ),
    ZoneSpec::unsigned("insecure.net", PLAIN),
    ZoneSpec::unsigned("sub.insecure.com", PLAIN),
    ZoneSpec::signed("island.insecure.com", PLAIN).delegation(Delegation::Insecure),
    ZoneSpec::signed("child.island.insecure.com", PLAIN),
    // Several keys, digests and algorithms, sound.
    ZoneSpec::signed("manyds.com", PLAIN).delegation(Delegation::Secure(&[1, 2, 4])),
    ZoneSpec::signed("amongothers.com", PLAIN).delegation(Delegation::RightAmongOthers),
    ZoneSpec::broken(
        "dualalg.com",
        Defect::TwoAlgorithms {
            first_is_broken: false,
        },
    ),
    ZoneSpec::broken(
        "halfbroken.com",
        Defect::TwoAlgorithms {
            first_is_broken: true,
        },
    ),
    ZoneSpec::broken("badthengood.com", Defect::BadBeforeGood(3)),
    ZoneSpec::broken("raisedttl.com", Defect::RaisedTtl),
    // Not supported, so insecure.
    ZoneSpec::signed("unknownalg.com", PLAIN).delegation(Delegation::UnknownAlgorithm),
    ZoneSpec::signed("unknowndigest.com", PLAIN).delegation(Delegation::UnknownDigest),
    ZoneSpec::signed("sha1ds.com", PLAIN).delegation(Delegation::Secure(&[1])),
    // Broken.
    ZoneSpec::broken("expired.com", Defect::Expired),
    ZoneSpec::broken("expiredkeys.com", Defect::ExpiredKeys),
    ZoneSpec::broken("future.com", Defect::Future),
    ZoneSpec::broken("wrongkey.com", Defect::WrongKey),
    ZoneSpec::broken("nosig.com", Defect::NoSignature),
    ZoneSpec::broken("nokeysig.com", Defect::NoKeySignature),
    ZoneSpec::broken("tampered.com", Defect::Tampered),
    ZoneSpec::broken("nodnskey.com", Defect::NoDnskey),
    ZoneSpec::broken("stripped.com", Defect::StrippedDenial),
    ZoneSpec::broken("stripped3.com", Defect::StrippedDenial).denial(NSEC3),
    ZoneSpec::broken("wrongsigner.com", Defect::WrongSigner),
    ZoneSpec::broken("manybad.com", Defect::BadBeforeGood(40)),
    ZoneSpec::broken("revoked.com", Defect::RevokedKey),
    ZoneSpec::broken("nozoneflag.com", Defect::NoZoneFlag),
    ZoneSpec::broken("wrongprotocol.com", Defect::WrongProtocol),
    ZoneSpec::broken("keytrap.com", Defect::KeyTrap(60)),
    ZoneSpec::signed("wrongds.com", PLAIN).delegation(Delegation::WrongDs),
    ZoneSpec::signed("sha1beside.com", PLAIN).delegation(Delegation::Sha1BesideWrongSha256),
];

pub use super::expectations::expectations;
