//! Bad inputs tried.

mod abuse;
mod certificates;
mod conformance;
mod handshakes;
mod kinds;
mod layer7;
mod matrix;
mod sinks;
mod smuggling;
mod upstream;
mod users;

pub(super) use self::abuse::abuse;
pub(super) use self::certificates::certificates;
pub(super) use self::conformance::conformance;
pub(super) use self::handshakes::handshakes;
pub(super) use self::matrix::matrix;
pub(super) use self::sinks::sinks;
pub(super) use self::smuggling::smuggling;
pub(super) use self::upstream::abuse_by_servers;
pub(super) use self::users::abuse_by_users;
