//! Published classes of flaws, each asked of the whole program: a lying upstream behind it, or a
//! hostile client in front.

mod integrity;
mod loops;
mod parsing;
mod ports;
mod ttls;
