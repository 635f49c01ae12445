//! The bounds an operator may set, under `limits` in a Node document, and what they come to on this host.

use std::ops::RangeInclusive;

use ringway_protocols::bounds::{Amount, Scope};

use crate::runtime::descriptors_max;

/// Stands for a default that follows from the descriptor limit, or for no limit where that is the default.
pub const AUTOMATIC: u64 = 0;

/// Shares of what the process may hold that one workload may: three of four, so that no workload can take all.
const WORKLOAD_SHARE: (u64, u64) = (3, 4);

/// One bound that can be set.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key under `limits`.
    pub key: &'static str,
    /// What may be given.
    pub range: RangeInclusive<u64>,
    /// The default; [`AUTOMATIC`] where `otherwise` says what holds.
    pub default: u64,
    /// What the default is, where it is no number.
    pub otherwise: &'static str,
    /// Makes an amount of a value.
    pub unit: fn(u64) -> Amount,
    /// What it holds for.
    pub scope: Scope,
    /// What happens at it.
    pub at_bound: &'static str,
    /// Why it is there.
    pub reason: &'static str,
}

/// Declares [`Limits`]: a field and a [`Setting`] for each.
macro_rules! settings {
    ($(
        $(#[doc = $reason:literal])+
        $field:ident $key:literal = $default:expr, $otherwise:literal, $range:expr;
        $unit:ident per $scope:ident: $at_bound:literal
    )+) => {
        /// What an operator set; see [`Limits::SETTINGS`] for what each means.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $( $(#[doc = $reason])+ pub $field: u64, )+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl Limits {
            /// Every bound that can be set, in the order of the documentation.
            pub const SETTINGS: &[Setting] = &[$( Setting {
                key: $key,
                range: $range,
                default: $default,
                otherwise: $otherwise,
                unit: Amount::$unit,
                scope: Scope::$scope,
                at_bound: $at_bound,
                reason: concat!($($reason),+),
            } ),+];

            /// The value of the bound with this key.
            ///
            /// # Panics
            /// When there is no such key.
            pub fn value_mut(&mut self, key: &str) -> &mut u64 {
                match key {
                    $( $key => &mut self.$field, )+
                    other => panic!("no limit is called {other}"),
                }
            }
        }
    };
}

settings! {
    /// Every connection needs a descriptor or two, and some memory.
    connections_per_process "connectionsPerProcess" =
        AUTOMATIC, "the descriptor limit less the reserve", 16..=100_000_000;
    Count per Process: "a new connection is reset, a CONNECT request answered 503"

    /// One workload must not be able to take all the descriptors there are.
    connections_per_workload "connectionsPerWorkload" =
        AUTOMATIC, "three quarters of `connectionsPerProcess`", 1..=100_000_000;
    Count per Workload: "a new connection is reset, a CONNECT request answered 503"

    /// Connections a workload may open, or be sent in plaintext, each second, with a burst of one second's.
    connection_rate_per_workload "connectionRatePerWorkload" = AUTOMATIC, "no limit", 1..=10_000_000;
    PerSecond per Workload: "new connections wait in the kernel's queue"

    /// Tunnels of peers to the workload and of the workload to its destinations; an idle one holds about 2 KiB.
    tunnels_per_workload "tunnelsPerWorkload" = 16_384, "", 1..=10_000_000;
    Count per Workload: "a peer's tunnel is reset before its handshake; a connection that needs a new one is reset"

    /// A handshake in progress holds up to 8 KiB. The bound is shared evenly between the shards.
    handshakes_per_process "handshakesPerProcess" = 8192, "", 16..=1_000_000;
    Count per Process: "the one that has waited longest for its peer is cut, else the new one waits in the kernel's queue"

    /// So that silent peers of one workload do not fill what the process has. Shared evenly between the shards.
    handshakes_per_workload "handshakesPerWorkload" = 2048, "", 8..=1_000_000;
    Count per Workload: "the one that has waited longest for its peer is cut, else the new one waits in the kernel's queue"

    /// A handshake costs a third of a millisecond of a core. Shared evenly between the shards, with a burst of one
    /// second's.
    handshake_rate_per_workload "handshakeRatePerWorkload" = 2000, "", 1..=1_000_000;
    PerSecond per Workload: "new handshakes wait in the kernel's queue"

    /// Bytes held because whom they are for does not take them, in tunnels and plain connections together.
    buffer_bytes_per_process "bufferBytesPerProcess" = 256 << 20, "", 1 << 20..=1 << 40;
    Bytes per Process: "as for a workload, for those workloads that hold more than their even share"

    /// The same for one workload: a peer may send up to 4 MiB on a stream, and 16 MiB in a tunnel, before the application takes any of it.
    buffer_bytes_per_workload "bufferBytesPerWorkload" = 64 << 20, "", 1 << 20..=1 << 40;
    Bytes per Workload: "from three quarters on, streams are reset whose applications have stood still longest (`STALLED_PATIENCE`); a stream that would hold more is reset; applications are read one record at a time"
}

/// The bounds in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) connections_per_process: u64,
    pub(crate) connections_per_workload: u64,
    /// Zero: none.
    pub(crate) connection_rate_per_workload: u64,
    pub(crate) tunnels_per_workload: u64,
    pub(crate) handshakes_per_process: u64,
    pub(crate) handshakes_per_workload: u64,
    pub(crate) handshake_rate_per_workload: u64,
    pub(crate) buffer_bytes_per_process: u64,
    pub(crate) buffer_bytes_per_workload: u64,
}

impl Limits {
    /// The same with what is automatic worked out for this host; what has no limit stays [`AUTOMATIC`].
    #[must_use]
    pub fn in_force(&self) -> Limits {
        let bounds = self.resolve();
        Limits {
            connections_per_process: bounds.connections_per_process,
            connections_per_workload: bounds.connections_per_workload,
            ..self.clone()
        }
    }

    /// What they come to in a process that may have so many descriptors as this one.
    pub(crate) fn resolve(&self) -> Bounds {
        self.resolve_with(descriptors_max())
    }

    fn resolve_with(&self, descriptors: u64) -> Bounds {
        let automatic = |value, otherwise| if value == AUTOMATIC { otherwise } else { value };
        let connections = automatic(self.connections_per_process, descriptors.max(1));
        let (some, of) = WORKLOAD_SHARE;
        let share = (connections / of * some).max(1);
        Bounds {
            connections_per_process: connections,
            connections_per_workload: automatic(self.connections_per_workload, share),
            connection_rate_per_workload: self.connection_rate_per_workload,
            tunnels_per_workload: self.tunnels_per_workload,
            handshakes_per_process: self.handshakes_per_process,
            handshakes_per_workload: self.handshakes_per_workload,
            handshake_rate_per_workload: self.handshake_rate_per_workload,
            buffer_bytes_per_process: self.buffer_bytes_per_process,
            buffer_bytes_per_workload: self.buffer_bytes_per_workload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_their_ranges_or_say_what_they_are() {
        let mut limits = Limits::default();
        for setting in Limits::SETTINGS {
            let default = *limits.value_mut(setting.key);
            assert_eq!(default, setting.default, "{}", setting.key);
            let told = setting.range.contains(&default) || !setting.otherwise.is_empty();
            assert!(told && !setting.range.contains(&AUTOMATIC), "{}", setting.key);
        }
    }

    #[test]
    fn what_is_not_set_follows_from_the_descriptor_limit() {
        let bounds = Limits::default().resolve_with(1000);
        assert_eq!(bounds.connections_per_process, 1000);
        assert_eq!(bounds.connections_per_workload, 750);
        let set = Limits { connections_per_process: 400, ..Limits::default() }.resolve_with(1000);
        assert_eq!((set.connections_per_process, set.connections_per_workload), (400, 300));
        assert_eq!(Limits::default().resolve_with(1).connections_per_workload, 1);
    }
}
