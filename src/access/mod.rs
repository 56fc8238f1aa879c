//! Placeholder for the room `access`.
