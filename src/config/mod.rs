//! Placeholder for the room `config`.
