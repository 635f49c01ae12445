//! io_uring refused, starved and interrupted.

mod interrupted;
mod refused;
mod switch;

pub(super) use self::interrupted::interrupted;
pub(super) use self::refused::{memlock, refused};
pub(super) use self::switch::switched_off;
