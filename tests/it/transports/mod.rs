//! Every listener in front of every upstream transport, then what is special to each listener.

mod datagram;
mod https;
mod malformed;
mod matrix;
mod quic;
mod streams;
mod suite;
