//! Placeholder for the room `dnssec`.
