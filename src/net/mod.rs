//! Placeholder for the room `net`.
