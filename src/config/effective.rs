//! The effective configuration as a file that says the same again.

use std::{fmt::Write as _, path::Path, time::Duration};

use super::{Settings, values};
use crate::anchors;

impl Settings {
    /// The whole configuration in force as TOML, every key written out, defaults included. Read
    /// back it gives the same settings.
    pub fn effective(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        match &self.source {
            Some(path) => writeln!(out, "# in force, from {}", path.display())?,
            None => writeln!(out, "# in force, built-in defaults")?,
        }
        writeln!(out, "[listen]")?;
        writeln!(out, "dns = {}", list(&self.listen.dns))?;
        writeln!(out, "dot = {}", list(&self.listen.dot))?;
        writeln!(out, "doq = {}", list(&self.listen.doq))?;
        writeln!(out, "doh = {}", list(&self.listen.doh))?;
        writeln!(out, "doh_path = {}", quoted(&self.listen.doh_path))?;

        writeln!(out, "\n[tls]")?;
        if let Some(files) = &self.tls.files {
            let certificate = files.certificate.to_string_lossy();
            writeln!(out, "certificate = {}", quoted(&certificate))?;
            writeln!(out, "key = {}", quoted(&files.key.to_string_lossy()))?;
        }
        writeln!(out, "names = {}", list(&self.tls.names))?;

        writeln!(out, "\n[access]")?;
        writeln!(out, "allow = {}", list(&self.access.allow))?;
        writeln!(out, "rate_limit = {}", self.access.rate_limit_per_s)?;

        let upstreams = self.upstream_entries.iter().zip(&self.upstream.upstreams);
        for (entry, settings) in upstreams {
            writeln!(out, "\n[[upstream]]")?;
            writeln!(out, "url = {}", quoted(&entry.url))?;
            writeln!(out, "name = {}", quoted(&settings.name))?;
            if let Some(name) = &entry.server_name {
                writeln!(out, "server_name = {}", quoted(name))?;
            }
            if !entry.addresses.is_empty() {
                writeln!(out, "addresses = {}", list(&entry.addresses))?;
            }
            if !entry.bootstrap.is_empty() {
                writeln!(out, "bootstrap = {}", list(&entry.bootstrap))?;
            }
            if let Some(file) = &entry.ca {
                writeln!(out, "ca = {}", quoted(&file.path.to_string_lossy()))?;
            }
            if !entry.pins.is_empty() {
                writeln!(out, "pin = {}", list(&entry.pins))?;
            }
            writeln!(out, "weight = {}", settings.weight)?;
        }

        writeln!(out, "\n[forward]")?;
        let strategy = self.upstream.strategy.label();
        writeln!(out, "strategy = {}", quoted(strategy))?;
        let timeout = values::duration_text(self.upstream.timeout);
        writeln!(out, "timeout = {}", quoted(&timeout))?;

        for route in &self.upstream.routes {
            let off = |zone| self.dnssec.unvalidated_zones.contains(zone);
            let dnssec = if route.zones.iter().any(off) {
                "off"
            } else {
                "on"
            };
            writeln!(out, "\n[[route]]")?;
            writeln!(out, "zones = {}", list(&route.zones))?;
            writeln!(out, "upstreams = {}", list(&route.upstreams))?;
            writeln!(out, "dnssec = {}", quoted(dnssec))?;
        }

        writeln!(out, "\n[cache]")?;
        let size = values::size_text(self.cache.size_octets as u64);
        writeln!(out, "size = {}", quoted(&size))?;
        let mut ttl = |key, seconds: u32| {
            let text = values::duration_text(Duration::from_secs(seconds.into()));
            writeln!(out, "{key} = {}", quoted(&text))
        };
        ttl("min_ttl", self.cache.ttl_min_s)?;
        ttl("max_ttl", self.cache.ttl_max_s)?;
        ttl("max_negative_ttl", self.cache.negative_ttl_max_s)?;
        ttl("serve_stale", self.cache.serve_stale_s)?;
        if let Some(file) = &self.cache_file {
            // It is seen from there when it is read again.
            let file = file.strip_prefix(&self.state_directory).unwrap_or(file);
            writeln!(out, "file = {}", quoted(&file.to_string_lossy()))?;
        }
        writeln!(out, "prefetch = {}", self.cache.prefetch)?;

        writeln!(out, "\n[dnssec]")?;
        writeln!(out, "validate = {}", self.dnssec.validate)?;
        let files = self.dnssec.trust_anchors.iter();
        let files: Vec<_> = files.map(|file| file.to_string_lossy()).collect();
        writeln!(out, "trust_anchors = {}", list(&files))?;
        let negative = self.dnssec.negative_trust_anchors.iter();
        let negative: Vec<String> = negative
            .map(|(name, until)| format!("{name} until {}", anchors::time_text(*until)))
            .collect();
        writeln!(out, "negative_trust_anchors = {}", list(&negative))?;
        writeln!(out, "clock_names = {}", list(&self.dnssec.clock_names))?;
        writeln!(out, "sha1 = {}", self.dnssec.sha1)?;
        let skew = values::duration_text(self.dnssec.skew);
        writeln!(out, "skew = {}", quoted(&skew))?;

        writeln!(out, "\n[names]")?;
        writeln!(out, "special_use = {}", self.names.special_use)?;

        writeln!(out, "\n[admin]")?;
        let socket = self.admin_socket.as_deref().unwrap_or(Path::new(""));
        let socket = socket.strip_prefix(&self.state_directory).unwrap_or(socket);
        writeln!(out, "socket = {}", quoted(&socket.to_string_lossy()))?;

        writeln!(out, "\n[state]")?;
        let directory = self.state_directory.to_string_lossy();
        writeln!(out, "directory = {}", quoted(&directory))?;

        writeln!(out, "\n[log]")?;
        writeln!(out, "level = {}", quoted(self.log.level.label()))?;
        writeln!(out, "format = {}", quoted(self.log.format.label()))
    }
}

fn list<T: ToString>(values: &[T]) -> String {
    let quoted: Vec<String> = values
        .iter()
        .map(|value| quoted(&value.to_string()))
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quoted_text_is_what_toml_reads_back() {
        for text in [
            "",
            "a b",
            "say \"x\"",
            "C:\\dir",
            "tab\tnew\nline\u{7f}",
            "zürich ✓",
        ] {
            let document = format!("key = {}", quoted(text));
            let table: toml::Table = toml::from_str(&document).unwrap();
            assert_eq!(table["key"].as_str(), Some(text));
        }
    }
}
