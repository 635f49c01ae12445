//! The whole way from text to snapshot, and from mistakes to messages.

#[cfg(feature = "waypoint")]
mod attached;
#[cfg(feature = "waypoint")]
mod conformance;
mod diagnostics;
mod formats;
mod fuzzing;
#[cfg(feature = "waypoint")]
mod gateway;
mod named_files;
mod policies;
mod reloading;
mod scale;
mod service_entries;
mod watching;
mod waypoints;
