//! What people and metrics want to know of a certificate.

use std::{fmt, net::IpAddr};

use data_encoding::{BASE64, HEXUPPER};
use ring::digest;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time,
};

/// What one certificate says. Serializes for `--json`; displays as a few lines for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The subject, such as `CN=truename resolver`.
    pub subject: String,
    /// The issuer, such as `CN=truename local CA 1a2b3c4d`.
    pub issuer: String,
    /// The subjectAltName's host names and addresses: what clients may call this endpoint.
    pub names: Vec<String>,
    /// Whether it may sign certificates itself.
    pub is_authority: bool,
    /// Start of validity, in seconds since 1970; 0 when earlier.
    pub not_before_unix_s: u64,
    /// End of validity, in seconds since 1970: the last second it is valid.
    pub not_after_unix_s: u64,
    /// Start of validity as RFC 3339 writes it, in UTC.
    pub not_before: String,
    /// End of validity as RFC 3339 writes it, in UTC.
    pub not_after: String,
    /// The serial number in hexadecimal, octets parted by colons.
    pub serial: String,
    /// `sha256/` and the base64 SHA-256 digest of the SubjectPublicKeyInfo (RFC 7858, section
    /// 4.2). It stays the same when a certificate is renewed with the same key.
    pub spki_pin: String,
    /// The SHA-256 digest of the whole certificate in hexadecimal, octets parted by colons.
    pub fingerprint_sha256: String,
}

impl Facts {
    /// Reads the facts off a certificate in DER; `None` if it is no whole X.509 certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        parse(der).map(|certificate| Self::of_parsed(der, &certificate))
    }

    pub(super) fn of_parsed(der: &[u8], certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let pin = digest::digest(&digest::SHA256, certificate.public_key().raw);
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names(certificate),
            is_authority: certificate.is_ca(),
            not_before_unix_s: unix_s(validity.not_before),
            not_after_unix_s: unix_s(validity.not_after),
            not_before: rfc3339(validity.not_before),
            not_after: rfc3339(validity.not_after),
            serial: colons(certificate.raw_serial()),
            spki_pin: format!("sha256/{}", BASE64.encode(pin.as_ref())),
            fingerprint_sha256: colons(digest::digest(&digest::SHA256, der).as_ref()),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "subject      {}", self.subject)?;
        writeln!(f, "issuer       {}", self.issuer)?;
        if !self.names.is_empty() {
            writeln!(f, "names        {}", self.names.join(", "))?;
        }
        writeln!(f, "valid from   {}", self.not_before)?;
        writeln!(f, "valid until  {}", self.not_after)?;
        writeln!(f, "serial       {}", self.serial)?;
        writeln!(f, "pin          {}", self.spki_pin)?;
        write!(f, "fingerprint  {}", self.fingerprint_sha256)
    }
}

/// Parses one whole certificate, with nothing behind it.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            if let Ok(octets) = <[u8; 4]>::try_from(*octets) {
                Some(IpAddr::from(octets).to_string())
            } else {
                let octets = <[u8; 16]>::try_from(*octets).ok()?;
                Some(IpAddr::from(octets).to_string())
            }
        }
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

fn unix_s(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

fn rfc3339(time: ASN1Time) -> String {
    OffsetDateTime::from_unix_timestamp(time.timestamp())
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} seconds since 1970", time.timestamp()))
}

fn colons(octets: &[u8]) -> String {
    let octets: Vec<String> = octets
        .iter()
        .map(|octet| HEXUPPER.encode(&[*octet]))
        .collect();
    octets.join(":")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, date_time_ymd};

    use super::*;

    #[test]
    fn facts_say_what_the_certificate_says() {
        let key = KeyPair::generate().unwrap();
        let names = ["a.example", "192.0.2.1", "2001:db8::1"].map(String::from);
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.not_before = date_time_ymd(2026, 1, 2);
        params.not_after = date_time_ymd(2050, 3, 4);
        params.serial_number = Some(vec![0x0a, 0xff].into());
        let certificate = params.self_signed(&key).unwrap();
        let facts = Facts::of(certificate.der()).unwrap();
        assert_eq!(facts.names, names);
        assert_eq!(facts.subject, "CN=rcgen self signed cert");
        assert_eq!(facts.issuer, facts.subject);
        assert!(!facts.is_authority);
        assert_eq!(facts.not_before, "2026-01-02T00:00:00Z");
        assert_eq!(facts.not_after, "2050-03-04T00:00:00Z");
        assert_eq!(facts.not_before_unix_s, 1_767_312_000);
        assert_eq!(facts.serial, "0A:FF");
        let pin = digest::digest(&digest::SHA256, &key.subject_public_key_info());
        assert_eq!(
            facts.spki_pin,
            format!("sha256/{}", BASE64.encode(pin.as_ref()))
        );
        assert_eq!(facts.fingerprint_sha256.len(), 32 * 3 - 1);

        let json = serde_json::to_value(&facts).unwrap();
        assert_eq!(json["names"][1], "192.0.2.1");
        assert_eq!(json["not_after_unix_s"], facts.not_after_unix_s);
        let text = facts.to_string();
        assert!(text.contains("a.example, 192.0.2.1, 2001:db8::1"));
        assert!(text.contains(&facts.spki_pin));
    }

    #[test]
    fn octets_behind_a_certificate_make_it_none() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let mut der = made.cert.der().to_vec();
        assert!(Facts::of(&der).is_some());
        der.push(0);
        assert_eq!(Facts::of(&der), None);
        assert_eq!(Facts::of(b"no certificate"), None);
        assert_eq!(Facts::of(&[]), None);
    }
}
