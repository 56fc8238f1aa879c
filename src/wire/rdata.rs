//! RDATA as far as a forwarder must know it: where names stand, and which lengths are lies.

use super::{
    MESSAGE_MAX_OCTETS, NAME_MAX_OCTETS, NameError,
    name::{expand, skip_uncompressed},
    rtype,
};

/// One piece of a type's RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// That many octets.
    Fixed(usize),
    /// A name that senders may compress (RFC 3597, section 4).
    Name,
    /// A name that must not be compressed.
    PlainName,
    /// A character string: a length octet and that many more.
    Text,
    /// One character string or more, to the end.
    Texts,
    /// At least that many octets, to the end.
    Rest(usize),
    /// SvcParams to the end: key, length, value, keys ascending (RFC 9460, section 2.2).
    Parameters,
}

/// The layout of a type's RDATA; unknown types are opaque (RFC 3597).
fn layout(rtype: u16) -> &'static [Piece] {
    use Piece::{Fixed, Name, Parameters, PlainName, Rest, Text, Texts};
    match rtype {
        rtype::A => &[Fixed(4)],
        rtype::AAAA => &[Fixed(16)],
        rtype::NS
        | rtype::MD
        | rtype::MF
        | rtype::CNAME
        | rtype::MB
        | rtype::MG
        | rtype::MR
        | rtype::PTR => &[Name],
        rtype::SOA => &[Name, Name, Fixed(20)],
        rtype::HINFO => &[Text, Text],
        rtype::MINFO | rtype::RP => &[Name, Name],
        rtype::MX | rtype::AFSDB | rtype::RT => &[Fixed(2), Name],
        rtype::KX => &[Fixed(2), PlainName],
        rtype::TXT => &[Texts],
        rtype::SIG => &[Fixed(18), Name, Rest(1)],
        rtype::PX => &[Fixed(2), Name, Name],
        rtype::NXT => &[Name, Rest(1)],
        rtype::SRV => &[Fixed(6), Name],
        rtype::NAPTR => &[Fixed(4), Text, Text, Text, Name],
        rtype::DNAME => &[PlainName],
        rtype::RRSIG => &[Fixed(18), PlainName, Rest(1)],
        rtype::NSEC => &[PlainName, Rest(0)],
        rtype::DS | rtype::DNSKEY => &[Fixed(4), Rest(1)],
        rtype::NSEC3 => &[Fixed(4), Text, Text, Rest(0)],
        rtype::NSEC3PARAM => &[Fixed(4), Text],
        rtype::SVCB | rtype::HTTPS => &[Fixed(2), PlainName, Parameters],
        _ => &[Rest(0)],
    }
}

/// Appends the RDATA at `start..end` of `message` to `out` with every compressed name expanded,
/// letter case kept.
///
/// # Errors
/// When the octets do not have the layout of their type, or an expanded name is none.
pub(super) fn expand_rdata(
    message: &[u8],
    start: usize,
    end: usize,
    rtype: u16,
    out: &mut Vec<u8>,
) -> Result<(), NameError> {
    let mut at = start;
    for piece in layout(rtype) {
        let piece_end = match piece {
            Piece::Name => {
                let mut name = [0; NAME_MAX_OCTETS];
                let (len, name_end) = expand(message, at, &mut name)?;
                out.extend_from_slice(name.get(..len).unwrap_or_default());
                at = name_end;
                continue;
            }
            Piece::Fixed(octets) => at + octets,
            Piece::PlainName => skip_uncompressed(message, at)?,
            Piece::Text => at + 1 + usize::from(*message.get(at).ok_or(NameError::Truncated)?),
            Piece::Texts => texts_end(message, at, end).ok_or(NameError::Truncated)?,
            Piece::Rest(least) if at + least <= end => end,
            Piece::Parameters if parameters_fit(message.get(at..end)) => end,
            Piece::Rest(_) | Piece::Parameters => return Err(NameError::Truncated),
        };
        if piece_end > end {
            return Err(NameError::Truncated);
        }
        out.extend_from_slice(message.get(at..piece_end).ok_or(NameError::Truncated)?);
        at = piece_end;
    }
    if at == end && out.len() <= MESSAGE_MAX_OCTETS {
        Ok(())
    } else {
        Err(NameError::Truncated)
    }
}

/// The offset of the first and the number of leading names that a writer may compress: only the
/// types of RFC 1035 (RFC 3597, section 4).
pub(super) fn compressible(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        rtype::NS
        | rtype::MD
        | rtype::MF
        | rtype::CNAME
        | rtype::MB
        | rtype::MG
        | rtype::MR
        | rtype::PTR => Some((0, 1)),
        rtype::SOA | rtype::MINFO => Some((0, 2)),
        rtype::MX => Some((2, 1)),
        _ => None,
    }
}

fn texts_end(message: &[u8], start: usize, end: usize) -> Option<usize> {
    let mut at = start;
    while at < end {
        at += 1 + usize::from(*message.get(at)?);
    }
    (at == end && at > start).then_some(at)
}

fn parameters_fit(parameters: Option<&[u8]>) -> bool {
    let Some(mut rest) = parameters else {
        return false;
    };
    let mut last = None;
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let key = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some(next) = tail.get(len..) else {
            return false;
        };
        if last.is_some_and(|last| last >= key) {
            return false;
        }
        last = Some(key);
        rest = next;
    }
    rest.is_empty()
}
