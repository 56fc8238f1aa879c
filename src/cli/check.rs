//! `truename check`: is the configuration sound, and does what it names work?

use std::{
    io::{self, Write},
    path::Path,
};

use nix::unistd::{AccessFlags, access};
use serde_json::{Value, json};

use super::{
    CommandError, ExitStatus,
    answer::milliseconds,
    arguments::Check,
    load,
    private_zones::{self, Finding},
    runtime, write_json,
};
use crate::{
    anchors, app,
    certificates::{self, CertificateError, Files, Note},
    clock,
    config::{CertificateFiles, DnssecSettings, Settings, Surroundings},
    listener::{self, BindError},
    net::port_owner::PortOwner,
    upstream::{self, LookedUp, SetupError, Upstreams},
};

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq)]
struct Tried {
    /// What kind of thing.
    subject: &'static str,
    /// Which one.
    name: String,
    verdict: Verdict,
    /// What was found and, when it is not well, what to do.
    detail: String,
    /// How long an answer took, if one was asked for.
    latency_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Worth knowing; not an error.
    Note,
    Fails,
}

impl Verdict {
    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fails => "fails",
        }
    }
}

impl Tried {
    fn new(
        subject: &'static str,
        name: impl Into<String>,
        verdict: Verdict,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            name: name.into(),
            verdict,
            detail: detail.into(),
            latency_ms: None,
        }
    }

    fn json(&self) -> Value {
        json!({
            "subject": self.subject,
            "name": self.name,
            "result": self.verdict.label(),
            "detail": self.detail,
            "latency_ms": self.latency_ms,
        })
    }
}

/// Checks and reports.
pub(super) fn run(
    arguments: Check,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let settings = load(arguments.config, surroundings)?;
    let mut tried = Vec::new();
    let source = settings.source.as_ref();
    tried.push(Tried::new(
        "configuration",
        source.map_or("built-in".to_owned(), |path| path.display().to_string()),
        Verdict::Ok,
        "read and checked",
    ));
    try_certificate(&settings, clock::unix_s(), &mut tried);
    tried.push(try_state_directory(&settings.state_directory));
    try_anchors(&settings.dnssec, clock::unix_s(), &mut tried);
    try_listeners(&settings.listen, &mut tried);
    if arguments.offline {
        let detail = "not asked (--offline)";
        tried.push(Tried::new("upstream", "all", Verdict::Note, detail));
    } else {
        try_upstreams(&settings.upstream, &mut tried)?;
        try_private_zones(&settings, &mut tried)?;
    }
    let fails = tried.iter().any(|tried| tried.verdict == Verdict::Fails);
    if arguments.json {
        let value = json!({
            "ok": !fails,
            "checks": tried.iter().map(Tried::json).collect::<Vec<_>>(),
            "effective": settings.effective(),
        });
        write_json(out, &value)?;
    } else {
        for tried in &tried {
            writeln!(
                out,
                "{:<5} {} {}: {}",
                tried.verdict.label(),
                tried.subject,
                tried.name,
                tried.detail
            )?;
        }
        write!(out, "\n{}", settings.effective())?;
    }
    Ok(if fails {
        ExitStatus::Failure
    } else {
        ExitStatus::Success
    })
}

fn try_certificate(settings: &Settings, now_unix_s: u64, tried: &mut Vec<Tried>) {
    const SUBJECT: &str = "certificate";
    let directory = settings.certificate_directory();
    let local = Files::within(&directory);
    let files = settings.tls.files.clone().unwrap_or(CertificateFiles {
        certificate: local.leaf,
        key: local.leaf_key,
    });
    let name = files.certificate.display().to_string();
    let loaded = match certificates::load(&files.certificate, &files.key, now_unix_s) {
        Ok(loaded) => loaded,
        Err(CertificateError::Unreadable { source, .. })
            if settings.tls.files.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            let detail = if settings.listen.needs_certificate() {
                format!(
                    "will be made at the first start, for {}",
                    settings.certificate_names().join(", ")
                )
            } else {
                "not needed, as no encrypted transport is listened on".to_owned()
            };
            tried.push(Tried::new(SUBJECT, name, Verdict::Ok, detail));
            return;
        }
        Err(error) => {
            tried.push(Tried::new(SUBJECT, name, Verdict::Fails, error.to_string()));
            return;
        }
    };
    for note in &loaded.notes {
        let verdict = match note {
            // The local leaf is renewed at the next start.
            Note::Expired { .. } | Note::NotYetValid { .. } if settings.tls.files.is_some() => {
                Verdict::Fails
            }
            _ => Verdict::Note,
        };
        tried.push(Tried::new(SUBJECT, name.clone(), verdict, note.to_string()));
    }
    let detail = format!(
        "for {}, until {}",
        loaded.facts.names.join(", "),
        loaded.facts.not_after
    );
    tried.push(Tried::new(SUBJECT, name, Verdict::Ok, detail));
}

/// Whether the directory, or the nearest one above it when it is still to be made, can be written.
fn try_state_directory(directory: &Path) -> Tried {
    let subject = "state directory";
    let name = directory.display().to_string();
    let nearest = directory
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("."));
    if !nearest.is_dir() {
        let detail = format!("{} is not a directory; move it away", nearest.display());
        return Tried::new(subject, name, Verdict::Fails, detail);
    }
    if let Err(error) = access(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        let detail = format!(
            "{} cannot be written ({}); give it to the user who runs truename, or name another by \
             `state.directory`",
            nearest.display(),
            error.desc()
        );
        return Tried::new(subject, name, Verdict::Fails, detail);
    }
    let detail = if nearest == directory {
        "can be written"
    } else {
        "will be made at the first start"
    };
    Tried::new(subject, name, Verdict::Ok, detail)
}

/// Trust anchors, the names that are not validated, and the clock that both are judged by.
fn try_anchors(settings: &DnssecSettings, now_unix_s: u64, tried: &mut Vec<Tried>) {
    if !settings.validate {
        let detail = "answers are not validated (dnssec.validate = false)";
        tried.push(Tried::new("trust anchors", "none", Verdict::Note, detail));
        return;
    }
    for file in &settings.trust_anchors {
        let name = file.display().to_string();
        tried.push(match anchors::read(file) {
            Ok(seeds) => Tried::new(
                "trust anchors",
                name,
                Verdict::Ok,
                format!("{} found", seeds.len()),
            ),
            Err(error) => Tried::new("trust anchors", name, Verdict::Fails, error.to_string()),
        });
    }
    if settings.trust_anchors.is_empty() {
        tried.push(Tried::new(
            "trust anchors",
            "built-in",
            Verdict::Ok,
            "the root's",
        ));
    }
    for (name, until) in &settings.negative_trust_anchors {
        if *until <= now_unix_s {
            let detail = format!(
                "ended {}; remove it from dnssec.negative_trust_anchors, or give a later date",
                anchors::time_text(*until)
            );
            let name = name.to_string();
            tried.push(Tried::new(
                "negative trust anchor",
                name,
                Verdict::Note,
                detail,
            ));
        }
    }
    if now_unix_s < clock::FLOOR_UNIX_S {
        let detail =
            "shows a time before this version was made; signatures are judged by it, so set it";
        tried.push(Tried::new(
            "clock",
            "of this machine",
            Verdict::Fails,
            detail,
        ));
    }
}

/// Asks every upstream one question.
fn try_upstreams(settings: &upstream::Settings, tried: &mut Vec<Tried>) -> io::Result<()> {
    let subject = "upstream";
    let outcome = runtime()?.block_on(async {
        let upstreams = Upstreams::new(settings)?;
        let looked_up = upstreams.look_up().await;
        Ok((looked_up, upstreams.probe().await))
    });
    let probes = outcome.map(|(looked_up, probes)| {
        tried.extend(looked_up.into_iter().map(try_look_up));
        probes
    });
    match probes {
        Ok(probes) => tried.extend(probes.into_iter().map(|probe| {
            let name = format!("{} ({})", probe.upstream, probe.transport.label());
            match probe.latency {
                Ok(latency) => Tried {
                    latency_ms: Some(milliseconds(latency)),
                    ..Tried::new(
                        subject,
                        name,
                        Verdict::Ok,
                        format!("answers in {} ms, connection included", latency.as_millis()),
                    )
                },
                Err(error) => {
                    let mut detail = error.failure().to_string();
                    if error.is_retryable() {
                        detail.push_str("; check its url, and that the network lets it through");
                    }
                    Tried::new(subject, name, Verdict::Fails, detail)
                }
            }
        })),
        Err::<_, SetupError>(error) => {
            tried.push(Tried::new(
                subject,
                "all",
                Verdict::Fails,
                error.to_string(),
            ));
        }
    }
    Ok(())
}

/// What asking for the addresses of an upstream brought.
fn try_look_up(looked_up: LookedUp) -> Tried {
    let name = format!("{} ({})", looked_up.upstream, looked_up.host);
    let servers = looked_up.servers.join(", ");
    let (verdict, detail) = match looked_up.addresses {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(", ");
            (Verdict::Ok, format!("is at {addresses}, by {servers}"))
        }
        Err(failure) => (
            Verdict::Fails,
            format!("{failure} (asked {servers}); check its name, or write `addresses`"),
        ),
    };
    Tried::new("look-up", name, verdict, detail)
}

/// Whether the zones with routes of their own validate.
fn try_private_zones(settings: &Settings, tried: &mut Vec<Tried>) -> io::Result<()> {
    let subject = "route";
    for zone in &settings.dnssec.unvalidated_zones {
        let detail = "its answers are taken unvalidated (dnssec = \"off\")";
        tried.push(Tried::new(subject, zone.to_string(), Verdict::Ok, detail));
    }
    if !settings.dnssec.validate || settings.dnssec.private_zones.is_empty() {
        return Ok(());
    }
    // What stands in their way was said before.
    let (Ok(validator), Ok(upstreams)) = (
        app::validator_settings(settings),
        Upstreams::new(&settings.upstream),
    ) else {
        return Ok(());
    };
    for (zone, finding) in private_zones::find_out(settings, &validator, upstreams)? {
        let (verdict, detail) = match finding {
            Finding::Taken(detail) => (Verdict::Ok, detail),
            Finding::Withheld(detail) => (Verdict::Fails, detail),
            Finding::Unknown(detail) => (Verdict::Note, detail),
        };
        tried.push(Tried::new(subject, zone.to_string(), verdict, detail));
    }
    Ok(())
}

/// Binds and closes every address once.
fn try_listeners(settings: &listener::Settings, tried: &mut Vec<Tried>) {
    for (label, list) in [
        ("dns", &settings.dns),
        ("dot", &settings.dot),
        ("doq", &settings.doq),
        ("doh", &settings.doh),
    ] {
        for address in list {
            let mut alone = listener::Settings {
                dns: Vec::new(),
                dot: Vec::new(),
                doq: Vec::new(),
                doh: Vec::new(),
                ..settings.clone()
            };
            match label {
                "dns" => alone.dns.push(*address),
                "dot" => alone.dot.push(*address),
                "doq" => alone.doq.push(*address),
                _ => alone.doh.push(*address),
            }
            let (verdict, detail) = match listener::bind(&alone, 1) {
                Ok(_) => (Verdict::Ok, "can be listened on".to_owned()),
                Err(error) if may_be_ours(&error) => (
                    Verdict::Note,
                    format!("{error}; fine if that is the truename to be checked"),
                ),
                Err(error) => (Verdict::Fails, error.to_string()),
            };
            let name = format!("{label} {address}");
            tried.push(Tried::new("listener", name, verdict, detail));
        }
    }
}

/// Whether the port may be held by the running truename whose configuration this is.
fn may_be_ours(error: &BindError) -> bool {
    match error {
        BindError::Taken { owner, .. } => match owner {
            Some(PortOwner::Program { name, .. }) => name.starts_with("truename"),
            Some(PortOwner::User(_)) | None => true,
        },
        _ => false,
    }
}
