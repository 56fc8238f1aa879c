//! DNS stamps: everything about a resolver in one string (draft-denis-dns-stamps).

use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;

use crate::handler::Transport;

/// The scheme in front of a stamp.
pub(super) const SCHEME: &str = "sdns";
/// The most octets of a stamp. Real ones have about a hundred; a set of pins makes them longer.
const STAMP_MAX_OCTETS: usize = 4096;
/// Informal properties of the resolver, which we do not act upon.
const PROPERTIES_OCTETS: usize = 8;
/// Octets of a pinned SHA-256 digest.
const DIGEST_OCTETS: usize = 32;
/// The bit of a length octet that says that the set goes on.
const MORE: u8 = 0x80;

/// What a stamp says, not interpreted further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) transport: Transport,
    /// Address with or without port, only a port with its colon, or nothing.
    pub(super) address: String,
    /// Digests of certificates' to-be-signed octets.
    pub(super) digests: Vec<[u8; DIGEST_OCTETS]>,
    /// Host name with or without port; empty in plain stamps.
    pub(super) host: String,
    /// The DoH path; empty for the other transports.
    pub(super) path: String,
}

/// Why a text is no stamp that can be used. Whoever wrote or copied it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StampError {
    /// The text behind `sdns://` is not base64url.
    #[error("the stamp is not base64url; was it copied whole?")]
    Encoding,
    /// The stamp ends too early.
    #[error("the stamp ends too early; was it copied whole?")]
    Truncated,
    /// The stamp goes on where it should end.
    #[error("the stamp has {0} octets too many")]
    TooLong(usize),
    /// A part that should be text is not UTF-8.
    #[error("the stamp has a {0} that is not text")]
    Text(&'static str),
    /// A certificate digest is not a SHA-256.
    #[error("the stamp has a certificate digest of {0} octets instead of 32")]
    Digest(usize),
    /// The path does not begin with a slash.
    #[error("the stamp has the path {0:?}, which does not begin with a slash")]
    Path(String),
    /// A kind of stamp that exists but that we do not speak.
    #[error(
        "this is a stamp for {0}, which is not supported; use one for DoH, DoT, DoQ or plain DNS"
    )]
    Unsupported(&'static str),
    /// A kind of stamp nobody has defined.
    #[error("the stamp is of the unknown kind {0:#04x}")]
    UnknownKind(u8),
}

impl Stamp {
    /// Reads the text behind `sdns://`.
    pub(super) fn parse(text: &str) -> Result<Self, StampError> {
        let text = text.trim_end_matches('/').trim_end_matches('=');
        if text.len() > STAMP_MAX_OCTETS {
            return Err(StampError::Encoding);
        }
        let octets = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| StampError::Encoding)?;
        let mut reader = Reader(&octets);
        let transport = match reader.octet()? {
            0x00 => Transport::Udp,
            0x02 => Transport::Https,
            0x03 => Transport::Tls,
            0x04 => Transport::Quic,
            0x01 => return Err(StampError::Unsupported("DNSCrypt")),
            0x05 => return Err(StampError::Unsupported("an oblivious DoH target")),
            0x81 => return Err(StampError::Unsupported("a DNSCrypt relay")),
            0x85 => return Err(StampError::Unsupported("an oblivious DoH relay")),
            other => return Err(StampError::UnknownKind(other)),
        };
        reader.take(PROPERTIES_OCTETS)?;
        let mut stamp = Self {
            transport,
            address: reader.text("address")?,
            digests: Vec::new(),
            host: String::new(),
            path: String::new(),
        };
        if transport != Transport::Udp {
            for digest in reader.set()? {
                // A set without members is written as one empty member.
                if !digest.is_empty() {
                    let digest = digest
                        .try_into()
                        .map_err(|_| StampError::Digest(digest.len()))?;
                    stamp.digests.push(digest);
                }
            }
            stamp.host = reader.text("host name")?;
        }
        if transport == Transport::Https {
            stamp.path = reader.text("path")?;
            if !stamp.path.starts_with('/') {
                return Err(StampError::Path(stamp.path));
            }
        }
        if transport != Transport::Udp && !reader.0.is_empty() {
            // Resolvers that could look up the host name; we use the address or ask for one.
            reader.set()?;
        }
        match reader.0.len() {
            0 => Ok(stamp),
            rest => Err(StampError::TooLong(rest)),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, octets: usize) -> Result<&'a [u8], StampError> {
        let (taken, rest) = self
            .0
            .split_at_checked(octets)
            .ok_or(StampError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, StampError> {
        let (first, rest) = self.0.split_first().ok_or(StampError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A length and so many octets of text.
    fn text(&mut self, what: &'static str) -> Result<String, StampError> {
        let length = usize::from(self.octet()?);
        let octets = self.take(length)?;
        let text = str::from_utf8(octets).map_err(|_| StampError::Text(what))?;
        Ok(text.to_owned())
    }

    /// Members with a length each, all but the last marked.
    fn set(&mut self) -> Result<Vec<&'a [u8]>, StampError> {
        let mut members = Vec::new();
        loop {
            let length = self.octet()?;
            members.push(self.take(usize::from(length & !MORE))?);
            if length & MORE == 0 {
                return Ok(members);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(parts: &[&[u8]]) -> String {
        BASE64URL_NOPAD.encode(&parts.concat())
    }

    const PROPERTIES: &[u8] = &[5, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn stamps_in_public_lists_are_read() {
        // AdGuard's plain stamps for Quad9.
        let plain = Stamp::parse("AAAAAAAAAAAACDkuOS45LjEx").unwrap();
        assert_eq!(plain.transport, Transport::Udp);
        assert_eq!(plain.address, "9.9.9.11");
        let plain = Stamp::parse("AAAAAAAAAAAADVsyNjIwOmZlOjoxMV0").unwrap();
        assert_eq!(plain.address, "[2620:fe::11]");
        // The public list's DoH stamps of Control D and Digitale Gesellschaft.
        let https =
            Stamp::parse("AgMAAAAAAAAACjc2Ljc2LjIuMTEAFGZyZWVkbnMuY29udHJvbGQuY29tAy9wMg").unwrap();
        assert_eq!(https.transport, Transport::Https);
        assert_eq!(https.address, "76.76.2.11");
        assert_eq!(https.host, "freedns.controld.com");
        assert_eq!(https.path, "/p2");
        assert_eq!(https.digests, [[0; 32]; 0]);
        let https = Stamp::parse(
            "AgcAAAAAAAAADTE4NS45NS4yMTguNDIgsl8vNpZ_c5TwmTeIWzM_qjVtcZ_qzzjM6fA1UADz4XQcZG5zLmRpZ2l0YWxlLWdlc2VsbHNjaGFmdC5jaAovZG5zLXF1ZXJ5",
        )
        .unwrap();
        assert_eq!(https.host, "dns.digitale-gesellschaft.ch");
        assert_eq!(https.digests.len(), 1);
        assert_eq!(https.digests[0][..3], [0xb2, 0x5f, 0x2f]);
    }

    #[test]
    fn every_supported_kind_is_read() {
        let digest = [7; 32];
        let two = [&[0x80 | 32][..], &digest, &[32], &digest].concat();
        for (kind, transport) in [(3, Transport::Tls), (4, Transport::Quic)] {
            let text = encoded(&[&[kind], PROPERTIES, b"\x00", &two, b"\x0bdns.example"]);
            let stamp = Stamp::parse(&text).unwrap();
            assert_eq!(stamp.transport, transport);
            assert_eq!(stamp.address, "");
            assert_eq!(stamp.digests, [digest, digest]);
            assert_eq!(stamp.host, "dns.example");
            assert_eq!(stamp.path, "");
        }
        let bootstrap = encoded(&[
            &[3],
            PROPERTIES,
            b"\x00\x00\x01a",
            b"\x877.7.7.7\x078.8.8.8",
        ]);
        assert_eq!(Stamp::parse(&bootstrap).unwrap().host, "a");
    }

    #[test]
    fn stamps_that_cannot_be_used_say_why() {
        for (text, error) in [
            ("", StampError::Truncated),
            ("A", StampError::Encoding),
            ("ä", StampError::Encoding),
            ("AQ", StampError::Unsupported("DNSCrypt")),
            ("gQ", StampError::Unsupported("a DNSCrypt relay")),
            ("Bg", StampError::UnknownKind(6)),
        ] {
            assert_eq!(Stamp::parse(text), Err(error), "{text}");
        }
        let short_digest = encoded(&[&[3], PROPERTIES, b"\x00\x03abc\x01a"]);
        assert_eq!(Stamp::parse(&short_digest), Err(StampError::Digest(3)));
        let path = encoded(&[&[2], PROPERTIES, b"\x00\x00\x01a\x01b"]);
        assert_eq!(Stamp::parse(&path), Err(StampError::Path("b".to_owned())));
        let more = encoded(&[&[0], PROPERTIES, b"\x01ax"]);
        assert_eq!(Stamp::parse(&more), Err(StampError::TooLong(1)));
        let binary = encoded(&[&[0], PROPERTIES, b"\x01\xff"]);
        assert_eq!(Stamp::parse(&binary), Err(StampError::Text("address")));
    }

    #[test]
    fn a_stamp_cut_anywhere_is_refused() {
        let whole = [&[2], PROPERTIES, b"\x079.9.9.9\x00\x01a\x02/q"].concat();
        assert!(Stamp::parse(&BASE64URL_NOPAD.encode(&whole)).is_ok());
        for cut in 0..whole.len() {
            let text = BASE64URL_NOPAD.encode(&whole[..cut]);
            assert_eq!(Stamp::parse(&text), Err(StampError::Truncated), "{cut}");
        }
    }
}
