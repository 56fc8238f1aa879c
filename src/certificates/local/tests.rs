use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, crypto::ring,
    pki_types::UnixTime,
};
use tempfile::TempDir;

use super::{
    super::{
        describe,
        issue::{LEAF_BACKDATE_S, NAMES_MAX},
    },
    *,
};

/// A moment on an ordinary day.
const NOW_UNIX_S: u64 = EARLIEST_UNIX_S + 100 * DAY_S;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn usual() -> Vec<String> {
    names(&["localhost", "127.0.0.1", "::1"])
}

/// A state directory that does not exist yet.
fn state() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state/certificates");
    (parent, directory)
}

/// Every file in the directory with its octets and inode.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>, u64)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let inode = fs::metadata(&path).unwrap().ino();
            (path.clone(), fs::read(path).unwrap(), inode)
        })
        .collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// Whether a TLS client that trusts `authority` completes a handshake with `key` as `name`.
///
/// The wall clock of the machine stays out of it: the client's is fixed at `at_unix_s`.
fn handshake(
    authority: &[u8],
    key: &Arc<CertifiedKey>,
    name: &str,
    at_unix_s: u64,
) -> Result<(), rustls::Error> {
    #[derive(Debug)]
    struct Fixed(u64);
    impl rustls::time_provider::TimeProvider for Fixed {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
        }
    }

    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).unwrap();
    let client = ClientConfig::builder_with_details(provider.clone(), Arc::new(Fixed(at_unix_s)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key.clone())));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    client.writer().write_all(b"query").unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    let mut query = [0; 5];
    server.reader().read_exact(&mut query).unwrap();
    assert_eq!(&query, b"query");
    Ok(())
}

/// Signs a certificate for `names` with the CA in `directory`, past our own checks.
fn signed_by_local_authority(directory: &Path, names: Vec<String>) -> CertificateDer<'static> {
    let files = Files::within(directory);
    let authority_key =
        KeyPair::from_pem(&fs::read_to_string(files.authority_key).unwrap()).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&fs::read_to_string(files.authority).unwrap(), authority_key)
            .unwrap();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap()
        .into()
}

#[test]
fn first_start_makes_everything_with_tight_modes() {
    let (parent, directory) = state();
    let local = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    assert_eq!(local.outcome, Outcome::AuthorityMade(Reason::Absent));
    let files = Files::within(&directory);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&parent.path().join("state")), 0o700);
    assert_eq!(mode(&files.authority_key), 0o600);
    assert_eq!(mode(&files.leaf_key), 0o600);
    assert_eq!(contents(&directory).len(), 4);
    assert_eq!(local.key.cert.len(), 1);
    local.key.keys_match().unwrap();
}

#[test]
fn second_start_changes_nothing() {
    let (_parent, directory) = state();
    let first = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let before = contents(&directory);
    // Order, case, repetition and a trailing dot make no other set of names.
    let again = names(&["::1", "LOCALHOST.", "127.0.0.1", "localhost"]);
    let second = ensure(&directory, &again, NOW_UNIX_S + DAY_S).unwrap();
    assert_eq!(second.outcome, Outcome::Kept);
    assert_eq!(second.facts, first.facts);
    assert_eq!(second.authority, first.authority);
    assert_eq!(contents(&directory), before);
}

#[test]
fn leaf_keeps_the_rules_of_browsers() {
    let (_parent, directory) = state();
    let local = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let life_s = local.facts.not_after_unix_s - local.facts.not_before_unix_s;
    assert!(life_s <= 398 * DAY_S);
    const { assert!(LEAF_BACKDATE_S + LEAF_LIFE_CLOCKLESS_S <= 398 * DAY_S) };
    assert_eq!(local.facts.names, usual());
    assert!(!local.facts.is_authority);
    assert!(local.authority.is_authority);
    assert_ne!(local.facts.serial, local.authority.serial);

    let leaf = describe::parse(&local.key.cert[0]).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap();
    assert!(usage.value.server_auth && !usage.value.client_auth);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);

    let exported = export(&directory).unwrap();
    let authority = describe::parse(&exported.der).unwrap();
    let basic = authority.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = authority.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign());
    assert!(!usage.value.digital_signature());
    assert!(authority.name_constraints().unwrap().unwrap().critical);
}

#[test]
fn client_that_trusts_the_ca_connects_under_every_name() {
    let (_parent, directory) = state();
    let wanted = names(&[
        "router.lan",
        "localhost",
        "127.0.0.1",
        "192.168.1.1",
        "::1",
        "fd00::53",
    ]);
    let local = ensure(&directory, &wanted, NOW_UNIX_S).unwrap();
    let authority = export(&directory).unwrap().der;
    for name in &wanted {
        handshake(&authority, &local.key, name, NOW_UNIX_S).unwrap();
    }
    // A client whose clock is three weeks late connects too.
    handshake(&authority, &local.key, "localhost", NOW_UNIX_S - 21 * DAY_S).unwrap();
    for name in ["other.lan", "127.0.0.2", "::2"] {
        handshake(&authority, &local.key, name, NOW_UNIX_S).unwrap_err();
    }
}

#[test]
fn ca_cannot_sign_for_other_names_or_addresses() {
    let every = [
        "router.lan",
        "bank.example",
        "lan",
        "192.168.1.1",
        "192.168.1.2",
        "fd00::53",
        "fd00::54",
    ];
    for configured in [
        &["router.lan", "192.168.1.1", "fd00::53"][..],
        &["router.lan"],
        &["192.168.1.1"],
        &["fd00::53"],
        &["router.lan", "192.168.1.1"],
    ] {
        let (_parent, directory) = state();
        ensure(&directory, &names(configured), NOW_UNIX_S).unwrap();
        let authority = CertificateDer::from(export(&directory).unwrap().der);
        for name in every {
            let leaf = signed_by_local_authority(&directory, names(&[name]));
            let server_name = [ServerName::try_from(name).unwrap()];
            let accepted = verify(&authority, &leaf, &server_name, NOW_UNIX_S).is_ok();
            assert_eq!(
                accepted,
                configured.contains(&name),
                "{name} {configured:?}"
            );
        }
        // One permitted name does not carry another one in.
        let both = names(&[configured[0], "bank.example"]);
        let leaf = signed_by_local_authority(&directory, both);
        let server_name = [ServerName::try_from(configured[0]).unwrap()];
        verify(&authority, &leaf, &server_name, NOW_UNIX_S).unwrap_err();
    }
}

#[test]
fn leaf_is_renewed_when_a_third_of_its_life_is_left() {
    let (_parent, directory) = state();
    let first = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let authority = export(&directory).unwrap();
    let threshold = NOW_UNIX_S + 60 * DAY_S;
    let kept = ensure(&directory, &usual(), threshold - 1).unwrap();
    assert_eq!(kept.outcome, Outcome::Kept);
    let renewed = ensure(&directory, &usual(), threshold).unwrap();
    assert_eq!(renewed.outcome, Outcome::LeafMade(Reason::NearEnd));
    assert_eq!(renewed.facts.not_after_unix_s, threshold + 90 * DAY_S);
    assert_ne!(renewed.facts.spki_pin, first.facts.spki_pin);
    assert_eq!(export(&directory).unwrap(), authority);
    handshake(&authority.der, &renewed.key, "localhost", threshold).unwrap();
}

#[test]
fn renew_makes_a_new_leaf_below_the_same_ca() {
    let (_parent, directory) = state();
    let first = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let second = renew(&directory, &usual(), NOW_UNIX_S).unwrap();
    assert_eq!(second.outcome, Outcome::LeafMade(Reason::Asked));
    assert_ne!(first.facts.serial, second.facts.serial);
    assert_eq!(first.authority, second.authority);
}

#[test]
fn ca_is_made_again_only_near_its_end() {
    let (_parent, directory) = state();
    let first = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let threshold = first.authority.not_after_unix_s - AUTHORITY_RENEWAL_S;
    let late = ensure(&directory, &usual(), threshold - 1).unwrap();
    assert_eq!(late.outcome, Outcome::LeafMade(Reason::NearEnd));
    // The leaf of a moment ago is good, so the CA need not sign and is left alone.
    let kept = ensure(&directory, &usual(), threshold).unwrap();
    assert_eq!(kept.outcome, Outcome::Kept);
    let later = ensure(&directory, &usual(), threshold + 60 * DAY_S).unwrap();
    assert_eq!(later.outcome, Outcome::AuthorityMade(Reason::NearEnd));
    assert_ne!(later.authority.subject, first.authority.subject);
    // What devices trust can be put back.
    let old = fs::read_to_string(directory.join("ca.pem.old")).unwrap();
    assert!(old.contains("BEGIN CERTIFICATE"));
    assert!(directory.join("ca.key.old").exists());
}

#[test]
fn names_within_the_constraints_renew_the_leaf_and_others_the_ca() {
    let (_parent, directory) = state();
    let first = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let fewer = ensure(&directory, &names(&["localhost"]), NOW_UNIX_S).unwrap();
    assert_eq!(fewer.outcome, Outcome::LeafMade(Reason::NamesChanged));
    assert_eq!(fewer.facts.names, ["localhost"]);
    assert_eq!(fewer.authority, first.authority);
    let more = names(&["localhost", "router.lan"]);
    let other = ensure(&directory, &more, NOW_UNIX_S).unwrap();
    assert_eq!(other.outcome, Outcome::AuthorityMade(Reason::NamesChanged));
    assert_ne!(other.authority.subject, first.authority.subject);
    let authority = export(&directory).unwrap().der;
    handshake(&authority, &other.key, "router.lan", NOW_UNIX_S).unwrap();
}

#[test]
fn clock_not_set_makes_certificates_good_for_set_clocks() {
    let (_parent, directory) = state();
    let made = ensure(&directory, &usual(), 0).unwrap();
    let authority = export(&directory).unwrap().der;
    let clients_day = EARLIEST_UNIX_S + 300 * DAY_S;
    handshake(&authority, &made.key, "localhost", clients_day).unwrap();
    assert_eq!(made.authority.not_before_unix_s, 0);
    // The next boot in 1970, and then the true time: nothing needs to be made.
    let again = ensure(&directory, &usual(), 17).unwrap();
    assert_eq!(again.outcome, Outcome::Kept);
    let set = ensure(&directory, &usual(), clients_day).unwrap();
    assert_eq!(set.outcome, Outcome::Kept);
    // The program was years old when it booted: the true time shows the leaf expired.
    let years_later = EARLIEST_UNIX_S + 3 * 365 * DAY_S;
    let renewed = ensure(&directory, &usual(), years_later).unwrap();
    assert_eq!(renewed.outcome, Outcome::LeafMade(Reason::NearEnd));
    assert_eq!(renewed.authority, made.authority);
}

#[test]
fn clock_not_set_keeps_certificates_made_later() {
    let (_parent, directory) = state();
    let day = EARLIEST_UNIX_S + 1000 * DAY_S;
    ensure(&directory, &usual(), day).unwrap();
    let booted = ensure(&directory, &usual(), 0).unwrap();
    assert_eq!(booted.outcome, Outcome::Kept);
}

#[test]
fn leaf_from_a_clock_that_was_ahead_is_made_again_below_the_same_ca() {
    let (_parent, directory) = state();
    let ahead = ensure(&directory, &usual(), NOW_UNIX_S + 9000 * DAY_S).unwrap();
    let right = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    assert_eq!(right.outcome, Outcome::LeafMade(Reason::NotYetValid));
    assert_eq!(right.authority, ahead.authority);
}

#[test]
fn clock_past_all_dates_is_an_error_and_writes_nothing() {
    let (_parent, directory) = state();
    let error = ensure(&directory, &usual(), u64::MAX).unwrap_err();
    assert!(error.to_string().contains(directory.to_str().unwrap()));
    assert_eq!(contents(&directory), []);
}

#[test]
fn damaged_or_missing_pieces_are_made_again() {
    let expect = |spoil: &dyn Fn(&Files), outcome: Outcome| {
        let (_parent, directory) = state();
        ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
        spoil(&Files::within(&directory));
        let healed = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
        assert_eq!(healed.outcome, outcome);
        let authority = export(&directory).unwrap().der;
        handshake(&authority, &healed.key, "localhost", NOW_UNIX_S).unwrap();
        let kept = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
        assert_eq!(kept.outcome, Outcome::Kept);
    };
    let other_key = || KeyPair::generate().unwrap().serialize_pem();
    expect(
        &|files| fs::remove_file(&files.leaf).unwrap(),
        Outcome::LeafMade(Reason::Absent),
    );
    expect(
        &|files| fs::remove_file(&files.leaf_key).unwrap(),
        Outcome::LeafMade(Reason::Absent),
    );
    expect(
        &|files| fs::write(&files.leaf, "").unwrap(),
        Outcome::LeafMade(Reason::Damaged),
    );
    expect(
        &|files| fs::write(&files.leaf_key, other_key()).unwrap(),
        Outcome::LeafMade(Reason::Damaged),
    );
    expect(
        &|files| fs::remove_file(&files.authority).unwrap(),
        Outcome::AuthorityMade(Reason::Damaged),
    );
    expect(
        &|files| fs::write(&files.authority, "text").unwrap(),
        Outcome::AuthorityMade(Reason::Damaged),
    );
    // A crash between the CA's key and certificate, seen when the leaf must be made.
    expect(
        &|files| {
            fs::write(&files.authority_key, other_key()).unwrap();
            fs::remove_file(&files.leaf).unwrap();
        },
        Outcome::AuthorityMade(Reason::Damaged),
    );
    // A leaf of another CA.
    expect(
        &|files| {
            let (_parent, other) = state();
            ensure(&other, &usual(), NOW_UNIX_S).unwrap();
            let other = Files::within(&other);
            fs::copy(&other.leaf, &files.leaf).unwrap();
            fs::copy(&other.leaf_key, &files.leaf_key).unwrap();
        },
        Outcome::LeafMade(Reason::Damaged),
    );
}

#[test]
fn good_leaf_does_not_need_the_ca_key() {
    let (_parent, directory) = state();
    ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    fs::remove_file(Files::within(&directory).authority_key).unwrap();
    let kept = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    assert_eq!(kept.outcome, Outcome::Kept);
}

#[test]
fn keys_opened_by_a_backup_are_closed_again() {
    let (_parent, directory) = state();
    ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let files = Files::within(&directory);
    for key in [&files.leaf_key, &files.authority_key] {
        fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap();
    }
    renew(&directory, &usual(), NOW_UNIX_S).unwrap();
    assert_eq!(mode(&files.leaf_key), 0o600);
    assert_eq!(mode(&files.authority_key), 0o600);
}

#[test]
fn failed_write_leaves_the_old_files_whole() {
    let (_parent, directory) = state();
    ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let files = Files::within(&directory);
    // A directory in the place of the leaf's key fails the rename, for root too.
    fs::remove_file(&files.leaf_key).unwrap();
    fs::create_dir_all(files.leaf_key.join("inhabitant")).unwrap();
    let leaf = fs::read(&files.leaf).unwrap();
    let error = renew(&directory, &usual(), NOW_UNIX_S).unwrap_err();
    assert!(matches!(error, CertificateError::Unwritable { .. }));
    assert!(error.to_string().contains(files.leaf_key.to_str().unwrap()));
    assert_eq!(fs::read(&files.leaf).unwrap(), leaf);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 4);
}

#[test]
fn file_in_the_place_of_the_directory_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    fs::write(&path, "").unwrap();
    let error = ensure(&path, &usual(), NOW_UNIX_S).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn unfit_names_are_refused_before_anything_is_written() {
    let (_parent, directory) = state();
    let refused = |list: Vec<String>| {
        let error = ensure(&directory, &list, NOW_UNIX_S).unwrap_err();
        assert!(!directory.exists());
        assert!(error.to_string().contains(directory.to_str().unwrap()));
        error
    };
    for name in [
        "",
        ".",
        "*.lan",
        "host name",
        "dns.example:853",
        "[::1]",
        "fe80::1%eth0",
        "münchen.example",
        "192.168.1.0/24",
        "a..b",
    ] {
        let error = refused(names(&[name]));
        assert!(
            matches!(error, CertificateError::InvalidName { .. }),
            "{name}"
        );
    }
    let error = refused(Vec::new());
    assert!(matches!(error, CertificateError::NoNames { .. }));
    let many = (0..=NAMES_MAX).map(|i| format!("h{i}.example")).collect();
    let error = refused(many);
    assert!(matches!(error, CertificateError::TooManyNames { .. }));
}

#[test]
fn largest_list_of_names_fits() {
    let (_parent, directory) = state();
    let many: Vec<String> = (0..NAMES_MAX).map(|i| format!("h{i}.example")).collect();
    let local = ensure(&directory, &many, NOW_UNIX_S).unwrap();
    assert_eq!(local.facts.names, many);
}

#[test]
fn export_reads_back_what_was_made() {
    let (_parent, directory) = state();
    let error = export(&directory).unwrap_err();
    assert!(error.to_string().contains("ca.pem"));
    let local = ensure(&directory, &usual(), NOW_UNIX_S).unwrap();
    let exported = export(&directory).unwrap();
    assert_eq!(exported.facts, local.authority);
    assert_eq!(
        exported.pem,
        fs::read_to_string(Files::within(&directory).authority).unwrap()
    );
    let pem = x509_parser::pem::parse_x509_pem(exported.pem.as_bytes())
        .unwrap()
        .1;
    assert_eq!(pem.contents, exported.der);
}
