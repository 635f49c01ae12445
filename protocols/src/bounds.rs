//! How a bound is written down: once, as a constant together with what people want to know of it.
//!
//! [`bounds!`](macro@crate::bounds) declares constants as usual and, beside them, `TABLE`, from which the page of limits in
//! `docs/` is made. The doc comment of a constant is the reason for its value.

use std::fmt;
use std::time::Duration;

/// What a bound holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole process.
    Process,
    /// One shard, that is, one thread.
    Shard,
    /// One workload, on all shards together.
    Workload,
    /// One destination of a workload, on one shard.
    Destination,
    /// One tunnel.
    Tunnel,
    /// One stream of a tunnel, or one plain connection.
    Stream,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Process => "process",
            Scope::Shard => "shard",
            Scope::Workload => "workload",
            Scope::Destination => "destination",
            Scope::Tunnel => "tunnel",
            Scope::Stream => "stream",
        })
    }
}

/// A bound's value with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// So many bytes.
    Bytes(u64),
    /// So long.
    Time(Duration),
    /// So many a second.
    PerSecond(u64),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match *self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::PerSecond(count) => write!(f, "{count} a second"),
            Amount::Time(time) if time.subsec_millis() > 0 => write!(f, "{} ms", time.as_millis()),
            Amount::Time(time) => write!(f, "{} s", time.as_secs()),
            Amount::Bytes(bytes) if bytes >= MIB && bytes % MIB == 0 => {
                write!(f, "{} MiB", bytes / MIB)
            }
            Amount::Bytes(bytes) if bytes >= KIB && bytes % KIB == 0 => {
                write!(f, "{} KiB", bytes / KIB)
            }
            Amount::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// One bound, as it is told to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The constant's name.
    pub name: &'static str,
    /// Its value.
    pub amount: Amount,
    /// What it holds for.
    pub scope: Scope,
    /// What happens at it.
    pub at_bound: &'static str,
    /// Why it is there, and why it is not larger or smaller.
    pub reason: &'static str,
}

/// Declares constants that are bounds, and `TABLE` with a `Bound` for each.
///
/// ```
/// ringway_protocols::bounds! {
///     /// The reason for it.
///     pub const THINGS_MAX: usize = 7; Count per Shard: "the next thing is refused"
/// }
/// assert_eq!(TABLE[0].name, "THINGS_MAX");
/// assert_eq!(TABLE[0].reason, " The reason for it.");
/// ```
#[macro_export]
macro_rules! bounds {
    ($(
        $(#[doc = $reason:literal])+
        $visibility:vis const $name:ident: $type:ty = $value:expr;
        $unit:ident per $scope:ident: $at_bound:literal
    )+) => {
        $(
            $(#[doc = $reason])+
            $visibility const $name: $type = $value;
        )+

        /// Every bound of this file.
        pub const TABLE: &[$crate::bounds::Bound] = &[$(
            $crate::bounds::Bound {
                name: stringify!($name),
                amount: $crate::bounds!(@amount $unit, $name),
                scope: $crate::bounds::Scope::$scope,
                at_bound: $at_bound,
                reason: concat!($($reason),+),
            }
        ),+];
    };
    (@amount Time, $name:ident) => { $crate::bounds::Amount::Time($name) };
    (@amount $unit:ident, $name:ident) => { $crate::bounds::Amount::$unit($name as u64) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_the_largest_unit_that_fits() {
        let rows = [
            (Amount::Count(4096), "4096"),
            (Amount::Bytes(4096), "4 KiB"),
            (Amount::Bytes(1 << 20), "1 MiB"),
            (Amount::Bytes(1000), "1000 bytes"),
            (Amount::Time(Duration::from_secs(10)), "10 s"),
            (Amount::Time(Duration::from_millis(50)), "50 ms"),
            (Amount::PerSecond(7), "7 a second"),
        ];
        for (amount, want) in rows {
            assert_eq!(amount.to_string(), want);
        }
    }
}
