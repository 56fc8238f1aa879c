//! Finishing a reply for one client: id, flags, the question as the client spelt it, TTLs aged,
//! the OPT record, padding, truncation.
//!
//! Every octet a client gets is written here, hit and miss alike. The room does not know where an
//! answer came from. RFC 1035, RFC 6891, RFC 6840 sections 5.7 and 5.8 (AD), RFC 7828 (keep-alive),
//! RFC 7830 and 8467 (padding), RFC 7873 and 9018 (cookies), RFC 8767 (stale answers), RFC 8914
//! (extended errors).

mod cookie;
mod failure;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use failure::{ExtendedError, Failure};

use crate::{
    cache::{Entry, Form},
    clock::Now,
    entropy,
    handler::{Answer, Client, Transport, UDP_REPLY_MAX_OCTETS},
    wire::{Edns, Fault, HEADER_OCTETS, MESSAGE_MAX_OCTETS, Query, option, rcode, rtype},
};

/// UDP replies to clients without EDNS (RFC 1035, section 4.2.1).
const UDP_PLAIN_OCTETS: usize = 512;
/// Encrypted replies are padded to a multiple of this (RFC 8467, section 4.1).
const PADDING_BLOCK_OCTETS: usize = 468;
/// Octets of extended error text in a reply. With it, header, longest question and OPT record fit
/// the smallest reply, so that a truncated reply still says why.
const EXTENDED_ERROR_TEXT_MAX_OCTETS: usize = 160;
/// Octets of an OPT record without options.
const OPT_OCTETS: usize = 11;
/// Octets of an option's code and length.
const OPTION_HEAD_OCTETS: usize = 4;

/// What replies depend on beside query and answer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an idle connection stays open, told to clients that ask (RFC 7828).
    pub idle: Duration,
    /// The key of server cookies; random for each process.
    pub cookie_secret: [u8; 16],
}

impl Settings {
    /// Settings with a fresh cookie secret.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        let mut cookie_secret = [0; 16];
        entropy::fill(&mut cookie_secret);
        Self {
            idle,
            cookie_secret,
        }
    }
}

/// The extended errors of such an answer (RFC 8914, sections 4.4 and 4.20).
const STALE_ANSWER: u16 = 3;
const STALE_NXDOMAIN: u16 = 19;
/// The TTL of records that are given out beyond their time, seconds (RFC 8767, section 4).
const STALE_TTL_S: u32 = 30;
/// What clients are told of an answer beyond its time.
const STALE_TEXT: &str = "no upstream resolver gave a fresh answer in time";

/// The variable part of a reply.
#[derive(Clone, Copy, Debug, Default)]
struct Content<'a> {
    rcode: u16,
    secure: bool,
    form: Form<'a>,
    ttls: Ttls,
    extended_error: Option<(u16, &'a str)>,
}

/// What becomes of the TTLs of the records.
#[derive(Clone, Copy, Debug)]
enum Ttls {
    /// So many seconds are taken off.
    Aged(u32),
    /// All are this, seconds.
    All(u32),
}

impl Default for Ttls {
    fn default() -> Self {
        Self::Aged(0)
    }
}

/// Appends the reply made of a stored answer to `out`.
pub fn answer(
    settings: &Settings,
    query: &Query<'_>,
    client: &Client,
    entry: &Entry<'_>,
    now: &Now,
    out: &mut Vec<u8>,
) -> Answer {
    let age_s = entry.age_s(now.uptime_s);
    let content = Content {
        rcode: u16::from(entry.rcode()),
        secure: entry.is_secure(),
        form: entry.form(query.dnssec_ok()),
        ttls: Ttls::Aged(age_s),
        extended_error: entry.extended_error(),
    };
    write(settings, query, client, &content, now, out);
    let ttl_s = match entry.failure() {
        Some(_) => 0,
        None => entry.ttl_s().saturating_sub(age_s),
    };
    Answer { ttl_s }
}

/// Appends the reply made of a stored answer beyond its time to `out`, and says so (RFC 8767). It is
/// called authentic only while its signatures are valid.
pub fn stale(
    settings: &Settings,
    query: &Query<'_>,
    client: &Client,
    entry: &Entry<'_>,
    now: &Now,
    out: &mut Vec<u8>,
) -> Answer {
    let code = if u16::from(entry.rcode()) == rcode::NXDOMAIN {
        STALE_NXDOMAIN
    } else {
        STALE_ANSWER
    };
    let content = Content {
        rcode: u16::from(entry.rcode()),
        secure: entry.is_secure() && entry.is_signed_for(STALE_TTL_S, now.uptime_s),
        form: entry.form(query.dnssec_ok()),
        ttls: Ttls::All(STALE_TTL_S),
        extended_error: Some((code, STALE_TEXT)),
    };
    write(settings, query, client, &content, now, out);
    Answer { ttl_s: STALE_TTL_S }
}

/// Appends a reply without records that says what failed to `out`.
pub fn failure(
    settings: &Settings,
    query: &Query<'_>,
    client: &Client,
    failure: &Failure,
    now: &Now,
    out: &mut Vec<u8>,
) -> Answer {
    let error = failure.extended_error();
    let content = Content {
        rcode: failure.rcode(),
        extended_error: Some((error.code, &error.text)),
        ..Content::default()
    };
    write(settings, query, client, &content, now, out);
    Answer { ttl_s: 0 }
}

/// Appends the reply to octets that are no query to look up. Returns whether there is one.
pub fn fault(octets: &[u8], fault: Fault, out: &mut Vec<u8>) -> bool {
    let (
        Fault::Reply {
            rcode,
            question_end,
            edns,
        },
        Some(&[id_high, id_low, flags_high, flags_low]),
    ) = (fault, octets.first_chunk::<4>())
    else {
        return false;
    };
    let question = question_end
        .and_then(|end| octets.get(HEADER_OCTETS..end))
        .unwrap_or_default();
    // Opcode and RD as sent, QR and RA set.
    let [rcode_high, rcode_low] = (rcode >> 4).to_be_bytes();
    debug_assert_eq!(rcode_high, 0, "no rcode has more than twelve bits");
    let low = 0x80 | (flags_low & 0x10) | u8::try_from(rcode & 0x0f).unwrap_or(0);
    out.extend_from_slice(&[id_high, id_low, 0x80 | (flags_high & 0x79), low]);
    out.extend_from_slice(&[
        0,
        u8::from(!question.is_empty()),
        0,
        0,
        0,
        0,
        0,
        u8::from(edns),
    ]);
    out.extend_from_slice(question);
    if edns {
        out.extend_from_slice(&opt_head(rcode_low, false));
        out.extend_from_slice(&[0, 0]);
    }
    true
}

/// Straight through, one step per line: this is most of what a cache hit costs.
fn write(
    settings: &Settings,
    query: &Query<'_>,
    client: &Client,
    content: &Content<'_>,
    now: &Now,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let question = query.question_octets();
    let options = query
        .edns()
        .map(|edns| Options::new(edns, client, content.extended_error));
    let opt_octets = options.as_ref().map_or(0, Options::opt_octets);
    let whole = HEADER_OCTETS + question.len() + content.form.records.len() + opt_octets;
    let truncated = whole > limit(query.edns(), client.transport);
    let form = if truncated {
        Form::default()
    } else {
        content.form
    };

    let [id_high, id_low] = query.id().to_be_bytes();
    // QR and RA are set; AD tells the verdict to those who asked for it; AA is never ours.
    let high = 0x80 | u8::from(truncated) << 1 | u8::from(query.recursion_desired());
    let verdict_wanted = query.authentic_data() || query.dnssec_ok();
    let low = 0x80
        | u8::from(content.secure && verdict_wanted) << 5
        | u8::from(query.checking_disabled()) << 4
        | u8::try_from(content.rcode & 0x0f).unwrap_or(0);
    out.extend_from_slice(&[id_high, id_low, high, low, 0, 1]);
    out.extend_from_slice(&form.answers.to_be_bytes());
    out.extend_from_slice(&form.authorities.to_be_bytes());
    out.extend_from_slice(&[0, u8::from(options.is_some())]);
    out.extend_from_slice(question);

    let records_at = out.len();
    out.extend_from_slice(form.records);
    match content.ttls {
        Ttls::Aged(0) => {}
        Ttls::Aged(age_s) => {
            for offset in form.ttl_offsets() {
                set_ttl(out, records_at + offset, |ttl_s| {
                    ttl_s.saturating_sub(age_s)
                });
            }
        }
        Ttls::All(all_s) => {
            for offset in form.ttl_offsets() {
                set_ttl(out, records_at + offset, |_| all_s);
            }
        }
    }
    if let Some(options) = options {
        options.write(settings, content.rcode, client, now, start, out);
    }
}

/// Replaces the TTL at `at`.
fn set_ttl(out: &mut [u8], at: usize, new_s: impl FnOnce(u32) -> u32) {
    if let Some(field) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *field = new_s(u32::from_be_bytes(*field)).to_be_bytes();
    }
}

/// The most octets a reply may have.
fn limit(edns: Option<&Edns<'_>>, transport: Transport) -> usize {
    if transport != Transport::Udp {
        return MESSAGE_MAX_OCTETS;
    }
    edns.map_or(UDP_PLAIN_OCTETS, |edns| {
        usize::from(edns.payload_octets).clamp(UDP_PLAIN_OCTETS, UDP_REPLY_MAX_OCTETS)
    })
}

/// The OPT record up to its RDLENGTH (RFC 6891, section 6.1.3).
fn opt_head(rcode_high: u8, dnssec_ok: bool) -> [u8; 9] {
    let [_, opt] = rtype::OPT.to_be_bytes();
    let [payload_high, payload_low] = u16::try_from(UDP_REPLY_MAX_OCTETS)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    [
        0,
        0,
        opt,
        payload_high,
        payload_low,
        rcode_high,
        0,
        u8::from(dnssec_ok) << 7,
        0,
    ]
}

/// The options a reply carries, decided before the records so that their size is known.
struct Options<'a> {
    dnssec_ok: bool,
    extended_error: Option<(u16, &'a str)>,
    client_cookie: Option<[u8; 8]>,
    tcp_keepalive: bool,
    padded: bool,
}

impl<'a> Options<'a> {
    fn new(edns: &Edns<'a>, client: &Client, extended_error: Option<(u16, &'a str)>) -> Self {
        let is_stream = matches!(client.transport, Transport::Tcp | Transport::Tls);
        Self {
            dnssec_ok: edns.dnssec_ok,
            extended_error: extended_error
                .map(|(code, text)| (code, shorten(text, EXTENDED_ERROR_TEXT_MAX_OCTETS))),
            client_cookie: edns.cookie.and_then(<[u8]>::first_chunk).copied(),
            tcp_keepalive: edns.tcp_keepalive && is_stream,
            padded: edns.padding && client.transport.is_encrypted(),
        }
    }

    /// Octets of the OPT record but for padding.
    fn opt_octets(&self) -> usize {
        let error = self
            .extended_error
            .map_or(0, |(_, text)| OPTION_HEAD_OCTETS + 2 + text.len());
        let cookie = self
            .client_cookie
            .map_or(0, |_| OPTION_HEAD_OCTETS + cookie::COOKIE_OCTETS);
        let keepalive = if self.tcp_keepalive {
            OPTION_HEAD_OCTETS + 2
        } else {
            0
        };
        OPT_OCTETS + error + cookie + keepalive
    }

    /// Appends the OPT record; the message began at `start`.
    fn write(
        &self,
        settings: &Settings,
        rcode: u16,
        client: &Client,
        now: &Now,
        start: usize,
        out: &mut Vec<u8>,
    ) {
        let rcode_high = u8::try_from(rcode >> 4).unwrap_or(0);
        out.extend_from_slice(&opt_head(rcode_high, self.dnssec_ok));
        let mut length = self.opt_octets() - OPT_OCTETS;
        let unpadded = out.len() - start + 2 + length;
        let head = unpadded + OPTION_HEAD_OCTETS;
        // A message that is nearly full has no room for even an empty option.
        let padding = (self.padded && head <= MESSAGE_MAX_OCTETS).then(|| {
            (head.next_multiple_of(PADDING_BLOCK_OCTETS) - head).min(MESSAGE_MAX_OCTETS - head)
        });
        if let Some(octets) = padding {
            length += OPTION_HEAD_OCTETS + octets;
        }
        put_u16(out, length);
        if let Some((code, text)) = self.extended_error {
            out.extend_from_slice(&option::EXTENDED_ERROR.to_be_bytes());
            put_u16(out, 2 + text.len());
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        if let Some(client_cookie) = self.client_cookie {
            out.extend_from_slice(&option::COOKIE.to_be_bytes());
            put_u16(out, cookie::COOKIE_OCTETS);
            let address = client.address.ip();
            out.extend_from_slice(&cookie::make(
                &settings.cookie_secret,
                client_cookie,
                address,
                now.unix_s,
            ));
        }
        if self.tcp_keepalive {
            out.extend_from_slice(&option::TCP_KEEPALIVE.to_be_bytes());
            put_u16(out, 2);
            // In units of 100 ms (RFC 7828, section 3.1).
            let units = settings.idle.as_millis() / 100;
            out.extend_from_slice(&u16::try_from(units).unwrap_or(u16::MAX).to_be_bytes());
        }
        if let Some(octets) = padding {
            out.extend_from_slice(&option::PADDING.to_be_bytes());
            put_u16(out, octets);
            out.resize(out.len() + octets, 0);
        }
    }
}

fn put_u16(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
}

/// At most `octets` octets of `text`, cut between characters.
fn shorten(text: &str, octets: usize) -> &str {
    text.get(..text.floor_char_boundary(octets))
        .unwrap_or_default()
}
