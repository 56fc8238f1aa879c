//! Placeholder for the room `reply`.
