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
    tools::{Daemon, Ran, finish, program},
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

/// What Firefox is told beside the endpoint: to resolve there alone (mode 3), to believe an answer
/// that is this machine, and to leave the rest of the world alone.
const FIREFOX: &str = r#"
user_pref("network.trr.mode", 3);
user_pref("network.trr.bootstrapAddr", "127.0.0.1");
user_pref("network.trr.allow-rfc1918", true);
user_pref("network.trr.wait-for-portal", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.proxy.type", 0);
user_pref("app.normandy.enabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.safebrowsing.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.region.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("dom.security.https_first", false);
user_pref("extensions.update.enabled", false);
user_pref("services.settings.server", "");
user_pref("termsofuse.bypassNotification", true);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
"#;

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn firefox_resolves_through_doh_with_the_exported_ca() {
    let stage = Stage::start();
    let web = Web::start();
    let home = Home::new();
    let profile = home.at("profile");
    trust(&profile, &stage.truename.ca());
    let endpoint = stage.truename.doh_url();
    let preferences = format!("{FIREFOX}user_pref(\"network.trr.uri\", \"{endpoint}\");\n");
    fs::write(profile.join("user.js"), preferences).unwrap();
    let mut command = home.command(&program("firefox-esr", "firefox-esr"));
    command.args(["--headless", "--no-remote", "--profile"]);
    command.arg(&profile).arg(web.url(NAME));
    let fetched = || web.hosts().iter().any(|host| host.starts_with(NAME));
    let _firefox = Daemon::start(&mut command, home.at("log"), fetched);
    let asked = stage.lab.record().queries_below(NAME);
    assert!(!asked.is_empty(), "truename was not asked");
}
