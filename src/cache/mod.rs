//! Placeholder for the room `cache`.

mod settings;

pub use settings::Settings;
