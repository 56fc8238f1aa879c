//! The two-octet length in front of every message on a stream (RFC 1035, section 4.2.2; the same
//! in DoT and, RFC 9250, section 4.2, on DoQ streams).

/// Octets of the length in front of each message.
pub const LENGTH_OCTETS: usize = 2;

/// The first whole message of `buffer` without its length, and how many octets of the buffer it
/// takes with its length. `None` while the message is incomplete.
#[must_use]
pub fn split(buffer: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = buffer.split_first_chunk::<LENGTH_OCTETS>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    Some((rest.get(..length)?, length + LENGTH_OCTETS))
}

/// Makes room for the length of a message that is about to be appended to `out`; give the result
/// to [`close`].
#[must_use]
pub fn open(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_OCTETS]);
    at
}

/// Fills in the length of the message that was appended to `out` since [`open`] returned `at`.
/// Returns false, and takes the message away again, when it is longer than the length can say.
pub fn close(out: &mut Vec<u8>, at: usize) -> bool {
    let start = at.saturating_add(LENGTH_OCTETS);
    let length = out
        .len()
        .checked_sub(start)
        .and_then(|length| u16::try_from(length).ok());
    let place = out.get_mut(at..start);
    if let (Some(length), Some(place)) = (length, place) {
        place.copy_from_slice(&length.to_be_bytes());
        true
    } else {
        out.truncate(at);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_one_by_one_and_only_whole() {
        let mut out = Vec::new();
        for message in [b"one".as_slice(), b"", b"three"] {
            let at = open(&mut out);
            out.extend_from_slice(message);
            assert!(close(&mut out, at));
        }
        assert_eq!(split(&out), Some((b"one".as_slice(), 5)));
        assert_eq!(split(&out[5..]), Some((b"".as_slice(), 2)));
        assert_eq!(split(&out[7..]), Some((b"three".as_slice(), 7)));
        for cut in 7..out.len() {
            assert_eq!(split(&out[7..cut]), None);
        }
    }

    #[test]
    fn a_message_too_long_for_its_length_is_taken_away() {
        let mut out = vec![1, 2, 3];
        let at = open(&mut out);
        out.resize(out.len() + 65_536, 0);
        assert!(!close(&mut out, at));
        assert_eq!(out, [1, 2, 3]);
    }
}
