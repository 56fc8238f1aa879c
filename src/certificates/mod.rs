//! Placeholder for the room `certificates`.
