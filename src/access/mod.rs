//! Placeholder for the room `access`.

mod settings;

pub use settings::{Network, Settings};
