//! The expressions that the control plane makes itself. There is no engine for others here: whoever writes those is
//! told so.

/// What stands before the request's path: `"<prefix>" + request.path`, as a filter ExternalAuth is told.
pub(super) fn path_prefix(expression: &str) -> Option<String> {
    let (prefix, rest) = text(expression.trim())?;
    let rest = rest.trim_start().strip_prefix('+')?;
    (rest.trim() == "request.path").then_some(prefix)
}

/// A text by itself.
pub(super) fn constant(expression: &str) -> Option<String> {
    let (text, rest) = text(expression.trim())?;
    rest.is_empty().then_some(text)
}

/// A text in double quotes at the beginning, and what follows it.
fn text(expression: &str) -> Option<(String, &str)> {
    let inner = expression.strip_prefix('"')?;
    let mut text = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &inner[at + 1..])),
            '\\' => match characters.next()?.1 {
                plain @ ('"' | '\\') => text.push(plain),
                _ => return None,
            },
            plain => text.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_control_plane_makes_is_read() {
        //  expression                          before the path
        let rows = [
            (r#""/check" + request.path"#, Some("/check")),
            (r#""" + request.path"#, Some("")),
            (r#"  "/a\"b\\" +request.path "#, Some("/a\"b\\")),
            (r#""/check" + request.path + "x""#, None),
            (r#""/check""#, None),
            ("request.path", None),
            (r#""/a\n" + request.path"#, None),
            (r#""/check + request.path"#, None),
            (r#""/check" + request.headers["x"]"#, None),
            (r#"'/check' + request.path"#, None),
        ];
        for (expression, want) in rows {
            assert_eq!(path_prefix(expression).as_deref(), want, "{expression}");
        }
        assert_eq!(constant(r#""a b""#).as_deref(), Some("a b"));
        assert_eq!(constant(r#""a" + "b""#), None);
    }
}
