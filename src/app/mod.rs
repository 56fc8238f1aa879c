//! Placeholder for the room `app`.
