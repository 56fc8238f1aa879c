//! The lab's plain UDP upstream (RFC 1035, section 4.2.1).

use super::Transport;
use super::respond::{Arrival, Plan, Service};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Serves one socket until aborted.
pub(super) async fn serve(socket: UdpSocket, service: Arc<Service>) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; 65535];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            // An ICMP error of an earlier reply; the socket is fine.
            continue;
        };
        if service.faults.has_vanished() || service.faults.is_crashing() {
            continue;
        }
        let arrival = Arrival {
            transport: Transport::Udp,
            peer,
            connection: 0,
            early_data: false,
        };
        let plan = service.plan(arrival, &buffer[..length]);
        if plan.wait.is_zero() && plan.forged.is_empty() {
            for reply in &plan.replies {
                let _ = socket.send_to(reply, peer).await;
            }
        } else {
            waiting.spawn(carry_out(socket.clone(), peer, plan));
        }
        while waiting.try_join_next().is_some() {}
    }
}

async fn carry_out(socket: Arc<UdpSocket>, peer: SocketAddr, plan: Plan) {
    for forged in &plan.forged {
        if forged.from_other_port {
            let Ok(local) = socket.local_addr() else {
                continue;
            };
            if let Ok(other) = UdpSocket::bind((local.ip(), 0)).await {
                let _ = other.send_to(&forged.octets, peer).await;
            }
        } else {
            let _ = socket.send_to(&forged.octets, peer).await;
        }
    }
    tokio::time::sleep(plan.wait).await;
    for reply in &plan.replies {
        let _ = socket.send_to(reply, peer).await;
    }
}
