//! Policy routing: answers of the workload to connections we opened under the client's address come back to us.
//!
//! Packets with the application mark look into a table of their own, where every address is local.

use super::policy::{APPLICATION_MARK, Family, MARK_MASK, ROUTE_TABLE, RULE_PRIORITY};
use super::tool::{self, ToolError};

/// Puts rule and route in place, whether or not they are there already.
pub(super) fn install(family: Family) -> Result<(), ToolError> {
    remove(family);
    let batch = format!("rule add {}\nroute replace {}\n", rule(), route());
    tool::run("ip", &[flag(family), "-batch", "-"], &batch).map(drop)
}

/// Takes rule and route away; what is not there is fine.
pub(super) fn remove(family: Family) {
    let batch = format!("rule del {}\nroute del {}\n", rule(), route());
    // `-force` goes on after a line that fails, and the exit status tells only that one did.
    let _ = tool::run("ip", &[flag(family), "-force", "-batch", "-"], &batch);
}

fn rule() -> String {
    format!("fwmark {APPLICATION_MARK:#x}/{MARK_MASK:#x} pref {RULE_PRIORITY} lookup {ROUTE_TABLE}")
}

fn route() -> String {
    format!("local default dev lo table {ROUTE_TABLE}")
}

fn flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}
