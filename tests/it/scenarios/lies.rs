//! What an upstream says instead of the truth: directives that change an honest response.

use std::{sync::Arc, time::Duration};

use crate::lab::{
    message::{Record, Response, flag},
    name::{Name, wire},
    rdata::{Rdata, rtype, type_number},
    sign::{FLAG_SEP, FLAG_ZONE, Key, Signing, nsec3_hash, type_bitmap},
    universe::Universe,
    zone::TTL_DEFAULT_S,
};

use super::{
    script::{Act, Says, honest},
    words::{Words, rcode, read},
};

/// One lie on its way from the directives to the script.
pub(super) struct Lie {
    universe: Arc<Universe>,
    response: Response,
    says: Option<Says>,
    after: Duration,
    /// How many times it is told; then the truth is.
    pub(super) times: Option<usize>,
}

impl Lie {
    /// Begins with the honest response.
    pub(super) fn new(universe: &Arc<Universe>, name: &Name, rtype: u16) -> Self {
        Self {
            response: honest(universe, name, rtype),
            universe: Arc::clone(universe),
            says: None,
            after: Duration::ZERO,
            times: None,
        }
    }

    /// What the script is to do.
    pub(super) fn act(self) -> Act {
        let says = self
            .says
            .unwrap_or_else(|| Says::Octets(self.response.encode(65_535)));
        Act {
            says,
            after: self.after,
        }
    }

    /// Carries out one directive.
    pub(super) fn change(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        match words.word("a directive")? {
            "RCODE" => self.response.rcode = rcode(words.word("an rcode")?)?,
            "AD" => self.response.flags |= flag::AD,
            "SILENT" => self.says = Some(Says::Nothing),
            "LATE" => self.after = Duration::from_millis(read(words.word("milliseconds")?)?),
            "TIMES" => self.times = Some(read(words.word("a number")?)?),
            "CLEAR" => {
                if let Some(word) = words.optional() {
                    self.section(word)?.clear();
                } else {
                    self.response.answer.clear();
                    self.response.authority.clear();
                }
            }
            "COPY" => self.copy(words)?,
            "ADD" => {
                let section = words.word("a section")?;
                let made = self.unsigned(words, false)?;
                self.section(section)?.extend(made.records);
            }
            "SIGN" => {
                let section = words.word("a section")?;
                let made = self.unsigned(words, true)?;
                let signed = self.signed(made, words)?;
                self.section(section)?.extend(signed);
            }
            "RESIGN" => self.resign(words)?,
            "NSEC3" => self.nsec3(words)?,
            "DROP" => {
                let section = words.word("a section")?;
                let wanted = Match::read(words)?;
                let section = self.section(section)?;
                let before = section.len();
                section.retain(|record| !wanted.fits(record));
                if section.len() == before {
                    return Err("there is no such record".to_owned());
                }
            }
            "RENAME" => {
                let section = words.word("a section")?;
                let (from, to) = (words.name()?, wire(words.word("a name")?));
                let wanted = Match {
                    owner: Some(from),
                    ..Match::ANY
                };
                for record in self.matching(section, &wanted)? {
                    record.owner.clone_from(&to);
                }
            }
            "TTL" => {
                let section = words.word("a section")?;
                let ttl_s = read(words.word("a TTL")?)?;
                let wanted = Match::read(words)?;
                for record in self.matching(section, &wanted)? {
                    record.ttl_s = ttl_s;
                }
            }
            "RDATA" => {
                let section = words.word("a section")?;
                let rtype = words.rtype()?;
                let rdata = Rdata::parse(rtype, &words.rest().join(" "), "").served;
                let wanted = Match {
                    rtype: Some(rtype),
                    ..Match::ANY
                };
                for record in self.matching(section, &wanted)? {
                    record.rdata.clone_from(&rdata);
                }
            }
            "FLIP" => {
                let section = words.word("a section")?;
                let wanted = Match::read(words)?;
                for record in self.matching(section, &wanted)? {
                    if let Some(last) = record.rdata.last_mut() {
                        *last ^= 1;
                    }
                }
            }
            other => return Err(format!("{other} is no directive")),
        }
        words.end()
    }

    fn section(&mut self, word: &str) -> Result<&mut Vec<Record>, String> {
        section(&mut self.response, word)
    }

    /// The records that fit, at least one.
    fn matching(&mut self, section: &str, wanted: &Match) -> Result<Vec<&mut Record>, String> {
        let records = self.section(section)?.iter_mut();
        let found: Vec<_> = records.filter(|record| wanted.fits(record)).collect();
        if found.is_empty() {
            return Err("there is no such record".to_owned());
        }
        Ok(found)
    }

    /// `COPY section name type [from-section]`
    fn copy(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let to = words.word("a section")?;
        let (name, rtype) = (words.name()?, words.rtype()?);
        let mut other = honest(&self.universe, &name, rtype);
        let from = words.optional().unwrap_or(to);
        let records = std::mem::take(section(&mut other, from)?);
        if records.is_empty() {
            return Err(format!("the honest {from} section is empty"));
        }
        self.section(to)?.extend(records);
        Ok(())
    }

    /// `owner type rdata...`, and when it is to be signed `BY` behind it.
    fn unsigned(&self, words: &mut Words<'_>, by: bool) -> Result<Made, String> {
        let owner = words.word("an owner")?;
        let rtype = words.rtype()?;
        let fields = if by { words.until("BY") } else { words.rest() };
        let rdata = self.rdata(rtype, &fields)?;
        Ok(Made {
            owner: Name::parse(owner),
            rtype,
            records: vec![Record {
                owner: wire(owner),
                rtype,
                ttl_s: TTL_DEFAULT_S,
                rdata,
            }],
        })
    }

    /// RDATA in presentation form. NSEC is `next type...`; DS is `OF zone digest-type [algorithm]`,
    /// or `OF nobody` for a key that no zone has.
    fn rdata(&self, rtype: u16, fields: &[&str]) -> Result<Vec<u8>, String> {
        match (rtype, fields) {
            (rtype::NSEC, [next, types @ ..]) => {
                let mut rdata = wire(next);
                rdata.extend(bitmap(types));
                Ok(rdata)
            }
            (rtype::DS, ["OF", "nobody", owner]) => {
                let stranger = Key::generate(13, FLAG_ZONE | FLAG_SEP);
                Ok(stranger.ds(&Name::parse(owner), 2))
            }
            (rtype::DS, ["OF", apex, digest_type, more @ ..]) => {
                let zone = self.universe.zone(apex);
                let key = zone.keys.first().ok_or("the zone has no key")?;
                let mut ds = key.ds(&zone.apex, read(digest_type)?);
                if let [algorithm] = more {
                    ds[2] = read(algorithm)?;
                }
                Ok(ds)
            }
            (rtype::NSEC | rtype::DS, _) => Err("this RDATA is written otherwise".to_owned()),
            _ => Ok(Rdata::parse(rtype, &fields.join(" "), "").served),
        }
    }

    /// `RESIGN section owner type BY zone [option=value]...`
    fn resign(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let at = words.word("a section")?;
        let (owner, rtype) = (words.name()?, words.rtype()?);
        if words.word("BY")? != "BY" {
            return Err("BY is missing".to_owned());
        }
        let of = |rtype, covers| Match {
            rtype: Some(rtype),
            covers,
            owner: Some(owner.clone()),
        };
        let (data, signatures) = (of(rtype, None), of(rtype::RRSIG, Some(rtype)));
        let section = self.section(at)?;
        let records: Vec<Record> = section.extract_if(.., |record| data.fits(record)).collect();
        section.retain(|record| !signatures.fits(record));
        if records.is_empty() {
            return Err("there is no such RRset".to_owned());
        }
        let made = Made {
            owner,
            rtype,
            records,
        };
        let signed = self.signed(made, words)?;
        self.section(at)?.extend(signed);
        Ok(())
    }

    /// `NSEC3 section covers|matches name types salt iterations flags BY zone`: a record that says
    /// something about this one name only. Types are joined by commas, the salt is hexadecimal or
    /// `-`.
    fn nsec3(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let at = words.word("a section")?;
        let covers = match words.word("covers or matches")? {
            "covers" => true,
            "matches" => false,
            other => return Err(format!("{other} is neither covers nor matches")),
        };
        let name = words.name()?;
        let types: Vec<&str> = words.word("types")?.split(',').collect();
        let salt = match words.word("a salt")? {
            "-" => Vec::new(),
            text => data_encoding::HEXLOWER
                .decode(text.as_bytes())
                .map_err(|error| error.to_string())?,
        };
        let iterations: u16 = read(words.word("iterations")?)?;
        let flags: u8 = read(words.word("flags")?)?;
        if words.word("BY")? != "BY" {
            return Err("BY is missing".to_owned());
        }
        let mut from = nsec3_hash(&name, &salt, iterations);
        let mut next = from.clone();
        step(&mut next, u8::wrapping_add);
        if covers {
            step(&mut from, u8::wrapping_sub);
        }
        let mut rdata = vec![1, flags];
        rdata.extend(iterations.to_be_bytes());
        rdata.push(u8::try_from(salt.len()).map_err(|error| error.to_string())?);
        rdata.extend(salt);
        rdata.push(20);
        rdata.extend(next);
        rdata.extend(bitmap(&types));
        let by = By::read(&self.universe, words)?;
        let label = data_encoding::BASE32_DNSSEC.encode(&from);
        let owner = Name::parse(&format!("{label}.{}", by.zone));
        let made = Made {
            records: vec![Record {
                owner: owner.as_wire().to_vec(),
                rtype: rtype::NSEC3,
                ttl_s: TTL_DEFAULT_S,
                rdata,
            }],
            rtype: rtype::NSEC3,
            owner,
        };
        let signed = by.sign(&self.universe, made);
        self.section(at)?.extend(signed);
        Ok(())
    }

    fn signed(&self, made: Made, words: &mut Words<'_>) -> Result<Vec<Record>, String> {
        let by = By::read(&self.universe, words)?;
        Ok(by.sign(&self.universe, made))
    }
}

fn section<'a>(response: &'a mut Response, word: &str) -> Result<&'a mut Vec<Record>, String> {
    match word {
        "answer" => Ok(&mut response.answer),
        "authority" => Ok(&mut response.authority),
        other => Err(format!("{other} is no section")),
    }
}

fn bitmap(types: &[&str]) -> Vec<u8> {
    type_bitmap(types.iter().map(|name| type_number(name)))
}

/// Moves a hash by one in an octet that neither overflows nor underflows.
fn step(hash: &mut [u8], change: fn(u8, u8) -> u8) {
    let at = hash.iter().rposition(|octet| !matches!(octet, 0 | 255));
    if let Some(octet) = at.and_then(|at| hash.get_mut(at)) {
        *octet = change(*octet, 1);
    }
}

/// An RRset on its way.
struct Made {
    owner: Name,
    rtype: u16,
    records: Vec<Record>,
}

/// Who signs, and what the signature says of itself: `zone [labels=n] [as=owner] [signer=name]
/// [ttl=s] [begins=s] [ends=s] [tag=n] [algorithm=n] [key=data]`, times in seconds from now. DNSKEY sets are
/// signed by the first key, unless `key=data` says the one that signs everything else.
struct By {
    zone: Name,
    signer: Name,
    signed_owner: Option<Name>,
    labels: Option<u8>,
    ttl_s: u32,
    inception: u32,
    expiration: u32,
    key_tag: Option<u16>,
    algorithm: Option<u8>,
    data_key: bool,
}

impl By {
    fn read(universe: &Universe, words: &mut Words<'_>) -> Result<Self, String> {
        let zone = universe.zone(words.word("a zone")?);
        let window = zone.window();
        let now = i64::from(window.inception) + 86_400;
        let moment = |text: &str| -> Result<u32, String> {
            u32::try_from(now + read::<i64>(text)?).map_err(|error| error.to_string())
        };
        let mut by = Self {
            zone: zone.apex.clone(),
            signer: zone.apex.clone(),
            signed_owner: None,
            labels: None,
            ttl_s: TTL_DEFAULT_S,
            inception: window.inception,
            expiration: window.expiration,
            key_tag: None,
            algorithm: None,
            data_key: false,
        };
        for word in words.rest() {
            match word.split_once('=') {
                Some(("labels", value)) => by.labels = Some(read(value)?),
                Some(("as", value)) => by.signed_owner = Some(Name::parse(value)),
                Some(("signer", value)) => by.signer = Name::parse(value),
                Some(("ttl", value)) => by.ttl_s = read(value)?,
                Some(("begins", value)) => by.inception = moment(value)?,
                Some(("ends", value)) => by.expiration = moment(value)?,
                Some(("tag", value)) => by.key_tag = Some(read(value)?),
                Some(("algorithm", value)) => by.algorithm = Some(read(value)?),
                Some(("key", "data")) => by.data_key = true,
                _ => return Err(format!("{word} is no option of a signature")),
            }
        }
        Ok(by)
    }

    /// The records with one signature behind them.
    fn sign(&self, universe: &Universe, made: Made) -> Vec<Record> {
        let zone = universe.zone(&self.zone.to_string());
        let key = if made.rtype == rtype::DNSKEY && !self.data_key {
            zone.keys.first()
        } else {
            zone.signing_key()
        };
        let signing = Signing {
            signer: &self.signer,
            owner: self.signed_owner.as_ref().unwrap_or(&made.owner),
            rtype: made.rtype,
            ttl_s: self.ttl_s,
            inception: self.inception,
            expiration: self.expiration,
            labels: self.labels,
            key_tag: self.key_tag,
        };
        let rdata: Vec<Vec<u8>> = made.records.iter().map(|it| it.rdata.clone()).collect();
        let mut signature = signing.sign(key.expect("the zone is signed"), &rdata);
        if let Some(algorithm) = self.algorithm {
            signature[2] = algorithm;
        }
        let signature = Record {
            owner: made.owner.as_wire().to_vec(),
            rtype: rtype::RRSIG,
            ttl_s: made.records.first().map_or(0, |record| record.ttl_s),
            rdata: signature,
        };
        let mut records = made.records;
        records.push(signature);
        records
    }
}

/// Which records a directive means: `type [owner]`, where `RRSIG:type` are the signatures of a
/// type and `*` is any type.
struct Match {
    rtype: Option<u16>,
    covers: Option<u16>,
    owner: Option<Name>,
}

impl Match {
    const ANY: Self = Self {
        rtype: None,
        covers: None,
        owner: None,
    };

    fn read(words: &mut Words<'_>) -> Result<Self, String> {
        let kind = words.word("a type")?;
        let (kind, covers) = match kind.split_once(':') {
            Some((kind, covers)) => (kind, Some(type_number(covers))),
            None => (kind, None),
        };
        Ok(Self {
            rtype: (kind != "*").then(|| type_number(kind)),
            covers,
            owner: words.optional().map(Name::parse),
        })
    }

    fn fits(&self, record: &Record) -> bool {
        self.rtype.is_none_or(|rtype| record.rtype == rtype)
            && self
                .covers
                .is_none_or(|covers| record.rdata.starts_with(&covers.to_be_bytes()))
            && self
                .owner
                .as_ref()
                .is_none_or(|owner| Name::from_wire(&record.owner) == *owner)
    }
}
