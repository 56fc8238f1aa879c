//! Readers of the RDATA the validator looks into: DNSKEY, DS, RRSIG (RFC 4034), NSEC (RFC 4034),
//! NSEC3 (RFC 5155). Each takes the octets of one RDATA and refuses what does not fill them
//! exactly.

use crate::wire::Name;

/// The flag of a key that signs a zone (RFC 4034, section 2.1.1).
pub(super) const FLAG_ZONE: u16 = 0x0100;
/// The flag of a key that revoked itself (RFC 5011, section 2.1).
pub(super) const FLAG_REVOKE: u16 = 0x0080;
/// The opt-out flag of NSEC3 (RFC 5155, section 3.1.2.1).
pub(super) const FLAG_OPT_OUT: u8 = 0x01;

/// A reader's place in the octets of one RDATA.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn name(&mut self) -> Option<Name> {
        let (name, end) = Name::read(self.0, 0).ok()?;
        // RDATA comes expanded: a pointer would make the name longer than what it took.
        if end != name.as_wire().len() {
            return None;
        }
        self.take(end)?;
        Some(name)
    }

    /// A string with one octet of length in front.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u8()?);
        self.take(len)
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A DNSKEY (RFC 4034, section 2.1), not yet looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dnskey<'a> {
    pub(super) flags: u16,
    pub(super) protocol: u8,
    pub(super) algorithm: u8,
    pub(super) public_key: &'a [u8],
}

impl<'a> Dnskey<'a> {
    pub(super) fn parse(rdata: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(rdata);
        Some(Self {
            flags: cursor.u16()?,
            protocol: cursor.u8()?,
            algorithm: cursor.u8()?,
            public_key: cursor.rest(),
        })
    }
}

/// The key tag of a DNSKEY's RDATA (RFC 4034, appendix B).
#[must_use]
pub fn key_tag(rdata: &[u8]) -> u16 {
    // Algorithm 1 has a formula of its own (appendix B.1); it is unsupported, and so is its tag.
    let mut sum: u32 = 0;
    for pair in rdata.chunks(2) {
        let high = u32::from(pair.first().copied().unwrap_or(0));
        let low = u32::from(pair.get(1).copied().unwrap_or(0));
        // A RDATA has at most 65535 octets, so the sum stays below 2^31.
        sum = sum.wrapping_add(high << 8 | low);
    }
    sum = sum.wrapping_add(sum >> 16 & 0xffff);
    u16::try_from(sum & 0xffff).unwrap_or(0)
}

/// A DS record (RFC 4034, section 5.1), which is also the form trust anchors come in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ds {
    /// The tag of the key it points at.
    pub key_tag: u16,
    /// The algorithm of that key.
    pub algorithm: u8,
    /// How the digest was made: 1 SHA-1, 2 SHA-256, 4 SHA-384.
    pub digest_type: u8,
    /// The digest of the key's owner name and RDATA.
    pub digest: Box<[u8]>,
}

impl Ds {
    /// Reads a DS record's RDATA; `None` when it is cut short.
    #[must_use]
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(rdata);
        Some(Self {
            key_tag: cursor.u16()?,
            algorithm: cursor.u8()?,
            digest_type: cursor.u8()?,
            digest: Box::from(cursor.rest()),
        })
    }
}

/// An RRSIG (RFC 4034, section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rrsig {
    pub(super) type_covered: u16,
    pub(super) algorithm: u8,
    pub(super) labels: u8,
    pub(super) original_ttl_s: u32,
    pub(super) expiration: u32,
    pub(super) inception: u32,
    pub(super) key_tag: u16,
    pub(super) signer: Name,
    pub(super) signature: Box<[u8]>,
}

impl Rrsig {
    pub(super) fn parse(rdata: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(rdata);
        Some(Self {
            type_covered: cursor.u16()?,
            algorithm: cursor.u8()?,
            labels: cursor.u8()?,
            original_ttl_s: cursor.u32()?,
            expiration: cursor.u32()?,
            inception: cursor.u32()?,
            key_tag: cursor.u16()?,
            signer: cursor.name()?,
            signature: Box::from(cursor.rest()),
        })
    }

    /// The labels field and the signer of an RRSIG's RDATA.
    pub(super) fn labels_and_signer(rdata: &[u8]) -> Option<(u8, Name)> {
        let mut cursor = Cursor(rdata);
        cursor.take(3)?;
        let labels = cursor.u8()?;
        cursor.take(14)?;
        Some((labels, cursor.name()?))
    }

    /// Appends the octets in front of the signature, signer in lower case: they are signed too
    /// (RFC 4034, section 3.1.8.1).
    pub(super) fn signed_head(&self, head: &mut Vec<u8>) {
        head.extend_from_slice(&self.type_covered.to_be_bytes());
        head.push(self.algorithm);
        head.push(self.labels);
        head.extend_from_slice(&self.original_ttl_s.to_be_bytes());
        head.extend_from_slice(&self.expiration.to_be_bytes());
        head.extend_from_slice(&self.inception.to_be_bytes());
        head.extend_from_slice(&self.key_tag.to_be_bytes());
        head.extend_from_slice(self.signer.as_wire());
    }
}

/// The set of types at a name, as NSEC and NSEC3 carry it (RFC 4034, section 4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeBitmap(Box<[u8]>);

impl TypeBitmap {
    /// Checks the windows: ascending, 1 to 32 octets each, nothing left over.
    fn parse(octets: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(octets);
        let mut last = None;
        while !cursor.0.is_empty() {
            let window = cursor.u8()?;
            if last.is_some_and(|last| window <= last) {
                return None;
            }
            last = Some(window);
            let bits = cursor.counted()?;
            if bits.is_empty() || bits.len() > 32 {
                return None;
            }
        }
        Some(Self(Box::from(octets)))
    }

    pub(super) fn contains(&self, rtype: u16) -> bool {
        let [window, low] = rtype.to_be_bytes();
        let mut cursor = Cursor(&self.0);
        while let (Some(number), Some(bits)) = (cursor.u8(), cursor.counted()) {
            if number == window {
                let octet = bits.get(usize::from(low >> 3)).copied().unwrap_or(0);
                return octet & (0x80 >> (low & 7)) != 0;
            }
        }
        false
    }
}

/// An NSEC (RFC 4034, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nsec {
    pub(super) next: Name,
    pub(super) types: TypeBitmap,
}

impl Nsec {
    pub(super) fn parse(rdata: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(rdata);
        Some(Self {
            next: cursor.name()?,
            types: TypeBitmap::parse(cursor.rest())?,
        })
    }
}

/// An NSEC3 (RFC 5155, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nsec3 {
    pub(super) hash_algorithm: u8,
    pub(super) flags: u8,
    pub(super) iterations: u16,
    pub(super) salt: Box<[u8]>,
    pub(super) next_hash: Box<[u8]>,
    pub(super) types: TypeBitmap,
}

impl Nsec3 {
    pub(super) fn parse(rdata: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(rdata);
        Some(Self {
            hash_algorithm: cursor.u8()?,
            flags: cursor.u8()?,
            iterations: cursor.u16()?,
            salt: Box::from(cursor.counted()?),
            next_hash: Box::from(cursor.counted()?),
            types: TypeBitmap::parse(cursor.rest())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_bitmaps_of_rfc_4034_section_4_3() {
        // alfa.example.com. NSEC host.example.com. ( A MX RRSIG NSEC TYPE1234 )
        let mut rdata = b"\x04host\x07example\x03com\x00".to_vec();
        rdata.extend_from_slice(b"\x00\x06\x40\x01\x00\x00\x00\x03\x04\x1b");
        rdata.extend_from_slice(&[0; 26]);
        rdata.push(0x20);
        let nsec = Nsec::parse(&rdata).unwrap();
        assert_eq!(nsec.next, Name::parse("host.example.com.").unwrap());
        for rtype in [1, 15, 46, 47, 1234] {
            assert!(nsec.types.contains(rtype), "{rtype}");
        }
        for rtype in [0, 2, 5, 6, 16, 28, 43, 255, 1233, 1235, 4660, 65535] {
            assert!(!nsec.types.contains(rtype), "{rtype}");
        }
    }

    #[test]
    fn broken_bitmaps_are_refused() {
        for octets in [
            &b"\x00"[..],
            b"\x00\x00",
            b"\x00\x02\x01",
            b"\x01\x01\x40\x00\x01\x40",
            b"\x00\x01\x40\x00\x01\x40",
        ] {
            assert_eq!(TypeBitmap::parse(octets), None, "{octets:?}");
        }
        let long = [&[0, 33][..], &[0xff; 33]].concat();
        assert_eq!(TypeBitmap::parse(&long), None);
    }

    #[test]
    fn a_signer_name_with_a_pointer_is_refused() {
        let mut rdata = vec![0; 18];
        rdata.extend_from_slice(b"\xc0\x00");
        assert_eq!(Rrsig::parse(&rdata), None);
        assert_eq!(Rrsig::parse(&[0; 18]), None);
    }
}
