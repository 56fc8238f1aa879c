//! The lab checks itself: its structure, its transports, its faults. Nothing of the resolver is
//! under test here.

#[path = "lab/mod.rs"]
mod lab;

use lab::{Lab, LabOptions, Transport};

/// Serves on fixed ports until interrupted, to be asked by other people's programs.
#[tokio::test]
#[ignore = "runs until it is stopped, for trying the lab by hand"]
async fn serve_for_trying() {
    let ports = lab::Ports {
        plain: 5399,
        tls: 8599,
        https: 4499,
    };
    let lab = Lab::start(LabOptions {
        ports,
        ipv6: true,
        ..LabOptions::default()
    })
    .await;
    println!("{}", lab.trust_anchor_ds());
    std::fs::write("/tmp/lab-ca.pem", lab.ca_pem()).unwrap();
    std::fs::write("/tmp/lab-root.ds", lab.trust_anchor_ds() + "\n").unwrap();
    for transport in Transport::ALL {
        println!("{}", lab.url(transport));
    }
    std::future::pending::<()>().await;
}
