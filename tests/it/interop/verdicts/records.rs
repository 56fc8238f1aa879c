//! A signed zone as its signer left it, and changes to it that no signer would make.

use std::fmt::Write as _;

/// One record in presentation form, its names absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: String,
    pub(super) ttl: u32,
    pub(super) kind: String,
    /// The data's fields.
    pub(super) fields: Vec<String>,
}

impl Record {
    /// Reads a line of a zone file that has one whole record a line; none if it has none.
    fn parse(line: &str) -> Option<Self> {
        let line = line.split(';').next().unwrap_or("");
        let mut fields = line.split_whitespace();
        let owner = fields.next()?.to_ascii_lowercase();
        let ttl = fields.next()?.parse().ok()?;
        let kind = fields.find(|field| *field != "IN")?.to_owned();
        Some(Self {
            owner,
            ttl,
            kind,
            fields: fields.map(str::to_owned).collect(),
        })
    }

    /// Changes one field of the data.
    pub(super) fn put(&mut self, at: usize, value: &str) {
        value.clone_into(&mut self.fields[at]);
    }

    /// The type a signature covers.
    fn covers(&self) -> Option<&str> {
        (self.kind == "RRSIG").then(|| self.fields[0].as_str())
    }

    fn is_denial(&self) -> bool {
        ["NSEC", "NSEC3"].contains(&self.covers().unwrap_or(&self.kind))
    }
}

/// A zone that is to be served, and what its parent is to say about it.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// Absolute, with the final dot.
    pub(super) apex: String,
    pub(super) records: Vec<Record>,
    /// The data of its DS records at its parent: first the one with SHA-256.
    pub(super) ds: Vec<String>,
    /// The same key's DS by every digest.
    digests: Vec<String>,
    /// The file of a zone that was never signed, which comes before the records.
    unsigned: String,
}

impl Zone {
    /// Reads what a signer wrote; `digests` is the data of the DS by every digest.
    pub(super) fn read(apex: &str, text: &str, digests: Vec<String>) -> Self {
        let mut zone = Self {
            apex: apex.to_owned(),
            records: text.lines().filter_map(Record::parse).collect(),
            ds: Vec::new(),
            digests,
            unsigned: String::new(),
        };
        zone.ds = vec![zone.ds_by(SHA256)];
        zone
    }

    /// A zone that nobody signs; it has no DS.
    pub(super) fn unsigned(apex: &str, text: String) -> Self {
        Self {
            apex: apex.to_owned(),
            records: Vec::new(),
            ds: Vec::new(),
            digests: Vec::new(),
            unsigned: text,
        }
    }

    /// The zone as a file.
    pub(super) fn text(&self) -> String {
        let mut text = self.unsigned.clone();
        for record in &self.records {
            let Record {
                owner, ttl, kind, ..
            } = record;
            let data = record.fields.join(" ");
            writeln!(text, "{owner} {ttl} IN {kind} {data}").expect("strings take any text");
        }
        text
    }

    /// The name of a label in the zone; the apex for `@`.
    fn name(&self, label: &str) -> String {
        match label {
            "@" => self.apex.clone(),
            label => format!("{label}.{}", self.apex),
        }
    }

    /// Changes every record of one owner and type.
    ///
    /// # Panics
    /// If there is none: then the case would test nothing.
    pub(super) fn edit(&mut self, label: &str, kind: &str, change: impl Fn(&mut Record)) {
        let owner = self.name(label);
        let mut found = false;
        for record in &mut self.records {
            if record.owner == owner && record.kind == kind {
                change(record);
                found = true;
            }
        }
        assert!(found, "no {kind} at {owner}");
    }

    /// Changes every record of a type.
    pub(super) fn edit_every(&mut self, kind: &str, change: impl Fn(&mut Record)) {
        for record in &mut self.records {
            if record.kind == kind {
                change(record);
            }
        }
    }

    /// Changes the signatures of one RRset.
    pub(super) fn edit_signature(&mut self, label: &str, kind: &str, change: impl Fn(&mut Record)) {
        self.edit(label, "RRSIG", |record| {
            if record.covers() == Some(kind) {
                change(record);
            }
        });
    }

    /// Takes records away.
    ///
    /// # Panics
    /// If there is none to take.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&Record) -> bool) {
        let before = self.records.len();
        self.records.retain(|record| !unwanted(record));
        assert_ne!(self.records.len(), before, "nothing removed");
    }

    /// Takes an RRset away, and its signatures.
    pub(super) fn remove_set(&mut self, label: &str, kind: &str) {
        let owner = self.name(label);
        self.remove(|record| {
            record.owner == owner && (record.kind == kind || record.covers() == Some(kind))
        });
    }

    /// Takes everything away that stands at a name.
    pub(super) fn remove_name(&mut self, label: &str) {
        let owner = self.name(label);
        self.remove(|record| record.owner == owner);
    }

    /// Takes the signatures of an RRset away.
    pub(super) fn remove_signatures(&mut self, label: &str, kind: &str) {
        let owner = self.name(label);
        self.remove(|record| record.owner == owner && record.covers() == Some(kind));
    }

    /// Takes all denial away.
    pub(super) fn remove_denial(&mut self) {
        self.remove(Record::is_denial);
    }

    /// An RRset and its signatures.
    pub(super) fn set(&self, label: &str, kind: &str) -> Vec<Record> {
        let owner = self.name(label);
        let set = self.records.iter().filter(|record| {
            record.owner == owner && (record.kind == kind || record.covers() == Some(kind))
        });
        set.cloned().collect()
    }

    /// Puts a copy of an RRset and its signatures under another name.
    pub(super) fn copy_set(&mut self, from: &str, kind: &str, to: &str) {
        let owner = self.name(to);
        let mut set = self.set(from, kind);
        for record in &mut set {
            record.owner.clone_from(&owner);
        }
        self.records.extend(set);
    }

    /// Puts the RRset that another zone of the same name has into the place of this one's.
    pub(super) fn replace_set(&mut self, label: &str, kind: &str, other: &Self) {
        self.remove_set(label, kind);
        self.records.extend(other.set(label, kind));
    }

    /// Adds copies of an RRset's signatures with other octets.
    pub(super) fn add_bad_signatures(&mut self, label: &str, kind: &str, count: u8) {
        let signatures = self.set(label, kind);
        let good = signatures
            .iter()
            .find(|record| record.covers().is_some())
            .expect("it is signed");
        for number in 0..count {
            let mut bad = good.clone();
            spoil(&mut bad.fields, number);
            self.records.push(bad);
        }
    }

    /// Takes the first signature of an RRset away, the signer's own.
    pub(super) fn remove_first_signature(&mut self, label: &str, kind: &str) {
        let owner = self.name(label);
        let mut records = self.records.iter();
        let first = records
            .position(|record| record.owner == owner && record.covers() == Some(kind))
            .expect("it is signed");
        self.records.remove(first);
    }

    /// Adds a signature of an algorithm nobody knows.
    pub(super) fn add_unknown_signature(&mut self, label: &str, kind: &str) {
        let signatures = self.set(label, kind);
        let signature = signatures.iter().find(|record| record.covers().is_some());
        let mut unknown = signature.expect("it is signed").clone();
        unknown.put(1, "200");
        self.records.push(unknown);
    }

    /// Changes one field of the DS records: 0 the tag, 1 the algorithm, 2 the digest type.
    pub(super) fn put_in_ds(&mut self, at: usize, value: &str) {
        for ds in &mut self.ds {
            let mut fields: Vec<_> = ds.split(' ').collect();
            fields[at] = value;
            *ds = fields.join(" ");
        }
    }

    /// Changes the digests of the DS records.
    pub(super) fn spoil_ds(&mut self) {
        for ds in &mut self.ds {
            let digest = ds.rfind(' ').expect("a DS has four fields") + 1;
            let other = if ds[digest..].starts_with("00") {
                "11"
            } else {
                "00"
            };
            ds.replace_range(digest..digest + 2, other);
        }
    }

    /// The DS by a digest.
    ///
    /// # Panics
    /// If the zone is not signed.
    pub(super) fn ds_by(&self, digest_type: &str) -> String {
        let mut digests = self.digests.iter();
        let found = digests.find(|ds| ds.split(' ').nth(2) == Some(digest_type));
        found.expect("a signed zone has a DS").clone()
    }
}

/// The numbers of digests (RFC 4034, appendix A.2; RFC 4509; RFC 6605).
pub(super) const SHA1: &str = "1";
pub(super) const SHA256: &str = "2";
pub(super) const SHA384: &str = "4";

/// Changes the first octets of a signature, or of a key, which is the data's last field.
pub(super) fn spoil(fields: &mut [String], number: u8) {
    const FIRST_OF_SIGNATURE: usize = 8;
    let signature = &mut fields[FIRST_OF_SIGNATURE];
    let letter = |number: u8| char::from(b'A' + number % 26);
    let spoiled: String = [letter(number), letter(number + 1), letter(number + 2)]
        .into_iter()
        .chain(signature.chars().skip(3))
        .collect();
    *signature = spoiled;
}
