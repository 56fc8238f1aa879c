//! Domain names as uncompressed wire octets, folded to lower case: the key of everything in the
//! lab. Ordered canonically (RFC 4034, section 6.1), so that a sorted map is an NSEC chain.

use std::cmp::Ordering;
use std::fmt;

/// The most octets a name has (RFC 1035, section 2.3.4).
pub const NAME_MAX_OCTETS: usize = 255;

/// A domain name in lower case, as wire octets with the root's zero octet at the end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The root.
    pub fn root() -> Self {
        Self(vec![0])
    }

    /// Reads an absolute name from presentation form; a dot at the end changes nothing.
    ///
    /// # Panics
    /// If the text is no name: lab data is written by hand.
    pub fn parse(text: &str) -> Self {
        Self(wire(text).to_ascii_lowercase())
    }

    /// Takes uncompressed wire octets, in any case.
    pub fn from_wire(octets: &[u8]) -> Self {
        Self(octets.to_ascii_lowercase())
    }

    /// The octets, lower case.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, leftmost first, without the root's.
    pub fn labels(&self) -> Vec<&[u8]> {
        let mut labels = Vec::new();
        let mut rest = self.0.as_slice();
        while let Some((&length, tail)) = rest.split_first() {
            if length == 0 {
                break;
            }
            let (label, after) = tail.split_at(usize::from(length));
            labels.push(label);
            rest = after;
        }
        labels
    }

    /// How many labels, the root's not counted.
    pub fn label_count(&self) -> usize {
        self.labels().len()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The name without its leftmost label; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let length = usize::from(*self.0.first()?);
        (length > 0).then(|| Self(self.0[1 + length..].to_vec()))
    }

    /// Whether `ancestor` is this name or above it.
    pub fn is_at_or_below(&self, ancestor: &Self) -> bool {
        let mut at = Some(self.clone());
        while let Some(name) = at {
            if name == *ancestor {
                return true;
            }
            at = name.parent();
        }
        false
    }

    /// This name with one label more in front; none when that is over 255 octets.
    pub fn prepend(&self, label: &[u8]) -> Option<Self> {
        let mut octets = vec![u8::try_from(label.len()).ok()?];
        octets.extend_from_slice(&label.to_ascii_lowercase());
        octets.extend_from_slice(&self.0);
        (octets.len() <= NAME_MAX_OCTETS).then_some(Self(octets))
    }

    /// The wildcard right below this name (RFC 4592).
    ///
    /// # Panics
    /// If the name is too long for it.
    pub fn wildcard(&self) -> Self {
        self.prepend(b"*").expect("lab names are short")
    }

    /// Whether the leftmost label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(&[1, b'*'])
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (self.labels(), other.labels());
        left.iter().rev().cmp(right.iter().rev())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return out.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' => write!(out, "\\{}", char::from(octet))?,
                    0x21..=0x7e => write!(out, "{}", char::from(octet))?,
                    _ => write!(out, "\\{octet:03}")?,
                }
            }
            out.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// The wire octets of an absolute name in presentation form, case kept; `\DDD` and `\X` escapes
/// are known.
///
/// # Panics
/// If the text is no name.
pub fn wire(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut label: Vec<u8> = Vec::new();
    let push = |label: &mut Vec<u8>, octets: &mut Vec<u8>| {
        if !label.is_empty() {
            assert!(label.len() < 64, "label too long in {text}");
            octets.push(u8::try_from(label.len()).expect("at most 63"));
            octets.append(label);
        }
    };
    let mut input = text.bytes();
    while let Some(octet) = input.next() {
        match octet {
            b'.' => push(&mut label, &mut octets),
            b'\\' => {
                let next = input.next().expect("something after a backslash");
                if next.is_ascii_digit() {
                    let digits = [next, input.next().unwrap_or(0), input.next().unwrap_or(0)];
                    let text = std::str::from_utf8(&digits).expect("three digits");
                    label.push(text.parse().expect("three digits up to 255"));
                } else {
                    label.push(next);
                }
            }
            _ => label.push(octet),
        }
    }
    push(&mut label, &mut octets);
    octets.push(0);
    assert!(octets.len() <= NAME_MAX_OCTETS, "name too long: {text}");
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_canonically() {
        // The list of RFC 4034, section 6.1.
        let sorted = [
            "net",
            "a.net",
            "yljkjljk.a.net",
            "Z.a.net",
            "zABC.a.NET",
            "z.net",
            "\\001.z.net",
            "*.z.net",
            "\\200.z.net",
        ]
        .map(Name::parse);
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let name = Name::parse("a.b.com");
        assert!(name.is_at_or_below(&Name::parse("B.com")));
        assert!(name.is_at_or_below(&Name::root()));
        assert!(!name.is_at_or_below(&Name::parse("xb.com")));
        assert_eq!(name.to_string(), "a.b.com.");
        assert_eq!(Name::root().to_string(), ".");
    }
}
