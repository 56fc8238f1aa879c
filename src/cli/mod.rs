//! Placeholder for the room `cli`.
