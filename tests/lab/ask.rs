//! A plain client for tests: builds queries, reads responses, asks over UDP and TCP. As simple as
//! it can be, and of the lab's own make.

use super::message::{EdnsOption, Query, Record, read_name};
use super::name::wire;
use super::rdata::{rtype, type_number};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long an answer is waited for: more than any resolver's own deadline.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A query to be built. The default asks with RD and an OPT without DO.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The id.
    pub id: u16,
    /// The flags word.
    pub flags: u16,
    /// The name in presentation form; its case is kept.
    pub name: String,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// Whether there is an OPT, with this datagram size, octets.
    pub udp_octets: Option<u16>,
    /// DO.
    pub dnssec_ok: bool,
    /// EDNS options.
    pub options: Vec<EdnsOption>,
}

impl Ask {
    /// Asks for a name and a type, written as people do.
    pub fn new(name: &str, rtype: &str) -> Self {
        Self {
            id: 0x1d1d,
            flags: super::message::flag::RD,
            name: name.to_owned(),
            rtype: type_number(rtype),
            class: 1,
            udp_octets: Some(1232),
            dnssec_ok: false,
            options: Vec::new(),
        }
    }

    /// With DO.
    #[must_use]
    pub fn dnssec(mut self) -> Self {
        self.dnssec_ok = true;
        self
    }

    /// With more bits in the flags word.
    #[must_use]
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// With another id.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With another datagram size; none leaves out the OPT.
    #[must_use]
    pub fn udp_octets(mut self, octets: Option<u16>) -> Self {
        self.udp_octets = octets;
        self
    }

    /// With an EDNS option.
    #[must_use]
    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        self.options.push((code, data.to_vec()));
        self
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let opt = u16::from(self.udp_octets.is_some());
        for word in [self.id, self.flags, 1, 0, 0, opt] {
            out.extend(word.to_be_bytes());
        }
        out.extend(wire(&self.name));
        out.extend(self.rtype.to_be_bytes());
        out.extend(self.class.to_be_bytes());
        if let Some(octets) = self.udp_octets {
            let mut options = Vec::new();
            for (code, data) in &self.options {
                options.extend(code.to_be_bytes());
                options.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
                options.extend(data);
            }
            out.push(0);
            for word in [rtype::OPT, octets, 0, u16::from(self.dnssec_ok) << 15] {
                out.extend(word.to_be_bytes());
            }
            out.extend(u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
            out.extend(options);
        }
        out
    }

    /// Asks over UDP, once.
    pub async fn over_udp(&self, server: SocketAddr) -> io::Result<Answered> {
        let socket = UdpSocket::bind(any_port(server)).await?;
        socket.connect(server).await?;
        socket.send(&self.encode()).await?;
        let mut buffer = vec![0; 65535];
        let length = tokio::time::timeout(ANSWER_WAIT, socket.recv(&mut buffer)).await??;
        Answered::parse(&buffer[..length]).ok_or_else(unreadable)
    }

    /// Asks over TCP on a connection of its own.
    pub async fn over_tcp(&self, server: SocketAddr) -> io::Result<Answered> {
        let mut stream = TcpStream::connect(server).await?;
        exchange_on(&mut stream, &self.encode()).await
    }
}

/// One query and one response on a stream.
pub(super) async fn exchange_on(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<Answered> {
    stream.write_all(&framed(message)).await?;
    stream.flush().await?;
    let read = async {
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        Ok::<_, io::Error>(message)
    };
    let message = tokio::time::timeout(ANSWER_WAIT, read).await??;
    Answered::parse(&message).ok_or_else(unreadable)
}

/// A message behind its length (RFC 1035, section 4.2.2).
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// The wildcard address of an address's family, any port.
pub(super) fn any_port(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

pub(super) fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the response cannot be read")
}

/// A response as read.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The octets.
    pub octets: Vec<u8>,
    /// The id.
    pub id: u16,
    /// The flags word with the rcode.
    pub flags: u16,
    /// The response code, with EDNS's upper bits.
    pub rcode: u16,
    /// The question section, as received.
    pub question: Vec<u8>,
    /// Answer, authority, additional without OPT; names in RDATA stay compressed.
    pub sections: [Vec<Record>; 3],
    /// The options of the OPT; none when there is no OPT.
    pub options: Option<Vec<EdnsOption>>,
}

impl Answered {
    /// Reads a response; none when it is malformed.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let pair = octets.get(at..at + 2)?;
            Some(u16::from_be_bytes([pair[0], pair[1]]))
        };
        let flags = word(2)?;
        let mut answered = Self {
            octets: octets.to_vec(),
            id: word(0)?,
            flags,
            rcode: flags & 0xf,
            question: Vec::new(),
            sections: Default::default(),
            options: None,
        };
        let mut at = 12;
        for _ in 0..word(4)? {
            let (_, after) = read_name(octets, at)?;
            answered.question.extend(octets.get(at..after + 4)?);
            at = after + 4;
        }
        for section in 0..3 {
            for _ in 0..word(6 + 2 * section)? {
                let (owner, after) = read_name(octets, at)?;
                let kind = word(after)?;
                let ttl = octets.get(after + 4..after + 8)?;
                let ttl_s = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]);
                let length = usize::from(word(after + 8)?);
                let rdata = octets.get(after + 10..after + 10 + length)?.to_vec();
                at = after + 10 + length;
                if kind == rtype::OPT {
                    answered.rcode |= u16::from(ttl[0]) << 4;
                    answered.options = Some(Query::options_of(&rdata)?);
                    continue;
                }
                answered.sections[section].push(Record {
                    owner,
                    rtype: kind,
                    ttl_s,
                    rdata,
                });
            }
        }
        (at == octets.len()).then_some(answered)
    }

    /// Whether a flag of the flags word is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The answer section.
    pub fn answer(&self) -> &[Record] {
        &self.sections[0]
    }

    /// The RDATA of the answer's records of a type.
    pub fn rdata(&self, rtype: &str) -> Vec<&[u8]> {
        let wanted = type_number(rtype);
        let records = self.answer().iter();
        let found = records.filter(|record| record.rtype == wanted);
        found.map(|record| record.rdata.as_slice()).collect()
    }

    /// How many records of a type there are anywhere.
    pub fn count(&self, rtype: &str) -> usize {
        let wanted = type_number(rtype);
        let records = self.sections.iter().flatten();
        records.filter(|record| record.rtype == wanted).count()
    }

    /// The extended errors (RFC 8914): code and text.
    pub fn extended_errors(&self) -> Vec<(u16, String)> {
        let options = self.options.iter().flatten();
        options
            .filter(|(code, data)| *code == 15 && data.len() >= 2)
            .map(|(_, data)| {
                let text = String::from_utf8_lossy(&data[2..]).into_owned();
                (u16::from_be_bytes([data[0], data[1]]), text)
            })
            .collect()
    }
}
