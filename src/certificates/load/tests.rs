use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
    date_time_ymd,
};
use tempfile::TempDir;

use super::*;

/// A moment at which the certificates below are valid.
const NOW_UNIX_S: u64 = 1_800_000_000;

/// A leaf, its intermediate and its root, with the leaf's key.
struct Chain {
    leaf: String,
    intermediate: String,
    root: String,
    key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn chain() -> Chain {
    let root =
        CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
    let intermediate = CertifiedIssuer::signed_by(
        authority("intermediate"),
        KeyPair::generate().unwrap(),
        &root,
    )
    .unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    Chain {
        leaf: params.signed_by(&key, &intermediate).unwrap().pem(),
        intermediate: intermediate.pem(),
        root: root.pem(),
        key: key.serialize_pem(),
    }
}

/// Two files with these texts, the key's readable by its owner only.
fn two_files(chain: &str, key: &str) -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let certificate_path = directory.path().join("chain.pem");
    let key_path = directory.path().join("own.key");
    fs::write(&certificate_path, chain).unwrap();
    fs::write(&key_path, key).unwrap();
    fs::set_permissions(&key_path, Permissions::from_mode(0o600)).unwrap();
    (directory, certificate_path, key_path)
}

fn loaded(chain: &str, key: &str) -> Loaded {
    let (_directory, certificate_path, key_path) = two_files(chain, key);
    load(&certificate_path, &key_path, NOW_UNIX_S).unwrap()
}

/// The error of loading these texts, after checking that it names the file at fault.
fn refused(chain: &str, key: &str, culprit: &str) -> CertificateError {
    let (_directory, certificate_path, key_path) = two_files(chain, key);
    let error = load(&certificate_path, &key_path, NOW_UNIX_S).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(culprit), "{text} does not name {culprit}");
    assert!(text.contains(certificate_path.parent().unwrap().to_str().unwrap()));
    error
}

#[test]
fn chain_and_key_are_loaded() {
    let chain = chain();
    let loaded = loaded(&format!("{}{}", chain.leaf, chain.intermediate), &chain.key);
    assert_eq!(loaded.key.cert.len(), 2);
    assert_eq!(loaded.facts.names, ["a.example"]);
    assert_eq!(loaded.notes, []);
    loaded.key.keys_match().unwrap();
}

#[test]
fn one_file_may_hold_chain_and_key() {
    let chain = chain();
    let both = format!("{}{}{}", chain.key, chain.leaf, chain.intermediate);
    assert_eq!(loaded(&both, &both).key.cert.len(), 2);
}

#[test]
fn ed25519_is_supported() {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::new(["a.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    loaded(&certificate.pem(), &key.serialize_pem());
}

#[test]
fn missing_file_is_named() {
    let chain = chain();
    let (_directory, certificate_path, key_path) = two_files(&chain.leaf, &chain.key);
    for missing in [&key_path, &certificate_path] {
        fs::remove_file(missing).unwrap();
        let error = load(&certificate_path, &key_path, NOW_UNIX_S).unwrap_err();
        assert!(matches!(error, CertificateError::Unreadable { .. }));
        assert!(error.to_string().contains(missing.to_str().unwrap()));
    }
}

#[test]
fn file_without_certificate_is_named() {
    let chain = chain();
    for text in ["", "not PEM at all", &chain.key] {
        let error = refused(text, &chain.key, "chain.pem");
        assert!(matches!(error, CertificateError::NoCertificate { .. }));
    }
}

#[test]
fn file_without_key_is_named() {
    let chain = chain();
    for text in ["", &chain.leaf] {
        let error = refused(&chain.leaf, text, "own.key");
        assert!(matches!(error, CertificateError::NoKey { .. }));
    }
}

#[test]
fn damaged_pem_is_named_without_its_text() {
    let chain = chain();
    let error = refused(&chain.leaf[..300], &chain.key, "chain.pem");
    assert!(matches!(error, CertificateError::NotPem { .. }));
    let secret = "MIGHAgEAMBMGByqGSM49AgEG";
    let error = refused(
        &chain.leaf,
        &format!("-----BEGIN PRIVATE KEY-----\n{secret}\n"),
        "own.key",
    );
    assert!(matches!(error, CertificateError::NotPem { .. }));
    assert!(!format!("{error} {error:?}").contains(secret));
}

#[test]
fn pem_around_something_else_is_malformed() {
    let chain = chain();
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = refused(&format!("{}{text}", chain.leaf), &chain.key, "chain.pem");
    assert!(matches!(
        error,
        CertificateError::MalformedCertificate { position: 2, .. }
    ));
}

#[test]
fn encrypted_key_is_told_apart() {
    let chain = chain();
    for text in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIGj\n-----END EC PRIVATE KEY-----\n",
    ] {
        let error = refused(&chain.leaf, text, "own.key");
        assert!(
            matches!(error, CertificateError::EncryptedKey { .. }),
            "{error}"
        );
    }
}

#[test]
fn unsupported_key_is_named() {
    let chain = chain();
    let text = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let error = refused(&chain.leaf, text, "own.key");
    assert!(matches!(error, CertificateError::UnsupportedKey { .. }));
}

#[test]
fn key_of_another_certificate_is_refused_and_both_files_named() {
    let (one, other) = (chain(), chain());
    let error = refused(&one.leaf, &other.key, "own.key");
    assert!(matches!(error, CertificateError::KeyMismatch { .. }));
    assert!(error.to_string().contains("chain.pem"));
}

#[test]
fn chain_out_of_order_is_refused_at_its_place() {
    let Chain {
        leaf,
        intermediate,
        root,
        key,
    } = chain();
    for (text, place) in [
        (format!("{intermediate}{leaf}"), 1),
        (format!("{root}{intermediate}{leaf}"), 1),
        (format!("{leaf}{root}{intermediate}"), 2),
    ] {
        let error = refused(&text, &key, "chain.pem");
        match error {
            CertificateError::ChainOrder { position, .. } => assert_eq!(position, place),
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        loaded(&format!("{leaf}{intermediate}{root}"), &key).notes,
        []
    );
}

#[test]
fn gap_in_the_chain_is_noted() {
    let one = chain();
    let stranger = rcgen::generate_simple_self_signed(["b.example".to_owned()])
        .unwrap()
        .cert
        .pem();
    let loaded = loaded(&format!("{}{stranger}", one.leaf), &one.key);
    assert!(matches!(
        loaded.notes[..],
        [Note::ChainGap { position: 1, .. }]
    ));
}

#[test]
fn bundle_of_roots_is_refused() {
    let chain = chain();
    let error = refused(
        &chain.leaf.repeat(CERTIFICATES_MAX + 1),
        &chain.key,
        "chain.pem",
    );
    assert!(matches!(
        error,
        CertificateError::TooManyCertificates { .. }
    ));
}

#[test]
fn validity_is_noted_and_served_all_the_same() {
    let chain = chain();
    let (_directory, certificate_path, key_path) = two_files(&chain.leaf, &chain.key);
    let notes = |now| load(&certificate_path, &key_path, now).unwrap().notes;
    let end = load(&certificate_path, &key_path, 0)
        .unwrap()
        .facts
        .not_after_unix_s;
    assert_eq!(notes(end), []);
    assert!(matches!(notes(end + 1)[..], [Note::Expired { .. }]));
    assert!(matches!(notes(0)[..], [Note::NotYetValid { .. }]));
    let text = notes(end + 1)[0].to_string();
    assert!(text.contains("chain.pem") && text.contains("2030-01-01T00:00:00Z"));
}

#[test]
fn certificate_without_names_and_exposed_key_are_noted() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let (_directory, certificate_path, key_path) =
        two_files(&certificate.pem(), &key.serialize_pem());
    fs::set_permissions(&key_path, Permissions::from_mode(0o644)).unwrap();
    let notes = load(&certificate_path, &key_path, NOW_UNIX_S)
        .unwrap()
        .notes;
    assert!(matches!(
        notes[..],
        [Note::NoNames { .. }, Note::KeyExposed { .. }]
    ));
    assert!(notes[1].to_string().contains(key_path.to_str().unwrap()));
}
