//! The query as it is sent, and whether a response belongs to it.
//!
//! What is sent is made from the question alone, so nothing of the client can leak.

use std::time::Duration;

use crate::{
    handler::Transport,
    wire::{HEADER_OCTETS, Question, rcode, rtype},
};

/// The UDP payload size we offer: it fits any IPv6 path unfragmented (DNS flag day 2020).
pub(super) const UDP_PAYLOAD_OCTETS: u16 = 1232;
/// Queries on encrypted transports are padded to a multiple of this (RFC 8467, section 4.1).
pub(super) const PADDING_BLOCK_OCTETS: usize = 128;
/// Room for nearly every query: a block of padding and a little more.
pub(super) const QUERY_CAPACITY_OCTETS: usize = 2 * PADDING_BLOCK_OCTETS + 2;

/// RD set, everything else of the first flag octet clear.
const FLAGS_RECURSION_DESIRED: u8 = 0x01;
/// CD set: the upstream must not hide what it could not validate (RFC 6840, section 5.9).
const FLAGS_CHECKING_DISABLED: u8 = 0x10;
/// The OPT record's flags with only DO set (RFC 6891, section 6.1.3).
const OPT_FLAGS_DNSSEC_OK: u16 = 0x8000;
/// An OPT record without options: root owner, type, class, TTL, RDLENGTH.
const OPT_OCTETS: usize = 11;
/// Code and length of one EDNS option.
const OPTION_HEADER_OCTETS: usize = 4;
/// The padding option (RFC 7830).
const OPTION_PADDING: u16 = 12;

/// A response that belongs to its query, as it came.
#[derive(Debug)]
pub(super) struct Received {
    /// The whole message.
    pub(super) octets: Vec<u8>,
    /// How long an HTTP cache on the way has kept it, in seconds.
    pub(super) age_s: u32,
    /// From the query's sending to the response, the time for connecting not included.
    pub(super) took: Duration,
    /// How it travelled, if not as the upstream is written down.
    pub(super) transport: Option<Transport>,
}

impl Received {
    /// A response that no cache on the way can have kept.
    pub(super) const fn fresh(octets: Vec<u8>) -> Self {
        Self::aged(octets, 0)
    }

    /// A response that a cache may have kept for so long. Whoever knows how long it took says so.
    pub(super) const fn aged(octets: Vec<u8>, age_s: u32) -> Self {
        Self {
            octets,
            age_s,
            took: Duration::ZERO,
            transport: None,
        }
    }
}

/// Appends a query for `question` to `out`: RD, CD and DO set, `udp_payload` octets offered, an
/// OPT record with nothing in it but padding.
///
/// `case_bits` gives the n-th letter of the name (modulo 64) its case, as a second nonce (0x20);
/// `None` leaves the name in lower case. `pad_to` pads the message to a multiple of that many
/// octets (RFC 8467).
pub(super) fn encode_query(
    question: &Question,
    id: u16,
    case_bits: Option<u64>,
    pad_to: Option<usize>,
    udp_payload: u16,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[FLAGS_RECURSION_DESIRED, FLAGS_CHECKING_DISABLED]);
    // One question, no answers, no authority, one additional record.
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 1]);
    let name_at = out.len();
    out.extend_from_slice(question.name.as_wire());
    if let (Some(bits), Some(name)) = (case_bits, out.get_mut(name_at..)) {
        mix_case(name, bits);
    }
    out.extend_from_slice(&question.qtype.to_be_bytes());
    out.extend_from_slice(&question.qclass.to_be_bytes());

    let without_options = out.len() - start + OPT_OCTETS;
    let padding = pad_to.filter(|block| *block > 0).map(|block| {
        let bare = without_options + OPTION_HEADER_OCTETS;
        bare.next_multiple_of(block) - bare
    });
    out.push(0);
    out.extend_from_slice(&rtype::OPT.to_be_bytes());
    out.extend_from_slice(&udp_payload.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&OPT_FLAGS_DNSSEC_OK.to_be_bytes());
    match padding.and_then(|octets| u16::try_from(octets).ok()) {
        None => out.extend_from_slice(&[0, 0]),
        Some(octets) => {
            let header: u16 = 4;
            out.extend_from_slice(&octets.saturating_add(header).to_be_bytes());
            out.extend_from_slice(&OPTION_PADDING.to_be_bytes());
            out.extend_from_slice(&octets.to_be_bytes());
            out.resize(out.len() + usize::from(octets), 0);
        }
    }
}

/// Sets the case of the letters in `name`, one bit each. Length octets are below 64 and therefore
/// never letters.
fn mix_case(name: &mut [u8], bits: u64) {
    let mut bits = bits;
    for octet in name {
        if octet.is_ascii_alphabetic() {
            if bits & 1 == 1 {
                octet.make_ascii_uppercase();
            }
            bits = bits.rotate_right(1);
        }
    }
}

/// Whether `received` is the response to `sent`: id, QR, opcode, QDCOUNT and the question, letter
/// case included (RFC 5452, section 9).
pub(super) fn belongs(sent: &[u8], received: &[u8]) -> bool {
    header_belongs(sent, received)
        && question(sent).is_some_and(|ours| {
            received
                .get(HEADER_OCTETS..HEADER_OCTETS + ours.len())
                .is_some_and(|theirs| theirs == ours)
        })
}

fn header_belongs(sent: &[u8], received: &[u8]) -> bool {
    const RESPONSE: u8 = 0x80;
    const OPCODE: u8 = 0x78;
    let (Some(sent), Some(received)) = (
        sent.first_chunk::<HEADER_OCTETS>(),
        received.first_chunk::<HEADER_OCTETS>(),
    ) else {
        return false;
    };
    let [id_a, id_b, flags, _, count_a, count_b, ..] = received;
    let [our_id_a, our_id_b, our_flags, ..] = sent;
    (id_a, id_b) == (our_id_a, our_id_b)
        && flags & RESPONSE != 0
        && flags & OPCODE == our_flags & OPCODE
        && (*count_a, *count_b) == (0, 1)
}

/// The octets of the one question of a query that [`encode_query`] wrote.
fn question(sent: &[u8]) -> Option<&[u8]> {
    let body = sent.get(HEADER_OCTETS..)?;
    let mut at = 0;
    loop {
        let label = usize::from(*body.get(at)?);
        at += label + 1;
        if label == 0 {
            // The type and the class follow.
            return body.get(..at + 4);
        }
    }
}

/// The id of a message; 0 when it is too short to have one.
pub(super) fn id(message: &[u8]) -> u16 {
    message
        .first_chunk::<2>()
        .map_or(0, |id| u16::from_be_bytes(*id))
}

/// Puts `id` into a message.
pub(super) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// Whether the response was cut (TC).
pub(super) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// The rcode of the header; the OPT record's upper bits are not looked at.
pub(super) fn rcode(message: &[u8]) -> u16 {
    message.get(3).map_or(0, |flags| u16::from(flags & 0x0f))
}

/// Whether the rcode says that this upstream could not or would not answer, which another may.
pub(super) fn is_refusal(message: &[u8]) -> bool {
    matches!(
        rcode(message),
        rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn question_of(name: &str) -> Question {
        Question {
            name: Name::parse(name).unwrap(),
            qtype: 1,
            qclass: 1,
        }
    }

    fn query(name: &str, pad_to: Option<usize>, case_bits: Option<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_query(
            &question_of(name),
            0x1234,
            case_bits,
            pad_to,
            UDP_PAYLOAD_OCTETS,
            &mut out,
        );
        out
    }

    fn response_to(query: &[u8]) -> Vec<u8> {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response
    }

    #[test]
    fn a_query_is_what_the_rfcs_say() {
        let bare = query("a.example.", None, None);
        assert_eq!(
            bare,
            [
                b"\x12\x34\x01\x10\x00\x01\x00\x00\x00\x00\x00\x01".as_slice(),
                b"\x01a\x07example\x00\x00\x01\x00\x01",
                b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00",
            ]
            .concat()
        );
    }

    #[test]
    fn padded_queries_are_multiples_of_the_block() {
        for length in 1..60 {
            let name = format!("{}.example.", "a".repeat(length));
            let padded = query(&name, Some(PADDING_BLOCK_OCTETS), None);
            assert_eq!(padded.len() % PADDING_BLOCK_OCTETS, 0);
            let bare = query(&name, None, None);
            assert!(padded.len() < bare.len() + 4 + PADDING_BLOCK_OCTETS);
        }
        let label = "a".repeat(63);
        let long = format!("{label}.{label}.{label}.{}.", "b".repeat(61));
        let padded = query(&long, Some(PADDING_BLOCK_OCTETS), None);
        assert_eq!(padded.len() % PADDING_BLOCK_OCTETS, 0);
    }

    #[test]
    fn case_bits_change_letters_only_and_are_compared() {
        let lower = query("a1-b.example.", None, None);
        let mixed = query("a1-b.example.", None, Some(u64::MAX));
        assert_ne!(lower, mixed);
        assert_eq!(lower, mixed.to_ascii_lowercase());
        assert!(belongs(&mixed, &response_to(&mixed)));
        assert!(!belongs(&mixed, &response_to(&lower)));
    }

    #[test]
    fn only_the_response_belongs() {
        let sent = query("a.example.", None, None);
        let good = response_to(&sent);
        assert!(belongs(&sent, &good));
        assert!(!belongs(&sent, &sent), "a query is no response");
        for (at, what) in [
            (1, "id"),
            (5, "QDCOUNT"),
            (13, "name"),
            (22, "type"),
            (24, "class"),
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x02;
            assert!(!belongs(&sent, &bad), "{what}");
        }
        let mut bad = good.clone();
        bad[2] |= 0x28;
        assert!(!belongs(&sent, &bad), "opcode");
        for cut in 0..25 {
            assert!(!belongs(&sent, &good[..cut]), "cut at {cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_comparison_panic(
            sent in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
            received in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            belongs(&sent, &received);
            is_truncated(&received);
            rcode(&received);
        }
    }
}
