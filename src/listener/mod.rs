//! Placeholder for the room `listener`.
