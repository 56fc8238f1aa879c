//! Every listener in front of every upstream transport, then what is special to each listener.

mod matrix;
mod suite;
