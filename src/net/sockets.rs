//! Sockets as both sides need them: bound, set up, watched.
//!
//! Every worker has a socket of its own for each address (`SO_REUSEPORT`), so that the kernel
//! spreads clients over workers and no worker waits for another. That option would also let a
//! second process of the same user take a share of the port without a word. So the first socket
//! of a group is bound without it, which fails when anybody holds the port; only then is the
//! option set and the rest of the group bound.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

/// What the kernel is asked to hold for a datagram socket in each direction. A burst of some
/// thousand queries fits; the kernel uses the memory only while datagrams wait.
const DATAGRAM_BUFFER_OCTETS: usize = 1024 * 1024;

/// Connections the kernel completes before a worker accepts them. The kernel's own limit
/// (`net.core.somaxconn`) is 4096 unless changed.
const BACKLOG: i32 = 1024;

/// Binds `count` UDP sockets to one address, port 0 meaning one free port for all of them.
///
/// With `exclusive` the port must not be held by anybody; without, it may be held by sockets of
/// this process that were bound here before.
pub fn bind_udp(address: SocketAddr, count: usize, exclusive: bool) -> io::Result<Vec<UdpSocket>> {
    let sockets = bind_group(address, count, exclusive, Type::DGRAM)?;
    for socket in &sockets {
        raise_buffers(socket);
    }
    Ok(sockets.into_iter().map(UdpSocket::from).collect())
}

/// Binds `count` TCP listeners to one address, as [`bind_udp`] does for UDP, and listens.
pub fn bind_tcp(
    address: SocketAddr,
    count: usize,
    exclusive: bool,
) -> io::Result<Vec<TcpListener>> {
    let sockets = bind_group(address, count, exclusive, Type::STREAM)?;
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

/// Turns off what quinn-udp turns on for QUIC and plain DNS on `local` only pays for: coalescing
/// (each query wants a buffer of its own), the ECN bits, and, where the socket has but one address,
/// telling to which a datagram came. An old kernel may have nothing to turn off.
pub fn receive_bare(socket: &impl AsFd, local: SocketAddr) {
    use nix::sys::socket::{setsockopt, sockopt};
    let note = |outcome: nix::Result<()>| {
        if let Err(error) = outcome {
            tracing::debug!(%error, "a socket keeps an option that costs time");
        }
    };
    note(setsockopt(socket, sockopt::UdpGroSegment, &false));
    let has_one_address = !local.ip().is_unspecified();
    if local.is_ipv4() {
        note(setsockopt(socket, sockopt::IpRecvTos, &false));
        if has_one_address {
            note(setsockopt(socket, sockopt::Ipv4PacketInfo, &false));
        }
    } else {
        note(setsockopt(socket, sockopt::Ipv6RecvTClass, &false));
        if has_one_address {
            note(setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &false));
        }
    }
}

/// Registers a descriptor with the runtime for `interest` only. The runtime's own sockets also wait
/// for room to write, which is one event for nothing after each datagram that has left.
///
/// # Errors
/// The system watches no more descriptors.
pub fn watched<T: AsRawFd + Into<OwnedFd>>(
    descriptor: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    #[allow(
        deprecated,
        reason = "its successor is unsafe, for a type may change its descriptor; those that are an `OwnedFd` do not"
    )]
    AsyncFd::with_interest(descriptor, interest)
}

/// Makes a datagram socket that somebody else bound like one of ours.
pub fn adopt_udp(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    raise_buffers(socket);
    Ok(())
}

/// Makes a stream socket that somebody else bound like one of ours.
///
/// # Errors
/// It does not listen; or the system refuses.
pub fn adopt_tcp(listener: &TcpListener) -> io::Result<()> {
    if !nix::sys::socket::getsockopt(listener, nix::sys::socket::sockopt::AcceptConn)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the socket does not listen; a socket unit needs Accept=no",
        ));
    }
    listener.set_nonblocking(true)
}

fn bind_group(
    address: SocketAddr,
    count: usize,
    exclusive: bool,
    kind: Type,
) -> io::Result<Vec<Socket>> {
    let first = open(address, kind)?;
    if !exclusive {
        first.set_reuse_port(true)?;
    }
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    while sockets.len() < count {
        let socket = open(bound, kind)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners, so that a client's IPv4 address never comes
        // dressed as IPv6 and access rules mean what they say.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections of an earlier run that linger in TIME_WAIT do not hold the port.
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// Asks for large buffers, past the system's limit when the process may. Too small a buffer
/// loses bursts but breaks nothing, so a refusal is no error.
fn raise_buffers(socket: &impl AsFd) {
    let size = DATAGRAM_BUFFER_OCTETS;
    let force = nix::sys::socket::sockopt::RcvBufForce;
    if nix::sys::socket::setsockopt(socket, force, &size).is_err() {
        let _ = SockRef::from(socket).set_recv_buffer_size(size);
    }
    let force = nix::sys::socket::sockopt::SndBufForce;
    if nix::sys::socket::setsockopt(socket, force, &size).is_err() {
        let _ = SockRef::from(socket).set_send_buffer_size(size);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_group_shares_one_port_and_every_member_receives() {
        let group = bind_udp(ANY_PORT, 2, true).unwrap();
        let address = group[0].local_addr().unwrap();
        assert_eq!(address, group[1].local_addr().unwrap());
        let mut heard = [false, false];
        for _ in 0..200 {
            let client = UdpSocket::bind(ANY_PORT).unwrap();
            client.send_to(b"x", address).unwrap();
            for (socket, heard) in group.iter().zip(&mut heard) {
                *heard |= socket.recv_from(&mut [0; 8]).is_ok();
            }
            if heard == [true, true] {
                return;
            }
        }
        panic!("one member heard nothing: {heard:?}");
    }

    #[test]
    fn every_member_of_a_tcp_group_accepts() {
        let group = bind_tcp(ANY_PORT, 2, true).unwrap();
        let address = group[0].local_addr().unwrap();
        let mut heard = [false, false];
        for _ in 0..200 {
            let _client =
                std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            for (listener, heard) in group.iter().zip(&mut heard) {
                *heard |= listener.accept().is_ok();
            }
            if heard == [true, true] {
                return;
            }
        }
        panic!("one member accepted nothing: {heard:?}");
    }

    #[test]
    fn a_second_group_does_not_steal_the_port() {
        let udp = bind_udp(ANY_PORT, 2, true).unwrap();
        let address = udp[0].local_addr().unwrap();
        let error = bind_udp(address, 1, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

        let tcp = bind_tcp(ANY_PORT, 2, true).unwrap();
        let address = tcp[0].local_addr().unwrap();
        let error = bind_tcp(address, 1, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
