//! Which upstreams are asked for which names.

use std::sync::{Arc, atomic::AtomicUsize};

use super::settings::Settings;
use crate::wire::{Name, Question, rtype};

/// Places in the list of upstreams, by zone.
#[derive(Debug)]
pub(super) struct Routes {
    by_zone: Vec<(Name, Arc<Group>)>,
    others: Arc<Group>,
}

/// Upstreams among which one is chosen.
#[derive(Debug)]
pub(super) struct Group {
    /// Their places.
    pub(super) places: Vec<usize>,
    /// The place of the one that is fastest by far enough; no place before that is known.
    pub(super) favourite: AtomicUsize,
}

impl Group {
    fn new(places: Vec<usize>) -> Arc<Self> {
        Arc::new(Self {
            places,
            favourite: AtomicUsize::new(usize::MAX),
        })
    }
}

impl Routes {
    pub(super) fn new(settings: &Settings) -> Self {
        let place = |name: &String| {
            let mut upstreams = settings.upstreams.iter();
            upstreams.position(|upstream| upstream.name == *name)
        };
        let mut by_zone = Vec::new();
        let mut named = Vec::new();
        for route in &settings.routes {
            let places: Vec<usize> = route.upstreams.iter().filter_map(place).collect();
            named.extend_from_slice(&places);
            let group = Group::new(places);
            for zone in &route.zones {
                by_zone.push((zone.clone(), Arc::clone(&group)));
            }
        }
        // The longest zone first, so that the first that matches is the closest.
        by_zone.sort_by_key(|(zone, _)| std::cmp::Reverse(zone.label_count()));
        let all = 0..settings.upstreams.len();
        let mut others: Vec<usize> = all.clone().filter(|at| !named.contains(at)).collect();
        if others.is_empty() {
            others = all.collect();
        }
        let others = Group::new(others);
        Self { by_zone, others }
    }

    /// The upstreams for `question`. DS records stand at the parent (RFC 4035, section 3.1.4.1): the
    /// servers of a private zone do not have its own.
    pub(super) fn of(&self, question: &Question) -> &Group {
        if self.by_zone.is_empty() {
            return &self.others;
        }
        let parent = (question.qtype == rtype::DS)
            .then(|| question.name.parent())
            .flatten();
        let name = parent.as_ref().unwrap_or(&question.name);
        self.by_zone
            .iter()
            .find(|(zone, _)| name.is_within(zone))
            .map_or(&self.others, |(_, group)| group)
    }

    /// The groups to which the upstream at `place` belongs.
    pub(super) fn groups_with(&self, place: usize) -> impl Iterator<Item = &Group> {
        let routed = self.by_zone.iter().map(|(_, group)| group);
        let all = std::iter::once(&self.others).chain(routed);
        all.map(Arc::as_ref)
            .filter(move |group| group.places.contains(&place))
    }

    /// A zone for which the upstream at `place` is asked, when it is asked for nothing else.
    pub(super) fn zone_of(&self, place: usize) -> Option<&Name> {
        if self.others.places.contains(&place) {
            return None;
        }
        let mut zones = self.by_zone.iter();
        zones
            .find(|(_, group)| group.places.contains(&place))
            .map(|(zone, _)| zone)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        upstream::{Overrides, Route, Strategy, parse},
        wire::CLASS_IN,
    };

    fn routes(routed: &[(&[&str], &[&str])]) -> Routes {
        let upstream = |name: &str| {
            let overrides = Overrides {
                name: Some(name.to_owned()),
                ..Overrides::default()
            };
            parse("udp://127.0.0.1", overrides).unwrap()
        };
        Routes::new(&Settings {
            upstreams: ["a", "b", "c"].map(upstream).into(),
            routes: routed
                .iter()
                .map(|(zones, upstreams)| Route {
                    zones: zones
                        .iter()
                        .map(|zone| Name::parse(zone).unwrap())
                        .collect(),
                    upstreams: upstreams.iter().map(|name| (*name).to_owned()).collect(),
                })
                .collect(),
            strategy: Strategy::default(),
            timeout: Duration::from_secs(4),
        })
    }

    fn of<'a>(routes: &'a Routes, name: &str, qtype: u16) -> &'a [usize] {
        routes
            .of(&Question {
                name: Name::parse(name).unwrap(),
                qtype,
                qclass: CLASS_IN,
            })
            .places
            .as_slice()
    }

    #[test]
    fn the_closest_zone_counts_and_routed_upstreams_get_nothing_else() {
        let routes = routes(&[
            (&["corp.example"], &["b"]),
            (&["x.corp.example"], &["c", "b"]),
        ]);
        assert_eq!(of(&routes, "www.example", rtype::A), [0]);
        assert_eq!(of(&routes, "corp.example", rtype::A), [1]);
        assert_eq!(of(&routes, "www.corp.example", rtype::A), [1]);
        assert_eq!(of(&routes, "badcorp.example", rtype::A), [0]);
        assert_eq!(of(&routes, "a.x.corp.example", rtype::A), [2, 1]);
    }

    #[test]
    fn an_upstream_of_private_zones_is_known_by_one_of_them() {
        let routes = routes(&[(&["corp.example", "x.corp.example"], &["b", "c"])]);
        let groups = |place| routes.groups_with(place).count();
        assert_eq!([0, 1, 2].map(groups), [1, 2, 2]);
        assert_eq!(routes.zone_of(0), None);
        let zone = routes.zone_of(1).unwrap();
        assert!(zone.is_within(&Name::parse("corp.example").unwrap()));
    }

    #[test]
    fn a_zones_ds_is_asked_for_at_its_parent() {
        let routes = routes(&[(&["corp.example"], &["b"])]);
        assert_eq!(of(&routes, "corp.example", rtype::DS), [0, 2]);
        assert_eq!(of(&routes, "corp.example", rtype::DNSKEY), [1]);
        assert_eq!(of(&routes, "sub.corp.example", rtype::DS), [1]);
    }

    #[test]
    fn upstreams_that_are_all_routed_are_asked_for_the_rest_too() {
        let routes = routes(&[(&["corp.example"], &["a", "b", "c"])]);
        assert_eq!(of(&routes, "www.example", rtype::A), [0, 1, 2]);
    }
}
