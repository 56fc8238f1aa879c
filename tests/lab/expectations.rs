//! What a validating resolver that trusts the lab's root must make of each name: data for tests
//! to loop over. Where standards leave a choice, the name is not listed or says so.

use super::message::{NOERROR, NXDOMAIN, SERVFAIL};

/// The security status of the answer as a whole (RFC 4035, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Proven: AD.
    Secure,
    /// Proven to be unsigned, or signed in a way nobody supports: no AD.
    Insecure,
    /// Not to be given out: SERVFAIL.
    Bogus,
    /// There is no answer, whoever asks: SERVFAIL without a verdict.
    Failure,
}

/// The shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The answer section ends with records of the type asked for.
    Data,
    /// The name (or the end of its chain) exists without the type.
    NoData,
    /// The name (or the end of its chain) does not exist.
    NoName,
    /// No answer.
    Nothing,
}

/// What a client of a right resolver sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// The response code.
    pub rcode: u16,
    /// The shape of the answer.
    pub shape: Shape,
    /// Extended errors (RFC 8914) that would be right; empty when none is needed.
    pub extended_errors: &'static [u16],
}

const fn expect(verdict: Verdict, rcode: u16, shape: Shape) -> Expectation {
    Expectation {
        verdict,
        rcode,
        shape,
        extended_errors: &[],
    }
}

const SECURE: Expectation = expect(Verdict::Secure, NOERROR, Shape::Data);
const SECURE_NODATA: Expectation = expect(Verdict::Secure, NOERROR, Shape::NoData);
const SECURE_NXDOMAIN: Expectation = expect(Verdict::Secure, NXDOMAIN, Shape::NoName);
const INSECURE: Expectation = expect(Verdict::Insecure, NOERROR, Shape::Data);
const INSECURE_NODATA: Expectation = expect(Verdict::Insecure, NOERROR, Shape::NoData);
const INSECURE_NXDOMAIN: Expectation = expect(Verdict::Insecure, NXDOMAIN, Shape::NoName);
const FAILURE: Expectation = expect(Verdict::Failure, SERVFAIL, Shape::Nothing);

const fn bogus(extended_errors: &'static [u16]) -> Expectation {
    Expectation {
        extended_errors,
        ..expect(Verdict::Bogus, SERVFAIL, Shape::Nothing)
    }
}

const fn unsupported(extended_error: &'static [u16]) -> Expectation {
    Expectation {
        extended_errors: extended_error,
        ..INSECURE
    }
}

/// Every name with its type and what is to be seen.
pub fn expectations() -> &'static [(&'static str, &'static str, Expectation)] {
    EXPECTATIONS
}

const EXPECTATIONS: &[(&str, &str, Expectation)] = &[
    // The root and the top.
    (".", "NS", SECURE),
    (".", "SOA", SECURE),
    (".", "DNSKEY", SECURE),
    (".", "DS", SECURE_NODATA),
    (".", "TXT", SECURE_NODATA),
    ("com", "DS", SECURE),
    ("com", "DNSKEY", SECURE),
    ("com", "NS", SECURE),
    ("net", "SOA", SECURE),
    ("org", "DNSKEY", SECURE),
    ("nothing", "A", SECURE_NXDOMAIN),
    ("no.such.top", "A", SECURE_NXDOMAIN),
    ("nothing.com", "A", SECURE_NXDOMAIN),
    ("nothing.org", "A", SECURE_NXDOMAIN),
    // An opt-out span proves nothing for sure.
    ("nothing.net", "A", INSECURE_NXDOMAIN),
    ("1.2.3.45.in-addr.arpa", "PTR", SECURE),
    ("3.45.in-addr.arpa", "PTR", SECURE_NODATA),
    // Types.
    ("secure.com", "A", SECURE),
    ("secure.com", "AAAA", SECURE),
    ("secure.com", "MX", SECURE),
    ("secure.com", "TXT", SECURE),
    ("secure.com", "CAA", SECURE),
    ("secure.com", "HTTPS", SECURE),
    ("secure.com", "NS", SECURE),
    ("secure.com", "SOA", SECURE),
    ("secure.com", "DS", SECURE),
    ("secure.com", "DNSKEY", SECURE),
    ("secure.com", "NSEC", SECURE),
    ("www.secure.com", "A", SECURE),
    ("www.secure.com", "AAAA", SECURE),
    ("www.secure.com", "HTTPS", SECURE),
    ("wWw.SeCuRe.CoM", "A", SECURE),
    ("mixed-case.secure.com", "A", SECURE),
    ("pool.secure.com", "A", SECURE),
    ("_dns.secure.com", "SVCB", SECURE),
    ("_sip._tcp.secure.com", "SRV", SECURE),
    ("alias.secure.com", "A", SECURE),
    ("alias.secure.com", "CNAME", SECURE),
    ("alias.secure.com", "TXT", SECURE_NODATA),
    ("unknown.secure.com", "TYPE65280", SECURE),
    // Sizes and TTLs.
    ("many.secure.com", "A", SECURE),
    ("large.secure.com", "TXT", SECURE),
    ("huge.secure.com", "TXT", SECURE),
    ("giant.secure.com", "TXT", SECURE),
    ("one-giant.secure.com", "TXT", SECURE),
    ("ttl0.secure.com", "A", SECURE),
    ("ttl1.secure.com", "A", SECURE),
    ("ttl3600.secure.com", "A", SECURE),
    ("ttlmax.secure.com", "A", SECURE),
    // Denial.
    ("txt.secure.com", "A", SECURE_NODATA),
    ("secure.com", "SRV", SECURE_NODATA),
    ("www.secure.com", "DS", SECURE_NODATA),
    ("a.secure.com", "A", SECURE_NODATA),
    ("and.deep.er.secure.com", "A", SECURE_NODATA),
    ("nothing.secure.com", "A", SECURE_NXDOMAIN),
    ("below.www.secure.com", "A", SECURE_NXDOMAIN),
    ("nothing.and.deep.er.secure.com", "A", SECURE_NXDOMAIN),
    ("any.wild.secure.com", "A", SECURE),
    ("any.below.wild.secure.com", "TXT", SECURE),
    ("any.wild.secure.com", "AAAA", SECURE_NODATA),
    // One zone for each algorithm.
    ("www.rsasha256.com", "A", SECURE),
    ("nothing.rsasha256.com", "A", SECURE_NXDOMAIN),
    ("www.rsasha512.com", "A", SECURE),
    ("nothing.rsasha512.com", "A", SECURE_NXDOMAIN),
    ("www.ecdsap256.com", "A", SECURE),
    ("nothing.ecdsap256.com", "A", SECURE_NXDOMAIN),
    ("www.ecdsap384.com", "A", SECURE),
    ("nothing.ecdsap384.com", "A", SECURE_NXDOMAIN),
    ("www.ed25519.com", "A", SECURE),
    ("nothing.ed25519.com", "A", SECURE_NXDOMAIN),
    ("www.secure.net", "A", SECURE),
    // NSEC.
    ("www.nsec.com", "A", SECURE),
    ("www.nsec.com", "TXT", SECURE_NODATA),
    ("a.nsec.com", "A", SECURE_NODATA),
    ("nothing.nsec.com", "A", SECURE_NXDOMAIN),
    ("no.thing.nsec.com", "A", SECURE_NXDOMAIN),
    ("any.wild.nsec.com", "A", SECURE),
    ("any.wild.nsec.com", "TXT", SECURE_NODATA),
    // NSEC3.
    ("www.nsec3.com", "A", SECURE),
    ("www.nsec3.com", "TXT", SECURE_NODATA),
    ("nsec3.com", "NSEC3PARAM", SECURE),
    ("a.nsec3.com", "A", SECURE_NODATA),
    ("nothing.nsec3.com", "A", SECURE_NXDOMAIN),
    ("no.thing.nsec3.com", "A", SECURE_NXDOMAIN),
    ("any.wild.nsec3.com", "A", SECURE),
    ("any.wild.nsec3.com", "TXT", SECURE_NODATA),
    ("www.nsec3.com", "DS", SECURE_NODATA),
    ("www.salted.com", "A", SECURE),
    ("nothing.salted.com", "A", SECURE_NXDOMAIN),
    ("a.salted.com", "A", SECURE_NODATA),
    ("any.wild.salted.com", "A", SECURE),
    // Too many iterations: data is signed like any, denial is not worth hashing (RFC 9276).
    ("www.iterations.com", "A", SECURE),
    ("nothing.iterations.com", "A", bogus(&[27, 6])),
    ("www.iterations200.com", "A", SECURE),
    (
        "nothing.iterations200.com",
        "A",
        Expectation {
            extended_errors: &[27],
            ..INSECURE_NXDOMAIN
        },
    ),
    // NSEC3 with opt-out.
    ("www.optout.com", "A", SECURE),
    ("nothing.optout.com", "A", INSECURE_NXDOMAIN),
    ("www.signed.optout.com", "A", SECURE),
    ("nothing.signed.optout.com", "A", SECURE_NXDOMAIN),
    ("www.unsigned.optout.com", "A", INSECURE),
    ("nothing.unsigned.optout.com", "A", INSECURE_NXDOMAIN),
    ("unsigned.optout.com", "DS", INSECURE_NODATA),
    ("www.cut.ent.optout.com", "A", INSECURE),
    ("any.wild.optout.com", "A", INSECURE),
    ("insecure.net", "DS", INSECURE_NODATA),
    ("www.insecure.net", "A", INSECURE),
    // Wildcards.
    ("wildcard.com", "MX", SECURE_NODATA),
    ("any.wildcard.com", "A", SECURE),
    ("any.wildcard.com", "MX", SECURE),
    ("any.wildcard.com", "AAAA", SECURE_NODATA),
    ("a.b.c.wildcard.com", "A", SECURE),
    ("*.wildcard.com", "A", SECURE),
    ("exists.wildcard.com", "A", SECURE),
    ("exists.wildcard.com", "MX", SECURE_NODATA),
    ("nothing.exists.wildcard.com", "A", SECURE_NXDOMAIN),
    ("ent.wildcard.com", "A", SECURE_NODATA),
    ("nothing.ent.wildcard.com", "A", SECURE_NXDOMAIN),
    ("any.cname.wildcard.com", "A", SECURE),
    ("any.cname.wildcard.com", "CNAME", SECURE),
    ("any.cname.wildcard.com", "TXT", SECURE_NODATA),
    ("any.out.wildcard.com", "A", INSECURE),
    ("any.text.wildcard.com", "TXT", SECURE),
    ("host.text.wildcard.com", "TXT", SECURE_NODATA),
    ("any.wildcard3.com", "A", SECURE),
    ("any.wildcard3.com", "AAAA", SECURE_NODATA),
    ("a.b.c.wildcard3.com", "A", SECURE),
    ("*.wildcard3.com", "A", SECURE),
    ("nothing.exists.wildcard3.com", "A", SECURE_NXDOMAIN),
    ("ent.wildcard3.com", "A", SECURE_NODATA),
    ("any.cname.wildcard3.com", "A", SECURE),
    ("any.cname.wildcard3.com", "TXT", SECURE_NODATA),
    ("any.out.wildcard3.com", "A", INSECURE),
    // CNAME chains.
    ("secure.cname.com", "A", SECURE),
    ("nsec3.cname.com", "A", SECURE),
    ("insecure.cname.com", "A", INSECURE),
    ("insecure.cname.com", "CNAME", SECURE),
    ("bogus.cname.com", "A", bogus(&[6])),
    ("expired.cname.com", "A", bogus(&[7])),
    ("nxdomain.cname.com", "A", SECURE_NXDOMAIN),
    ("nodata.cname.com", "A", SECURE_NODATA),
    ("wildcard.cname.com", "A", SECURE),
    ("dname.cname.com", "A", SECURE),
    ("there-and-back.cname.com", "A", INSECURE),
    ("c1.cname.com", "A", SECURE),
    ("loop1.cname.com", "A", FAILURE),
    ("self.cname.com", "A", FAILURE),
    // DNAME.
    ("www.secure.dname.com", "A", SECURE),
    ("secure.dname.com", "DNAME", SECURE),
    ("secure.dname.com", "A", SECURE_NODATA),
    ("nothing.secure.dname.com", "A", SECURE_NXDOMAIN),
    ("txt.secure.dname.com", "A", SECURE_NODATA),
    ("any.wild.secure.dname.com", "A", SECURE),
    ("www.insecure.dname.com", "A", INSECURE),
    ("www.bogus.dname.com", "A", bogus(&[6])),
    ("a.old.dname.com", "A", SECURE),
    ("nothing.old.dname.com", "A", SECURE_NXDOMAIN),
    ("x.loop.dname.com", "A", FAILURE),
    // `d…d.long.dname.com` with 63 letters is YXDOMAIN; whether with AD, validators differ.
    ("renamed.com", "TXT", SECURE),
    ("www.renamed.com", "A", SECURE),
    ("nothing.renamed.com", "A", SECURE_NXDOMAIN),
    // Cuts.
    ("www.secure.org", "A", SECURE),
    ("www.deep.secure.org", "A", SECURE),
    ("nothing.deep.secure.org", "A", SECURE_NXDOMAIN),
    ("deep.secure.org", "DS", SECURE),
    ("www.deeper.deep.secure.org", "A", SECURE),
    ("nothing.deeper.deep.secure.org", "A", SECURE_NXDOMAIN),
    ("www.cut.ent.secure.org", "A", SECURE),
    ("ent.secure.org", "A", SECURE_NODATA),
    ("ent.secure.org", "DS", SECURE_NODATA),
    ("insecure.secure.org", "DS", SECURE_NODATA),
    ("www.insecure.secure.org", "A", INSECURE),
    ("nothing.insecure.secure.org", "A", INSECURE_NXDOMAIN),
    ("www.wrongds.secure.org", "A", bogus(&[6, 9])),
    // Insecure, and islands below.
    ("insecure.com", "DS", SECURE_NODATA),
    ("insecure.com", "A", INSECURE),
    ("www.insecure.com", "A", INSECURE),
    ("www.insecure.com", "TXT", INSECURE_NODATA),
    ("nothing.insecure.com", "A", INSECURE_NXDOMAIN),
    ("alias.insecure.com", "A", INSECURE),
    ("to-secure.insecure.com", "A", INSECURE),
    ("any.wild.insecure.com", "A", INSECURE),
    ("large.insecure.com", "TXT", INSECURE),
    ("www.sub.insecure.com", "A", INSECURE),
    ("www.island.insecure.com", "A", INSECURE),
    ("nothing.island.insecure.com", "A", INSECURE_NXDOMAIN),
    ("www.child.island.insecure.com", "A", INSECURE),
    // Odd but sound.
    ("www.manyds.com", "A", SECURE),
    ("www.amongothers.com", "A", SECURE),
    ("www.dualalg.com", "A", SECURE),
    ("nothing.dualalg.com", "A", SECURE_NXDOMAIN),
    ("www.halfbroken.com", "A", SECURE),
    ("nothing.halfbroken.com", "A", SECURE_NXDOMAIN),
    ("www.badthengood.com", "A", SECURE),
    // The TTL is to be 300, not 3000.
    ("www.raisedttl.com", "A", SECURE),
    // Not supported.
    ("www.unknownalg.com", "A", unsupported(&[1])),
    ("nothing.unknownalg.com", "A", INSECURE_NXDOMAIN),
    ("www.unknowndigest.com", "A", unsupported(&[2])),
    // Insecure unless SHA-1 is switched on (RFC 9905).
    ("www.sha1ds.com", "A", unsupported(&[2])),
    // Broken.
    ("www.expired.com", "A", bogus(&[7])),
    ("www.expired.com", "TXT", bogus(&[7])),
    ("nothing.expired.com", "A", bogus(&[7])),
    ("www.expiredkeys.com", "A", bogus(&[7])),
    ("www.future.com", "A", bogus(&[8])),
    ("nothing.future.com", "A", bogus(&[8])),
    ("www.wrongkey.com", "A", bogus(&[6, 9])),
    ("nothing.wrongkey.com", "A", bogus(&[6, 9])),
    ("www.nosig.com", "A", bogus(&[10])),
    ("alias.nosig.com", "A", bogus(&[10])),
    ("nothing.nosig.com", "A", bogus(&[10, 12])),
    ("www.nokeysig.com", "A", bogus(&[10])),
    ("www.tampered.com", "A", bogus(&[6])),
    ("www.tampered.com", "AAAA", bogus(&[6])),
    ("any.wild.tampered.com", "A", bogus(&[6])),
    ("alias.tampered.com", "A", bogus(&[6])),
    // Its denial is sound.
    ("nothing.tampered.com", "A", SECURE_NXDOMAIN),
    ("www.nodnskey.com", "A", bogus(&[9])),
    ("nothing.nodnskey.com", "A", bogus(&[9])),
    ("www.stripped.com", "A", SECURE),
    ("www.stripped.com", "TXT", bogus(&[12])),
    ("nothing.stripped.com", "A", bogus(&[12])),
    ("any.wild.stripped.com", "A", bogus(&[12, 6])),
    ("www.stripped3.com", "A", SECURE),
    ("nothing.stripped3.com", "A", bogus(&[12])),
    ("any.wild.stripped3.com", "A", bogus(&[12, 6])),
    ("www.wrongsigner.com", "A", bogus(&[6, 9, 10])),
    ("www.manybad.com", "A", bogus(&[6])),
    ("www.keytrap.com", "A", bogus(&[6, 9])),
    ("www.revoked.com", "A", bogus(&[6, 9])),
    ("www.nozoneflag.com", "A", bogus(&[6, 9, 11])),
    ("www.wrongprotocol.com", "A", bogus(&[6, 9])),
    ("www.wrongds.com", "A", bogus(&[6, 9])),
    ("nothing.wrongds.com", "A", bogus(&[6, 9])),
    ("wrongds.com", "DS", SECURE),
    ("www.sha1beside.com", "A", bogus(&[6, 9])),
];
