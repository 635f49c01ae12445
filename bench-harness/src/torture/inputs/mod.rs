//! Bad inputs tried.

mod abuse;

pub(super) use self::abuse::abuse;
