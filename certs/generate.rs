//! Writes the test certificates beside this file anew: `cargo run --example test_certs`.
//!
//! README.md in this directory says what each of them is for.

use std::{error::Error, fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use time::OffsetDateTime;

/// Names of the leaf that verifies.
const LEAF_NAMES: [&str; 4] = ["resolver.lab-dns.com", "localhost", "127.0.0.1", "::1"];

/// A name no test connects to.
const WRONG_NAMES: [&str; 1] = ["elsewhere.lab-dns.com"];

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs");
    let born = date_time_ymd(2020, 1, 1);
    // Far enough away that no test rots, near enough for the two-digit years of UTCTime.
    let end = date_time_ymd(2046, 1, 1);
    let died = date_time_ymd(2021, 1, 1);

    let authority = authority("TEST ONLY truename CA", born, end)?;
    fs::write(directory.join("ca.pem"), authority.pem())?;
    let other = self::authority("TEST ONLY truename other CA", born, end)?;
    fs::write(directory.join("other-ca.pem"), other.pem())?;

    for (file, names, end) in [
        ("leaf", &LEAF_NAMES[..], end),
        ("wrong-name", &WRONG_NAMES[..], end),
        ("expired", &LEAF_NAMES[..], died),
    ] {
        let key = KeyPair::generate()?;
        let mut params = params(&format!("TEST ONLY truename {file}"), born, end);
        params.subject_alt_names = CertificateParams::new(
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )?
        .subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority)?;
        fs::write(directory.join(format!("{file}.pem")), certificate.pem())?;
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// A CA whose key is forgotten when the program ends: nothing more can be signed below it.
fn authority(
    name: &str,
    born: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = params(name, born, end);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn params(name: &str, born: OffsetDateTime, end: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = born;
    params.not_after = end;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
