//! The peek at a client's query: everything the hot path needs, without allocating.

use super::{
    CLASS_IN, HEADER_OCTETS, MESSAGE_MAX_OCTETS, NAME_MAX_OCTETS, Name, Question, rcode, rtype,
};

/// Octets of a cache key behind the name: type, class and the CD bit.
const KEY_TAIL_OCTETS: usize = 5;
/// The most EDNS options read in one query. Real clients send at most a handful; the bound keeps
/// a query of 15,000 empty options as cheap as any other (CVE-2026-42944).
const EDNS_OPTIONS_MAX: usize = 32;

/// EDNS option codes (IANA "DNS EDNS0 Option Codes").
pub mod option {
    /// DNS cookie (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// TCP keep-alive (RFC 7828).
    pub const TCP_KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub const PADDING: u16 = 12;
    /// Extended DNS error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Why octets are not a query that can be answered from memory or by an upstream. The client is
/// at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too short to have a header, too long for a message, or a response. It gets no reply:
    /// answering responses makes loops.
    NotAQuery,
    /// The reply is an rcode without records.
    Reply {
        /// The rcode to say: FORMERR, NOTIMP, REFUSED or BADVERS.
        rcode: u16,
        /// Where the question ends, when it could be read and is to be echoed.
        question_end: Option<usize>,
        /// Whether the query had an OPT record, so that the reply wants one too.
        edns: bool,
    },
}

/// What the OPT record of a query says (RFC 6891).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edns<'a> {
    /// The largest UDP payload the client takes, octets, as sent.
    pub payload_octets: u16,
    /// Whether the client wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
    /// The content of the cookie option: 8, or 16 to 40 octets.
    pub cookie: Option<&'a [u8]>,
    /// Whether there is a padding option.
    pub padding: bool,
    /// Whether there is a TCP keep-alive option.
    pub tcp_keepalive: bool,
}

/// A client's query, peeked at.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    octets: &'a [u8],
    key: [u8; NAME_MAX_OCTETS + KEY_TAIL_OCTETS],
    key_len: usize,
    edns: Option<Edns<'a>>,
}

impl<'a> Query<'a> {
    /// Reads header, question and OPT record.
    ///
    /// # Errors
    /// When there is nothing to look up: the octets are no query, are malformed, or ask for what
    /// only authoritative servers answer. The fault says what the client is told.
    pub fn peek(octets: &'a [u8]) -> Result<Self, Fault> {
        if octets.len() > MESSAGE_MAX_OCTETS {
            return Err(Fault::NotAQuery);
        }
        let header: &[u8; HEADER_OCTETS] = octets.first_chunk().ok_or(Fault::NotAQuery)?;
        let flags = u16::from_be_bytes([header[2], header[3]]);
        if flags & 0x8000 != 0 {
            return Err(Fault::NotAQuery);
        }
        let fault = |rcode| Fault::Reply {
            rcode,
            question_end: None,
            edns: false,
        };
        if flags & 0x7800 != 0 {
            return Err(fault(rcode::NOTIMP));
        }
        let [_, _, _, _, q0, q1, an0, an1, ns0, ns1, ar0, ar1] = *header;
        let questions = u16::from_be_bytes([q0, q1]);
        let answers = u16::from_be_bytes([an0, an1]);
        let authorities = u16::from_be_bytes([ns0, ns1]);
        let additionals = u16::from_be_bytes([ar0, ar1]);
        if questions != 1 {
            return Err(fault(rcode::FORMERR));
        }

        let mut key = [0; NAME_MAX_OCTETS + KEY_TAIL_OCTETS];
        let name_len = lowercase_name(octets, &mut key).ok_or(fault(rcode::FORMERR))?;
        let tail_at = HEADER_OCTETS + name_len;
        let tail: &[u8; 4] = octets
            .get(tail_at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(fault(rcode::FORMERR))?;
        let question_end = tail_at + 4;
        let fault = |rcode, edns| Fault::Reply {
            rcode,
            question_end: Some(question_end),
            edns,
        };
        let qtype = u16::from_be_bytes([tail[0], tail[1]]);
        let qclass = u16::from_be_bytes([tail[2], tail[3]]);
        // An IXFR query carries a SOA in its authority section, so this comes before the counts.
        let plain = answers == 0 && authorities == 0;
        if is_meta(qtype) {
            let edns = plain && has_opt(octets, question_end, additionals);
            return Err(fault(rcode::REFUSED, edns));
        }
        if !plain {
            return Err(fault(rcode::FORMERR, false));
        }
        let edns = additional(octets, question_end, additionals).map_err(|rcode| {
            // A FORMERR may be about the OPT record itself; all else is answered with one.
            let edns = rcode != rcode::FORMERR && has_opt(octets, question_end, additionals);
            fault(rcode, edns)
        })?;
        if qclass != CLASS_IN {
            return Err(fault(rcode::REFUSED, edns.is_some()));
        }

        let checking_disabled = u8::from(flags & 0x0010 != 0);
        let [type_high, type_low, class_high, class_low] = *tail;
        let key_tail = [
            type_high,
            type_low,
            class_high,
            class_low,
            checking_disabled,
        ];
        let key_len = name_len + KEY_TAIL_OCTETS;
        key.get_mut(name_len..key_len)
            .ok_or(fault(rcode::FORMERR, false))?
            .copy_from_slice(&key_tail);
        Ok(Self {
            octets,
            key,
            key_len,
            edns,
        })
    }

    /// The cache key: lower-case name in wire form, type, class, and 1 or 0 for CD.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.get(..self.key_len).unwrap_or_default()
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.header(0), self.header(1)])
    }

    /// The question section exactly as sent, letter case included.
    #[must_use]
    pub fn question_octets(&self) -> &'a [u8] {
        let end = HEADER_OCTETS + self.key_len - 1;
        self.octets.get(HEADER_OCTETS..end).unwrap_or_default()
    }

    /// The type asked for.
    #[must_use]
    pub fn qtype(&self) -> u16 {
        let at = self.key_len - KEY_TAIL_OCTETS;
        match self.key.get(at..at + 2) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => 0,
        }
    }

    /// The question as an owned value, lower case.
    #[must_use]
    pub fn question(&self) -> Question {
        let name = self
            .key
            .get(..self.key_len - KEY_TAIL_OCTETS)
            .unwrap_or(&[0]);
        Question {
            name: Name::from_wire(name).unwrap_or_else(|_| Name::root()),
            qtype: self.qtype(),
            qclass: CLASS_IN,
        }
    }

    /// Whether the client set RD.
    #[must_use]
    pub fn recursion_desired(&self) -> bool {
        self.header(2) & 0x01 != 0
    }

    /// Whether the client set AD, asking to be told the verdict (RFC 6840, section 5.7).
    #[must_use]
    pub fn authentic_data(&self) -> bool {
        self.header(3) & 0x20 != 0
    }

    /// Whether the client set CD.
    #[must_use]
    pub fn checking_disabled(&self) -> bool {
        self.header(3) & 0x10 != 0
    }

    /// What the OPT record says, if there is one.
    #[must_use]
    pub fn edns(&self) -> Option<&Edns<'a>> {
        self.edns.as_ref()
    }

    /// Whether the client wants DNSSEC records.
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The whole message.
    #[must_use]
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    fn header(&self, at: usize) -> u8 {
        self.octets.get(at).copied().unwrap_or(0)
    }
}

/// Types that mean a transaction, not data: transfers, and keys negotiated or carried in messages.
/// ANY (255) is not among them: it is answered small (RFC 8482).
const fn is_meta(qtype: u16) -> bool {
    matches!(qtype, 0 | rtype::OPT | 128..=254)
}

/// Copies the question's name, lower case, to the front of `key`; its length, or `None` when it
/// is no uncompressed name. Nothing precedes it that a pointer could point to.
fn lowercase_name(
    octets: &[u8],
    key: &mut [u8; NAME_MAX_OCTETS + KEY_TAIL_OCTETS],
) -> Option<usize> {
    let name = octets.get(HEADER_OCTETS..)?;
    let mut at = 0;
    loop {
        let len = usize::from(*name.get(at)?);
        if len > 63 || at + len + 1 > NAME_MAX_OCTETS {
            return None;
        }
        at += len + 1;
        if len == 0 {
            break;
        }
    }
    let target = key.get_mut(..at)?;
    target.copy_from_slice(name.get(..at)?);
    // Length octets are at most 63 and therefore never letters.
    target.make_ascii_lowercase();
    Some(at)
}

/// Whether there is an OPT record among the additional records, as far as they can be read. Replies
/// to queries that have one carry one too (RFC 6891, section 6.1.1).
fn has_opt(octets: &[u8], start: usize, count: u16) -> bool {
    let mut at = start;
    for _ in 0..count {
        let fixed: Option<(usize, &[u8; 10])> =
            skip_name(octets, at).and_then(|end| Some((end, octets.get(end..)?.first_chunk()?)));
        let Some((end, fixed)) = fixed else {
            return false;
        };
        if u16::from_be_bytes([fixed[0], fixed[1]]) == rtype::OPT {
            return true;
        }
        at = end + 10 + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    }
    false
}

/// Walks the additional section; what its OPT record says, or the rcode to answer with.
fn additional(octets: &[u8], start: usize, count: u16) -> Result<Option<Edns<'_>>, u16> {
    let mut at = start;
    let mut edns = None;
    for _ in 0..count {
        let name_end = skip_name(octets, at).ok_or(rcode::FORMERR)?;
        let fixed: &[u8; 10] = octets
            .get(name_end..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(rcode::FORMERR)?;
        let rtype = u16::from_be_bytes([fixed[0], fixed[1]]);
        let rdata_at = name_end + 10;
        let rdata_end = rdata_at + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let rdata = octets.get(rdata_at..rdata_end).ok_or(rcode::FORMERR)?;
        match rtype {
            rtype::OPT => {
                // One, owned by the root (RFC 6891, section 6.1.1).
                if edns.is_some() || name_end != at + 1 {
                    return Err(rcode::FORMERR);
                }
                if fixed[5] != 0 {
                    return Err(rcode::BADVERS);
                }
                edns = Some(options(
                    rdata,
                    Edns {
                        payload_octets: u16::from_be_bytes([fixed[2], fixed[3]]),
                        dnssec_ok: fixed[6] & 0x80 != 0,
                        ..Edns::default()
                    },
                )?);
            }
            // Signed transactions: there are no keys to check them with.
            rtype::TSIG | rtype::SIG => return Err(rcode::REFUSED),
            _ => {}
        }
        at = rdata_end;
    }
    if at == octets.len() {
        Ok(edns)
    } else {
        Err(rcode::FORMERR)
    }
}

/// Reads the options, the first of each kind.
fn options<'a>(mut rdata: &'a [u8], mut edns: Edns<'a>) -> Result<Edns<'a>, u16> {
    for _ in 0..EDNS_OPTIONS_MAX {
        let Some((head, rest)) = rdata.split_first_chunk::<4>() else {
            return if rdata.is_empty() {
                Ok(edns)
            } else {
                Err(rcode::FORMERR)
            };
        };
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (content, rest) = rest.split_at_checked(len).ok_or(rcode::FORMERR)?;
        match u16::from_be_bytes([head[0], head[1]]) {
            option::COOKIE => {
                // RFC 7873, section 5.2.2: any other length is malformed.
                if !matches!(len, 8 | 16..=40) {
                    return Err(rcode::FORMERR);
                }
                edns.cookie.get_or_insert(content);
            }
            option::TCP_KEEPALIVE => edns.tcp_keepalive = true,
            option::PADDING => edns.padding = true,
            _ => {}
        }
        rdata = rest;
    }
    if rdata.is_empty() {
        Ok(edns)
    } else {
        Err(rcode::FORMERR)
    }
}

/// The offset behind the name at `at`, which may end in a pointer.
fn skip_name(octets: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..=127 {
        let len = usize::from(*octets.get(at)?);
        match len {
            0 => return Some(at + 1),
            1..=63 => at += len + 1,
            0xc0.. => return octets.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A query for `www.Example.com. A` with RD, AD and an OPT record: DO, 1400 octets, options.
    fn sample(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0xab, 0xcd, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        octets.extend_from_slice(b"\x03www\x07Example\x03com\x00\x00\x01\x00\x01");
        octets.extend_from_slice(&[0, 0, 41, 0x05, 0x78, 0, 0, 0x80, 0]);
        octets.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(options);
        octets
    }

    fn rcode_of(octets: &[u8]) -> Option<u16> {
        match Query::peek(octets) {
            Err(Fault::Reply { rcode, .. }) => Some(rcode),
            _ => None,
        }
    }

    #[test]
    fn a_query_is_read() {
        let octets = sample(b"\x00\x0a\x00\x08clientco\x00\x0c\x00\x02\x00\x00\x00\x0b\x00\x00");
        let query = Query::peek(&octets).unwrap();
        assert_eq!(query.id(), 0xabcd);
        assert_eq!(
            query.key(),
            b"\x03www\x07example\x03com\x00\x00\x01\x00\x01\x00"
        );
        assert_eq!(
            query.question_octets(),
            b"\x03www\x07Example\x03com\x00\x00\x01\x00\x01"
        );
        assert_eq!(query.question().name.to_string(), "www.example.com.");
        assert!(query.recursion_desired() && query.authentic_data());
        assert!(!query.checking_disabled());
        assert_eq!(
            query.edns(),
            Some(&Edns {
                payload_octets: 1400,
                dnssec_ok: true,
                cookie: Some(b"clientco"),
                padding: true,
                tcp_keepalive: true,
            })
        );
    }

    #[test]
    fn cd_is_part_of_the_key() {
        let mut octets = sample(b"");
        let without = Query::peek(&octets).unwrap().key().to_vec();
        octets[3] |= 0x10;
        assert_ne!(Query::peek(&octets).unwrap().key(), without);
    }

    #[test]
    fn every_truncation_of_a_query_is_an_error() {
        let octets = sample(b"\x00\x0a\x00\x08clientco");
        for len in 0..octets.len() {
            assert!(Query::peek(&octets[..len]).is_err(), "{len} octets");
        }
    }

    #[test]
    fn what_is_no_query_is_met_with_silence() {
        assert_eq!(Query::peek(b"").err(), Some(Fault::NotAQuery));
        assert_eq!(Query::peek(&[0; 11]).err(), Some(Fault::NotAQuery));
        let mut response = sample(b"");
        response[2] |= 0x80;
        assert_eq!(Query::peek(&response).err(), Some(Fault::NotAQuery));
    }

    #[test]
    fn faults_have_their_rcode() {
        let good = sample(b"");
        let with = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            rcode_of(&octets)
        };
        assert_eq!(with(2, 0x28), Some(rcode::NOTIMP)); // UPDATE
        assert_eq!(with(2, 0x21), Some(rcode::NOTIMP)); // NOTIFY
        assert_eq!(with(5, 0), Some(rcode::FORMERR));
        assert_eq!(with(5, 2), Some(rcode::FORMERR));
        assert_eq!(with(7, 1), Some(rcode::FORMERR));
        assert_eq!(with(30, 252), Some(rcode::REFUSED)); // AXFR
        assert_eq!(with(32, 3), Some(rcode::REFUSED)); // class CH
        let mut transfer = good.clone();
        transfer[30] = 252;
        let refused = Query::peek(&transfer).unwrap_err();
        assert!(
            matches!(refused, Fault::Reply { edns: true, .. }),
            "{refused:?}"
        );
        assert_eq!(with(39, 1), Some(rcode::BADVERS));
        assert_eq!(with(12, 0xc0), Some(rcode::FORMERR));
        let mut two = good.clone();
        two[11] = 2;
        two.extend_from_within(33..);
        assert_eq!(rcode_of(&two), Some(rcode::FORMERR));
        let mut trailing = good.clone();
        trailing.push(0);
        assert_eq!(rcode_of(&trailing), Some(rcode::FORMERR));
    }

    #[test]
    fn option_floods_and_odd_cookies_are_refused() {
        assert_eq!(
            rcode_of(&sample(&[0xff, 0xfe, 0, 0].repeat(33))),
            Some(rcode::FORMERR)
        );
        assert!(Query::peek(&sample(&[0xff, 0xfe, 0, 0].repeat(32))).is_ok());
        assert_eq!(
            rcode_of(&sample(b"\x00\x0a\x00\x07clientc")),
            Some(rcode::FORMERR)
        );
        assert_eq!(
            rcode_of(&sample(b"\x00\x0a\x00\x09clientc12")),
            Some(rcode::FORMERR)
        );
        assert_eq!(rcode_of(&sample(b"\x00\x0a\x00\xff")), Some(rcode::FORMERR));
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(query) = Query::peek(&octets) {
                let _ = (query.question(), query.key().len(), query.question_octets().len());
            }
        }

        #[test]
        fn no_mutation_panics(at in 0..60_usize, octet: u8, cut in 0..70_usize) {
            let mut octets = sample(b"\x00\x0a\x00\x08clientco");
            let len = octets.len();
            octets[at % len] = octet;
            octets.truncate(cut.max(1));
            let _ = Query::peek(&octets).map(|query| query.question());
        }
    }
}
