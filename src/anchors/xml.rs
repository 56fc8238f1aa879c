//! A reader for IANA's file of root anchors (RFC 9718, section 2.1), and for nothing else: elements,
//! attributes, text and comments. No entities, no DTD, no CDATA: a file that needs them is refused,
//! as nothing in one is worth the attacks that come with them.

use std::str::FromStr;

use data_encoding::BASE64;
use thiserror::Error;

use crate::wire::Name;

use super::{
    key::{self, Key, RecordError},
    read::{ANCHORS_PER_FILE_MAX, Seed},
    times,
};

/// How deep elements may nest; the format has three levels.
const DEPTH_MAX: usize = 8;

/// What is wrong with the XML. Whoever wrote the file is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum XmlError {
    /// It is not XML, or uses what this reader refuses.
    #[error(
        "not the XML of a trust anchor file; fetch https://data.iana.org/root-anchors/root-anchors.xml again"
    )]
    Malformed,
    /// The outermost element is another.
    #[error(
        "the file's outermost element is not <TrustAnchor>; name IANA's root-anchors.xml or a file of DS records"
    )]
    NotAnchors,
    /// An element that must be there is not, or twice.
    #[error(
        "<{0}> is missing or stands twice; fetch https://data.iana.org/root-anchors/root-anchors.xml again"
    )]
    Element(&'static str),
    /// A date that is none.
    #[error("{0} is no time such as 2024-07-18T00:00:00+00:00")]
    Time(&'static str),
    /// An element's text is not what its record needs.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Public key and digest, side by side, do not fit.
    #[error("the digest of key {0} does not fit the public key beside it; fetch the file again")]
    Mismatch(u16),
}

/// Reads the anchors of a file.
///
/// # Errors
/// The line, from 1, and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Vec<Seed>, (usize, XmlError)> {
    let mut reader = Reader { text, at: 0 };
    let mut builder = Builder::default();
    loop {
        let start = reader.at;
        let taken = match reader.next() {
            Ok(None) => break,
            Ok(Some(token)) => builder.take(token),
            Err(fault) => Err(fault),
        };
        taken.map_err(|fault| (line_of(text, start), fault))?;
    }
    builder
        .finish()
        .map_err(|fault| (line_of(text, text.len()), fault))
}

/// The line of an offset, from 1. White space in front of what stands there does not count.
fn line_of(text: &str, offset: usize) -> usize {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let space = after.len() - after.trim_start().len();
    let space = after.get(..space).unwrap_or("");
    1 + before.matches('\n').count() + space.matches('\n').count()
}

/// One piece of the file.
enum Token<'a> {
    Open {
        name: &'a str,
        attributes: Vec<(&'a str, &'a str)>,
        closed: bool,
    },
    Close(&'a str),
    Text(&'a str),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Everything up to `end`, which is passed over.
    fn until(&mut self, end: &str) -> Result<&'a str, XmlError> {
        let (before, _) = self.rest().split_once(end).ok_or(XmlError::Malformed)?;
        self.at += before.len() + end.len();
        Ok(before)
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, XmlError> {
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Ok(None);
            }
            if rest.starts_with("<!--") {
                self.at += 4;
                self.until("-->")?;
            } else if rest.starts_with("<?") {
                self.until("?>")?;
            } else if rest.starts_with("</") {
                self.at += 2;
                return Ok(Some(Token::Close(self.until(">")?.trim_end())));
            } else if rest.starts_with('<') {
                self.at += 1;
                let inside = self.until(">")?;
                return tag(inside).map(Some);
            } else {
                let text = rest.split('<').next().unwrap_or("");
                self.at += text.len();
                // An entity may mean anything; the format needs none.
                if text.contains('&') {
                    return Err(XmlError::Malformed);
                }
                if !text.trim().is_empty() {
                    return Ok(Some(Token::Text(text.trim())));
                }
            }
        }
    }
}

/// The inside of an opening tag. Attribute values with `>` in them end up malformed, rightly.
fn tag(inside: &str) -> Result<Token<'_>, XmlError> {
    let (inside, closed) = match inside.strip_suffix('/') {
        Some(inside) => (inside, true),
        None => (inside, false),
    };
    let (name, mut rest) = inside
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((inside, ""));
    if !is_name(name) {
        return Err(XmlError::Malformed);
    }
    let mut attributes = Vec::new();
    while !rest.trim_start().is_empty() {
        let (attribute, after) = rest.split_once('=').ok_or(XmlError::Malformed)?;
        let attribute = attribute.trim();
        let after = after.trim_start();
        let quote = after
            .chars()
            .next()
            .filter(|quote| ['"', '\''].contains(quote))
            .ok_or(XmlError::Malformed)?;
        let (value, after) = after
            .get(1..)
            .and_then(|after| after.split_once(quote))
            .ok_or(XmlError::Malformed)?;
        if !is_name(attribute)
            || value.contains(['&', '<'])
            || attributes.iter().any(|(known, _)| *known == attribute)
        {
            return Err(XmlError::Malformed);
        }
        attributes.push((attribute, value));
        rest = after;
    }
    Ok(Token::Open {
        name,
        attributes,
        closed,
    })
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"_-.:".contains(&octet))
}

/// What has been read of one `<KeyDigest>`.
#[derive(Default)]
struct KeyDigest<'a> {
    valid_from_s: Option<u64>,
    valid_until_s: Option<u64>,
    tag: Option<&'a str>,
    algorithm: Option<&'a str>,
    digest_type: Option<&'a str>,
    digest: Option<&'a str>,
    public_key: Option<&'a str>,
    flags: Option<&'a str>,
}

#[derive(Default)]
struct Builder<'a> {
    path: Vec<&'a str>,
    begun: bool,
    zone: Option<&'a str>,
    digest: KeyDigest<'a>,
    /// Anchors without their zone, whose element may come last.
    found: Vec<KeyDigest<'a>>,
}

impl<'a> Builder<'a> {
    fn take(&mut self, token: Token<'a>) -> Result<(), XmlError> {
        match token {
            Token::Open {
                name,
                attributes,
                closed,
            } => {
                self.open(name, &attributes)?;
                if closed { self.close(name) } else { Ok(()) }
            }
            Token::Close(name) => self.close(name),
            Token::Text(text) => self.text(text),
        }
    }

    fn open(&mut self, name: &'a str, attributes: &[(&str, &str)]) -> Result<(), XmlError> {
        if self.path.is_empty() && (self.begun || name != "TrustAnchor") {
            return Err(XmlError::NotAnchors);
        }
        self.begun = true;
        self.path.push(name);
        if self.path.len() > DEPTH_MAX {
            return Err(XmlError::Malformed);
        }
        if self.path == ["TrustAnchor", "KeyDigest"] {
            let time = |wanted: &'static str| {
                attributes
                    .iter()
                    .find(|(name, _)| *name == wanted)
                    .map(|(_, value)| times::from_text(value).ok_or(XmlError::Time(wanted)))
                    .transpose()
            };
            self.digest = KeyDigest {
                valid_from_s: time("validFrom")?,
                valid_until_s: time("validUntil")?,
                ..KeyDigest::default()
            };
        }
        Ok(())
    }

    fn close(&mut self, name: &str) -> Result<(), XmlError> {
        if self.path == ["TrustAnchor", "KeyDigest"] {
            self.found.push(std::mem::take(&mut self.digest));
            if self.found.len() > ANCHORS_PER_FILE_MAX + 1 {
                return Err(XmlError::Malformed);
            }
        }
        match self.path.pop() {
            Some(open) if open == name => Ok(()),
            _ => Err(XmlError::Malformed),
        }
    }

    fn text(&mut self, text: &'a str) -> Result<(), XmlError> {
        let (slot, name) = match self.path.as_slice() {
            [] => return Err(XmlError::Malformed),
            ["TrustAnchor", "Zone"] => (&mut self.zone, "Zone"),
            ["TrustAnchor", "KeyDigest", name] => match *name {
                "KeyTag" => (&mut self.digest.tag, "KeyTag"),
                "Algorithm" => (&mut self.digest.algorithm, "Algorithm"),
                "DigestType" => (&mut self.digest.digest_type, "DigestType"),
                "Digest" => (&mut self.digest.digest, "Digest"),
                "PublicKey" => (&mut self.digest.public_key, "PublicKey"),
                "Flags" => (&mut self.digest.flags, "Flags"),
                _ => return Ok(()),
            },
            // What later versions of the format may add.
            _ => return Ok(()),
        };
        // Also text that a comment cuts in two, which would otherwise lose its end.
        if slot.replace(text).is_some() {
            return Err(XmlError::Element(name));
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Seed>, XmlError> {
        if !self.begun || !self.path.is_empty() {
            return Err(XmlError::Malformed);
        }
        let zone = self.zone.ok_or(XmlError::Element("Zone"))?;
        let zone = Name::parse(zone).map_err(|_| RecordError::Owner(key::shown(zone)))?;
        self.found.iter().map(|digest| digest.seed(&zone)).collect()
    }
}

impl KeyDigest<'_> {
    fn seed(&self, zone: &Name) -> Result<Seed, XmlError> {
        let tag = number(self.tag, "KeyTag")?;
        let algorithm = number(self.algorithm, "Algorithm")?;
        let digest_type = number(self.digest_type, "DigestType")?;
        let digest = without_spaces(self.digest.ok_or(XmlError::Element("Digest"))?);
        let ds = key::ds(tag, algorithm, digest_type, &digest)?;
        if let (Some(public_key), Some(flags)) = (self.public_key, self.flags) {
            let flags = key::number(flags, "Flags")?;
            let rdata = BASE64
                .decode(without_spaces(public_key).as_bytes())
                .ok()
                .and_then(|public_key| key::dnskey(flags, 3, algorithm, &public_key))
                .ok_or(RecordError::PublicKey)?;
            if !Key::Ds(ds.clone()).names(zone, &rdata) {
                return Err(XmlError::Mismatch(tag));
            }
        }
        Ok(Seed {
            zone: zone.clone(),
            key: Key::Ds(ds),
            valid_from_s: self.valid_from_s,
            valid_until_s: self.valid_until_s,
        })
    }
}

/// The number in an element that must be there.
fn number<T: FromStr>(text: Option<&str>, name: &'static str) -> Result<T, XmlError> {
    let text = text.ok_or(XmlError::Element(name))?;
    Ok(key::number(text, name)?)
}

fn without_spaces(text: &str) -> String {
    text.split_ascii_whitespace().collect()
}
