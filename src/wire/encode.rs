//! Writing records with compressed names.

use super::{HEADER_OCTETS, Question, Record, rdata::compressible};

/// Names remembered as targets for compression. Linear search over so few keeps writing linear in
/// the message, whatever its owners are (CVE-2024-8508); names beyond go uncompressed.
const TARGETS_MAX: usize = 32;
/// The highest offset a compression pointer can name.
const POINTER_MAX: usize = 0x3fff;

/// Room for the records of most answers, with a signature.
const OCTETS_USUAL: usize = 512;

/// The records of a reply as they stand behind the question.
///
/// Offsets of compression pointers are those of a message with the question section of the given
/// name right behind the header, so the octets fit any reply to that question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Number of records of the answer section.
    pub answers: u16,
    /// Number of records of the authority section.
    pub authorities: u16,
    /// The records' octets.
    pub octets: Vec<u8>,
}

impl Records {
    /// Encodes the sections of a reply to `question`; `None` when they do not fit in a message.
    #[must_use]
    pub fn encode<'a>(
        question: &'a Question,
        answer: impl Iterator<Item = &'a Record>,
        authority: impl Iterator<Item = &'a Record>,
    ) -> Option<Self> {
        let base = HEADER_OCTETS + question.name.as_wire().len() + 4;
        let mut writer = Writer {
            base,
            out: Vec::with_capacity(OCTETS_USUAL),
            targets: [(&[], 0); TARGETS_MAX],
            targets_len: 0,
        };
        let mut at = 0;
        for label in question.name.labels() {
            let suffix = question.name.as_wire().get(at..).unwrap_or_default();
            writer.remember(suffix, HEADER_OCTETS + at);
            at += label.len() + 1;
        }
        let mut counts = [0_u16; 2];
        for record in answer {
            writer.record(record)?;
            counts[0] = counts[0].checked_add(1)?;
        }
        for record in authority {
            writer.record(record)?;
            counts[1] = counts[1].checked_add(1)?;
        }
        Some(Self {
            answers: counts[0],
            authorities: counts[1],
            octets: writer.out,
        })
    }
}

/// Offsets of the TTL fields within the octets of `records`, as far as those are records.
pub fn ttl_offsets(records: &[u8]) -> impl Iterator<Item = usize> + use<'_> {
    let mut at = 0;
    std::iter::from_fn(move || {
        // Owner, type, class, TTL, length.
        let ttl_at = owner_end(records, at)? + 4;
        let [high, low] = *records.get(ttl_at + 4..)?.first_chunk()?;
        at = ttl_at + 6 + usize::from(u16::from_be_bytes([high, low]));
        Some(ttl_at)
    })
}

/// Where the name that begins at `at` ends, compressed or not.
fn owner_end(records: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *records.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            label => at += 1 + usize::from(label),
        }
    }
}

struct Writer<'a> {
    /// The offset in the message at which `out` will stand.
    base: usize,
    out: Vec<u8>,
    /// Name suffixes already written, with their offsets in the message; the first `targets_len`.
    targets: [(&'a [u8], u16); TARGETS_MAX],
    targets_len: usize,
}

impl<'a> Writer<'a> {
    fn record(&mut self, record: &'a Record) -> Option<()> {
        self.name(record.owner.as_wire());
        self.out.extend_from_slice(&record.rtype.to_be_bytes());
        self.out.extend_from_slice(&record.class.to_be_bytes());
        self.out.extend_from_slice(&record.ttl_s.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        self.rdata(record);
        let length = u16::try_from(self.out.len() - length_at - 2).ok()?;
        self.out
            .get_mut(length_at..length_at + 2)?
            .copy_from_slice(&length.to_be_bytes());
        u16::try_from(self.base + self.out.len()).ok().map(|_| ())
    }

    fn rdata(&mut self, record: &'a Record) {
        let Some((mut at, names)) = compressible(record.rtype) else {
            self.out.extend_from_slice(&record.rdata);
            return;
        };
        self.out
            .extend_from_slice(record.rdata.get(..at).unwrap_or_default());
        for _ in 0..names {
            let rest = record.rdata.get(at..).unwrap_or_default();
            let len = super::name::skip_uncompressed(rest, 0).unwrap_or(0);
            self.name(rest.get(..len).unwrap_or_default());
            at += len;
        }
        self.out
            .extend_from_slice(record.rdata.get(at..).unwrap_or_default());
    }

    /// Writes a name, whose case is kept, with the longest known suffix as a pointer.
    fn name(&mut self, name: &'a [u8]) {
        let mut at = 0;
        let mut fresh: [(usize, usize); 4] = [(0, 0); 4];
        let mut fresh_len = 0;
        while let Some(&len) = name.get(at) {
            let rest = name.get(at..).unwrap_or_default();
            if len == 0 {
                self.out.push(0);
                break;
            }
            if let Some(offset) = self.find(rest) {
                self.out.extend_from_slice(&(0xc000 | offset).to_be_bytes());
                break;
            }
            // The first few suffixes of a name are the ones that recur.
            if let Some(slot) = fresh.get_mut(fresh_len) {
                *slot = (at, self.base + self.out.len());
                fresh_len += 1;
            }
            let end = at + 1 + usize::from(len);
            self.out
                .extend_from_slice(name.get(at..end).unwrap_or_default());
            at = end;
        }
        for &(at, offset) in fresh.get(..fresh_len).unwrap_or_default() {
            self.remember(name.get(at..).unwrap_or_default(), offset);
        }
    }

    fn find(&self, suffix: &[u8]) -> Option<u16> {
        let known = self.targets.get(..self.targets_len).unwrap_or_default();
        known
            .iter()
            .find(|(target, _)| target.eq_ignore_ascii_case(suffix))
            .map(|&(_, offset)| offset)
    }

    fn remember(&mut self, suffix: &'a [u8], offset: usize) {
        if let Some(target) = self.targets.get_mut(self.targets_len)
            && offset <= POINTER_MAX
            && let Ok(offset) = u16::try_from(offset)
        {
            *target = (suffix, offset);
            self.targets_len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{CLASS_IN, Name, Response, rtype};

    fn record(owner: &str, rtype: u16, ttl_s: u32, rdata: &[u8]) -> Record {
        Record {
            owner: Name::parse(owner).unwrap(),
            rtype,
            class: CLASS_IN,
            ttl_s,
            rdata: Box::from(rdata),
        }
    }

    fn question(name: &str) -> Question {
        Question {
            name: Name::parse(name).unwrap(),
            qtype: rtype::A,
            qclass: CLASS_IN,
        }
    }

    /// A whole response around the records.
    fn message(question: &Question, records: &Records) -> Vec<u8> {
        let mut octets = vec![0, 0, 0x81, 0x80, 0, 1];
        octets.extend_from_slice(&records.answers.to_be_bytes());
        octets.extend_from_slice(&records.authorities.to_be_bytes());
        octets.extend_from_slice(&[0, 0]);
        octets.extend_from_slice(question.name.as_wire());
        octets.extend_from_slice(&[0, 1, 0, 1]);
        octets.extend_from_slice(&records.octets);
        octets
    }

    #[test]
    fn what_is_written_reads_back() {
        let question = question("www.example.com");
        let answer = [
            record(
                "www.example.com",
                rtype::CNAME,
                60,
                b"\x03WWW\x07example\x03net\x00",
            ),
            record("www.example.net", rtype::A, 30, &[192, 0, 2, 1]),
            record(
                "example.net",
                rtype::MX,
                30,
                b"\x00\x0a\x04mail\x07example\x03net\x00",
            ),
        ];
        let authority = [record(
            "example.com",
            rtype::SOA,
            30,
            b"\x02ns\x07example\x03com\x00\x01h\x00\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05",
        )];
        let records = Records::encode(&question, answer.iter(), authority.iter()).unwrap();
        let response = Response::parse(&message(&question, &records)).unwrap();
        assert_eq!(response.answer, answer);
        assert_eq!(response.authority, authority);
        let ttls = ttl_offsets(&records.octets).map(|at| records.octets[at..at + 4].to_vec());
        let expected = [60_u32, 30, 30, 30].map(u32::to_be_bytes);
        assert_eq!(ttls.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_owner_equal_to_the_question_costs_two_octets() {
        let question = question("a.rather.long.name.example.com");
        let answer = [record(
            "a.rather.long.name.example.com",
            rtype::A,
            1,
            &[1, 2, 3, 4],
        )];
        let records = Records::encode(&question, answer.iter(), [].iter()).unwrap();
        assert_eq!(records.octets.len(), 16);
        assert_eq!(records.octets[..2], [0xc0, 12]);
    }

    #[test]
    fn more_than_a_message_holds_is_refused() {
        let question = question("example.com");
        let big = record("example.com", rtype::TXT, 1, &vec![0; 60_000]);
        assert!(Records::encode(&question, [&big].into_iter(), [].iter()).is_some());
        assert!(Records::encode(&question, [&big, &big].into_iter(), [].iter()).is_none());
    }

    #[test]
    fn malformed_responses_are_refused() {
        let question = question("www.example.com");
        let answer = [record("www.example.com", rtype::A, 60, &[192, 0, 2, 1])];
        let records = Records::encode(&question, answer.iter(), [].iter()).unwrap();
        let good = message(&question, &records);
        for len in 0..good.len() {
            assert!(Response::parse(&good[..len]).is_err(), "{len} octets");
        }
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = good.clone();
            change(&mut octets);
            Response::parse(&octets)
        };
        // An address of three octets, counts beyond the records, two questions, a query.
        assert!(
            with(&|m| {
                let at = m.len() - 5;
                m[at] = 3;
                m.pop();
            })
            .is_err()
        );
        assert!(with(&|m| m[6] = 0xff).is_err());
        assert!(with(&|m| m[5] = 2).is_err());
        assert!(with(&|m| m[2] = 0x01).is_err());
        assert!(with(&|m| m.push(0)).is_err());
        // The top bit of a TTL makes it zero.
        let zero = with(&|m| {
            let at = m.len() - 10;
            m[at] = 0x80;
        })
        .unwrap();
        assert_eq!(zero.answer[0].ttl_s, 0);
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Response::parse(&octets);
            prop_assert!(ttl_offsets(&octets).all(|at| at + 6 <= octets.len()));
        }

        #[test]
        fn any_records_survive_the_journey(
            owners in proptest::collection::vec("[a-c]{1,2}(\\.[a-c]{1,2}){0,5}", 1..40),
        ) {
            let question = question("a.b.c");
            let answer: Vec<Record> = owners
                .iter()
                .map(|owner| {
                    let target = Name::parse(owner).unwrap();
                    record(owner, rtype::CNAME, 5, target.as_wire())
                })
                .collect();
            let records = Records::encode(&question, answer.iter(), [].iter()).unwrap();
            let response = Response::parse(&message(&question, &records)).unwrap();
            prop_assert_eq!(response.answer, answer);
        }
    }
}
