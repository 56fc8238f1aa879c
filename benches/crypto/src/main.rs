//! What truename asks of a crypto provider, by ring or by AWS-LC: `cargo run --release --features ring`
//! or `--features aws`, with a file that holds an RSA key of 2,048 bits (PKCS #8, DER). Prints the least
//! and the median of 40 rounds, microseconds; `OPERATION COUNT` behind the file runs one operation that
//! often and prints nothing, for an instruction counter.

use std::{env, fs, time::Instant};

#[cfg(feature = "aws")]
use aws_lc_rs as provider;
#[cfg(not(feature = "aws"))]
use ring as provider;

use provider::{
    agreement,
    rand::SystemRandom,
    signature::{self, KeyPair, UnparsedPublicKey},
};

const ROUNDS: usize = 40;
const ROUND: u32 = 50;

fn measure(name: &str, mut operation: impl FnMut()) {
    let mut only = env::args().skip(2);
    if let (Some(wanted), Some(count)) = (only.next(), only.next()) {
        if wanted == name {
            (0..count.parse().expect("a count")).for_each(|_: u32| operation());
        }
        return;
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..ROUND).for_each(|_| operation());
            start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:15} {:6.1} {:6.1}", rounds[0], rounds[ROUNDS / 2]);
}

fn main() {
    let rng = SystemRandom::new();
    // The octets under a signature of one address.
    let message = [7; 150];

    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &rng).expect("a key");
    #[cfg(feature = "aws")]
    let key = signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).expect("a key");
    #[cfg(not(feature = "aws"))]
    let key = signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).expect("a key");
    let signed = key.sign(&rng, &message).expect("a signature");
    let public = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.public_key());
    measure("p256-verify", || {
        public
            .verify(&message, signed.as_ref())
            .expect("it is right")
    });
    measure("p256-sign", || {
        let _ = key.sign(&rng, &message).expect("a signature");
    });

    let pkcs8 = signature::Ed25519KeyPair::generate_pkcs8(&rng).expect("a key");
    let key = signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let signed = key.sign(&message);
    let public = UnparsedPublicKey::new(&signature::ED25519, key.public_key());
    measure("ed25519-verify", || {
        public
            .verify(&message, signed.as_ref())
            .expect("it is right")
    });

    let path = env::args().nth(1).expect("a file with an RSA key");
    let pkcs8 = fs::read(path).expect("the file can be read");
    let key = signature::RsaKeyPair::from_pkcs8(&pkcs8).expect("an RSA key");
    let mut signed = vec![0; 256];
    key.sign(&signature::RSA_PKCS1_SHA256, &rng, &message, &mut signed)
        .expect("a signature");
    let public = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key.public_key());
    measure("rsa2048-verify", || {
        public.verify(&message, &signed).expect("it is right")
    });

    // One side of a key exchange: a fresh pair, and the secret from the other side's key.
    measure("x25519", || {
        let own =
            agreement::EphemeralPrivateKey::generate(&agreement::X25519, &rng).expect("a key");
        let public = own.compute_public_key().expect("a key");
        let other = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
        #[cfg(feature = "aws")]
        agreement::agree_ephemeral(own, other, (), |_| Ok(())).expect("a secret");
        #[cfg(not(feature = "aws"))]
        agreement::agree_ephemeral(own, &other, |_| ()).expect("a secret");
    });
}
