//! One cached answer, packed into one allocation.
//!
//! ```text
//! stored_s ttl_s failed_s signed_min failures flags rcode hits key_len | form | form, if they differ | key | TTL offsets and records | ... | EDE
//! ```
//!
//! Of an entry in the cache only `failed_s`, `failures`, `hits` and marks in `flags` ever change:
//! giving an answer out renews nothing.

use crate::wire::Records;

/// The number of this layout, in files of entries. Another layout, another meaning of a field or
/// another rule of what may be stored is another number.
pub(super) const LAYOUT: u16 = 2;

/// Octets of the fixed head.
const HEAD_OCTETS: usize = 20;
/// Octets of one form's counts: answers, authorities, records' octets, TTL offsets.
const FORM_OCTETS: usize = 8;

const FLAG_SECURE: u8 = 0x01;
const FLAG_TWO_FORMS: u8 = 0x02;
const FLAG_FAILURE: u8 = 0x04;
const FLAG_EDE: u8 = 0x08;
/// It must not be given out beyond its time.
const FLAG_ENDS: u8 = 0x10;
/// Somebody has seen to it that it is replaced before its time is over.
const FLAG_CLAIMED: u8 = 0x20;
/// Set by the cache when the entry is read; cleared when eviction passes it.
const FLAG_VISITED: u8 = 0x80;
const FLAGS_ALL: u8 = FLAG_SECURE
    | FLAG_TWO_FORMS
    | FLAG_FAILURE
    | FLAG_EDE
    | FLAG_ENDS
    | FLAG_CLAIMED
    | FLAG_VISITED;

// Where the head's fields begin.
const STORED_AT: usize = 0;
const TTL_AT: usize = 4;
const FAILED_AT: usize = 8;
const SIGNED_AT: usize = 12;
const FAILURES_AT: usize = 14;
const FLAGS_AT: usize = 15;
const RCODE_AT: usize = 16;
const HITS_AT: usize = 17;
const KEY_LEN_AT: usize = 18;

/// What is to be stored: a finished answer to one question.
#[derive(Clone, Copy, Debug)]
pub struct Fill<'a> {
    /// The answer's rcode.
    pub rcode: u8,
    /// How long it may be kept, seconds.
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
    ttl_offsets: &'a [u8],
}

impl<'a> Form<'a> {
    /// Offsets of the TTL fields within `records`.
    pub fn ttl_offsets(&self) -> impl Iterator<Item = usize> + use<'a> {
        let (pairs, _) = self.ttl_offsets.as_chunks::<2>();
        pairs
            .iter()
            .map(|pair| usize::from(u16::from_be_bytes(*pair)))
    }
}

impl Stored {
    /// Packs an answer under its key, stored at `now_s`. `None` when it is larger than a message.
    #[must_use]
    pub fn pack(key: &[u8], fill: &Fill<'_>, now_s: u32) -> Option<Self> {
        let two_forms = fill.plain != fill.with_dnssec;
        let forms = [Some(fill.with_dnssec), two_forms.then_some(fill.plain)];
        let body: usize = forms
            .iter()
            .flatten()
            .map(|form| FORM_OCTETS + 2 * form.ttl_offsets.len() + form.octets.len())
            .sum();
        let text = fill.extended_error.map_or("", |(_, text)| text);
        let mut out = Vec::with_capacity(HEAD_OCTETS + body + key.len() + 2 + text.len());
        out.extend_from_slice(&now_s.to_be_bytes());
        out.extend_from_slice(&fill.ttl_s.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        // Forty-five days at most, rounded down: the end may come early, never late.
        let signed_min = u16::try_from(fill.signed_s / 60).unwrap_or(u16::MAX);
        out.extend_from_slice(&signed_min.to_be_bytes());
        out.push(fill.failure.unwrap_or(0));
        let mut flags = 0;
        for (flag, set) in [
            (FLAG_SECURE, fill.secure),
            (FLAG_TWO_FORMS, two_forms),
            (FLAG_FAILURE, fill.failure.is_some()),
            (FLAG_EDE, fill.extended_error.is_some()),
            (FLAG_ENDS, fill.ends),
        ] {
            if set {
                flags |= flag;
            }
        }
        out.push(flags);
        out.push(fill.rcode);
        out.push(0);
        out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_be_bytes());
        for form in forms.iter().flatten() {
            out.extend_from_slice(&form.answers.to_be_bytes());
            out.extend_from_slice(&form.authorities.to_be_bytes());
            out.extend_from_slice(&u16::try_from(form.octets.len()).ok()?.to_be_bytes());
            out.extend_from_slice(&u16::try_from(form.ttl_offsets.len()).ok()?.to_be_bytes());
        }
        out.extend_from_slice(key);
        for form in forms.iter().flatten() {
            for offset in &form.ttl_offsets {
                out.extend_from_slice(&offset.to_be_bytes());
            }
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
            // The time of its last failed refresh is of another boot.
            stored.mark_failed(0, 0);
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
        self.mark(FLAG_VISITED);
        if let Some(hits) = self.0.get_mut(HITS_AT) {
            *hits = hits.saturating_add(1);
        }
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
        if let Some(field) = self.0.get_mut(FAILED_AT..FAILED_AT + 4) {
            field.copy_from_slice(&now_s.to_be_bytes());
        }
        if let Some(field) = self.0.get_mut(FAILURES_AT) {
            *field = failures;
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

    /// Whether its parts fill its octets exactly, and none is of an unknown kind.
    fn is_whole(&self) -> bool {
        let is_unknown = |flags: &u8| flags & !FLAGS_ALL != 0;
        if self.0.len() < HEAD_OCTETS || self.0.get(FLAGS_AT).is_none_or(is_unknown) {
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
        self.u32_at(TTL_AT)
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
        self.0.get(RCODE_AT).copied().unwrap_or(0)
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
        let signed_s = u32::from(self.u16_at(SIGNED_AT)).saturating_mul(60);
        self.age_s(now_s).saturating_add(more_s) <= signed_s
    }

    /// How often it was read since it was stored, as far as an octet counts.
    #[must_use]
    pub fn hits(&self) -> u8 {
        self.0.get(HITS_AT).copied().unwrap_or(0)
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
        let failed_s = self.u32_at(FAILED_AT);
        (failed_s > 0).then(|| (failed_s, self.failures()))
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
            let (records, offsets) = self.form_sizes(0);
            at += records + 2 * offsets;
        }
        let (records, offsets) = self.form_sizes(index);
        let records_at = at + 2 * offsets;
        let counts_at = HEAD_OCTETS + index * FORM_OCTETS;
        Form {
            answers: self.u16_at(counts_at),
            authorities: self.u16_at(counts_at + 2),
            ttl_offsets: self.0.get(at..records_at).unwrap_or_default(),
            records: self
                .0
                .get(records_at..records_at + records)
                .unwrap_or_default(),
        }
    }

    fn failures(&self) -> u8 {
        self.0.get(FAILURES_AT).copied().unwrap_or(0)
    }

    fn key_len(&self) -> usize {
        usize::from(self.u16_at(KEY_LEN_AT))
    }

    fn key_start(&self) -> usize {
        HEAD_OCTETS + FORM_OCTETS * (1 + usize::from(self.has(FLAG_TWO_FORMS)))
    }

    /// Where the last form ends.
    fn forms_end(&self) -> usize {
        let mut at = self.key_start() + self.key_len();
        for index in 0..=usize::from(self.has(FLAG_TWO_FORMS)) {
            let (records, offsets) = self.form_sizes(index);
            at += records + 2 * offsets;
        }
        at
    }

    /// Octets of records and number of TTL offsets of the form at `index`.
    fn form_sizes(&self, index: usize) -> (usize, usize) {
        let at = HEAD_OCTETS + index * FORM_OCTETS + 4;
        (
            usize::from(self.u16_at(at)),
            usize::from(self.u16_at(at + 2)),
        )
    }

    fn has(&self, flag: u8) -> bool {
        self.0.get(FLAGS_AT).is_some_and(|flags| flags & flag != 0)
    }

    fn u16_at(&self, at: usize) -> u16 {
        match self.0.get(at..at + 2) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
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
