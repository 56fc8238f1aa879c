//! Keys and signatures over RRsets (RFC 4034, sections 2, 3 and 5; RFC 8080, RFC 6605, RFC 5702),
//! made with `ring` alone. Knows no zones: tests sign forged RRsets with it too.

use super::name::Name;
use super::rdata::rtype;
use ring::digest;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RsaEncoding, RsaKeyPair,
};

/// DNSKEY flag: the key signs zone data.
pub const FLAG_ZONE: u16 = 0x0100;
/// DNSKEY flag: a hint that the key is an entry point (RFC 3757).
pub const FLAG_SEP: u16 = 0x0001;
/// DNSKEY flag: the key is revoked (RFC 5011).
pub const FLAG_REVOKE: u16 = 0x0080;

/// A private key, and what its DNSKEY record says of it.
pub struct Key {
    /// The DNSSEC algorithm number.
    pub algorithm: u8,
    /// The DNSKEY flags.
    pub flags: u16,
    /// The DNSKEY protocol; 3 is the only right one.
    pub protocol: u8,
    pair: Pair,
    public: Vec<u8>,
}

enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    /// Makes a fresh key of algorithm 13, 14 or 15.
    ///
    /// # Panics
    /// On other algorithms: RSA keys come from files.
    pub fn generate(algorithm: u8, flags: u16) -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
            Pair::Ecdsa(pair.expect("just made"))
        };
        let pair = match algorithm {
            13 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            14 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            15 => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("just made"))
            }
            _ => panic!("ring cannot make keys of algorithm {algorithm}"),
        };
        let public = match &pair {
            // Without the octet that says "uncompressed point" (RFC 6605, section 4).
            Pair::Ecdsa(pair) => pair.public_key().as_ref()[1..].to_vec(),
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(..) => Vec::new(),
        };
        Self {
            algorithm,
            flags,
            protocol: 3,
            pair,
            public,
        }
    }

    /// Reads an RSA key (algorithm 8 or 10) from PKCS#8 PEM.
    ///
    /// # Panics
    /// If the key or the algorithm is something else.
    pub fn rsa(algorithm: u8, flags: u16, pem: &str) -> Self {
        let base64: String = pem.lines().filter(|line| !line.contains("-----")).collect();
        let der = data_encoding::BASE64
            .decode(base64.as_bytes())
            .expect("PEM holds base64");
        let pair = RsaKeyPair::from_pkcs8(&der).expect("an RSA key in PKCS#8");
        let encoding: &'static dyn RsaEncoding = match algorithm {
            8 => &RSA_PKCS1_SHA256,
            10 => &RSA_PKCS1_SHA512,
            _ => panic!("the lab signs RSA with 8 and 10, not {algorithm}"),
        };
        let parts: PublicKeyComponents<Vec<u8>> = pair.public().into();
        // RFC 3110, section 2: the length of the exponent, the exponent, the modulus.
        let mut public = vec![u8::try_from(parts.e.len()).expect("a short exponent")];
        public.extend(&parts.e);
        public.extend(&parts.n);
        Self {
            algorithm,
            flags,
            protocol: 3,
            pair: Pair::Rsa(pair, encoding),
            public,
        }
    }

    /// The RDATA of this key's DNSKEY record (RFC 4034, section 2.1).
    pub fn dnskey(&self) -> Vec<u8> {
        let mut rdata = self.flags.to_be_bytes().to_vec();
        rdata.push(self.protocol);
        rdata.push(self.algorithm);
        rdata.extend(&self.public);
        rdata
    }

    /// The key tag (RFC 4034, appendix B).
    pub fn tag(&self) -> u16 {
        key_tag(&self.dnskey())
    }

    /// The RDATA of a DS record for this key at `owner` (RFC 4034, section 5.1).
    pub fn ds(&self, owner: &Name, digest_type: u8) -> Vec<u8> {
        let mut message = owner.as_wire().to_vec();
        message.extend(self.dnskey());
        let mut rdata = self.tag().to_be_bytes().to_vec();
        rdata.push(self.algorithm);
        rdata.push(digest_type);
        let algorithm = match digest_type {
            1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            4 => &digest::SHA384,
            _ => &digest::SHA256,
        };
        rdata.extend(digest::digest(algorithm, &message).as_ref());
        rdata
    }

    /// Signs octets.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .expect("the buffer fits the modulus");
                signature
            }
            Pair::Ecdsa(pair) => pair
                .sign(&random, message)
                .expect("random numbers")
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// The key tag of a DNSKEY RDATA (RFC 4034, appendix B).
pub fn key_tag(dnskey: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for (at, &octet) in dnskey.iter().enumerate() {
        sum += u32::from(octet) << if at % 2 == 0 { 8 } else { 0 };
    }
    sum += sum >> 16;
    u16::try_from(sum & 0xffff).unwrap_or(0)
}

/// What an RRSIG says about itself, every field free to be wrong.
#[derive(Clone, Debug)]
pub struct Signing<'a> {
    /// The signer's name.
    pub signer: &'a Name,
    /// The owner of the RRset, as signed: the wildcard itself for wildcards.
    pub owner: &'a Name,
    /// The type covered.
    pub rtype: u16,
    /// The original TTL, seconds.
    pub ttl_s: u32,
    /// Start of validity, seconds since 1970.
    pub inception: u32,
    /// End of validity, seconds since 1970.
    pub expiration: u32,
    /// The labels field; none for the right one.
    pub labels: Option<u8>,
    /// The key tag; none for the right one.
    pub key_tag: Option<u16>,
}

impl Signing<'_> {
    /// Signs an RRset's canonical RDATA and gives the RRSIG's RDATA (RFC 4034, section 3.1).
    ///
    /// # Panics
    /// Never: names have at most 127 labels.
    pub fn sign(&self, key: &Key, canonical: &[Vec<u8>]) -> Vec<u8> {
        let labels = self.owner.label_count() - usize::from(self.owner.is_wildcard());
        let labels = self
            .labels
            .unwrap_or_else(|| u8::try_from(labels).expect("at most 127"));
        let mut rdata = self.rtype.to_be_bytes().to_vec();
        rdata.push(key.algorithm);
        rdata.push(labels);
        rdata.extend(self.ttl_s.to_be_bytes());
        rdata.extend(self.expiration.to_be_bytes());
        rdata.extend(self.inception.to_be_bytes());
        rdata.extend(self.key_tag.unwrap_or_else(|| key.tag()).to_be_bytes());
        rdata.extend(self.signer.as_wire());

        let mut message = rdata.clone();
        let mut sorted = canonical.to_vec();
        sorted.sort();
        sorted.dedup();
        for record in &sorted {
            message.extend(self.owner.as_wire());
            message.extend(self.rtype.to_be_bytes());
            message.extend(1u16.to_be_bytes());
            message.extend(self.ttl_s.to_be_bytes());
            message.extend(
                u16::try_from(record.len())
                    .expect("RDATA fits")
                    .to_be_bytes(),
            );
            message.extend(record);
        }
        rdata.extend(key.sign(&message));
        rdata
    }
}

/// The type bitmap of NSEC and NSEC3 (RFC 4034, section 4.1.2).
pub fn type_bitmap(types: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut windows: std::collections::BTreeMap<u8, [u8; 32]> = std::collections::BTreeMap::new();
    for rtype in types {
        let [window, low] = rtype.to_be_bytes();
        let bits = windows.entry(window).or_insert([0; 32]);
        bits[usize::from(low / 8)] |= 0x80 >> (low % 8);
    }
    let mut out = Vec::new();
    for (window, bits) in windows {
        let length = bits
            .iter()
            .rposition(|&octet| octet != 0)
            .map_or(0, |at| at + 1);
        out.push(window);
        out.push(u8::try_from(length).expect("at most 32"));
        out.extend(&bits[..length]);
    }
    out
}

/// The NSEC3 hash of a name (RFC 5155, section 5).
pub fn nsec3_hash(name: &Name, salt: &[u8], iterations: u16) -> Vec<u8> {
    let mut value = name.as_wire().to_vec();
    for _ in 0..=iterations {
        value.extend(salt);
        value = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &value)
            .as_ref()
            .to_vec();
    }
    value
}

/// The DS record of a key as a line of a zone file, for trust anchors.
pub fn ds_line(owner: &Name, ds: &[u8]) -> String {
    let tag = u16::from_be_bytes([ds[0], ds[1]]);
    let digest = data_encoding::HEXUPPER.encode(&ds[4..]);
    format!("{owner} IN DS {tag} {} {} {digest}", ds[2], ds[3])
}

/// Whether a type may be signed at a zone cut by the parent (RFC 4035, section 2.2).
pub fn parent_signs_at_cut(rtype: u16) -> bool {
    matches!(rtype, rtype::DS | rtype::NSEC | rtype::NSEC3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nsec3_hash_is_rfc_5155s() {
        // RFC 5155, appendix A: H(example), salt AABBCCDD, 12 iterations.
        let hash = nsec3_hash(&Name::parse("example"), &[0xaa, 0xbb, 0xcc, 0xdd], 12);
        assert_eq!(
            data_encoding::BASE32_DNSSEC.encode(&hash),
            "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"
        );
    }

    #[test]
    fn bitmap_is_rfc_4034s() {
        // RFC 4034, section 4.3: A MX RRSIG NSEC TYPE1234.
        let bitmap = type_bitmap([1, 15, 46, 47, 1234]);
        let mut expected = vec![0, 6, 0x40, 1, 0, 0, 0, 3, 4, 0x1b];
        expected.extend([0; 26]);
        expected.push(0x20);
        assert_eq!(bitmap, expected);
    }
}
