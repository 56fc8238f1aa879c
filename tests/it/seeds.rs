//! The fuzzer's seeds and what it once found, tried by every `cargo test`.

use std::{fs, path::Path};

use proptest::prelude::*;
use truename::cache::{self, Cache, file};

#[path = "../../fuzz/claims.rs"]
mod claims;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What the fuzzer does for hours, for a moment.
    #[test]
    fn no_changed_conversation_is_believed(
        pick in 0_u8..8,
        changes in prop::collection::vec(any::<[u8; 5]>(), 0..6),
    ) {
        claims::validate(&[vec![pick], changes.concat()].concat());
    }
}

#[test]
fn every_seed_keeps_the_claims() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, claim) in claims::ALL {
        let directory = fs::read_dir(seeds.join(target));
        let directory = directory.unwrap_or_else(|error| panic!("seeds of {target}: {error}"));
        let mut count = 0;
        for entry in directory {
            let path = entry.unwrap().path();
            // The name of the seed, should it be the one that fails.
            println!("{}", path.display());
            claim(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{target} has no seeds");
    }
}

/// Seeds of another layout would try nothing: `fuzz/make_seeds.py` writes them anew.
#[test]
fn the_seeds_of_the_cache_file_are_of_this_layout() {
    let three = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/cache_file/three");
    let octets = fs::read(three).unwrap();
    let head = file::verify(&mut &*octets).unwrap();
    let cache = Cache::new(&cache::Settings::default());
    let now_s = head.uptime_s;
    let loaded = file::load(
        &mut &*octets,
        &cache,
        0,
        now_s,
        &cache::Settings::default(),
        || true,
    )
    .unwrap();
    assert_eq!((loaded.taken, loaded.expired, loaded.refused), (3, 0, 0));
}
