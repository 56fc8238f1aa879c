//! Having zones signed by the tools of others.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    super::tools::{Ran, finish, program},
    records::Zone,
};

/// Whose tools sign a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// dnssec-signzone.
    Bind,
    /// ldns-signzone.
    Ldns,
    /// kzonesign.
    Knot,
}

/// How a zone proves what is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    Nsec,
    Nsec3 { iterations: u16, opt_out: bool },
}

impl Denial {
    /// NSEC3 as RFC 9276 wants it.
    pub(super) const NSEC3: Self = Self::Nsec3 {
        iterations: 0,
        opt_out: false,
    };
    /// The same, with unsigned delegations left out.
    pub(super) const OPT_OUT: Self = Self::Nsec3 {
        iterations: 0,
        opt_out: true,
    };
}

/// Everything that decides how a zone is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    pub(super) signer: Signer,
    /// The number of the algorithm.
    pub(super) algorithm: u8,
    pub(super) denial: Denial,
    /// The size of RSA keys.
    pub(super) bits: u16,
    /// When the signatures are valid, in seconds from now; only ldns-signzone is asked for it.
    pub(super) window_s: Option<(i64, i64)>,
    /// Whether the key that the parent points to has the REVOKE flag; only BIND's tools are asked
    /// for it.
    pub(super) revoked: bool,
}

impl Recipe {
    pub(super) const fn new(signer: Signer, algorithm: u8, denial: Denial) -> Self {
        Self {
            signer,
            algorithm,
            denial,
            bits: 2048,
            window_s: None,
            revoked: false,
        }
    }

    /// Whether the tool will not sign like this: dnssec-signzone knows a limit to iterations, and
    /// algorithm 5 is from before NSEC3 (RFC 5155, section 2).
    pub(super) fn is_refused(&self) -> bool {
        let Denial::Nsec3 { iterations, .. } = self.denial else {
            return false;
        };
        match self.signer {
            Signer::Bind => self.algorithm == 5 || iterations > 150,
            Signer::Ldns => false,
            Signer::Knot => self.algorithm == 5,
        }
    }

    /// Signs a zone with keys made for it.
    ///
    /// # Panics
    /// If the tool does not do it.
    pub(super) fn sign(&self, apex: &str, text: &str) -> Zone {
        self.try_sign(apex, text)
            .unwrap_or_else(|ran| panic!("{self:?}: {ran}"))
    }

    /// Signs a zone with keys made for it.
    ///
    /// # Errors
    /// What the tool printed that refused.
    pub(super) fn try_sign(&self, apex: &str, text: &str) -> Result<Zone, Ran> {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        fs::write(here.join("zone"), text).unwrap();
        let (signed, ds) = match self.signer {
            Signer::Bind => self.sign_by_bind(here, apex)?,
            Signer::Ldns => self.sign_by_ldns(here, apex)?,
            Signer::Knot => self.sign_by_knot(here, apex)?,
        };
        let text = fs::read_to_string(here.join(signed)).unwrap();
        Ok(Zone::read(apex, &text, ds))
    }

    fn is_rsa(&self) -> bool {
        self.algorithm <= 10
    }

    fn sign_by_bind(&self, here: &Path, apex: &str) -> Result<(&'static str, Vec<String>), Ran> {
        let run = |name: &str, arguments: &[&str]| tool(here, name, "bind9-utils", arguments);
        let bits = self.bits.to_string();
        let name = match self.algorithm {
            5 => "RSASHA1",
            7 => "NSEC3RSASHA1",
            8 => "RSASHA256",
            10 => "RSASHA512",
            13 => "ECDSAP256SHA256",
            14 => "ECDSAP384SHA384",
            15 => "ED25519",
            _ => "ED448",
        };
        let mut make = vec!["-q", "-a", name];
        if self.is_rsa() {
            make.extend(["-b", &bits]);
        }
        let mut key = run("dnssec-keygen", &[&make[..], &["-f", "KSK", apex]].concat())?;
        run("dnssec-keygen", &[&make[..], &[apex]].concat())?;
        let mut sign = vec!["-q", "-S", "-o", apex, "-O", "full", "-f", "signed"];
        let iterations;
        if let Denial::Nsec3 {
            iterations: number,
            opt_out,
        } = self.denial
        {
            iterations = number.to_string();
            sign.extend(["-3", "-", "-H", &iterations]);
            if opt_out {
                sign.push("-A");
            }
        }
        if self.revoked {
            key = run("dnssec-revoke", &["-r", key.trim()])?;
            // The tool itself would not accept what it has signed.
            sign.push("-P");
        }
        sign.push("zone");
        run("dnssec-signzone", &sign)?;
        let key = format!("{}.key", key.trim());
        if self.revoked {
            // dnssec-dsfromkey passes over such keys.
            return Ok(("signed", ds_by_ldns(here, &key)?));
        }
        let digests = ["-1", "-2", "-a", "SHA-384"];
        let ds = run("dnssec-dsfromkey", &[&digests[..], &[&key]].concat())?;
        Ok(("signed", ds_data(&ds)))
    }

    fn sign_by_ldns(&self, here: &Path, apex: &str) -> Result<(&'static str, Vec<String>), Ran> {
        let run = |name: &str, arguments: &[&str]| tool(here, name, "ldnsutils", arguments);
        let bits = self.bits.to_string();
        let name = match self.algorithm {
            5 => "RSASHA1",
            7 => "RSASHA1-NSEC3-SHA1",
            8 => "RSASHA256",
            10 => "RSASHA512",
            13 => "ECDSAP256SHA256",
            14 => "ECDSAP384SHA384",
            15 => "ED25519",
            _ => "ED448",
        };
        let make = ["-a", name, "-b", &bits];
        let key_signing = run("ldns-keygen", &[&make[..], &["-k", apex]].concat())?;
        let zone_signing = run("ldns-keygen", &[&make[..], &[apex]].concat())?;
        let [key_signing, zone_signing] = [key_signing.trim(), zone_signing.trim()];
        let mut sign: Vec<String> = ["-o", apex, "-f", "signed"].map(str::to_owned).into();
        if let Denial::Nsec3 {
            iterations,
            opt_out,
        } = self.denial
        {
            sign.extend(["-n".to_owned(), "-t".to_owned(), iterations.to_string()]);
            sign.extend(opt_out.then(|| "-p".to_owned()));
        }
        if let Some((from_s, to_s)) = self.window_s {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let now_s = i64::try_from(now_s.as_secs()).unwrap();
            sign.extend(["-i".to_owned(), (now_s + from_s).to_string()]);
            sign.extend(["-e".to_owned(), (now_s + to_s).to_string()]);
        }
        sign.extend(["zone", key_signing, zone_signing].map(str::to_owned));
        let sign: Vec<_> = sign.iter().map(String::as_str).collect();
        run("ldns-signzone", &sign)?;
        Ok(("signed", ds_by_ldns(here, &format!("{key_signing}.key"))?))
    }

    fn sign_by_knot(&self, here: &Path, apex: &str) -> Result<(&'static str, Vec<String>), Ran> {
        let name = match self.algorithm {
            5 => "rsasha1",
            7 => "rsasha1-nsec3-sha1",
            8 => "rsasha256",
            10 => "rsasha512",
            13 => "ecdsap256sha256",
            14 => "ecdsap384sha384",
            15 => "ed25519",
            _ => "ed448",
        };
        let size = if self.is_rsa() {
            format!("    ksk-size: {0}\n    zsk-size: {0}\n", self.bits)
        } else {
            String::new()
        };
        let denial = match self.denial {
            Denial::Nsec => String::new(),
            Denial::Nsec3 {
                iterations,
                opt_out,
            } => format!(
                "\x20   nsec3: on\n\
                 \x20   nsec3-iterations: {iterations}\n\
                 \x20   nsec3-salt-length: 0\n\
                 \x20   nsec3-opt-out: {}\n",
                if opt_out { "on" } else { "off" }
            ),
        };
        let shown = here.display();
        let config = format!(
            "database:\n\
             \x20 storage: {shown}\n\
             policy:\n\
             \x20 - id: all\n\
             \x20   algorithm: {name}\n\
             {size}{denial}\
             zone:\n\
             \x20 - domain: {apex}\n\
             \x20   storage: {shown}\n\
             \x20   file: zone\n\
             \x20   dnssec-signing: on\n\
             \x20   dnssec-policy: all\n",
        );
        fs::write(here.join("knot.conf"), config).unwrap();
        fs::create_dir(here.join("out")).unwrap();
        let sign = ["-c", "knot.conf", "-o", "out", apex];
        tool(here, "kzonesign", "knot-dnssecutils", &sign)?;
        let ds = tool(here, "keymgr", "knot", &["-c", "knot.conf", apex, "ds"])?;
        Ok(("out/zone", ds_data(&ds)))
    }
}

/// Runs a tool in a directory; what it printed.
fn tool(here: &Path, name: &str, package: &str, arguments: &[&str]) -> Result<String, Ran> {
    let mut command = Command::new(program(name, package));
    let ran = finish(command.current_dir(here).args(arguments));
    match ran.status {
        Some(0) => Ok(ran.stdout),
        _ => Err(ran),
    }
}

fn ds_by_ldns(here: &Path, key: &str) -> Result<Vec<String>, Ran> {
    let mut ds = Vec::new();
    for digest in ["-1", "-2", "-4"] {
        let line = tool(here, "ldns-key2ds", "ldnsutils", &["-n", digest, key])?;
        ds.extend(ds_data(&line));
    }
    Ok(ds)
}

/// The data of DS records, their digests in one piece.
fn ds_data(lines: &str) -> Vec<String> {
    let lines = lines.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ds = fields.iter().position(|&field| field == "DS")?;
        let numbers = fields.get(ds + 1..ds + 4)?.join(" ");
        let digest = fields.get(ds + 4..)?.concat();
        Some(format!("{numbers} {digest}"))
    });
    lines.collect()
}
