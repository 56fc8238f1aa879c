//! Domain names: reading them out of messages, comparing and ordering them.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

use thiserror::Error;

use super::HEADER_OCTETS;

/// The most octets a name has in wire form, the root label included (RFC 1035, section 3.1).
pub const NAME_MAX_OCTETS: usize = 255;
/// The most octets of one label (RFC 1035, section 3.1).
pub const LABEL_MAX_OCTETS: usize = 63;
/// The most labels of a name, the root label not counted.
const LABELS_MAX: usize = NAME_MAX_OCTETS / 2;
/// The most compression pointers followed in one name. A name has at most 127 labels, and a
/// sensible encoder needs one pointer; the bound keeps a message of chained pointers linear.
const POINTER_HOPS_MAX: usize = 16;
/// Octets of a name that need no memory of their own: nearly all that people ask for, in a value of
/// five words.
const SHORT_OCTETS: usize = 38;

/// Why octets or text are not a domain name. The sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The message ends inside the name.
    #[error("the name runs past the end of the message")]
    Truncated,
    /// A compression pointer does not point backwards to where names are, or there are too many.
    #[error("a compression pointer of the name does not lead backwards to a name")]
    Pointer,
    /// A length octet with the reserved bits 01 or 10 (RFC 6891, section 5).
    #[error("a label of the name has a reserved type")]
    LabelType,
    /// More than 255 octets in all, or more than 63 in a label.
    #[error("the name is longer than 255 octets or has a label longer than 63")]
    TooLong,
    /// A label without octets, or an escape that is none, in presentation form.
    #[error("the name has an empty label or a broken escape")]
    Text,
}

/// A domain name in uncompressed wire form, always lower case, root label included.
///
/// Equality and hashing are therefore case-insensitive in effect (RFC 4343); `Ord` is the
/// canonical order of RFC 4034, section 6.1.
#[derive(Clone)]
pub struct Name(Octets);

/// The octets of a name. Names are made, copied and dropped all the time, and most are short.
#[derive(Clone)]
enum Octets {
    Short { len: u8, octets: [u8; SHORT_OCTETS] },
    Long(Box<[u8]>),
}

impl Octets {
    fn new(name: &[u8]) -> Self {
        let mut octets = [0; SHORT_OCTETS];
        match (octets.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(name);
                Self::Short { len, octets }
            }
            _ => Self::Long(Box::from(name)),
        }
    }
}

impl Name {
    /// The root, `.`.
    #[must_use]
    pub fn root() -> Self {
        Self(Octets::new(&[0]))
    }

    /// Reads the possibly compressed name at `start` of `message` and the offset just behind it.
    ///
    /// # Errors
    /// When the octets are not a name; see [`NameError`].
    pub fn read(message: &[u8], start: usize) -> Result<(Self, usize), NameError> {
        let mut buffer = [0; NAME_MAX_OCTETS];
        let (len, end) = expand(message, start, &mut buffer)?;
        let name = buffer.get_mut(..len).ok_or(NameError::TooLong)?;
        name.make_ascii_lowercase();
        Ok((Self(Octets::new(name)), end))
    }

    /// Takes an uncompressed name in wire form that fills `octets` exactly.
    ///
    /// # Errors
    /// When the octets are not a name; see [`NameError`].
    pub fn from_wire(octets: &[u8]) -> Result<Self, NameError> {
        let end = skip_uncompressed(octets, 0)?;
        if end != octets.len() {
            return Err(NameError::Text);
        }
        let mut buffer = [0; NAME_MAX_OCTETS];
        let name = buffer.get_mut(..end).ok_or(NameError::TooLong)?;
        name.copy_from_slice(octets);
        name.make_ascii_lowercase();
        Ok(Self(Octets::new(name)))
    }

    /// Reads presentation form (RFC 1035, section 5.1): `www.example.com`, with or without the
    /// last dot, with `\.` and `\DDD` escapes.
    ///
    /// # Errors
    /// When a label is empty or too long, or the whole is too long.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::new();
        let mut octets = text.bytes().peekable();
        if text.is_empty() {
            return Err(NameError::Text);
        }
        while let Some(octet) = octets.next() {
            match octet {
                b'.' => {
                    push_label(&mut wire, &mut label)?;
                    if octets.peek().is_none() {
                        break;
                    }
                    continue;
                }
                b'\\' => {
                    let first = octets.next().ok_or(NameError::Text)?;
                    if first.is_ascii_digit() {
                        let second = octets.next().filter(u8::is_ascii_digit);
                        let third = octets.next().filter(u8::is_ascii_digit);
                        let (Some(second), Some(third)) = (second, third) else {
                            return Err(NameError::Text);
                        };
                        let value = u16::from(first - b'0') * 100
                            + u16::from(second - b'0') * 10
                            + u16::from(third - b'0');
                        label.push(u8::try_from(value).map_err(|_| NameError::Text)?);
                    } else {
                        label.push(first);
                    }
                }
                other => label.push(other),
            }
            if octets.peek().is_none() {
                push_label(&mut wire, &mut label)?;
            }
        }
        wire.push(0);
        if wire.len() > NAME_MAX_OCTETS {
            return Err(NameError::TooLong);
        }
        wire.make_ascii_lowercase();
        Ok(Self(Octets::new(&wire)))
    }

    /// The name in uncompressed wire form, lower case, root label included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        match &self.0 {
            Octets::Short { len, octets } => octets.get(..usize::from(*len)).unwrap_or_default(),
            Octets::Long(octets) => octets,
        }
    }

    /// The labels from the leftmost on, without the root label.
    pub fn labels(&self) -> Labels<'_> {
        Labels {
            rest: self.as_wire(),
        }
    }

    /// The number of labels without the root label; 0 for the root.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.as_wire().len() == 1
    }

    /// Whether the leftmost label is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.as_wire().starts_with(b"\x01*")
    }

    /// The name without its leftmost label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let wire = self.as_wire();
        let len = usize::from(*wire.first()?);
        let rest = (len > 0).then(|| wire.get(len + 1..))??;
        Some(Self(Octets::new(rest)))
    }

    /// The last `count` labels of the name, root label included; the whole name when it has fewer.
    #[must_use]
    pub fn suffix(&self, count: usize) -> Self {
        let skip = self.label_count().saturating_sub(count);
        let mut rest = self.as_wire();
        for _ in 0..skip {
            let len = rest.first().map_or(0, |len| usize::from(*len));
            rest = rest.get(len + 1..).unwrap_or(&[0]);
        }
        Self(Octets::new(rest))
    }

    /// Whether this name is `ancestor` or lies below it, compared label by label.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        let (wire, ancestor) = (self.as_wire(), ancestor.as_wire());
        let Some(extra) = wire.len().checked_sub(ancestor.len()) else {
            return false;
        };
        if wire.get(extra..) != Some(ancestor) {
            return false;
        }
        // The tail must begin where a label of ours begins, not in the middle of one.
        let mut at = 0;
        while at < extra {
            at += wire.get(at).map_or(1, |len| usize::from(*len) + 1);
        }
        at == extra
    }

    /// This name with `label` put in front.
    ///
    /// # Errors
    /// When the label is empty or longer than 63 octets, or the name becomes longer than 255.
    pub fn child(&self, label: &[u8]) -> Result<Self, NameError> {
        let len = u8::try_from(label.len()).map_err(|_| NameError::TooLong)?;
        if label.is_empty() {
            return Err(NameError::Text);
        }
        let below = self.as_wire();
        if label.len() > LABEL_MAX_OCTETS || label.len() + 1 + below.len() > NAME_MAX_OCTETS {
            return Err(NameError::TooLong);
        }
        let mut wire = Vec::with_capacity(label.len() + 1 + below.len());
        wire.push(len);
        wire.extend_from_slice(label);
        wire.extend_from_slice(below);
        wire.make_ascii_lowercase();
        Ok(Self(Octets::new(&wire)))
    }
}

fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::Text);
    }
    if label.len() > LABEL_MAX_OCTETS {
        return Err(NameError::TooLong);
    }
    wire.push(u8::try_from(label.len()).map_err(|_| NameError::TooLong)?);
    wire.append(label);
    Ok(())
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_wire().hash(state);
    }
}

impl Ord for Name {
    /// Canonical order: label by label from the right, each as octets (RFC 4034, section 6.1).
    fn cmp(&self, other: &Self) -> Ordering {
        Rightmost::of(self).cmp(Rightmost::of(other))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    /// Presentation form with the last dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        if self.is_root() {
            return f.write_char('.');
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(octet))?;
                    }
                    0x21..=0x7e => f.write_char(char::from(octet))?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
            f.write_char('.')?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The labels of a name, rightmost first: without the root label.
struct Rightmost<'a> {
    wire: &'a [u8],
    /// Where the labels not yet given out begin.
    starts: [u8; LABELS_MAX],
    left: usize,
}

impl<'a> Rightmost<'a> {
    fn of(name: &'a Name) -> Self {
        let mut starts = [0; LABELS_MAX];
        let (mut at, mut left) = (0_u8, 0);
        for (label, start) in name.labels().zip(&mut starts) {
            *start = at;
            // A name has at most 255 octets.
            at = at.saturating_add(u8::try_from(label.len() + 1).unwrap_or(u8::MAX));
            left += 1;
        }
        Self {
            wire: name.as_wire(),
            starts,
            left,
        }
    }
}

impl<'a> Iterator for Rightmost<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let start = usize::from(*self.starts.get(self.left)?);
        let len = usize::from(*self.wire.get(start)?);
        self.wire.get(start + 1..=start + len)
    }
}

/// The labels of a name, leftmost first.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(*self.rest.first()?);
        if len == 0 {
            return None;
        }
        let label = self.rest.get(1..=len)?;
        self.rest = self.rest.get(len + 1..)?;
        Some(label)
    }
}

/// Writes the name at `start` of `message`, pointers followed, case kept, into `out`; returns its
/// length and the offset just behind it in the message.
pub(super) fn expand(
    message: &[u8],
    start: usize,
    out: &mut [u8; NAME_MAX_OCTETS],
) -> Result<(usize, usize), NameError> {
    let mut at = start;
    let mut end = None;
    let mut written = 0;
    let mut hops = 0;
    loop {
        let len = usize::from(*message.get(at).ok_or(NameError::Truncated)?);
        match len & 0xc0 {
            0x00 => {
                let label = message.get(at..=at + len).ok_or(NameError::Truncated)?;
                let room = out
                    .get_mut(written..=written + len)
                    .ok_or(NameError::TooLong)?;
                room.copy_from_slice(label);
                written += len + 1;
                at += len + 1;
                if len == 0 {
                    return Ok((written, end.unwrap_or(at)));
                }
            }
            0xc0 => {
                let low = usize::from(*message.get(at + 1).ok_or(NameError::Truncated)?);
                let target = (len & 0x3f) << 8 | low;
                end.get_or_insert(at + 2);
                hops += 1;
                // Backwards from the pointer itself; every hop leads further back, so it ends. No name
                // is in the header, which is another one in another message with the same records.
                if target >= at || target < HEADER_OCTETS || hops > POINTER_HOPS_MAX {
                    return Err(NameError::Pointer);
                }
                at = target;
            }
            _ => return Err(NameError::LabelType),
        }
    }
}

/// The offset just behind the uncompressed name at `start`.
pub(super) fn skip_uncompressed(octets: &[u8], start: usize) -> Result<usize, NameError> {
    let mut at = start;
    loop {
        let len = usize::from(*octets.get(at).ok_or(NameError::Truncated)?);
        match len & 0xc0 {
            0x00 => {}
            0xc0 => return Err(NameError::Pointer),
            _ => return Err(NameError::LabelType),
        }
        at += len + 1;
        if at - start > NAME_MAX_OCTETS {
            return Err(NameError::TooLong);
        }
        if len == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_of_every_length_behave_alike() {
        let mut seen = std::collections::HashSet::new();
        // Of odd and of even lengths.
        for mut longest in [Name::root(), name("ab")] {
            while let Ok(longer) = longest.child(b"A") {
                assert_eq!(longer.as_wire().len(), longest.as_wire().len() + 2);
                assert_eq!(longer, Name::from_wire(longer.as_wire()).unwrap());
                assert_eq!(longer, name(&longer.to_string()));
                assert_eq!(longer.parent().unwrap(), longest);
                assert_eq!(longer.suffix(longest.label_count()), longest);
                assert!(longer.is_within(&longest) && !longest.is_within(&longer));
                assert!(longer > longest && seen.insert(longer.clone()));
                longest = longer;
            }
            assert!(longest.as_wire().len() >= NAME_MAX_OCTETS - 1);
        }
        assert_eq!(seen.len(), 127 + 125);
    }

    #[test]
    fn presentation_form_comes_back() {
        for text in [
            ".",
            "com.",
            "www.example.com.",
            "a\\.b.example.",
            "\\000\\255.x.",
            "*.w.",
        ] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(name("WWW.Example"), name("www.example."));
    }

    #[test]
    fn text_that_is_no_name_is_refused() {
        for text in ["", "..", ".a", "a..b", "\\", "\\25", "\\256.x"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::TooLong));
        assert_eq!(Name::parse(&"a.".repeat(128)), Err(NameError::TooLong));
        assert!(Name::parse(&"a.".repeat(127)).is_ok());
    }

    #[test]
    fn pointers_lead_backwards_only() {
        let message = b"\0\0\0\0\0\0\0\0\0\0\0\0\x03www\x03com\x00\xc0\x10\xc0\x17\xc0\x0b";
        assert_eq!(Name::read(message, 21), Ok((name("com."), 23)));
        assert_eq!(Name::read(message, 23), Err(NameError::Pointer));
        // Into the header.
        assert_eq!(Name::read(message, 25), Err(NameError::Pointer));
        assert_eq!(Name::read(b"\xc0\x00", 0), Err(NameError::Pointer));
        assert_eq!(Name::read(b"\x01a\xc0", 0), Err(NameError::Truncated));
        assert_eq!(Name::read(b"\x41a\x00", 0), Err(NameError::LabelType));
    }

    #[test]
    fn a_chain_of_pointers_ends() {
        let mut message = vec![0; 13];
        for at in 0..600_u16 {
            let target = if at == 0 { 12 } else { 13 + 2 * (at - 1) };
            message.extend_from_slice(&(0xc000 | target).to_be_bytes());
        }
        assert_eq!(
            Name::read(&message, message.len() - 2),
            Err(NameError::Pointer)
        );
    }

    #[test]
    fn expansion_beyond_255_octets_is_refused() {
        let mut message = Vec::new();
        for _ in 0..4 {
            message.push(63);
            message.extend_from_slice(&[b'a'; 63]);
        }
        message.push(0);
        assert_eq!(Name::read(&message, 0), Err(NameError::TooLong));
    }

    #[test]
    fn containment_is_by_label() {
        assert!(name("a.example.com").is_within(&name("example.com")));
        assert!(name("example.com").is_within(&name("example.com")));
        assert!(name("example.com").is_within(&Name::root()));
        assert!(!name("badexample.com").is_within(&name("example.com")));
        assert!(!name("com").is_within(&name("example.com")));
        // A length octet can look like a letter: "\x07example" inside a longer label.
        let odd = Name::from_wire(b"\x0cabc\x07example1\x03com\x00").unwrap();
        let inner = Name::from_wire(b"\x07example1\x03com\x00");
        assert!(inner.is_err() || !odd.is_within(&inner.unwrap()));
    }

    #[test]
    fn canonical_order_is_that_of_rfc_4034_section_6_1() {
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        let names: Vec<Name> = sorted.iter().map(|text| name(text)).collect();
        let mut again = names.clone();
        again.reverse();
        again.sort();
        assert_eq!(again, names);
    }

    #[test]
    fn family_relations() {
        let www = name("www.example.com");
        assert_eq!(www.parent(), Some(name("example.com")));
        assert_eq!(Name::root().parent(), None);
        assert_eq!(www.suffix(1), name("com"));
        assert_eq!(www.suffix(0), Name::root());
        assert_eq!(www.suffix(9), www);
        assert_eq!(name("example.com").child(b"WWW"), Ok(www));
        assert!(name("*.x").is_wildcard());
    }
}
