//! Placeholder for the room `listener`.

mod settings;

pub use settings::Settings;
