//! Canonical form of RDATA and RRsets (RFC 4034, section 6, as amended by RFC 6840, section 5.1).

use crate::wire::{Name, rtype};

use super::rrset::RrSet;

/// One piece of an RDATA's layout, up to its last name.
#[derive(Clone, Copy)]
enum Piece {
    /// So many octets that are no name.
    Skip(usize),
    /// A string with one octet of length in front.
    Text,
    /// A domain name; its letters are folded.
    Name,
    /// The prefix length and address suffix of A6 (RFC 2874, section 3.1).
    A6Prefix,
}

/// The A6 record, obsolete but in the list of RFC 4034, section 6.2.
const A6: u16 = 38;

/// Where the names are that canonical form folds to lower case: the types of RFC 4034,
/// section 6.2, without NSEC (RFC 6840, section 5.1). HINFO stands in the list by mistake.
/// All other types, the later ones as well, are taken as they come (RFC 3597, section 7).
fn layout(rtype: u16) -> &'static [Piece] {
    use Piece::{A6Prefix, Name, Skip, Text};
    match rtype {
        rtype::NS
        | rtype::MD
        | rtype::MF
        | rtype::CNAME
        | rtype::MB
        | rtype::MG
        | rtype::MR
        | rtype::PTR
        | rtype::NXT
        | rtype::DNAME => &[Name],
        rtype::SOA | rtype::MINFO | rtype::RP => &[Name, Name],
        rtype::MX | rtype::AFSDB | rtype::RT | rtype::KX => &[Skip(2), Name],
        rtype::PX => &[Skip(2), Name, Name],
        rtype::SIG | rtype::RRSIG => &[Skip(18), Name],
        rtype::NAPTR => &[Skip(4), Text, Text, Text, Name],
        rtype::SRV => &[Skip(6), Name],
        A6 => &[A6Prefix, Name],
        _ => &[],
    }
}

/// The canonical form of one RDATA. One that does not fit its type's layout is returned as far as
/// it was folded: no signer made it, so no signature fits it.
pub(super) fn rdata(rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let mut octets = rdata.to_vec();
    let mut at = 0;
    for piece in layout(rtype) {
        let Some(end) = end_of(*piece, &octets, at) else {
            break;
        };
        if matches!(piece, Piece::Name)
            && let Some(name) = octets.get_mut(at..end)
        {
            // Length octets are at most 63, below every letter.
            name.make_ascii_lowercase();
        }
        at = end;
    }
    octets
}

fn end_of(piece: Piece, octets: &[u8], at: usize) -> Option<usize> {
    let end = match piece {
        Piece::Skip(count) => at + count,
        Piece::Text => at + 1 + usize::from(*octets.get(at)?),
        Piece::Name => {
            let mut end = at;
            loop {
                let len = usize::from(*octets.get(end)?);
                end += len + 1;
                match len {
                    0 => break end,
                    1..=63 => {}
                    _ => return None,
                }
            }
        }
        Piece::A6Prefix => {
            let bits = usize::from(*octets.get(at)?);
            at + 1 + 128_usize.checked_sub(bits)?.div_ceil(8)
        }
    };
    (end <= octets.len()).then_some(end)
}

/// The octets an RRSIG signs behind its own RDATA: every record with the owner and the TTL the
/// signer used, sorted by RDATA, without duplicates (RFC 4034, sections 3.1.8.1 and 6.3).
pub(super) fn signed_records(set: &RrSet, owner: &Name, original_ttl_s: u32, out: &mut Vec<u8>) {
    for rdata in set.canonical_rdata() {
        out.extend_from_slice(owner.as_wire());
        out.extend_from_slice(&set.rtype.to_be_bytes());
        out.extend_from_slice(&set.class.to_be_bytes());
        out.extend_from_slice(&original_ttl_s.to_be_bytes());
        // RDATA came out of a message, where its length is a u16.
        out.extend_from_slice(&u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(rdata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_old_types_are_folded_and_nothing_else() {
        let cases: &[(u16, &[u8], &[u8])] = &[
            (rtype::NS, b"\x02NS\x00", b"\x02ns\x00"),
            (rtype::MX, b"AZ\x01M\x00", b"AZ\x01m\x00"),
            (rtype::SRV, b"ABCDEF\x01S\x00", b"ABCDEF\x01s\x00"),
            (
                rtype::NAPTR,
                b"ABCD\x01U\x02XY\x00\x01R\x00",
                b"ABCD\x01U\x02XY\x00\x01r\x00",
            ),
            (
                rtype::SOA,
                b"\x01A\x00\x01B\x00SERIALSERIALSERIALSE",
                b"\x01a\x00\x01b\x00SERIALSERIALSERIALSE",
            ),
            (rtype::TXT, b"\x03ABC", b"\x03ABC"),
            (
                rtype::NSEC,
                b"\x01A\x00\x00\x01\x40",
                b"\x01A\x00\x00\x01\x40",
            ),
            (rtype::HINFO, b"\x01A\x01B", b"\x01A\x01B"),
            (rtype::SVCB, b"\x00\x01\x01A\x00", b"\x00\x01\x01A\x00"),
            (A6, b"\x78A\x01A\x00", b"\x78A\x01a\x00"),
        ];
        for (rtype, received, canonical) in cases {
            assert_eq!(rdata(*rtype, received), *canonical, "type {rtype}");
        }
    }

    #[test]
    fn rdata_that_does_not_fit_its_layout_does_not_panic() {
        for rtype in 0..=65 {
            for octets in [
                &b""[..],
                b"\xff",
                b"\x05A",
                b"\x01A",
                b"\xc0\x00",
                &[200; 40],
            ] {
                assert_eq!(rdata(rtype, octets).len(), octets.len());
            }
        }
    }
}
