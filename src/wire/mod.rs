//! DNS octets (RFC 1035, RFC 6891, RFC 3597): names, the peek at a client's query, whole
//! upstream responses, and writing messages.
//!
//! Knows nothing of sockets, time or policy. Everything here reads hostile input: no function
//! panics, allocates by a count field, or takes more than linear time.

mod encode;
mod name;
mod query;
mod rdata;
mod response;

pub use encode::{Records, ttl_offsets};
pub use name::{LABEL_MAX_OCTETS, Labels, NAME_MAX_OCTETS, Name, NameError};
pub use query::{Edns, Fault, Query, option};
pub use response::ResponseError;

/// The most octets a message has on streams (RFC 1035, section 4.2.2).
pub const MESSAGE_MAX_OCTETS: usize = 65_535;
/// Octets of a message's header (RFC 1035, section 4.1.1).
pub const HEADER_OCTETS: usize = 12;

/// The class of the internet.
pub const CLASS_IN: u16 = 1;

/// What is asked: a name, a type and a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The owner name asked for.
    pub name: Name,
    /// The type asked for (RFC 1035, section 3.2.2).
    pub qtype: u16,
    /// The class asked for; 1 is IN.
    pub qclass: u16,
}

/// One resource record, taken out of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The owner name.
    pub owner: Name,
    /// The type (named `rtype` because `type` is a keyword).
    pub rtype: u16,
    /// The class; 1 is IN.
    pub class: u16,
    /// The time to live in seconds, as received but for the top bit: a TTL with the top bit set
    /// reads as 0 (RFC 2181, section 8).
    pub ttl_s: u32,
    /// The RDATA with every compressed name expanded, letter case as received.
    pub rdata: Box<[u8]>,
}

/// An upstream's response, taken apart. Additional records are checked and left out: a forwarder
/// has no use for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The rcode, extended by the OPT record's upper eight bits when there is one.
    pub rcode: u16,
    /// Whether the upstream cut the message (TC).
    pub truncated: bool,
    /// The question as echoed.
    pub question: Question,
    /// The answer section, in the order received.
    pub answer: Vec<Record>,
    /// The authority section, in the order received.
    pub authority: Vec<Record>,
    /// Extended DNS errors the upstream sent: code and text (RFC 8914).
    pub extended_errors: Vec<(u16, String)>,
}

/// Record types by number, as far as the code names them
/// (<https://www.iana.org/assignments/dns-parameters>).
pub mod rtype {
    #![allow(missing_docs, reason = "the names are the IANA mnemonics")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const MD: u16 = 3;
    pub const MF: u16 = 4;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const MB: u16 = 7;
    pub const MG: u16 = 8;
    pub const MR: u16 = 9;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const MINFO: u16 = 14;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const RP: u16 = 17;
    pub const AFSDB: u16 = 18;
    pub const RT: u16 = 21;
    pub const SIG: u16 = 24;
    pub const PX: u16 = 26;
    pub const AAAA: u16 = 28;
    pub const NXT: u16 = 30;
    pub const SRV: u16 = 33;
    pub const NAPTR: u16 = 35;
    pub const KX: u16 = 36;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
    pub const NSEC3PARAM: u16 = 51;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const ANY: u16 = 255;
}

/// Response codes by number (RFC 1035, section 4.1.1; RFC 6891, section 9).
pub mod rcode {
    #![allow(missing_docs, reason = "the names are the IANA mnemonics")]
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const YXDOMAIN: u16 = 6;
    pub const BADVERS: u16 = 16;
}
