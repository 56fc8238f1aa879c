//! `truename cert`: the certificate that clients see, and the CA they must trust.

use std::{
    fs,
    io::{self, Write},
};

use serde_json::json;

use super::{
    CommandError, ExitStatus,
    arguments::{CertExport, CertShow},
    load, write_json,
};
use crate::{
    certificates::{self, Authority, CertificateError, Files, Loaded},
    clock,
    config::{Settings, Surroundings},
};

/// Shows what the certificate in use says: the configured one, else the local CA's leaf.
pub(super) fn show(
    arguments: CertShow,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let settings = load(arguments.config, surroundings)?;
    let now_unix_s = clock::unix_s();
    if let Some(files) = &settings.tls.files {
        let loaded = certificates::load(&files.certificate, &files.key, now_unix_s)?;
        let path = files.certificate.display();
        if arguments.json {
            let value = json!({
                "source": "configured",
                "path": path.to_string(),
                "certificate": loaded.facts,
                "notes": notes(&loaded),
                "authority": null,
            });
            write_json(out, &value)?;
        } else {
            writeln!(out, "configured certificate, {path}\n{}", loaded.facts)?;
            for note in &loaded.notes {
                writeln!(out, "note: {note}")?;
            }
        }
        return Ok(ExitStatus::Success);
    }
    let authority = local_authority(&settings)?;
    let files = Files::within(&settings.certificate_directory());
    let leaf = certificates::load(&files.leaf, &files.leaf_key, now_unix_s)?;
    if arguments.json {
        let value = json!({
            "source": "local",
            "path": files.leaf.display().to_string(),
            "certificate": leaf.facts,
            "notes": notes(&leaf),
            "authority": {
                "path": files.authority.display().to_string(),
                "certificate": authority.facts,
            },
        });
        write_json(out, &value)?;
    } else {
        writeln!(
            out,
            "local certificate, {}\n{}\n\nlocal CA, {}\n{}",
            files.leaf.display(),
            leaf.facts,
            files.authority.display(),
            authority.facts
        )?;
        for note in &leaf.notes {
            writeln!(out, "note: {note}")?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Writes the local CA's certificate, for devices to import.
pub(super) fn export(
    arguments: CertExport,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let settings = load(arguments.config, surroundings)?;
    if let Some(files) = &settings.tls.files {
        return Err(CommandError::Absent(format!(
            "there is no local CA to export: the configured certificate {} is in use, and its \
             issuer is what clients trust",
            files.certificate.display()
        )));
    }
    let authority = local_authority(&settings)?;
    let octets = if arguments.json {
        let value = json!({ "pem": authority.pem, "certificate": authority.facts });
        format!("{value:#}\n").into_bytes()
    } else if arguments.der {
        authority.der
    } else {
        authority.pem.into_bytes()
    };
    match &arguments.output {
        None => out.write_all(&octets)?,
        Some(path) => fs::write(path, octets).map_err(|error| {
            CommandError::Absent(format!("cannot write {}: {error}", path.display()))
        })?,
    }
    Ok(ExitStatus::Success)
}

/// The local CA; it is made when truename first runs, and not here, since the person who asks may
/// not be the user it runs as.
fn local_authority(settings: &Settings) -> Result<Authority, CommandError> {
    let directory = settings.certificate_directory();
    certificates::export(&directory).map_err(|error| match error {
        CertificateError::Unreadable { path, source }
            if source.kind() == io::ErrorKind::NotFound =>
        {
            let listen = &settings.listen;
            if listen.dot.is_empty() && listen.doh.is_empty() && listen.doq.is_empty() {
                return CommandError::Absent(
                    "no encrypted listener is configured, so there is no certificate; set \
                     `listen.doh`, `listen.dot` or `listen.doq`"
                        .to_owned(),
                );
            }
            CommandError::Absent(format!(
                "there is no local CA yet ({} is not there); start truename once, or name the \
                 configuration it runs with by --config",
                path.display()
            ))
        }
        other => other.into(),
    })
}

fn notes(loaded: &Loaded) -> Vec<String> {
    loaded.notes.iter().map(ToString::to_string).collect()
}
