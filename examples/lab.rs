//! A small internet with truename in front of it, to try things without a network:
//! `cargo run --release --example lab`. Ctrl-C stops both.

use std::{env, error::Error, fs, io::Write as _, path::Path, sync::mpsc, thread};

use tokio::runtime::Builder;
use truename::{
    app,
    config::{Options, Surroundings},
    handler::Transport,
};

#[path = "../tests/lab/mod.rs"]
mod lab;

use lab::{Lab, LabOptions, Ports};

/// Where the lab's own resolver listens; truename in front of it takes its default ports.
const LAB_PORTS: Ports = Ports {
    plain: 5400,
    tls: 8953,
    https: 8543,
};

/// A query for the address of www.secure.com in base64url, as DoH has it (RFC 8484, section 4.1).
const QUERY: &str = "AAABAAABAAAAAAAAA3d3dwZzZWN1cmUDY29tAAABAAE";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::temp_dir().join("truename-lab");
    fs::create_dir_all(&directory)?;
    let config = directory.join("truename.toml");
    let upstream = start_lab(&directory)?;
    fs::write(
        &config,
        format!(
            "[[upstream]]\nname = \"lab\"\nurl = \"{upstream}\"\nca = \"lab-ca.pem\"\n\n\
             [dnssec]\ntrust_anchors = [\"lab.ds\"]\n\n\
             [state]\ndirectory = \"{}\"\n",
            directory.join("state").display()
        ),
    )?;
    introduce(&directory, &config)?;
    let options = Options {
        config: Some(config),
        ..Options::default()
    };
    app::run(&options, &Surroundings::read())?;
    Ok(())
}

/// Starts the lab on a thread of its own, for as long as the process lives; its URL over DoT.
fn start_lab(directory: &Path) -> Result<String, Box<dyn Error>> {
    let ca = directory.join("lab-ca.pem");
    let anchor = directory.join("lab.ds");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system gives a runtime");
        runtime.block_on(async {
            let options = LabOptions {
                ports: LAB_PORTS,
                ..LabOptions::default()
            };
            match Lab::try_start(options).await {
                Ok(lab) => {
                    let written = fs::write(ca, lab.ca_pem())
                        .and_then(|()| fs::write(anchor, lab.trust_anchor_ds()));
                    let said = written.map(|()| lab.url(Transport::Tls));
                    // The one who waits is the main thread, which lives as long as we do.
                    let _ = tell.send(said);
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        });
    });
    told.recv()?
        .map_err(|error| format!("the lab cannot start: {error}; is another one running?").into())
}

fn introduce(directory: &Path, config: &Path) -> Result<(), Box<dyn Error>> {
    let authority = directory.join("state/certificates/ca.pem");
    let authority = authority.display();
    let config = config.display();
    writeln!(
        std::io::stdout(),
        "The lab is up. truename's local CA: {authority}\n\
         Try, in another terminal:\n\
         \x20 dig @127.0.0.1 -p 5300 www.secure.com\n\
         \x20 kdig @127.0.0.1 -p 8853 +tls-ca={authority} +tls-hostname=localhost www.secure.com\n\
         \x20 curl -sS --cacert {authority} 'https://localhost:8443/dns-query?dns={QUERY}' | od -c\n\
         \x20 kdig @127.0.0.1 -p 8443 +https +tls-ca={authority} +tls-hostname=localhost www.secure.com AAAA\n\
         \x20 cargo run --release -- query www.secure.com --server udp://127.0.0.1:5300\n\
         \x20 cargo run --release -- status --config {config}\n"
    )?;
    Ok(())
}
