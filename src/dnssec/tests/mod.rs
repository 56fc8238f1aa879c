//! Tests of the whole room: a small signed internet, the ways others went wrong, properties, and
//! the vectors of the RFCs.

mod aggressive;
mod answers;
mod hostile;
mod lab;
mod properties;
mod rfc9102;
mod text;
mod vectors;
mod zones;
