//! `docs/limits.md`, made from the tables.

use std::fmt::Write as _;

use ringway_protocols::{bounds::Bound, dns, hbone, tls};

use super::{Limits, TABLE};

const HEAD: &str = "# Limits

Everything that can grow has a bound, and something clear happens at it: nothing grows further, nothing spins, nothing
waits for ever. This page is made from `engine/src/limits/`, `protocols/src/hbone/budget.rs`,
`protocols/src/tls/bounds.rs` and `protocols/src/dns/bounds.rs`; a test keeps it so.

When one of the bounds of the first table is reached, `ringway_limit_reached_total{limit,workload}` counts, and at most
one line a second and limit is logged, with the number of times since the last one. A connection that is refused before
anything was decided about it has no access record of its own: a flood of connections must not become a flood of lines.

## What can be set

Under `limits` of the [Node document](configuration.md); each may be left out.

";

const DESCRIPTORS: &str = "
Of the descriptors the process may have, 32 (a quarter of them at most) are a reserve for the control plane: admin
requests, the certificate authority, reloads and the log; as many again are left to dials, so that whoever has a tunnel
already is not locked out by those who have not. Where only these are left a new connection is reset, and where only the
first is left a dial fails and a pipe is not made. The counter calls this limit `descriptors`.

";

/// The page.
pub fn documentation() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| key | default | range | unit | for each | at the bound | why |\n|---|---|---|---|---|---|---|\n");
    for setting in Limits::SETTINGS {
        let default = match setting.otherwise {
            "" => (setting.unit)(setting.default).to_string(),
            otherwise => otherwise.to_owned(),
        };
        let unit = match (setting.unit)(1) {
            ringway_protocols::bounds::Amount::Bytes(_) => "bytes",
            ringway_protocols::bounds::Amount::PerSecond(_) => "per second",
            _ => "number",
        };
        let (least, most) = (setting.range.start(), setting.range.end());
        let _ = writeln!(
            text,
            "| `{}` | {default} | {least}–{most} | {unit} | {} | {} | {} |",
            setting.key,
            setting.scope,
            setting.at_bound,
            setting.reason.trim()
        );
    }
    text.push_str(DESCRIPTORS);
    section(&mut text, "The data plane", TABLE);
    section(&mut text, "Memory to start with", super::memory::TABLE);
    section(&mut text, "HTTP/2 in a tunnel", hbone::budget::TABLE);
    abuse(&mut text);
    section(&mut text, "TLS", tls::bounds::TABLE);
    section(&mut text, "DNS", super::dns::TABLE);
    section(&mut text, "Waypoints and gateways", super::http::TABLE);
    section(&mut text, "Messages of DNS", dns::bounds::TABLE);
    text
}

fn section(text: &mut String, title: &str, bounds: &[Bound]) {
    let _ = writeln!(
        text,
        "## {title}\n\n| name | value | for each | at the bound | why |\n|---|---|---|---|---|"
    );
    for bound in bounds {
        let Bound { name, amount, scope, at_bound, reason } = bound;
        let _ =
            writeln!(text, "| `{name}` | {amount} | {scope} | {at_bound} | {} |", reason.trim());
    }
    text.push('\n');
}

fn abuse(text: &mut String) {
    text.push_str(
        "Frames that carry nothing have a budget for each tunnel: a burst, a rate at which it comes back, and a price in\n\
         useful work (16 for each KiB of payload, in either direction) for one frame more. Above it the tunnel ends\n\
         with GOAWAY and ENHANCE_YOUR_CALM.\n\n\
         | what | burst | back each second | price |\n|---|---|---|---|\n",
    );
    for budget in hbone::budget::budgets() {
        let price =
            budget.price.map_or_else(|| "not for sale".to_owned(), |price| price.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {price} |",
            budget.abuse, budget.burst, budget.per_second
        );
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test -p ringway-engine limits` writes it.
    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md");
        let want = documentation();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &want).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == want,
            "{path} is not up to date: UPDATE=1 cargo test -p ringway-engine limits"
        );
    }

    #[test]
    fn every_row_says_what_happens_and_why() {
        let tables = [
            TABLE,
            hbone::budget::TABLE,
            tls::bounds::TABLE,
            super::super::dns::TABLE,
            super::super::http::TABLE,
            dns::bounds::TABLE,
        ];
        for bound in tables.concat() {
            assert!(!bound.at_bound.is_empty() && bound.reason.len() > 20, "{}", bound.name);
        }
    }
}
