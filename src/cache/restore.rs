//! Entries out of a file: nothing of what their octets say is believed before it is checked.

use super::{Form, entry::Stored};
use crate::wire::{CLASS_IN, HEADER_OCTETS, Name, Record, Response, rcode};

/// Octets of a key behind its name: type, class, CD.
const KEY_TAIL_OCTETS: usize = 5;

/// Takes up an answer that was stored at `stored_s`; `None` unless it is one that could have been
/// stored: whole, of a question that is looked up, with records that any reply to it may carry, and
/// no failure.
pub(super) fn restore(octets: &[u8], stored_s: u32) -> Option<Stored> {
    let stored = Stored::unpack(octets, stored_s)?;
    let entry = stored.entry();
    if entry.failure().is_some() {
        return None;
    }
    let answers = [rcode::NOERROR, rcode::NXDOMAIN, rcode::YXDOMAIN];
    if !answers.contains(&u16::from(entry.rcode())) {
        return None;
    }
    let key = entry.key();
    let (name, tail) = key.split_at_checked(key.len().checked_sub(KEY_TAIL_OCTETS)?)?;
    let name = Name::from_wire(name)
        .ok()
        .filter(|one| one.as_wire() == name)?;
    let (question_tail, checking_disabled) = tail.split_first_chunk::<4>()?;
    let [_, _, class_high, class_low] = *question_tail;
    if u16::from_be_bytes([class_high, class_low]) != CLASS_IN {
        return None;
    }
    // What a client with CD got was never judged.
    match checking_disabled {
        [0] => {}
        [1] if !entry.is_secure() => {}
        _ => return None,
    }
    for dnssec_ok in [true, false] {
        check(&name, *question_tail, &entry.form(dnssec_ok), entry.ttl_s())?;
    }
    Some(stored)
}

/// Whether a reply with these records can be read, whatever becomes of their TTLs, and none of them ends
/// before `ttl_s`.
fn check(name: &Name, question_tail: [u8; 4], form: &Form<'_>, ttl_s: u32) -> Option<()> {
    let mut message = Vec::with_capacity(
        HEADER_OCTETS + name.as_wire().len() + question_tail.len() + form.records.len(),
    );
    // The id, QR, one question.
    message.extend_from_slice(&[0, 0, 0x80, 0, 0, 1]);
    message.extend_from_slice(&form.answers.to_be_bytes());
    message.extend_from_slice(&form.authorities.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(name.as_wire());
    message.extend_from_slice(&question_tail);
    let start = message.len();
    message.extend_from_slice(form.records);
    let written = Response::parse(&message).ok()?;
    // What parses is records from end to end, so this finds the TTL of each.
    let mut ttls = form.ttl_offsets().map(|at| {
        let ttl = message.get(start + at..).and_then(<[u8]>::first_chunk);
        ttl.map(|ttl| u32::from_be_bytes(*ttl))
    });
    let is_ttl = |written: Option<u32>| {
        written.is_some_and(|written| written <= i32::MAX.unsigned_abs() && written >= ttl_s)
    };
    if !ttls.all(is_ttl) {
        return None;
    }
    // A name may point back to where a TTL stands, and would be another one as that changes: a zero
    // ends it there, and a one begins a label.
    let written = without_ttls(written);
    for octet in [0, 1] {
        for at in form.ttl_offsets() {
            message.get_mut(start + at..)?.get_mut(..4)?.fill(octet);
        }
        if without_ttls(Response::parse(&message).ok()?) != written {
            return None;
        }
    }
    Some(())
}

/// The records of a response's answer and authority sections, all with a TTL of 0.
fn without_ttls(response: Response) -> [Vec<Record>; 2] {
    let mut sections = [response.answer, response.authority];
    for record in sections.iter_mut().flatten() {
        record.ttl_s = 0;
    }
    sections
}
