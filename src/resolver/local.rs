//! Answers that need no upstream.

use crate::{
    cache::{Fill, Stored},
    clock::Now,
    handler::{Answer, Client},
    reply,
    wire::{CLASS_IN, Query, Record, Records, rcode, rtype},
};

/// The TTL of answers made here, seconds.
const TTL_S: u32 = 3_600;
/// CPU "RFC8482", no operating system (RFC 8482, section 4.2).
const HINFO_RDATA: &[u8] = b"\x07RFC8482\x00";

/// Answers a query for ANY with one small record, so that it makes no amplifier and fetches
/// nothing (RFC 8482).
pub(super) fn any(
    settings: &reply::Settings,
    query: &Query<'_>,
    client: &Client,
    now: &Now,
    out: &mut Vec<u8>,
) -> Answer {
    let question = query.question();
    let record = Record {
        owner: question.name.clone(),
        rtype: rtype::HINFO,
        class: CLASS_IN,
        ttl_s: TTL_S,
        rdata: Box::from(HINFO_RDATA),
    };
    let records = Records::encode(&question, [&record].into_iter(), [].iter()).unwrap_or_default();
    let fill = Fill {
        rcode: u8::try_from(rcode::NOERROR).unwrap_or(0),
        ttl_s: TTL_S,
        secure: false,
        signed_s: 0,
        failure: None,
        extended_error: None,
        with_dnssec: &records,
        plain: &records,
    };
    match Stored::pack(query.key(), &fill, now.uptime_s) {
        Some(stored) => reply::answer(settings, query, client, &stored.entry(), now, out),
        None => reply::failure(settings, query, client, &reply::Failure::Internal, now, out),
    }
}
