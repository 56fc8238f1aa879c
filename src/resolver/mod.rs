//! Placeholder for the room `resolver`.
