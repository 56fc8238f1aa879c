//! `truename status`, `flush` and `reload`: what is said to a running truename.

use std::{io::Write, path::PathBuf};

use serde_json::json;

use super::{
    CommandError, ExitStatus,
    arguments::{Flush, Reload, Status},
    status, write_json,
};
use crate::{
    admin::{self, AskError, Command, Outcome},
    config::{self, Options, Surroundings},
    wire::Name,
};

/// Shows how it is doing.
pub(super) fn status(
    arguments: Status,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let asked = ask(arguments.config, surroundings, Command::Status)?;
    let Outcome::Status(status) = asked else {
        return Err(misunderstood());
    };
    if arguments.json {
        write_json(out, &json!(status))?;
    } else {
        status::write(out, &status)?;
    }
    Ok(ExitStatus::Success)
}

/// Makes it forget answers.
pub(super) fn flush(
    arguments: Flush,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    if let Some(name) = &arguments.name
        && let Err(error) = Name::parse(name)
    {
        return Err(CommandError::Usage(format!(
            "{name:?} is not a domain name: {error}"
        )));
    }
    let command = Command::Flush {
        name: arguments.name,
    };
    let asked = ask(arguments.config, surroundings, command)?;
    let Outcome::Flushed(flushed) = asked else {
        return Err(misunderstood());
    };
    if arguments.json {
        write_json(out, &json!(flushed))?;
        return Ok(ExitStatus::Success);
    }
    let answers = match flushed.answers {
        1 => "1 answer".to_owned(),
        count => format!("{count} answers"),
    };
    if flushed.name == "." {
        writeln!(out, "forgot all {answers}")?;
    } else {
        writeln!(out, "forgot {answers} at and below {}", flushed.name)?;
    }
    Ok(ExitStatus::Success)
}

/// Makes it read its configuration again.
pub(super) fn reload(
    arguments: Reload,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let asked = ask(arguments.config, surroundings, Command::Reload);
    if arguments.json {
        let (value, status) = match asked {
            Ok(Outcome::Reloaded(reloaded)) => {
                let value = json!({ "reloaded": true, "changes": reloaded.changes });
                (value, ExitStatus::Success)
            }
            Err(CommandError::Control(AskError::Refused(why))) => {
                let value = json!({ "reloaded": false, "error": why });
                (value, ExitStatus::Failure)
            }
            Ok(_) => return Err(misunderstood()),
            Err(error) => return Err(error),
        };
        write_json(out, &value)?;
        return Ok(status);
    }
    match asked? {
        Outcome::Reloaded(reloaded) => {
            writeln!(
                out,
                "the configuration was read again: {}",
                reloaded.changes
            )?;
            Ok(ExitStatus::Success)
        }
        _ => Err(misunderstood()),
    }
}

/// Asks the truename that runs with this configuration. Other flags change nothing about where it
/// listens.
fn ask(
    config: Option<PathBuf>,
    surroundings: &Surroundings,
    command: Command,
) -> Result<Outcome, CommandError> {
    let options = Options {
        config,
        ..Options::default()
    };
    let Some(socket) = config::admin_socket(&options, surroundings)? else {
        return Err(CommandError::Absent(
            "admin.socket is \"\" in the configuration, so a running truename cannot be asked; \
             remove the key and start truename again"
                .to_owned(),
        ));
    };
    Ok(admin::ask(&socket, command)?)
}

/// It answered, and something else.
fn misunderstood() -> CommandError {
    CommandError::Absent(
        "truename answered something else than was asked; use the program it was started with"
            .to_owned(),
    )
}
