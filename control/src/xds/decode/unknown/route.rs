//! Of routes: what of a request they ask for.

use super::{Message, Rejection, look};

/// Only what may be a condition is looked into.
const RESOURCE: Message = Message { name: "Resource", fields: &[(3, Some(&ROUTE))] };
const ROUTE: Message = Message {
    name: "Route",
    fields: &[
        (1, None),
        (2, None),
        (3, None),
        (5, None),
        (6, Some(&ROUTE_MATCH)),
        (7, Some(&ROUTE_BACKEND)),
        (8, None),
        (9, None),
        (10, None),
        (11, None),
    ],
};
const ROUTE_MATCH: Message = Message {
    name: "RouteMatch",
    fields: &[
        (1, Some(&PATH_MATCH)),
        (2, Some(&HEADER_MATCH)),
        (3, Some(&METHOD_MATCH)),
        (4, Some(&QUERY_MATCH)),
    ],
};
const PATH_MATCH: Message =
    Message { name: "PathMatch", fields: &[(1, None), (2, None), (3, None)] };
const HEADER_MATCH: Message =
    Message { name: "HeaderMatch", fields: &[(1, None), (2, None), (3, None)] };
const METHOD_MATCH: Message = Message { name: "MethodMatch", fields: &[(1, None)] };
const QUERY_MATCH: Message =
    Message { name: "QueryMatch", fields: &[(1, None), (2, None), (3, None)] };
const ROUTE_BACKEND: Message =
    Message { name: "RouteBackend", fields: &[(1, None), (2, None), (5, None), (6, None)] };

/// Looks through an `agentgateway.dev.resource.Resource` that is a route and was decoded before.
pub(in crate::xds) fn in_route(bytes: &[u8]) -> Result<(), Rejection> {
    look(bytes, &RESOURCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_know_every_field_of_the_messages() {
        let text = include_str!("../../../../proto/agent.proto");
        for message in [
            &ROUTE,
            &ROUTE_MATCH,
            &PATH_MATCH,
            &HEADER_MATCH,
            &METHOD_MATCH,
            &QUERY_MATCH,
            &ROUTE_BACKEND,
        ] {
            let known: Vec<u32> = message.fields.iter().map(|(number, _)| *number).collect();
            let start = text.find(&format!("message {} {{", message.name)).unwrap();
            let body = &text[start..start + text[start..].find("\n}").unwrap()];
            let ends = body.lines().filter_map(|line| line.trim().strip_suffix(';'));
            let numbers: Vec<u32> =
                ends.filter_map(|line| line.rsplit_once(" = ")?.1.parse().ok()).collect();
            assert_eq!(known, numbers, "{}", message.name);
        }
    }
}
