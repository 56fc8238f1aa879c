//! A stub resolver for plain addresses: asks as an application's library does, so that what a
//! person sees is what their programs get. Upstream exchanges set CD, and would show an answer
//! that truename itself withholds.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::{
    clock, entropy,
    handler::Transport,
    wire::{HEADER_OCTETS, MESSAGE_MAX_OCTETS, Question, rtype},
};

/// UDP queries sent before giving up, as stub resolvers do.
const ATTEMPTS: u32 = 3;

/// The UDP payload offered: no path fragments it.
const UDP_PAYLOAD_OCTETS: u16 = 1232;

/// Asks the plain server at `address` over UDP, and over TCP when the response was cut, or over
/// TCP at once. Returns the response and the transport it came over.
pub(super) fn ask(
    question: &Question,
    address: SocketAddr,
    transport: Transport,
    deadline: Instant,
) -> io::Result<(Vec<u8>, Transport)> {
    let query = query(question, entropy::u16());
    if transport == Transport::Udp {
        let response = ask_udp(&query, address, deadline)?;
        let is_truncated = response.get(2).is_some_and(|flags| flags & 0x02 != 0);
        if !is_truncated {
            return Ok((response, Transport::Udp));
        }
    }
    Ok((ask_tcp(&query, address, deadline)?, Transport::Tcp))
}

/// RD to be resolved, AD to be told the verdict (RFC 6840, section 5.7), neither CD nor DO; an OPT
/// record, without which no extended error comes back.
fn query(question: &Question, id: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(id.to_be_bytes());
    octets.extend([0x01, 0x20]);
    octets.extend([0, 1, 0, 0, 0, 0, 0, 1]);
    octets.extend(question.name.as_wire());
    octets.extend(question.qtype.to_be_bytes());
    octets.extend(question.qclass.to_be_bytes());
    octets.push(0);
    octets.extend(rtype::OPT.to_be_bytes());
    octets.extend(UDP_PAYLOAD_OCTETS.to_be_bytes());
    octets.extend([0; 6]);
    octets
}

fn ask_udp(query: &[u8], address: SocketAddr, deadline: Instant) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    let mut buffer = vec![0; MESSAGE_MAX_OCTETS];
    for attempts_left in (1..=ATTEMPTS).rev() {
        socket.send(query)?;
        let until = clock::instant() + left(deadline)? / attempts_left;
        // Strangers' datagrams do not lengthen the wait.
        while let Ok(wait) = left(until) {
            socket.set_read_timeout(Some(wait))?;
            match socket.recv(&mut buffer) {
                Ok(octets) => {
                    let response = buffer.get(..octets).unwrap_or_default();
                    if belongs(query, response) {
                        return Ok(response.to_vec());
                    }
                }
                Err(error) if is_timeout(&error) => break,
                Err(error) if was_stopped(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn ask_tcp(query: &[u8], address: SocketAddr, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(query);
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&framed)?;
    let mut length = [0; 2];
    read_exact(&mut stream, &mut length, deadline)?;
    let mut response = vec![0; usize::from(u16::from_be_bytes(length))];
    read_exact(&mut stream, &mut response, deadline)?;
    if belongs(query, &response) {
        Ok(response)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the response is not to the question asked",
        ))
    }
}

/// Fills `out` before the deadline, however slowly the octets drip in.
fn read_exact(stream: &mut TcpStream, mut out: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !out.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let octets = match stream.read(out) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if was_stopped(&error) => continue,
            octets => octets?,
        };
        out = out.get_mut(octets..).unwrap_or_default();
    }
    Ok(())
}

/// The time until `deadline`; an error when there is none left.
fn left(deadline: Instant) -> io::Result<Duration> {
    deadline
        .checked_duration_since(clock::instant())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Whether a wait ended because the program was stopped and went on, as by Ctrl-Z and `fg`: with a
/// timeout set, the kernel does not take the wait up again by itself (signal(7)).
fn was_stopped(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Whether `response` has the query's id, is a response, and repeats its question (RFC 5452,
/// section 9). A server that could not read the question may leave it out.
fn belongs(query: &[u8], response: &[u8]) -> bool {
    let (Some(query_header), Some(header)) = (
        query.first_chunk::<HEADER_OCTETS>(),
        response.first_chunk::<HEADER_OCTETS>(),
    ) else {
        return false;
    };
    let question_end = query.len() - OPT_OCTETS;
    let question = query.get(HEADER_OCTETS..question_end).unwrap_or_default();
    header[..2] == query_header[..2]
        && header[2] & 0x80 != 0
        && response
            .get(HEADER_OCTETS..question_end)
            .is_some_and(|theirs| theirs.eq_ignore_ascii_case(question))
}

/// Octets of the OPT record that ends every query.
const OPT_OCTETS: usize = 11;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;
    use crate::wire::{CLASS_IN, Name, Query};

    fn question() -> Question {
        Question {
            name: Name::parse("www.example").unwrap(),
            qtype: rtype::A,
            qclass: CLASS_IN,
        }
    }

    fn soon() -> Instant {
        clock::instant() + Duration::from_secs(10)
    }

    /// Turns a query into an empty response.
    fn respond(query: &[u8], flags: u8) -> Vec<u8> {
        let mut response = query[..query.len() - OPT_OCTETS].to_vec();
        response[2] |= 0x80 | flags;
        response[10..12].copy_from_slice(&[0, 0]);
        response
    }

    #[test]
    fn the_query_asks_for_a_verdict_and_hides_nothing() {
        let octets = query(&question(), 7);
        let query = Query::peek(&octets).unwrap();
        assert_eq!(query.id(), 7);
        assert_eq!(query.question(), question());
        assert!(query.recursion_desired() && query.authentic_data());
        assert!(!query.checking_disabled() && !query.dnssec_ok());
        assert!(query.edns().is_some());
    }

    #[test]
    fn a_cut_response_is_asked_for_again_over_tcp() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let server = thread::spawn(move || {
            let mut buffer = [0; 512];
            let (octets, client) = udp.recv_from(&mut buffer).unwrap();
            // A forged answer with a wrong id comes first and is passed over.
            let mut forged = respond(&buffer[..octets], 0);
            forged[0] ^= 0xff;
            udp.send_to(&forged, client).unwrap();
            udp.send_to(&respond(&buffer[..octets], 0x02), client)
                .unwrap();
            let (mut stream, _) = tcp.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let response = respond(&query, 0);
            let length = u16::try_from(response.len()).unwrap().to_be_bytes();
            // One octet at a time, as a bad path would deliver it.
            for octet in length.iter().chain(&response) {
                stream.write_all(&[*octet]).unwrap();
            }
        });
        let (response, transport) = ask(&question(), address, Transport::Udp, soon()).unwrap();
        server.join().unwrap();
        assert_eq!(transport, Transport::Tcp);
        assert!(belongs(
            &query(&question(), u16::from_be_bytes([response[0], response[1]])),
            &response
        ));
    }

    #[test]
    fn a_server_that_is_not_there_is_told_at_once() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap();
        // Connected elsewhere: the system refuses what others send, and nobody else gets the port.
        closed.connect("127.0.0.1:1").unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            let error = ask(&question(), address, transport, soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn a_silent_server_costs_no_more_than_the_deadline() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let deadline = clock::instant() + Duration::from_millis(30);
        let error = ask(&question(), address, Transport::Udp, deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
