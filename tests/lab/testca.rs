//! A certification authority in memory, and the certificates the lab shows: the right one and
//! the wrong ones. Trusted by nothing outside the test that made it.

use super::faults::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// The name of the lab's resolver in its certificate; 127.0.0.1 and ::1 are in it too.
pub const SERVER_NAME: &str = "resolver.lab-dns.com";

/// A certificate chain with its key, both PEM.
#[derive(Clone)]
pub struct Leaf {
    /// The chain, leaf first.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// An authority that signs leaves.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestCa {
    /// Makes a new authority.
    ///
    /// # Panics
    /// If there are no random numbers.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("lab test CA, trust it nowhere");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = valid_for(-1, 365);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes the authority's certificate.
    pub fn write_pem(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.pem())
    }

    /// A leaf for names and addresses, valid from and to so many days from now.
    ///
    /// # Panics
    /// If a name is none.
    pub fn leaf(&self, names: &[&str], from_days: i64, to_days: i64) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let params = leaf_params(names, from_days, to_days);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// The certificate for each identity.
    pub fn leaf_of(&self, identity: Identity) -> Leaf {
        let names = [SERVER_NAME, "127.0.0.1", "::1"];
        match identity {
            Identity::Right => self.leaf(&names, -1, 90),
            Identity::WrongName => self.leaf(&["other.lab-dns.com"], -1, 90),
            Identity::Expired => self.leaf(&names, -90, -30),
            Identity::SelfSigned => {
                let key = KeyPair::generate().expect("a key");
                let params = leaf_params(&names, -1, 90);
                let certificate = params.self_signed(&key).expect("a certificate");
                Leaf {
                    chain_pem: certificate.pem(),
                    key_pem: key.serialize_pem(),
                }
            }
        }
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

impl Leaf {
    /// As rustls wants it.
    ///
    /// # Panics
    /// If the PEM holds no chain or no key.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
                .collect::<Result<_, _>>()
                .expect("a chain in PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a key in PEM");
        let key = any_supported_type(&key).expect("a key that ring knows");
        Arc::new(CertifiedKey::new(chain, key))
    }
}

fn leaf_params(names: &[&str], from_days: i64, to_days: i64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = common_name("lab test leaf");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = valid_for(from_days, to_days);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid_for(from_days: i64, to_days: i64) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (
        now + Duration::days(from_days),
        now + Duration::days(to_days),
    )
}
