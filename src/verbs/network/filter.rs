//! `--filter` of `network ls` and `network prune`.
//!
//! Values of one key are alternatives, those of `label` all have to fit, as in Docker.

use crate::cli::values::ValueError;
use crate::network::builtin;
use crate::network::definition::Definition;
use crate::network::inspect;
use crate::network::when;
use crate::sorted::SortedMap;

/// One `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Driver(String),
    Id(String),
    Name(String),
    Scope(String),
    /// `custom` or `builtin`.
    Type(String),
    /// With a value where one is given; false for `label!=`.
    Label(String, Option<String>, bool),
    /// That no container is on, or some are.
    Dangling(bool),
    /// Made before this, in seconds since 1970.
    Until(i64),
}

/// Reads a filter of `ls`, or of `prune`.
pub(super) fn read(text: &str, prune: bool) -> Result<Filter, ValueError> {
    let expected = if prune {
        ValueError::Expected("until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]")
    } else {
        ValueError::Expected("dangling=, driver=, id=, name=, scope=, type=, label= or until=")
    };
    let Some((key, value)) = text.split_once('=') else { return Err(expected) };
    let owned = value.to_owned();
    match key {
        "label" | "label!" => {
            let (label, value) = match value.split_once('=') {
                Some((label, value)) => (label.to_owned(), Some(value.to_owned())),
                None => (owned, None),
            };
            Ok(Filter::Label(label, value, key == "label"))
        }
        "until" => {
            let now = crate::clock::since_epoch();
            let until = when::micros(value, now).ok_or(ValueError::Expected(
                "a time as 24h (ago), 2026-11-21T07:50:00Z or seconds since 1970",
            ))?;
            Ok(Filter::Until(until))
        }
        "dangling" if !prune => match value {
            "true" | "1" => Ok(Filter::Dangling(true)),
            "false" | "0" => Ok(Filter::Dangling(false)),
            _ => Err(ValueError::Expected("dangling=true or dangling=false")),
        },
        "driver" if !prune => Ok(Filter::Driver(owned)),
        "id" if !prune => Ok(Filter::Id(owned)),
        "name" if !prune => Ok(Filter::Name(owned)),
        "scope" if !prune => Ok(Filter::Scope(owned)),
        "type" if !prune => match value {
            "custom" | "builtin" => Ok(Filter::Type(owned)),
            _ => Err(ValueError::Expected("type=custom or type=builtin")),
        },
        _ => Err(expected),
    }
}

/// Whether a network passes them all. `in_use` is asked only where that counts.
pub(super) fn passes(filters: &[Filter], network: &Definition, in_use: &dyn Fn() -> bool) -> bool {
    let mut alternatives: SortedMap<u8, bool> = SortedMap::new();
    for filter in filters {
        let (group, fits) = match filter {
            Filter::Driver(driver) => (0, driver == builtin::driver(network)),
            Filter::Id(start) => (1, network.id.starts_with(start.as_str())),
            Filter::Name(part) => (2, network.name.contains(part.as_str())),
            Filter::Scope(scope) => (3, scope == inspect::scope(network)),
            Filter::Type(kind) => (4, (kind == "builtin") == builtin::is(&network.name)),
            // As Docker has it, one that nobody made is never left over.
            Filter::Dangling(dangling) => {
                (5, (builtin::is(&network.name) || in_use()) != *dangling)
            }
            Filter::Label(key, value, wanted) => {
                let label = network.labels.get(key);
                let has = label.is_some_and(|has| value.as_ref().is_none_or(|value| value == has));
                if has != *wanted {
                    return false;
                }
                continue;
            }
            Filter::Until(until) => {
                let created = when::micros(&network.created, std::time::Duration::ZERO);
                if created.is_none_or(|created| created >= *until) {
                    return false;
                }
                continue;
            }
        };
        *alternatives.or_default(group) |= fits;
    }
    alternatives.values().all(|fits| *fits)
}
