//! From a query's octets to what is put on the wire and when: the honest answer, the faults over
//! it, and the record of both. The servers only carry out the [`Plan`].

use super::Transport;
use super::faults::{Damage, FORGED_ADDRESS, FaultSet, Faults, Forgery, Override, Section};
use super::message::{FORMERR, Query, Record as ResourceRecord, Response, SERVFAIL, flag};
use super::name::Name;
use super::rdata::rtype;
use super::record::{Received, Record};
use super::universe::Universe;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest datagram the lab sends, whatever the client offers.
const UDP_REPLY_MAX_OCTETS: usize = 4096;

/// Responses on encrypted transports are padded to a multiple of this (RFC 8467, section 4.1).
const PADDING_BLOCK_OCTETS: usize = 468;

const OPTION_COOKIE: u16 = 10;
const OPTION_KEEPALIVE: u16 = 11;
const OPTION_PADDING: u16 = 12;

/// What every server shares.
pub struct Service {
    /// The zones.
    pub universe: Arc<Universe>,
    /// What goes wrong.
    pub faults: Arc<Faults>,
    /// What was seen.
    pub record: Arc<Record>,
}

/// How a query came in.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    pub(super) connection: u64,
    pub(super) early_data: bool,
}

/// A packet sent before the true answer.
pub(super) struct Forged {
    pub(super) octets: Vec<u8>,
    pub(super) from_other_port: bool,
}

/// What to do about one query.
pub(super) struct Plan {
    /// Sent at once.
    pub(super) forged: Vec<Forged>,
    /// Waited for.
    pub(super) wait: Duration,
    /// Sent then, one or two; none is silence.
    pub(super) replies: Vec<Vec<u8>>,
    /// The faults that are the server's to carry out.
    pub(super) faults: FaultSet,
}

impl Service {
    /// Records a query and decides what comes back.
    pub(super) fn plan(&self, arrival: Arrival, octets: &[u8]) -> Plan {
        let query = Query::parse(octets);
        self.record.add(Received {
            at: Instant::now(),
            transport: arrival.transport,
            peer: arrival.peer,
            connection: arrival.connection,
            early_data: arrival.early_data,
            octets: octets.to_vec(),
            query: query.clone(),
        });
        let faults = self.faults.for_query(arrival.transport, query.as_ref());
        let mut plan = Plan {
            forged: Vec::new(),
            wait: faults.latency,
            replies: Vec::new(),
            faults,
        };
        let Some(query) = query else {
            return plan;
        };
        let forged = plan.faults.forged_first.iter();
        plan.forged = forged.map(|kind| forge(*kind, &query)).collect();
        let faults = &plan.faults;
        if faults.black_hole || self.faults.is_lost(faults.loss_permille) {
            return plan;
        }
        if let Some(octets) = self.reply(arrival.transport, &query, faults) {
            if faults.duplicate {
                plan.replies.push(octets.clone());
            }
            plan.replies.push(octets);
            self.record.add_reply(arrival.transport);
        }
        plan
    }

    fn reply(&self, transport: Transport, query: &Query, faults: &FaultSet) -> Option<Vec<u8>> {
        let honest = self.universe.answer(query);
        let mut response = honest.clone();
        let mut chosen = self.faults.override_for(query);
        while let Some(Override::With(answerer)) = chosen {
            chosen = Some(answerer(query, honest.clone()));
        }
        match chosen {
            Some(Override::Silence) => return None,
            Some(Override::Raw(mut octets)) => {
                if let Some(id) = octets.get_mut(..2) {
                    id.copy_from_slice(&query.id.to_be_bytes());
                }
                return Some(octets);
            }
            Some(Override::Response(other)) => response = *other,
            Some(Override::With(_)) | None => {}
        }
        apply(faults, query, &mut response);
        add_options(transport, query, &mut response);
        let limit = match transport {
            Transport::Udp => query.udp_octets().min(UDP_REPLY_MAX_OCTETS),
            _ => 65535,
        };
        let octets = response.encode(limit);
        Some(match faults.damage {
            Some(damage) => damaged(damage, octets),
            None => octets,
        })
    }
}

fn apply(faults: &FaultSet, query: &Query, response: &mut Response) {
    if let Some(rcode) = faults.rcode {
        *response = Response::failure(query, rcode);
    }
    if faults.truncate {
        *response = Response::to(query);
        response.flags |= flag::TC;
    }
    if faults.wrong_id {
        response.id ^= 0x5555;
    }
    if faults.wrong_question {
        response.question = other_name(query);
    }
    if faults.set_ad {
        response.flags |= flag::AD;
    }
    if faults.tamper {
        tamper(response);
    }
    let keep = |record: &ResourceRecord| !faults.strip_types.contains(&record.rtype);
    response.answer.retain(keep);
    response.authority.retain(keep);
    response.additional.retain(keep);
    for (section, record) in &faults.extra {
        match section {
            Section::Answer => response.answer.push(record.clone()),
            Section::Authority => response.authority.push(record.clone()),
            Section::Additional => response.additional.push(record.clone()),
        }
    }
    if let Some(ttl_s) = faults.ttl_s {
        for record in response.records_mut() {
            record.ttl_s = ttl_s;
        }
    }
    if faults.drop_opt {
        response.edns = None;
    }
}

fn tamper(response: &mut Response) {
    for record in response.records_mut() {
        if matches!(record.rtype, rtype::A | rtype::AAAA) {
            record.rdata[..4].copy_from_slice(&FORGED_ADDRESS);
        }
    }
}

/// Answers the options that ask for an answer: cookies (RFC 7873), keepalive (RFC 7828), padding
/// (RFC 7830).
fn add_options(transport: Transport, query: &Query, response: &mut Response) {
    let Some(edns) = &mut response.edns else {
        return;
    };
    if let Some(cookie) = query.option(OPTION_COOKIE).and_then(|data| data.get(..8)) {
        let mut data = cookie.to_vec();
        data.extend(*b"labserve");
        edns.options.push((OPTION_COOKIE, data));
    }
    let stream = matches!(transport, Transport::Tcp | Transport::Tls);
    if stream && query.option(OPTION_KEEPALIVE).is_some() {
        let tenths: u16 = 300;
        edns.options
            .push((OPTION_KEEPALIVE, tenths.to_be_bytes().to_vec()));
    }
    if transport.is_encrypted() && query.option(OPTION_PADDING).is_some() {
        let octets = response.encode(65535).len() + 4;
        let fill = octets.next_multiple_of(PADDING_BLOCK_OCTETS) - octets;
        if let Some(edns) = &mut response.edns {
            edns.options.push((OPTION_PADDING, vec![0; fill]));
        }
    }
}

/// The query's question with its first letter changed.
fn other_name(query: &Query) -> Vec<u8> {
    let mut question = query.question.clone();
    let has_label = question.len() > 5;
    if let Some(letter) = question.get_mut(1).filter(|_| has_label) {
        *letter = if *letter == b'x' { b'y' } else { b'x' };
    }
    question
}

/// A response that gives the victim's name the forger's address.
fn forged_response(query: &Query) -> Response {
    let mut response = Response::to(query);
    let (rtype, rdata) = match query.qtype {
        rtype::AAAA => {
            let mut address = [0u8; 16];
            address[..4].copy_from_slice(&FORGED_ADDRESS);
            (rtype::AAAA, address.to_vec())
        }
        _ => (rtype::A, FORGED_ADDRESS.to_vec()),
    };
    response.answer.push(ResourceRecord {
        owner: query.qname_as_received().to_vec(),
        rtype,
        ttl_s: 86_400,
        rdata,
    });
    response
}

fn forge(kind: Forgery, query: &Query) -> Forged {
    let mut response = forged_response(query);
    let mut octets = None;
    match kind {
        Forgery::WrongId => response.id ^= 1,
        Forgery::WrongName => response.question = other_name(query),
        Forgery::WrongType => {
            let at = response.question.len().saturating_sub(3);
            if let Some(low) = response.question.get_mut(at) {
                *low ^= 0x40;
            }
        }
        Forgery::WrongCase => {
            for octet in &mut response.question {
                if octet.is_ascii_alphabetic() {
                    *octet ^= 0x20;
                }
            }
        }
        Forgery::NoQuestion => response.question.clear(),
        Forgery::NotResponse => response.flags &= !flag::QR,
        Forgery::Formerr => {
            response = Response::failure(query, FORMERR);
            response.id ^= 1;
        }
        Forgery::Servfail => {
            response = Response::failure(query, SERVFAIL);
            response.id ^= 1;
        }
        Forgery::Truncated => {
            response = Response::to(query);
            response.flags |= flag::TC;
            response.id ^= 1;
        }
        Forgery::WrongPort => {}
        Forgery::HalfHeader => octets = Some(query.id.to_be_bytes().repeat(3)),
        Forgery::Empty => octets = Some(Vec::new()),
        Forgery::Noise => octets = Some(noise(300)),
    }
    Forged {
        octets: octets.unwrap_or_else(|| response.encode(65535)),
        from_other_port: kind == Forgery::WrongPort,
    }
}

fn damaged(damage: Damage, mut octets: Vec<u8>) -> Vec<u8> {
    let question_end = super::message::read_name(&octets, 12).map_or(12, |(_, at)| at + 4);
    let first_answer = |rdata: &[u8]| {
        let length = u8::try_from(rdata.len()).unwrap_or(0);
        let mut answer = vec![0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, length];
        answer.extend(rdata);
        answer
    };
    let only = |octets: &[u8], answer: Vec<u8>| {
        let mut out = octets.get(..question_end).unwrap_or_default().to_vec();
        if let Some(counts) = out.get_mut(6..12) {
            counts.copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        }
        out.extend(answer);
        out
    };
    match damage {
        Damage::CutAt(length) => octets.truncate(length),
        Damage::Trailing(length) => octets.extend(noise(length)),
        Damage::LyingCounts => {
            if let Some(count) = octets.get_mut(6..8) {
                count.copy_from_slice(&[0xff, 0xff]);
            }
        }
        Damage::ShortAddress => octets = only(&octets, first_answer(&[192, 0, 2])),
        Damage::CompressionLoop => {
            let mut answer = first_answer(&[192, 0, 2, 1]);
            answer[1] = u8::try_from(question_end).unwrap_or(12);
            octets = only(&octets, answer);
        }
        Damage::Noise(length) => {
            octets.truncate(2);
            octets.extend(noise(length));
        }
        Damage::TwoQuestions => {
            let question = octets.get(12..question_end).unwrap_or_default().to_vec();
            octets[5] = 2;
            octets.splice(question_end..question_end, question);
        }
    }
    octets
}

/// Octets that look like nothing, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u32 = 0x9e37_79b9;
    let step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// A record that says `name` has the forger's address, for [`FaultSet::extra`].
pub fn forged_record(name: &str) -> ResourceRecord {
    ResourceRecord {
        owner: Name::parse(name).as_wire().to_vec(),
        rtype: rtype::A,
        ttl_s: 86_400,
        rdata: FORGED_ADDRESS.to_vec(),
    }
}
