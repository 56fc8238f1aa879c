//! Placeholder for the room `anchors`.
