//! Browsers that resolve through the DoH endpoint, trusting the exported local CA: they accept the
//! certificate by their own rules, name constraints included, and nothing is switched off.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{
    stage::Stage,
    tools::{Ran, finish, program},
    web::Web,
};

/// A name that only the lab knows, for this machine.
const NAME: &str = "loopback.insecure.com";

/// A home directory of its own, so that nothing of the machine's is read or changed.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A command whose home is this one, without a display or a session.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.directory.path());
        for variable in [
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_CACHE_HOME",
            "DISPLAY",
        ] {
            command.env_remove(variable);
        }
        command
    }
}

/// Imports a CA into a certificate database of NSS, which it makes.
fn trust(database: &Path, ca: &Path) {
    fs::create_dir_all(database).unwrap();
    let certutil = program("certutil", "libnss3-tools");
    let database = format!("sql:{}", database.display());
    let made = ["-N", "--empty-password", "-d", &database];
    finish(Command::new(&certutil).args(made)).succeeded();
    let add = ["-A", "-n", "truename", "-t", "C,,", "-d", &database, "-i"];
    finish(Command::new(&certutil).args(add).arg(ca)).succeeded();
}

/// Chromium's rendering of a page, resolved through DoH alone.
fn chromium(home: &Home, doh_url: &str, url: &str) -> Ran {
    let state = serde_json::json!({
        "dns_over_https": { "mode": "secure", "templates": doh_url },
    });
    fs::write(home.at("data/Local State"), state.to_string()).unwrap();
    finish(
        home.command(&program("chromium", "chromium"))
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--timeout=20000",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", home.at("data").display()))
            .arg(url),
    )
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn chromium_resolves_through_doh_with_the_exported_ca() {
    let stage = Stage::start();
    let web = Web::start();
    let home = Home::new();
    trust(&home.at(".pki/nssdb"), &stage.truename.ca());
    let ran = chromium(&home, &stage.truename.doh_url(), &web.url(NAME));
    assert!(ran.stdout.contains("This is the page"), "{ran}");
    let hosts = web.hosts();
    assert!(hosts.iter().any(|host| host.starts_with(NAME)), "{hosts:?}");
    let asked = stage.lab.record().queries_below(NAME);
    assert!(!asked.is_empty(), "truename was not asked");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn chromium_without_the_ca_resolves_nothing() {
    let stage = Stage::start();
    let web = Web::start();
    let home = Home::new();
    let ran = chromium(&home, &stage.truename.doh_url(), &web.url(NAME));
    assert!(!ran.stdout.contains("This is the page"), "{ran}");
    assert!(web.hosts().is_empty(), "{:?}", web.hosts());
    assert!(stage.lab.record().queries_below(NAME).is_empty());
}
