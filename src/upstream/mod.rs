//! Placeholder for the room `upstream`.
