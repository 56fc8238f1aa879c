//! One cached answer, packed into one allocation.
//!
//! ```text
//! stored_s ttl_s failed_s flags rcode+hits key_octets+failures | signed_min, if secure
//!  | form | form, if they differ | key | records | records, if they differ | EDE
//! ```
//!
//! A form is two counts, and the octets of its records where more follows behind them. Of an entry in
//! the cache only `failed_s`, `failures`, `hits` and marks in `flags` ever change: giving an answer
//! out renews nothing.

use crate::wire::{Records, ttl_offsets};

/// The number of this layout, in files of entries. Another layout, another meaning of a field or
/// another rule of what may be stored is another number.
pub(super) const LAYOUT: u16 = 3;

/// Octets of the fixed head.
const HEAD_OCTETS: usize = 14;
/// Octets of `signed_min`.
const SIGNED_OCTETS: usize = 2;

const FLAG_SECURE: u8 = 0x01;
const FLAG_TWO_FORMS: u8 = 0x02;
const FLAG_FAILURE: u8 = 0x04;
const FLAG_EDE: u8 = 0x08;
/// It must not be given out beyond its time.
const FLAG_ENDS: u8 = 0x10;
/// Somebody has seen to it that it is replaced before its time is over.
const FLAG_CLAIMED: u8 = 0x20;
/// A count of records exceeds an octet, so all have two.
const FLAG_WIDE: u8 = 0x40;
/// Set by the cache when the entry is read; cleared when eviction passes it.
const FLAG_VISITED: u8 = 0x80;

// Where the head's fields begin.
const STORED_AT: usize = 0;
/// Three octets: half a year at most.
const TTL_AT: usize = 4;
/// Three octets: seconds from `stored_s` on, and one more; 0 for never.
const FAILED_AT: usize = 7;
const FLAGS_AT: usize = 10;
/// The rcode in the upper four bits, how often it was read in the lower.
const RCODE_HITS_AT: usize = 11;
/// Failures in the upper seven bits, octets of the key in the lower nine.
const KEY_FAILURES_AT: usize = 12;

/// The largest number of three octets.
const U24_MAX: u32 = 0x00ff_ffff;
const HITS_MAX: u8 = 0x0f;
const FAILURES_MAX: u8 = 0x7f;
const KEY_OCTETS_MAX: u16 = 0x01ff;

/// What is to be stored: a finished answer to one question.
#[derive(Clone, Copy, Debug)]
pub struct Fill<'a> {
    /// The answer's rcode, one that fits the header.
    pub rcode: u8,
    /// How long it may be kept, seconds; half a year at most counts.
    pub ttl_s: u32,
    /// Whether every record was proved from a trust anchor: AD may be set.
    pub secure: bool,
    /// For how long the signatures that prove it are valid still, seconds; at least `ttl_s`.
    /// Without meaning when it is not secure.
    pub signed_s: u32,
    /// Whether it must not be given out beyond its time, even in want of a fresh answer.
    pub ends: bool,
    /// Whether this is a failure to resolve (RFC 9520), not an answer; and how many there were in a
    /// row, this one included, that were the name's own.
    pub failure: Option<u8>,
    /// An extended DNS error that explains the answer (RFC 8914): code and text.
    pub extended_error: Option<(u16, &'a str)>,
    /// The records for clients that set DO.
    pub with_dnssec: &'a Records,
    /// The records for clients that did not.
    pub plain: &'a Records,
}

/// A packed answer that owns its octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored(Box<[u8]>);

/// A view of a packed answer.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a>(&'a [u8]);

/// The records of an answer in the form for one kind of client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form<'a> {
    /// Number of records of the answer section.
    pub answers: u16,
    /// Number of records of the authority section.
    pub authorities: u16,
    /// The records' octets, to stand behind the question.
    pub records: &'a [u8],
}

impl<'a> Form<'a> {
    /// Offsets of the TTL fields within `records`.
    pub fn ttl_offsets(&self) -> impl Iterator<Item = usize> + use<'a> {
        ttl_offsets(self.records)
    }
}

impl Stored {
    /// Packs an answer under its key, stored at `now_s`. `None` when it is larger than a message.
    #[must_use]
    pub fn pack(key: &[u8], fill: &Fill<'_>, now_s: u32) -> Option<Self> {
        let two_forms = fill.plain != fill.with_dnssec;
        let forms = [Some(fill.with_dnssec), two_forms.then_some(fill.plain)];
        let counts = || {
            forms
                .iter()
                .flatten()
                .flat_map(|form| [form.answers, form.authorities])
        };
        let wide = counts().any(|count| count > u16::from(u8::MAX));
        let split = two_forms || fill.extended_error.is_some();
        let records: usize = forms.iter().flatten().map(|form| form.octets.len()).sum();
        let text = fill.extended_error.map_or("", |(_, text)| text);
        // Two forms with the most there can be before them.
        let octets = HEAD_OCTETS + SIGNED_OCTETS + 12 + key.len() + records + 2 + text.len();
        let mut out = Vec::with_capacity(octets);
        out.extend_from_slice(&now_s.to_be_bytes());
        out.extend_from_slice(&u24(fill.ttl_s));
        out.extend_from_slice(&u24(0));
        let mut flags = 0;
        for (flag, set) in [
            (FLAG_SECURE, fill.secure),
            (FLAG_TWO_FORMS, two_forms),
            (FLAG_FAILURE, fill.failure.is_some()),
            (FLAG_EDE, fill.extended_error.is_some()),
            (FLAG_ENDS, fill.ends),
            (FLAG_WIDE, wide),
        ] {
            if set {
                flags |= flag;
            }
        }
        out.push(flags);
        out.push(fill.rcode << 4);
        let key_octets = u16::try_from(key.len()).ok()?;
        if key_octets > KEY_OCTETS_MAX {
            return None;
        }
        let failures = u16::from(fill.failure.unwrap_or(0).min(FAILURES_MAX));
        out.extend_from_slice(&(failures << 9 | key_octets).to_be_bytes());
        if fill.secure {
            // Forty-five days at most, rounded down: the end may come early, never late.
            let signed_min = u16::try_from(fill.signed_s / 60).unwrap_or(u16::MAX);
            out.extend_from_slice(&signed_min.to_be_bytes());
        }
        for form in forms.iter().flatten() {
            for count in [form.answers, form.authorities] {
                match u8::try_from(count) {
                    Ok(count) if !wide => out.push(count),
                    _ => out.extend_from_slice(&count.to_be_bytes()),
                }
            }
            let octets = u16::try_from(form.octets.len()).ok()?;
            if split {
                out.extend_from_slice(&octets.to_be_bytes());
            }
        }
        out.extend_from_slice(key);
        for form in forms.iter().flatten() {
            out.extend_from_slice(&form.octets);
        }
        if let Some((code, text)) = fill.extended_error {
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Some(Self(out.into_boxed_slice()))
    }

    /// Takes octets that an entry once had, stored at `stored_s`; `None` when their parts do not fill
    /// them exactly. What the parts say is not looked at.
    pub(super) fn unpack(octets: &[u8], stored_s: u32) -> Option<Self> {
        if !Entry(octets).is_whole() {
            return None;
        }
        let mut octets: Box<[u8]> = Box::from(octets);
        *octets.first_chunk_mut()? = stored_s.to_be_bytes();
        let mut stored = Self(octets);
        if stored.entry().failure().is_none() {
            // Whether replacing it fails is another matter by now.
            stored.set_failed([0; 3], 0);
        }
        // Who had seen to its replacement is gone.
        if let Some(flags) = stored.0.get_mut(FLAGS_AT) {
            *flags &= !FLAG_CLAIMED;
        }
        Some(stored)
    }

    /// The answer.
    #[must_use]
    pub fn entry(&self) -> Entry<'_> {
        Entry(&self.0)
    }

    /// Octets of the allocation.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.0.len()
    }

    /// Marks the entry as read, for the eviction, and counts it.
    pub(super) fn visit(&mut self) {
        self.mark_visited();
        if let Some(octet) = self.0.get_mut(RCODE_HITS_AT)
            && *octet & HITS_MAX < HITS_MAX
        {
            *octet += 1;
        }
    }

    /// Marks the entry as read, for the eviction.
    pub(super) fn mark_visited(&mut self) {
        self.mark(FLAG_VISITED);
    }

    /// Takes the duty to replace the entry before its time is over, which one alone has; whether it
    /// was still there to take.
    pub(super) fn claim(&mut self) -> bool {
        let is_first = !self.entry().is_claimed();
        self.mark(FLAG_CLAIMED);
        is_first
    }

    /// Takes note that the answer could not be replaced at `now_s`; `failures` in a row, this one
    /// included, were the name's own.
    pub(super) fn mark_failed(&mut self, now_s: u32, failures: u8) {
        let since_s = self.entry().age_s(now_s);
        self.set_failed(u24(since_s.saturating_add(1)), failures);
    }

    fn set_failed(&mut self, failed: [u8; 3], failures: u8) {
        if let Some(field) = self.0.get_mut(FAILED_AT..FAILED_AT + 3) {
            field.copy_from_slice(&failed);
        }
        if let Some(octet) = self.0.get_mut(KEY_FAILURES_AT) {
            *octet = failures.min(FAILURES_MAX) << 1 | *octet & 1;
        }
    }

    /// Takes note that the answer must not be given out once it has expired.
    pub(super) fn denounce(&mut self) {
        self.mark(FLAG_ENDS);
    }

    fn mark(&mut self, flag: u8) {
        if let Some(flags) = self.0.get_mut(FLAGS_AT) {
            *flags |= flag;
        }
    }

    /// Whether the entry was read since the last call.
    pub(super) fn take_visit(&mut self) -> bool {
        let Some(flags) = self.0.get_mut(FLAGS_AT) else {
            return false;
        };
        let visited = *flags & FLAG_VISITED != 0;
        *flags &= !FLAG_VISITED;
        visited
    }
}

impl<'a> Entry<'a> {
    /// A copy that outlives the cache's lock.
    #[must_use]
    pub fn to_stored(&self) -> Stored {
        Stored(Box::from(self.0))
    }

    /// All of its octets.
    pub(super) fn octets(&self) -> &'a [u8] {
        self.0
    }

    /// Whether its parts fill its octets exactly.
    fn is_whole(&self) -> bool {
        if self.0.len() < HEAD_OCTETS {
            return false;
        }
        let end = self.forms_end();
        let tail = self.0.get(end..);
        match tail {
            Some(tail) if self.has(FLAG_EDE) => tail
                .get(2..)
                .is_some_and(|text| str::from_utf8(text).is_ok()),
            Some(tail) => tail.is_empty(),
            None => false,
        }
    }

    /// The key it is stored under.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        let start = self.key_start();
        self.0
            .get(start..start + self.key_len())
            .unwrap_or_default()
    }

    /// Seconds since the answer was stored.
    #[must_use]
    pub fn age_s(&self, now_s: u32) -> u32 {
        now_s.saturating_sub(self.u32_at(STORED_AT))
    }

    /// The time to live it was stored with, seconds.
    #[must_use]
    pub fn ttl_s(&self) -> u32 {
        self.u24_at(TTL_AT)
    }

    /// Whether it may still be given out at `now_s`.
    #[must_use]
    pub fn is_fresh(&self, now_s: u32) -> bool {
        self.age_s(now_s) < self.ttl_s()
    }

    /// Whether it is an answer that has expired, by no more than `serve_stale_s`, and may be given
    /// out in want of a fresh one (RFC 8767).
    #[must_use]
    pub fn is_stale(&self, now_s: u32, serve_stale_s: u32) -> bool {
        !self.has(FLAG_FAILURE | FLAG_ENDS)
            && !self.is_fresh(now_s)
            && self.age_s(now_s) < self.ttl_s().saturating_add(serve_stale_s)
    }

    /// The answer's rcode.
    #[must_use]
    pub fn rcode(&self) -> u8 {
        self.0.get(RCODE_HITS_AT).map_or(0, |octet| octet >> 4)
    }

    /// Whether every record was proved from a trust anchor.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.has(FLAG_SECURE)
    }

    /// Whether the signatures that prove it are valid for `more_s` seconds from `now_s` on. Measured
    /// in uptime, so that no step of the wall clock makes them live longer.
    #[must_use]
    pub fn is_signed_for(&self, more_s: u32, now_s: u32) -> bool {
        let signed_min = if self.is_secure() {
            self.u16_at(HEAD_OCTETS)
        } else {
            0
        };
        let signed_s = u32::from(signed_min).saturating_mul(60);
        self.age_s(now_s).saturating_add(more_s) <= signed_s
    }

    /// How often it was read since it was stored; fifteen is often.
    #[must_use]
    pub fn hits(&self) -> u8 {
        self.0
            .get(RCODE_HITS_AT)
            .map_or(0, |octet| octet & HITS_MAX)
    }

    /// Whether somebody sees to it that it is replaced before its time is over.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        self.has(FLAG_CLAIMED)
    }

    /// When replacing the answer failed last: uptime in seconds, and how many failures in a row
    /// were the name's own.
    #[must_use]
    pub fn refresh_failed(&self) -> Option<(u32, u8)> {
        let since_s = self.u24_at(FAILED_AT).checked_sub(1)?;
        let failed_s = self.u32_at(STORED_AT).saturating_add(since_s);
        Some((failed_s, self.failures()))
    }

    /// For a failure, how many there were in a row, it included, that were the name's own.
    #[must_use]
    pub fn failure(&self) -> Option<u8> {
        self.has(FLAG_FAILURE).then(|| self.failures())
    }

    /// The extended DNS error that explains the answer: code and text.
    #[must_use]
    pub fn extended_error(&self) -> Option<(u16, &'a str)> {
        if !self.has(FLAG_EDE) {
            return None;
        }
        let tail = self.0.get(self.forms_end()..)?;
        let (code, text) = tail.split_first_chunk::<2>()?;
        Some((u16::from_be_bytes(*code), std::str::from_utf8(text).ok()?))
    }

    /// The records for a client that did or did not set DO.
    #[must_use]
    pub fn form(&self, dnssec_ok: bool) -> Form<'a> {
        let index = usize::from(!dnssec_ok && self.has(FLAG_TWO_FORMS));
        let mut at = self.key_start() + self.key_len();
        if index == 1 {
            at += self.records_octets(0);
        }
        let records = at..at + self.records_octets(index);
        let counts_at = self.form_at(index);
        let (answers, authorities) = if self.has(FLAG_WIDE) {
            (self.u16_at(counts_at), self.u16_at(counts_at + 2))
        } else {
            (
                self.u8_at(counts_at).into(),
                self.u8_at(counts_at + 1).into(),
            )
        };
        Form {
            answers,
            authorities,
            records: self.0.get(records).unwrap_or_default(),
        }
    }

    fn failures(&self) -> u8 {
        self.u8_at(KEY_FAILURES_AT) >> 1
    }

    fn key_len(&self) -> usize {
        usize::from(self.u16_at(KEY_FAILURES_AT) & KEY_OCTETS_MAX)
    }

    fn key_start(&self) -> usize {
        self.form_at(1 + usize::from(self.has(FLAG_TWO_FORMS)))
    }

    /// Where the form at `index` begins.
    fn form_at(&self, index: usize) -> usize {
        let start = HEAD_OCTETS + SIGNED_OCTETS * usize::from(self.is_secure());
        let length = 2 * usize::from(self.is_split());
        start + index * (self.counts_octets() + length)
    }

    /// Octets of one form's two counts.
    fn counts_octets(&self) -> usize {
        2 << u8::from(self.has(FLAG_WIDE))
    }

    /// Whether more follows behind the records of the first form.
    fn is_split(&self) -> bool {
        self.has(FLAG_TWO_FORMS | FLAG_EDE)
    }

    /// Where the last form ends.
    fn forms_end(&self) -> usize {
        let mut at = self.key_start() + self.key_len();
        for index in 0..=usize::from(self.has(FLAG_TWO_FORMS)) {
            at += self.records_octets(index);
        }
        at
    }

    /// Octets of the records of the form at `index`.
    fn records_octets(&self, index: usize) -> usize {
        if self.is_split() {
            return usize::from(self.u16_at(self.form_at(index) + self.counts_octets()));
        }
        let before = self.key_start() + self.key_len();
        self.0.len().saturating_sub(before)
    }

    fn has(&self, flag: u8) -> bool {
        self.0.get(FLAGS_AT).is_some_and(|flags| flags & flag != 0)
    }

    fn u8_at(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16_at(&self, at: usize) -> u16 {
        match self.0.get(at..at + 2) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => 0,
        }
    }

    fn u24_at(&self, at: usize) -> u32 {
        match self.0.get(at..at + 3) {
            Some(&[a, b, c]) => u32::from_be_bytes([0, a, b, c]),
            _ => 0,
        }
    }

    fn u32_at(&self, at: usize) -> u32 {
        match self.0.get(at..at + 4) {
            Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
            _ => 0,
        }
    }
}

/// A number in three octets, or the largest that fits.
fn u24(number: u32) -> [u8; 3] {
    let [_, low @ ..] = number.min(U24_MAX).to_be_bytes();
    low
}
