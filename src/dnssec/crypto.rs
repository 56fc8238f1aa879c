//! Algorithms: public keys, signatures, digests, by ring.
//!
//! Supported: RSA with SHA-256 (8) and SHA-512 (10), RFC 5702; RSA with SHA-1 (5, 7), RFC 3110, if
//! the operator says so; ECDSA P-256 (13) and P-384 (14), RFC 6605; Ed25519 (15), RFC 8080.
//! RSA moduli have 1024 to 4096 bits. Digests: SHA-1 (1), SHA-256 (2), SHA-384 (4).
//!
//! Limitations: Ed448 (16) is unsupported, as no maintained implementation of it is among our
//! dependencies; zones that have nothing else are insecure, never bogus.

use ring::{digest, signature};

/// An algorithm that can check signatures, with what `ring` needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    RsaSha1,
    RsaSha256,
    RsaSha512,
    EcdsaP256,
    EcdsaP384,
    Ed25519,
}

impl Algorithm {
    /// The algorithm of this number; `None` when it is unsupported.
    pub(super) fn supported(number: u8, sha1: bool) -> Option<Self> {
        match number {
            5 | 7 if sha1 => Some(Self::RsaSha1),
            8 => Some(Self::RsaSha256),
            10 => Some(Self::RsaSha512),
            13 => Some(Self::EcdsaP256),
            14 => Some(Self::EcdsaP384),
            15 => Some(Self::Ed25519),
            _ => None,
        }
    }
}

/// A public key, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, without leading zeros.
    Rsa {
        algorithm: Algorithm,
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    /// The point in uncompressed form: 4, x, y (RFC 6605, section 4 leaves out the 4).
    Ecdsa {
        algorithm: Algorithm,
        point: Box<[u8]>,
    },
    /// 32 octets (RFC 8080, section 3).
    Ed25519(Box<[u8]>),
}

/// The least octets of an RSA modulus that ring checks, 1024 bits.
const RSA_MODULUS_MIN_OCTETS: usize = 128;
/// The most octets of an RSA modulus, 4096 bits (RFC 3110, section 2; RFC 5702, section 2). ring
/// would take twice that, at four times the work for whoever wants to keep us busy.
const RSA_MODULUS_MAX_OCTETS: usize = 512;
/// The most octets of an RSA exponent that ring checks: below 2^33. A large exponent makes a
/// check slow, which is why it is bounded.
const RSA_EXPONENT_MAX_OCTETS: usize = 5;

impl PublicKey {
    /// Reads the public key field of a DNSKEY; `None` when its shape or size is not supported.
    pub(super) fn parse(algorithm: Algorithm, octets: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::RsaSha1 | Algorithm::RsaSha256 | Algorithm::RsaSha512 => {
                let (exponent, modulus) = rsa_parts(octets)?;
                let fits = (RSA_MODULUS_MIN_OCTETS..=RSA_MODULUS_MAX_OCTETS)
                    .contains(&modulus.len())
                    && (1..=RSA_EXPONENT_MAX_OCTETS).contains(&exponent.len());
                fits.then(|| Self::Rsa {
                    algorithm,
                    modulus: Box::from(modulus),
                    exponent: Box::from(exponent),
                })
            }
            Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => {
                let len = if algorithm == Algorithm::EcdsaP256 {
                    64
                } else {
                    96
                };
                (octets.len() == len).then(|| Self::Ecdsa {
                    algorithm,
                    point: [&[4], octets].concat().into_boxed_slice(),
                })
            }
            Algorithm::Ed25519 => (octets.len() == 32).then(|| Self::Ed25519(Box::from(octets))),
        }
    }

    /// Whether `signature` was made over `message` with the private half.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa {
                algorithm,
                modulus,
                exponent,
            } => {
                let parameters = match algorithm {
                    Algorithm::RsaSha1 => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
                    Algorithm::RsaSha512 => {
                        &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY
                    }
                    _ => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
                };
                signature::RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(parameters, message, signature)
                .is_ok()
            }
            Self::Ecdsa { algorithm, point } => {
                let parameters = if *algorithm == Algorithm::EcdsaP384 {
                    &signature::ECDSA_P384_SHA384_FIXED
                } else {
                    &signature::ECDSA_P256_SHA256_FIXED
                };
                signature::UnparsedPublicKey::new(parameters, point)
                    .verify(message, signature)
                    .is_ok()
            }
            Self::Ed25519(octets) => signature::UnparsedPublicKey::new(&signature::ED25519, octets)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// Exponent and modulus of an RSA key, without leading zeros (RFC 3110, section 2).
fn rsa_parts(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&short, rest) = octets.split_first()?;
    let (len, rest) = if short == 0 {
        let (long, rest) = rest.split_at_checked(2)?;
        (usize::from(u16::from_be_bytes(long.try_into().ok()?)), rest)
    } else {
        (usize::from(short), rest)
    };
    let (exponent, modulus) = rest.split_at_checked(len)?;
    Some((
        without_leading_zeros(exponent),
        without_leading_zeros(modulus),
    ))
}

fn without_leading_zeros(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.get(zeros..).unwrap_or(&[])
}

/// The digest of a DS for a key of this owner (RFC 4034, section 5.1.4); `None` when the digest
/// type is unsupported.
pub(super) fn ds_digest(
    digest_type: u8,
    sha1: bool,
    owner: &[u8],
    rdata: &[u8],
) -> Option<digest::Digest> {
    let algorithm = match digest_type {
        1 if sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        2 => &digest::SHA256,
        4 => &digest::SHA384,
        _ => return None,
    };
    let mut context = digest::Context::new(algorithm);
    context.update(owner);
    context.update(rdata);
    Some(context.finish())
}

/// Whether a DS digest type is supported.
pub(super) fn digest_supported(digest_type: u8, sha1: bool) -> bool {
    matches!(digest_type, 2 | 4) || (digest_type == 1 && sha1)
}

/// Octets of an NSEC3 hash, which is SHA-1 (RFC 5155, section 11).
pub(super) const NSEC3_HASH_OCTETS: usize = digest::SHA1_OUTPUT_LEN;

/// The NSEC3 hash of a name in canonical wire form (RFC 5155, section 5). The caller has bounded
/// `iterations` and the length of `salt`.
pub(super) fn nsec3_hash(name: &[u8], salt: &[u8], iterations: u16) -> [u8; NSEC3_HASH_OCTETS] {
    let mut hash = sha1(&[name, salt]);
    for _ in 0..iterations {
        hash = sha1(&[&hash, salt]);
    }
    hash
}

fn sha1(parts: &[&[u8]]) -> [u8; NSEC3_HASH_OCTETS] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; NSEC3_HASH_OCTETS];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_keys_with_long_and_short_exponent_fields() {
        let modulus = [0xc1; 128];
        let short = [&[3, 1, 0, 1][..], &modulus].concat();
        let long = [&[0, 0, 3, 1, 0, 1][..], &modulus].concat();
        let parsed = PublicKey::parse(Algorithm::RsaSha256, &short);
        assert!(parsed.is_some());
        assert_eq!(parsed, PublicKey::parse(Algorithm::RsaSha256, &long));
        let padded = [&[4, 0, 1, 0, 1, 0][..], &modulus].concat();
        assert_eq!(parsed, PublicKey::parse(Algorithm::RsaSha256, &padded));
    }

    #[test]
    fn keys_of_odd_sizes_are_unsupported_and_do_not_panic() {
        for algorithm in [
            Algorithm::RsaSha1,
            Algorithm::RsaSha256,
            Algorithm::RsaSha512,
            Algorithm::EcdsaP256,
            Algorithm::EcdsaP384,
            Algorithm::Ed25519,
        ] {
            for len in [0, 1, 2, 3, 31, 33, 63, 65, 95, 97, 100] {
                for fill in [0, 1, 3, 0xff] {
                    assert_eq!(PublicKey::parse(algorithm, &vec![fill; len]), None);
                }
            }
        }
    }

    #[test]
    fn rfc_5155_appendix_a_hashes() {
        let cases = [
            ("example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("ai.example.", "gjeqe526plbf1g8mklp59enfd789njgi"),
            ("ns1.example.", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
            ("ns2.example.", "q04jkcevqvmu85r014c7dkba38o0ji5r"),
            ("w.example.", "k8udemvp1j2f7eg6jebps17vp3n8i58h"),
            ("*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("x.w.example.", "b4um86eghhds6nea196smvmlo4ors995"),
            ("y.w.example.", "ji6neoaepv8b5o6k4ev33abha8ht9fgc"),
            ("x.y.w.example.", "2vptu5timamqttgl4luu9kg21e0aor3s"),
            ("xx.example.", "t644ebqk9bibcna874givr6joj62mlhv"),
        ];
        for (name, expected) in cases {
            let name = crate::wire::Name::parse(name).unwrap();
            let hash = nsec3_hash(name.as_wire(), &[0xaa, 0xbb, 0xcc, 0xdd], 12);
            let text = data_encoding::BASE32HEX_NOPAD.encode(&hash).to_lowercase();
            assert_eq!(text, expected, "{name}");
        }
    }
}
