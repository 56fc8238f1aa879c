//! Flags and subcommands.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::config::Options;

/// A small, fast DNS proxy that only gives out true names.
///
/// Without a subcommand it runs: with ./truename.toml, else /etc/truename/truename.toml, else
/// built-in defaults on unprivileged ports.
#[derive(Debug, Parser)]
#[command(
    name = "truename",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  truename run --upstream quad9 --listen 127.0.0.1:5300\n  \
                  truename query example.com AAAA --server udp://127.0.0.1:5300"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: Run,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve clients until stopped
    #[command(after_help = "Example:\n  truename run --config truename.toml\n  \
                            truename run --upstream tls://9.9.9.9 --upstream cloudflare \
                            --listen 127.0.0.1:5300 --listen doh://127.0.0.1:8443")]
    Run(Run),
    /// Check the configuration, try what it names, and show what is in force
    #[command(
        after_help = "Example:\n  truename check --config /etc/truename/truename.toml\n\n\
                            Exits with 0 when all is well, with 1 when something fails."
    )]
    Check(Check),
    /// Resolve a name and show the answer
    #[command(after_help = "Example:\n  truename query example.com\n  \
                            truename query 192.0.2.1\n  \
                            truename query example.com MX --server tls://9.9.9.9 --json\n  \
                            truename query --explain example.com\n\n\
                            Exits with 0 when there is an answer (NXDOMAIN is one) that is secure \
                            or insecure, with 3 when it is bogus, with 4 when there is none.")]
    Query(Query),
    /// Show or export the certificate of the encrypted listeners
    #[command(subcommand)]
    Cert(Cert),
    /// Show the keys from which answers are proved
    #[command(subcommand)]
    Anchors(Anchors),
    /// Show how a running truename is doing
    #[command(after_help = "Example:\n  truename status\n  \
                            truename status --config /etc/truename/truename.toml --json")]
    Status(Status),
    /// Make a running truename forget answers
    #[command(
        after_help = "Example:\n  truename flush example.com\n  truename flush --all\n\n\
                            A name stands for itself and every name below it."
    )]
    Flush(Flush),
    /// Make a running truename read its configuration and certificates again
    #[command(
        after_help = "Example:\n  truename reload\n  truename reload --json\n\n\
                            A configuration with a mistake changes nothing; exits with 1 then."
    )]
    Reload(Reload),
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Read this file; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Ask this resolver instead of the configured ones: a URL, a DNS stamp, or a name such as
    /// quad9; may be repeated
    #[arg(long, value_name = "URL")]
    pub(super) upstream: Vec<String>,
    /// Listen here instead of the configured addresses: IP:PORT for plain DNS, or
    /// dot://IP:PORT, doh://IP:PORT, doq://IP:PORT; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Read this file; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Send nothing to upstreams
    #[arg(long)]
    pub(super) offline: bool,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Query {
    /// The name to resolve; an IP address asks for its name
    pub(super) name: String,
    /// The record type, such as A, AAAA, MX, HTTPS or TYPE65280
    #[arg(value_name = "TYPE")]
    pub(super) rtype: Option<String>,
    /// Show the chain of trust from the root, and for a failure what breaks it
    #[arg(long)]
    pub(super) explain: bool,
    /// Ask this resolver instead of the configured ones: a URL, a DNS stamp, or a name such as
    /// quad9. Without --explain a plain one (udp, tcp) is asked as programs ask it, and believed
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
    /// Read this file; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cert {
    /// Show the certificate that clients see
    #[command(after_help = "Example:\n  truename cert show\n  truename cert show --json")]
    Show(CertShow),
    /// Write the local CA's certificate, which clients must trust
    #[command(
        after_help = "Example:\n  truename cert export --output truename-ca.pem\n  \
                            truename cert export --der --output truename-ca.cer"
    )]
    Export(CertExport),
}

#[derive(Debug, Args)]
pub(super) struct CertShow {
    /// Read this file; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CertExport {
    /// Read this file; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write DER instead of PEM
    #[arg(long, conflicts_with = "json")]
    pub(super) der: bool,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Write JSON: the certificate in PEM and what it says
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Anchors {
    /// Show each trusted, new and revoked key, and what becomes of it
    #[command(after_help = "Example:\n  truename anchors show\n  truename anchors show --json")]
    Show(AnchorsShow),
}

#[derive(Debug, Args)]
pub(super) struct AnchorsShow {
    /// Read this file; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// The file that truename runs with; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["name", "all"]).required(true))]
pub(super) struct Flush {
    /// The name at and below which answers are forgotten
    pub(super) name: Option<String>,
    /// Forget every answer
    #[arg(long)]
    pub(super) all: bool,
    /// The file that truename runs with; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Reload {
    /// The file that truename runs with; also TRUENAME_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl From<Run> for Options {
    fn from(run: Run) -> Self {
        Self {
            config: run.config,
            upstreams: run.upstream,
            listen: run.listen,
            serves_nobody: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            if command.has_subcommands() {
                for inner in command.get_subcommands_mut() {
                    if inner.get_name() != "help" {
                        check(inner);
                    }
                }
            } else {
                assert!(help.contains("Example:"), "{help}");
            }
        }
        check(&mut Arguments::command());
    }

    #[test]
    fn a_flush_is_of_a_name_or_of_all() {
        let parsed =
            |rest: &[&str]| Arguments::try_parse_from([&["truename", "flush"], rest].concat());
        assert!(parsed(&["a.example", "--json", "--config", "a.toml"]).is_ok());
        assert!(parsed(&["--all", "--json", "--config", "a.toml"]).is_ok());
        assert!(parsed(&["a.example", "--all"]).is_err());
        let neither = parsed(&[]).unwrap_err().to_string();
        assert!(neither.contains("<NAME|--all>"), "{neither}");
    }

    #[test]
    fn run_is_the_default() {
        let arguments = Arguments::try_parse_from(["truename", "--upstream", "quad9"]).unwrap();
        assert!(arguments.command.is_none());
        assert_eq!(arguments.run.upstream, ["quad9"]);
        let mixed = ["truename", "--upstream", "quad9", "check"];
        assert!(Arguments::try_parse_from(mixed).is_err());
    }
}
