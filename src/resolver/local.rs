//! Answers that need no upstream.

use crate::{
    cache::{Fill, Stored},
    clock::Now,
    handler::{Answer, Client},
    names::Local,
    reply::{self, ExtendedError},
    wire::{CLASS_IN, Query, Record, Records, rcode, rtype},
};

/// The TTL of answers made here, seconds.
const TTL_S: u32 = 3_600;
/// The extended error "Synthesized" (IANA "Extended DNS Error Codes").
const SYNTHESIZED: u16 = 29;
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
    let answered = Records::encode(&question, [&record].into_iter(), [].iter());
    write(
        settings,
        query,
        client,
        rcode::NOERROR,
        answered,
        None,
        now,
        out,
    )
}

/// Answers a query for a name that is answered here. Nobody signed that, so AD is never set.
pub(super) fn special(
    settings: &reply::Settings,
    query: &Query<'_>,
    client: &Client,
    local: &Local,
    now: &Now,
    out: &mut Vec<u8>,
) -> Answer {
    let records = Records::encode(
        &query.question(),
        local.answer.iter(),
        local.authority.iter(),
    );
    let error = explain(local);
    let error = error.as_ref().map(|error| (error.code, &*error.text));
    write(
        settings,
        query,
        client,
        local.rcode,
        records,
        error,
        now,
        out,
    )
}

/// Why there is nothing, so that a person who expected something knows where to look.
pub(super) fn explain(local: &Local) -> Option<ExtendedError> {
    local.answer.is_empty().then(|| ExtendedError {
        code: SYNTHESIZED,
        text: format!("special-use name, answered here ({})", local.document).into(),
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one reply, each by its name"
)]
fn write(
    settings: &reply::Settings,
    query: &Query<'_>,
    client: &Client,
    rcode: u16,
    records: Option<Records>,
    extended_error: Option<(u16, &str)>,
    now: &Now,
    out: &mut Vec<u8>,
) -> Answer {
    let records = records.unwrap_or_default();
    let fill = Fill {
        rcode: u8::try_from(rcode).unwrap_or(0),
        ttl_s: TTL_S,
        secure: false,
        signed_s: 0,
        ends: false,
        failure: None,
        extended_error,
        with_dnssec: &records,
        plain: &records,
    };
    match Stored::pack(query.key(), &fill, now.uptime_s) {
        Some(stored) => reply::answer(settings, query, client, &stored.entry(), now, out),
        None => reply::failure(settings, query, client, &reply::Failure::Internal, now, out),
    }
}
