//! Well-known resolvers with their addresses, so that a name is enough and no look-up is needed
//! before the first query.
//!
//! A name from the catalogue means DNS over HTTPS. DoT costs less per query, but its port 853 is
//! closed on many guest, school and company networks, where 443 passes; being reachable counts for
//! more. Whoever wants another transport writes the host with its scheme, `tls://dns.quad9.net`,
//! and the addresses still come from here.

use std::net::IpAddr;

/// One service of one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name to write in the configuration.
    pub name: &'static str,
    /// What it does to answers, for people who choose.
    pub about: &'static str,
    /// The host of its DoH endpoint.
    pub https_host: &'static str,
    /// The path of its DoH endpoint.
    pub https_path: &'static str,
    /// Other hosts that its addresses answer for; the first is its host for DoT and DoQ where that
    /// is not the DoH host.
    pub other_hosts: &'static [&'static str],
    /// Its addresses in text form, IPv4 and IPv6 in turn, as connections are raced in this order.
    addresses: &'static [&'static str],
}

impl Entry {
    /// The addresses that all hosts of the entry share.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        // A test shows that all of them parse.
        self.addresses.iter().filter_map(|text| text.parse().ok())
    }
}

/// A service that people may still have in their configuration, but that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How names of the service begin, in the catalogue's way of naming.
    pub name: &'static str,
    /// The domain of its hosts.
    domain: &'static str,
    /// When it ended.
    pub when: &'static str,
    /// What to write instead.
    pub instead: &'static str,
}

/// All entries, in the order in which they are listed to people.
#[must_use]
pub const fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The entry with this name; case does not matter.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Entry> {
    ENTRIES
        .iter()
        .find(|entry| entry.name.eq_ignore_ascii_case(name))
}

/// The entry whose addresses answer for this host; case does not matter.
#[must_use]
pub fn by_host(host: &str) -> Option<&'static Entry> {
    let host = host.trim_end_matches('.');
    ENTRIES.iter().find(|entry| {
        std::iter::once(&entry.https_host)
            .chain(entry.other_hosts)
            .any(|known| known.eq_ignore_ascii_case(host))
    })
}

/// Whether `name`, from the catalogue or a host, belongs to a service that has ended.
#[must_use]
pub fn ended(name: &str) -> Option<&'static Ended> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    ENDED.iter().find(|ended| {
        let below = |suffix: &str, separator| {
            name.strip_suffix(suffix)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with(separator))
        };
        name == ended.name
            || name
                .strip_prefix(ended.name)
                .is_some_and(|rest| rest.starts_with('-'))
            || below(ended.domain, '.')
    })
}

/// The name that is closest to a misspelt one, if any is close.
#[must_use]
pub fn suggestion(name: &str) -> Option<&'static str> {
    /// Below this similarity a suggestion is a guess.
    const SIMILAR: f64 = 0.8;
    let name = name.to_ascii_lowercase();
    ENTRIES
        .iter()
        .map(|entry| (strsim::jaro_winkler(entry.name, &name), entry.name))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// The host under which NextDNS serves everybody; a person's own set-up is a path or a subdomain.
pub(super) const NEXTDNS_HOST: &str = "dns.nextdns.io";

const QUERY_PATH: &str = "/dns-query";

const ENTRIES: &[Entry] = &[
    Entry {
        name: "quad9",
        about: "blocks malware; non-profit, Switzerland",
        https_host: "dns.quad9.net",
        https_path: QUERY_PATH,
        other_hosts: &["dns9.quad9.net"],
        addresses: &["9.9.9.9", "2620:fe::fe", "149.112.112.112", "2620:fe::9"],
    },
    Entry {
        name: "quad9-unfiltered",
        about: "answers as they are",
        https_host: "dns10.quad9.net",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "9.9.9.10",
            "2620:fe::10",
            "149.112.112.10",
            "2620:fe::fe:10",
        ],
    },
    Entry {
        name: "quad9-ecs",
        about: "blocks malware; tells servers the client's network",
        https_host: "dns11.quad9.net",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "9.9.9.11",
            "2620:fe::11",
            "149.112.112.11",
            "2620:fe::fe:11",
        ],
    },
    Entry {
        name: "cloudflare",
        about: "answers as they are",
        https_host: "cloudflare-dns.com",
        https_path: QUERY_PATH,
        other_hosts: &["one.one.one.one", "1dot1dot1dot1.cloudflare-dns.com"],
        addresses: &[
            "1.1.1.1",
            "2606:4700:4700::1111",
            "1.0.0.1",
            "2606:4700:4700::1001",
        ],
    },
    Entry {
        name: "cloudflare-security",
        about: "blocks malware",
        https_host: "security.cloudflare-dns.com",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "1.1.1.2",
            "2606:4700:4700::1112",
            "1.0.0.2",
            "2606:4700:4700::1002",
        ],
    },
    Entry {
        name: "cloudflare-family",
        about: "blocks malware and adult content",
        https_host: "family.cloudflare-dns.com",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "1.1.1.3",
            "2606:4700:4700::1113",
            "1.0.0.3",
            "2606:4700:4700::1003",
        ],
    },
    Entry {
        name: "google",
        about: "answers as they are; tells servers the client's network",
        https_host: "dns.google",
        https_path: QUERY_PATH,
        other_hosts: &["dns.google.com"],
        addresses: &[
            "8.8.8.8",
            "2001:4860:4860::8888",
            "8.8.4.4",
            "2001:4860:4860::8844",
        ],
    },
    Entry {
        name: "adguard",
        about: "blocks advertising and trackers",
        https_host: "dns.adguard-dns.com",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "94.140.14.14",
            "2a10:50c0::ad1:ff",
            "94.140.15.15",
            "2a10:50c0::ad2:ff",
        ],
    },
    Entry {
        name: "adguard-family",
        about: "blocks advertising, trackers and adult content",
        https_host: "family.adguard-dns.com",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "94.140.14.15",
            "2a10:50c0::bad1:ff",
            "94.140.15.16",
            "2a10:50c0::bad2:ff",
        ],
    },
    Entry {
        name: "adguard-unfiltered",
        about: "answers as they are",
        https_host: "unfiltered.adguard-dns.com",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "94.140.14.140",
            "2a10:50c0::1:ff",
            "94.140.14.141",
            "2a10:50c0::2:ff",
        ],
    },
    Entry {
        name: "dns4eu",
        about: "blocks malware; European Union",
        https_host: "protective.joindns4.eu",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "86.54.11.1",
            "2a13:1001::86:54:11:1",
            "86.54.11.201",
            "2a13:1001::86:54:11:201",
        ],
    },
    Entry {
        name: "dns4eu-noads",
        about: "blocks malware and advertising; European Union",
        https_host: "noads.joindns4.eu",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "86.54.11.13",
            "2a13:1001::86:54:11:13",
            "86.54.11.213",
            "2a13:1001::86:54:11:213",
        ],
    },
    Entry {
        name: "dns4eu-child",
        about: "blocks malware and adult content; European Union",
        https_host: "child.joindns4.eu",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "86.54.11.12",
            "2a13:1001::86:54:11:12",
            "86.54.11.212",
            "2a13:1001::86:54:11:212",
        ],
    },
    Entry {
        name: "dns4eu-unfiltered",
        about: "answers as they are; European Union",
        https_host: "unfiltered.joindns4.eu",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "86.54.11.100",
            "2a13:1001::86:54:11:100",
            "86.54.11.200",
            "2a13:1001::86:54:11:200",
        ],
    },
    Entry {
        name: "controld-unfiltered",
        about: "answers as they are",
        https_host: "freedns.controld.com",
        https_path: "/p0",
        other_hosts: &[],
        addresses: &[
            "76.76.2.11",
            "2606:1a40::11",
            "76.76.10.11",
            "2606:1a40:1::11",
        ],
    },
    Entry {
        name: "opendns",
        about: "blocks malware",
        https_host: "doh.opendns.com",
        https_path: QUERY_PATH,
        other_hosts: &["dns.opendns.com"],
        addresses: &[
            "208.67.222.222",
            "2620:119:35::35",
            "208.67.220.220",
            "2620:119:53::53",
        ],
    },
    Entry {
        name: "opendns-family",
        about: "blocks malware and adult content",
        https_host: "doh.familyshield.opendns.com",
        https_path: QUERY_PATH,
        other_hosts: &["familyshield.opendns.com"],
        addresses: &[
            "208.67.222.123",
            "2620:119:35::123",
            "208.67.220.123",
            "2620:119:53::123",
        ],
    },
    Entry {
        name: "cleanbrowsing-security",
        about: "blocks malware",
        https_host: "doh.cleanbrowsing.org",
        https_path: "/doh/security-filter/",
        other_hosts: &["security-filter-dns.cleanbrowsing.org"],
        addresses: &[
            "185.228.168.9",
            "2a0d:2a00:1::2",
            "185.228.169.9",
            "2a0d:2a00:2::2",
        ],
    },
    Entry {
        name: "dns-sb",
        about: "answers as they are",
        https_host: "doh.dns.sb",
        https_path: QUERY_PATH,
        other_hosts: &["dot.sb"],
        addresses: &["185.222.222.222", "2a09::", "45.11.45.11", "2a11::"],
    },
    Entry {
        name: "wikimedia",
        about: "answers as they are; non-profit",
        https_host: "wikimedia-dns.org",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &["185.71.138.138", "2001:67c:930::1"],
    },
    Entry {
        name: "switch",
        about: "blocks malware; Switzerland",
        https_host: "dns.switch.ch",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "130.59.31.248",
            "2001:620:0:ff::2",
            "130.59.31.251",
            "2001:620:0:ff::3",
        ],
    },
    Entry {
        name: "digitale-gesellschaft",
        about: "answers as they are; non-profit, Switzerland",
        https_host: "dns.digitale-gesellschaft.ch",
        https_path: QUERY_PATH,
        other_hosts: &[],
        addresses: &[
            "185.95.218.42",
            "2a05:fc84::42",
            "185.95.218.43",
            "2a05:fc84::43",
        ],
    },
    Entry {
        name: "ffmuc",
        about: "answers as they are; non-profit, Germany",
        https_host: "doh.ffmuc.net",
        https_path: QUERY_PATH,
        other_hosts: &["dot.ffmuc.net", "doq.ffmuc.net"],
        addresses: &[
            "5.1.66.255",
            "2001:678:e68:f000::",
            "185.150.99.255",
            "2001:678:ed0:f000::",
        ],
    },
    Entry {
        name: "cznic",
        about: "answers as they are; Czech Republic",
        https_host: "odvr.nic.cz",
        https_path: "/doh",
        other_hosts: &[],
        addresses: &[
            "193.17.47.1",
            "2001:148f:ffff::1",
            "185.43.135.1",
            "2001:148f:fffe::1",
        ],
    },
    Entry {
        name: "nextdns",
        about: "as you configured it there: write nextdns:ID",
        https_host: NEXTDNS_HOST,
        https_path: "/",
        other_hosts: &[],
        addresses: &["45.90.28.0", "2a07:a8c0::", "45.90.30.0", "2a07:a8c1::"],
    },
];

const ENDED: &[Ended] = &[
    Ended {
        name: "mullvad",
        domain: "dns.mullvad.net",
        when: "on 2026-11-02",
        instead: "quad9",
    },
    Ended {
        name: "dns0",
        domain: "dns0.eu",
        when: "in October 2025",
        instead: "dns4eu",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn every_entry_is_usable_and_no_address_is_listed_twice() {
        let mut names = HashSet::new();
        let mut hosts = HashSet::new();
        let mut addresses = HashSet::new();
        for entry in entries() {
            assert!(names.insert(entry.name), "{}", entry.name);
            assert!(entry.https_path.starts_with('/'));
            for host in std::iter::once(&entry.https_host).chain(entry.other_hosts) {
                assert!(hosts.insert(*host), "{host}");
                assert!(matches!(
                    ServerName::try_from(*host),
                    Ok(ServerName::DnsName(_))
                ));
                assert_eq!(by_host(&host.to_uppercase()), Some(entry));
                assert_eq!(ended(host), None, "{host}");
            }
            assert_eq!(entry.addresses().count(), entry.addresses.len());
            assert!(entry.addresses().any(|address| address.is_ipv4()));
            assert!(entry.addresses().any(|address| address.is_ipv6()));
            for address in entry.addresses() {
                assert!(addresses.insert(address), "{address}");
            }
            assert_eq!(by_name(entry.name), Some(entry));
            assert_eq!(ended(entry.name), None, "{}", entry.name);
        }
    }

    #[test]
    fn misspelt_names_get_a_suggestion_and_strangers_none() {
        assert_eq!(suggestion("qaud9"), Some("quad9"));
        assert_eq!(suggestion("Cloudfare"), Some("cloudflare"));
        assert_eq!(suggestion("adguard-familly"), Some("adguard-family"));
        assert_eq!(suggestion("xyz"), None);
    }

    #[test]
    fn services_that_ended_are_known_by_name_and_by_host() {
        for name in [
            "mullvad",
            "Mullvad-adblock",
            "dns.mullvad.net",
            "base.dns.mullvad.net.",
            "dns0",
            "zero.dns0.eu",
        ] {
            assert!(ended(name).is_some(), "{name}");
        }
        for name in ["mullvadish", "mullvad.net", "notdns0.eu", ""] {
            assert_eq!(ended(name), None, "{name}");
        }
    }
}
