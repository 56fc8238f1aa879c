//! What the cache is told.

/// The cache's size and the bounds of the times it keeps things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Octets of memory that entries and their index may take in all.
    pub size_octets: usize,
    /// Positive answers are kept at least this long, seconds.
    pub ttl_min_s: u32,
    /// Nothing is kept longer, seconds.
    pub ttl_max_s: u32,
    /// Negative answers (RFC 2308) are kept no longer, seconds.
    pub negative_ttl_max_s: u32,
    /// For how long after its expiry an answer may still be given out when no fresh one can be had
    /// (RFC 8767), seconds; 0 is never.
    pub serve_stale_s: u32,
    /// Whether answers in use are asked for again shortly before they expire.
    pub prefetch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size_octets: 32 * 1024 * 1024,
            ttl_min_s: 0,
            ttl_max_s: 86_400,
            negative_ttl_max_s: 3_600,
            serve_stale_s: 86_400,
            prefetch: true,
        }
    }
}
