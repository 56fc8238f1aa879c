//! Server cookies (RFC 9018, section 4): they let a client tell our replies from forged ones.

use std::{hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher24;

/// Octets of a whole cookie: the client's 8 and the server's 16.
pub(super) const COOKIE_OCTETS: usize = 24;

/// The cookie to send back to the client at `address`.
pub(super) fn make(
    secret: &[u8; 16],
    client_cookie: [u8; 8],
    address: IpAddr,
    unix_s: u64,
) -> [u8; COOKIE_OCTETS] {
    let [_, _, _, _, time @ ..] = unix_s.to_be_bytes();
    let mut cookie = [0; COOKIE_OCTETS];
    let (client, server) = cookie.split_at_mut(8);
    client.copy_from_slice(&client_cookie);
    let (head, hash) = server.split_at_mut(8);
    let [t0, t1, t2, t3] = time;
    // Version 1, three reserved octets, seconds since 1970 modulo 2^32.
    head.copy_from_slice(&[1, 0, 0, 0, t0, t1, t2, t3]);
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client_cookie);
    hasher.write(head);
    match address {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hash.copy_from_slice(&hasher.finish().to_le_bytes());
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9018_appendix_a_1() {
        let secret = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
        let client = 0x2464_c4ab_cf10_c957_u64.to_be_bytes();
        let made = make(
            &secret,
            client,
            "198.51.100.100".parse().unwrap(),
            1_559_731_985,
        );
        let expected = [
            0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57, 0x01, 0x00, 0x00, 0x00, 0x5c, 0xf7,
            0x9f, 0x11, 0x1f, 0x81, 0x30, 0xc3, 0xee, 0xe2, 0x94, 0x80,
        ];
        assert_eq!(made, expected);
    }
}
