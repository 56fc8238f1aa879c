//! Whole upstream responses, taken apart and checked.

use thiserror::Error;

use super::{
    HEADER_OCTETS, MESSAGE_MAX_OCTETS, Name, NameError, Question, Record, Response, option,
    rdata::expand_rdata, rtype,
};

/// Records read of one response. A signed NXDOMAIN has about a dozen, the largest honest answers
/// some hundreds; a message of 64 KiB can hold ten times the bound.
const RECORDS_MAX: usize = 1_000;
/// Records that a section is given room for at once: most have no more, and a count in a header is
/// only a claim.
const RECORDS_USUAL: usize = 4;
/// Extended errors kept of one response, and octets kept of each text.
const EXTENDED_ERRORS_MAX: usize = 4;
const EXTENDED_ERROR_TEXT_OCTETS: usize = 120;

/// Why octets are not a response that can be used. The upstream is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The message ends inside a section, or goes on behind the last.
    #[error("the message's sections and its length disagree")]
    Length,
    /// It is a query, or its opcode is not QUERY.
    #[error("the message is not a response to a query")]
    NotAResponse,
    /// It does not have exactly one question.
    #[error("the message does not have exactly one question")]
    Question,
    /// A name cannot be read.
    #[error("a name in the message cannot be read: {0}")]
    Name(NameError),
    /// RDATA that does not have its type's form.
    #[error("a record of type {rtype} has malformed data: {fault}")]
    Rdata {
        /// The record's type.
        rtype: u16,
        /// What is wrong.
        fault: NameError,
    },
    /// More records than any honest answer has.
    #[error("the message has more than 1000 records")]
    Records,
    /// OPT stands twice, or not in the additional section.
    #[error("the message has a misplaced or second OPT record")]
    Opt,
}

impl Response {
    /// Takes a message apart. Every record is checked, those of the additional section too, and
    /// what does not parse makes the whole message an error.
    ///
    /// # Errors
    /// When the octets are not a well-formed response; see [`ResponseError`].
    pub fn parse(octets: &[u8]) -> Result<Self, ResponseError> {
        if octets.len() > MESSAGE_MAX_OCTETS {
            return Err(ResponseError::Length);
        }
        let header: &[u8; HEADER_OCTETS] = octets.first_chunk().ok_or(ResponseError::Length)?;
        if header[2] & 0xf8 != 0x80 {
            return Err(ResponseError::NotAResponse);
        }
        let [_, _, _, _, q0, q1, an0, an1, ns0, ns1, ar0, ar1] = *header;
        let count = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (answers, authorities) = (count(an0, an1), count(ns0, ns1));
        let additionals = count(ar0, ar1);
        if count(q0, q1) != 1 {
            return Err(ResponseError::Question);
        }
        if answers + authorities + additionals > RECORDS_MAX {
            return Err(ResponseError::Records);
        }
        let (name, name_end) = Name::read(octets, HEADER_OCTETS).map_err(ResponseError::Name)?;
        let tail: &[u8; 4] = octets
            .get(name_end..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(ResponseError::Length)?;
        let question = Question {
            name,
            qtype: u16::from_be_bytes([tail[0], tail[1]]),
            qclass: u16::from_be_bytes([tail[2], tail[3]]),
        };

        let mut reader = Reader {
            octets,
            at: name_end + 4,
            opt: None,
        };
        let answer = reader.section(answers)?;
        let authority = reader.section(authorities)?;
        if reader.opt.is_some() {
            return Err(ResponseError::Opt);
        }
        reader.section(additionals)?;
        if reader.at != octets.len() {
            return Err(ResponseError::Length);
        }

        let mut rcode = u16::from(header[3] & 0x0f);
        let mut extended_errors = Vec::new();
        if let Some(opt) = &reader.opt {
            rcode |= u16::from(opt.rcode_high) << 4;
            extended_errors = read_extended_errors(opt.rdata);
        }
        Ok(Self {
            rcode,
            truncated: header[2] & 0x02 != 0,
            question,
            answer,
            authority,
            extended_errors,
        })
    }
}

struct Opt<'a> {
    rcode_high: u8,
    rdata: &'a [u8],
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
    opt: Option<Opt<'a>>,
}

impl Reader<'_> {
    fn section(&mut self, count: usize) -> Result<Vec<Record>, ResponseError> {
        let mut records: Vec<Record> = Vec::with_capacity(count.min(RECORDS_USUAL));
        let mut rdata = Vec::new();
        for _ in 0..count {
            // Most records of a response repeat an owner by the same pointer.
            let (owner, end) = Name::read(self.octets, self.at).map_err(ResponseError::Name)?;
            let fixed: &[u8; 10] = self
                .octets
                .get(end..)
                .and_then(<[u8]>::first_chunk)
                .ok_or(ResponseError::Length)?;
            let rtype = u16::from_be_bytes([fixed[0], fixed[1]]);
            let class = u16::from_be_bytes([fixed[2], fixed[3]]);
            let ttl_s = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
            let start = end + 10;
            let rdata_end = start + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            let received = self
                .octets
                .get(start..rdata_end)
                .ok_or(ResponseError::Length)?;
            self.at = rdata_end;
            if rtype == rtype::OPT {
                if self.opt.is_some() || !owner.is_root() {
                    return Err(ResponseError::Opt);
                }
                self.opt = Some(Opt {
                    rcode_high: fixed[4],
                    rdata: received,
                });
                continue;
            }
            rdata.clear();
            rdata.reserve(received.len());
            expand_rdata(self.octets, start, rdata_end, rtype, &mut rdata)
                .map_err(|fault| ResponseError::Rdata { rtype, fault })?;
            records.push(Record {
                owner,
                rtype,
                class,
                // RFC 2181, section 8: a TTL with the top bit set is zero.
                ttl_s: if ttl_s > i32::MAX.unsigned_abs() {
                    0
                } else {
                    ttl_s
                },
                rdata: Box::from(rdata.as_slice()),
            });
        }
        Ok(records)
    }
}

fn read_extended_errors(mut rdata: &[u8]) -> Vec<(u16, String)> {
    let mut errors = Vec::new();
    while let Some((head, rest)) = rdata.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some((content, rest)) = rest.split_at_checked(len) else {
            break;
        };
        if u16::from_be_bytes([head[0], head[1]]) == option::EXTENDED_ERROR
            && errors.len() < EXTENDED_ERRORS_MAX
            && let Some((code, text)) = content.split_first_chunk::<2>()
        {
            let text = text.get(..EXTENDED_ERROR_TEXT_OCTETS).unwrap_or(text);
            // Terminal escapes and the like have no place in logs and answers of ours.
            let text = String::from_utf8_lossy(text)
                .chars()
                .filter(|char| !char.is_control())
                .collect();
            errors.push((u16::from_be_bytes(*code), text));
        }
        rdata = rest;
    }
    errors
}
