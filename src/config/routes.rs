//! `[[route]]`: names that go another way.

use super::{file, problem::Collector, table::Written};
use crate::{
    upstream::{self, UpstreamSettings},
    wire::Name,
};

/// The most routes; each query looks through them.
const ROUTES_MAX: usize = 64;

/// A route, and whether its zones are validated.
pub(super) struct Route {
    pub(super) way: upstream::Route,
    pub(super) validate: bool,
}

/// Checks every route against the upstreams there are.
pub(super) fn all(
    written: Vec<Written<file::Route>>,
    upstreams: &[UpstreamSettings],
    problems: &mut Collector<'_>,
) -> Vec<Route> {
    let names: Vec<&str> = upstreams.iter().map(|upstream| &*upstream.name).collect();
    let mut routes = Vec::new();
    for (count, route) in written.into_iter().enumerate() {
        let (span, route) = (route.span, route.value);
        if count == ROUTES_MAX {
            let message = format!("at most {ROUTES_MAX} routes are taken; join some");
            problems.add_first(&span, "route", message);
            break;
        }
        let zones: Vec<Name> = route
            .zones
            .into_iter()
            .flatten()
            .map(|zone| zone.value)
            .collect();
        if zones.is_empty() {
            let message = "has no `zones`; write some, such as zones = [\"corp.example\"]";
            problems.add_first(&span, "route", message);
        }
        let asked = route.upstreams.unwrap_or_default();
        if asked.is_empty() {
            let message = "has no `upstreams`; name some, such as upstreams = [\"office\"]";
            problems.add_first(&span, "route", message);
        }
        for name in &asked {
            if !names.contains(&&*name.value) {
                let known = names.join(", ");
                let message = format!("no upstream is called {:?}; there are: {known}", name.value);
                problems.add(&name.span, "route.upstreams", message);
            }
        }
        routes.push(Route {
            way: upstream::Route {
                zones,
                upstreams: asked.into_iter().map(|name| name.value).collect(),
            },
            validate: route.dnssec.is_none_or(|dnssec| dnssec.value),
        });
    }
    routes
}

/// The zones of all routes that are, or are not, validated.
pub(super) fn zones(routes: &[Route], validate: bool) -> Vec<Name> {
    routes
        .iter()
        .filter(|route| route.validate == validate)
        .flat_map(|route| route.way.zones.iter().cloned())
        .collect()
}
