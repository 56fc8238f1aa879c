//! Placeholder for the room `wire`.
