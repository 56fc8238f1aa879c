//! DNS messages as the lab reads and writes them (RFC 1035, section 4; RFC 6891): a query's
//! fields, and a response with names compressed as real servers do. Nothing here is shared with
//! the code under test, so that a mistake made there cannot cancel out here.

use super::name::Name;
use super::rdata::rtype;
use std::collections::HashMap;

/// One EDNS option: code and data.
pub type EdnsOption = (u16, Vec<u8>);

/// The OPT record of a query or of a response (RFC 6891, section 6.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    /// The datagram size its sender can take, octets.
    pub udp_octets: u16,
    /// The version; 0 is the only one.
    pub version: u8,
    /// Whether DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// The options, in order.
    pub options: Vec<EdnsOption>,
}

/// A query, as far as it could be read.
#[derive(Clone, Debug)]
pub struct Query {
    /// The message id.
    pub id: u16,
    /// The flags word: octets 2 and 3.
    pub flags: u16,
    /// The question section's octets as received, case kept; empty when it could not be read.
    pub question: Vec<u8>,
    /// The name asked for.
    pub qname: Name,
    /// The type asked for.
    pub qtype: u16,
    /// The class asked for.
    pub qclass: u16,
    /// The OPT record.
    pub edns: Option<Edns>,
    /// Whether everything was in order: one question, nothing cut off, at most one OPT.
    pub well_formed: bool,
}

impl Query {
    /// Reads a query; none when there is no header or it is a response, so that nothing can be
    /// answered.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let pair = octets.get(at..at + 2)?;
            Some(u16::from_be_bytes([pair[0], pair[1]]))
        };
        let flags = word(2)?;
        let counts = [word(4)?, word(6)?, word(8)?, word(10)?];
        if flags & 0x8000 != 0 {
            return None;
        }
        let mut query = Self {
            id: word(0)?,
            flags,
            question: Vec::new(),
            qname: Name::root(),
            qtype: 0,
            qclass: 0,
            edns: None,
            well_formed: false,
        };
        query.well_formed = query.read_sections(octets, counts).is_some();
        Some(query)
    }

    fn read_sections(&mut self, octets: &[u8], counts: [u16; 4]) -> Option<()> {
        if counts[0] != 1 {
            return None;
        }
        let (name, after) = read_name(octets, 12)?;
        let fixed = octets.get(after..after + 4)?;
        self.qtype = u16::from_be_bytes([fixed[0], fixed[1]]);
        self.qclass = u16::from_be_bytes([fixed[2], fixed[3]]);
        self.qname = Name::from_wire(&name);
        self.question = octets.get(12..after + 4)?.to_vec();
        let mut at = after + 4;
        for _ in 0..u32::from(counts[1]) + u32::from(counts[2]) + u32::from(counts[3]) {
            let (_, after) = read_name(octets, at)?;
            let fixed = octets.get(after..after + 10)?;
            let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            let rdata = octets.get(after + 10..after + 10 + length)?;
            if u16::from_be_bytes([fixed[0], fixed[1]]) == rtype::OPT {
                if self.edns.is_some() {
                    return None;
                }
                self.edns = Some(Edns {
                    udp_octets: u16::from_be_bytes([fixed[2], fixed[3]]),
                    version: fixed[5],
                    dnssec_ok: fixed[6] & 0x80 != 0,
                    options: read_options(rdata)?,
                });
            }
            at = after + 10 + length;
        }
        (at == octets.len()).then_some(())
    }

    /// The options in an OPT record's RDATA; none when they are cut off.
    pub fn options_of(rdata: &[u8]) -> Option<Vec<EdnsOption>> {
        read_options(rdata)
    }

    /// Whether DNSSEC records are wanted.
    pub fn dnssec_ok(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the sender wants no validation done for it (RFC 4035, section 3.2.2).
    pub fn checking_disabled(&self) -> bool {
        self.flags & 0x0010 != 0
    }

    /// Whether the sender understands AD (RFC 6840, section 5.7).
    pub fn authentic_data(&self) -> bool {
        self.flags & 0x0020 != 0
    }

    /// Whether recursion is desired.
    pub fn recursion_desired(&self) -> bool {
        self.flags & 0x0100 != 0
    }

    /// The opcode.
    pub fn opcode(&self) -> u8 {
        u8::try_from(self.flags >> 11 & 0xf).unwrap_or(0)
    }

    /// The data of the first option with this code.
    pub fn option(&self, code: u16) -> Option<&[u8]> {
        let edns = self.edns.as_ref()?;
        let (_, data) = edns.options.iter().find(|(found, _)| *found == code)?;
        Some(data)
    }

    /// The largest datagram the sender takes, octets.
    pub fn udp_octets(&self) -> usize {
        self.edns
            .as_ref()
            .map_or(512, |edns| usize::from(edns.udp_octets).max(512))
    }

    /// The query name as received, in its own case, as wire octets.
    pub fn qname_as_received(&self) -> &[u8] {
        let end = self.question.len().saturating_sub(4);
        &self.question[..end]
    }
}

fn read_options(mut rdata: &[u8]) -> Option<Vec<EdnsOption>> {
    let mut options = Vec::new();
    while !rdata.is_empty() {
        let (head, rest) = rdata.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (data, rest) = rest.split_at_checked(length)?;
        options.push((u16::from_be_bytes([head[0], head[1]]), data.to_vec()));
        rdata = rest;
    }
    Some(options)
}

/// Reads a name that may be compressed; gives its octets in full and where reading goes on.
pub fn read_name(octets: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let (mut at, mut end) = (start, None);
    loop {
        let length = *octets.get(at)?;
        match length {
            0 => {
                name.push(0);
                return Some((name, end.unwrap_or(at + 1)));
            }
            1..=63 => {
                name.extend_from_slice(octets.get(at..=at + usize::from(length))?);
                at += 1 + usize::from(length);
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*octets.get(at + 1)?);
                end = end.or(Some(at + 2));
                if target >= at {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
        if name.len() > 254 {
            return None;
        }
    }
}

/// A resource record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The owner as uncompressed wire octets, in the case it shall have.
    pub owner: Vec<u8>,
    /// The type.
    pub rtype: u16,
    /// The TTL, seconds; all 32 bits can be set.
    pub ttl_s: u32,
    /// The RDATA, uncompressed.
    pub rdata: Vec<u8>,
}

/// A response before it is octets, every field free to be wrong.
#[derive(Clone, Debug)]
pub struct Response {
    /// The message id.
    pub id: u16,
    /// The flags word without the rcode: QR, opcode, AA, TC, RD, RA, AD, CD.
    pub flags: u16,
    /// The response code; above 15 it needs `edns`.
    pub rcode: u16,
    /// The question section's octets.
    pub question: Vec<u8>,
    /// The answer section.
    pub answer: Vec<Record>,
    /// The authority section.
    pub authority: Vec<Record>,
    /// The additional section without OPT.
    pub additional: Vec<Record>,
    /// The OPT record.
    pub edns: Option<Edns>,
}

/// No error.
pub const NOERROR: u16 = 0;
/// The query could not be read.
pub const FORMERR: u16 = 1;
/// The server failed.
pub const SERVFAIL: u16 = 2;
/// The name does not exist.
pub const NXDOMAIN: u16 = 3;
/// The opcode is not known.
pub const NOTIMP: u16 = 4;
/// The server does not want to.
pub const REFUSED: u16 = 5;
/// A DNAME made the name too long (RFC 6672).
pub const YXDOMAIN: u16 = 6;
/// The EDNS version is not known.
pub const BADVERS: u16 = 16;

/// The flag bits of the flags word.
pub mod flag {
    #![allow(missing_docs, reason = "the names are RFC 1035's and RFC 4035's")]
    pub const QR: u16 = 0x8000;
    pub const AA: u16 = 0x0400;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
    pub const RA: u16 = 0x0080;
    pub const AD: u16 = 0x0020;
    pub const CD: u16 = 0x0010;
}

impl Response {
    /// An empty response to a query: its id and question, RA set, an OPT when it had one.
    pub fn to(query: &Query) -> Self {
        Self {
            id: query.id,
            flags: flag::QR | flag::RA | query.flags & (0x7800 | flag::RD | flag::CD),
            rcode: NOERROR,
            question: query.question.clone(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            edns: query.edns.as_ref().map(|edns| Edns {
                udp_octets: 1232,
                version: 0,
                dnssec_ok: edns.dnssec_ok,
                options: Vec::new(),
            }),
        }
    }

    /// An empty response with a response code.
    pub fn failure(query: &Query, rcode: u16) -> Self {
        Self {
            rcode,
            ..Self::to(query)
        }
    }

    /// Every record, for those who change them all.
    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.answer
            .iter_mut()
            .chain(&mut self.authority)
            .chain(&mut self.additional)
    }

    /// The octets, within `limit_octets`: what is longer becomes an empty response with TC set.
    pub fn encode(&self, limit_octets: usize) -> Vec<u8> {
        let octets = self.encode_sections(true, 0);
        if octets.len() <= limit_octets.min(65535) {
            return octets;
        }
        self.encode_sections(false, flag::TC)
    }

    fn encode_sections(&self, with_records: bool, extra_flags: u16) -> Vec<u8> {
        let mut out = Encoder::default();
        out.word(self.id);
        out.word(self.flags | extra_flags | self.rcode & 0xf);
        out.word(u16::from(!self.question.is_empty()));
        let sections: [&[Record]; 3] = if with_records {
            [&self.answer, &self.authority, &self.additional]
        } else {
            [&[], &[], &[]]
        };
        for (at, section) in sections.iter().enumerate() {
            let opt = usize::from(at == 2 && self.edns.is_some());
            out.word(u16::try_from(section.len() + opt).unwrap_or(u16::MAX));
        }
        out.question(&self.question);
        for record in sections.iter().copied().flatten() {
            out.record(record);
        }
        if let Some(edns) = &self.edns {
            out.opt(edns, self.rcode);
        }
        out.octets
    }
}

/// Writes octets and remembers where names stand.
#[derive(Default)]
struct Encoder {
    octets: Vec<u8>,
    /// Offsets of name suffixes, in lower case.
    suffixes: HashMap<Vec<u8>, u16>,
}

impl Encoder {
    fn word(&mut self, word: u16) {
        self.octets.extend(word.to_be_bytes());
    }

    fn question(&mut self, question: &[u8]) {
        let Some((name, _)) = read_name(question, 0) else {
            self.octets.extend_from_slice(question);
            return;
        };
        self.name(&name);
        self.octets
            .extend_from_slice(question.get(name.len()..).unwrap_or_default());
    }

    /// Writes a name, compressed; comparing without case keeps the question's spelling in owners.
    fn name(&mut self, name: &[u8]) {
        let mut rest = name;
        while let Some((&length, _)) = rest.split_first() {
            if length == 0 {
                break;
            }
            let key = rest.to_ascii_lowercase();
            if let Some(&offset) = self.suffixes.get(&key) {
                self.word(0xc000 | offset);
                return;
            }
            if let Ok(offset) = u16::try_from(self.octets.len())
                && offset < 0x4000
            {
                self.suffixes.insert(key, offset);
            }
            let (label, after) = rest.split_at(1 + usize::from(length));
            self.octets.extend_from_slice(label);
            rest = after;
        }
        self.octets.push(0);
    }

    fn record(&mut self, record: &Record) {
        self.name(&record.owner);
        self.word(record.rtype);
        self.word(1);
        self.octets.extend(record.ttl_s.to_be_bytes());
        let length_at = self.octets.len();
        self.word(0);
        self.rdata(record.rtype, &record.rdata);
        let length = u16::try_from(self.octets.len() - length_at - 2).unwrap_or(u16::MAX);
        self.octets[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Names in the RDATA of RFC 1035's own types may be compressed (RFC 3597, section 4).
    fn rdata(&mut self, rtype: u16, rdata: &[u8]) {
        let prefix = if rtype == rtype::MX { 2 } else { 0 };
        let names = match rtype {
            rtype::NS | rtype::CNAME | rtype::PTR | rtype::MX => 1,
            rtype::SOA => 2,
            _ => 0,
        };
        let mut at = prefix.min(rdata.len());
        self.octets.extend_from_slice(&rdata[..at]);
        for _ in 0..names {
            let Some((name, after)) = read_name(rdata, at) else {
                break;
            };
            self.name(&name);
            at = after;
        }
        self.octets.extend_from_slice(&rdata[at..]);
    }

    fn opt(&mut self, edns: &Edns, rcode: u16) {
        self.octets.push(0);
        self.word(rtype::OPT);
        self.word(edns.udp_octets);
        self.octets.push(u8::try_from(rcode >> 4).unwrap_or(0));
        self.octets.push(edns.version);
        self.word(if edns.dnssec_ok { 0x8000 } else { 0 });
        let total: usize = edns.options.iter().map(|(_, data)| 4 + data.len()).sum();
        self.word(u16::try_from(total).unwrap_or(u16::MAX));
        for (code, data) in &edns.options {
            self.word(*code);
            self.word(u16::try_from(data.len()).unwrap_or(u16::MAX));
            self.octets.extend_from_slice(data);
        }
    }
}
