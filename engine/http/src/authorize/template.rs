//! Paths with `{*}` and `{**}` in them.

use std::fmt;

/// A path template: elements that are as they are, `{*}` for any one that is not empty, and `{**}` for whatever is
/// between its neighbours, nothing included.
///
/// `{**}` comes once and behind every `{*}`, so that a path is compared in one pass: `/a/{*}/b`, `/a/{**}`, `/{**}/b/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    head: Box<[Element]>,
    /// What stands behind `{**}`, its slash included; none: there is no `{**}`.
    tail: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Literal(Box<str>),
    Any,
}

/// Why a text is no path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It does not begin with a slash.
    NoSlash,
    /// `{**}` is not the last of what stands for something else.
    NotLast,
    /// A brace or a star stands where none may: `{*}` and `{**}` are whole elements.
    NotWhole,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TemplateError::NoSlash => "a path template begins with `/`",
            TemplateError::NotLast => "`{**}` may come once, and behind every `{*}`",
            TemplateError::NotWhole => {
                "`{*}` and `{**}` stand for whole elements of a path, between slashes, and no other `*`, `{` or `}` \
                 may stand beside them"
            }
        })
    }
}

impl std::error::Error for TemplateError {}

impl PathTemplate {
    /// Whether a text means a template, as opposed to a path.
    pub fn is_meant(text: &str) -> bool {
        text.contains("{*}") || text.contains("{**}")
    }

    /// Reads a template.
    ///
    /// # Errors
    /// It is none, with the reason.
    pub fn parse(text: &str) -> Result<PathTemplate, TemplateError> {
        let elements = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let mut head = Vec::new();
        let mut tail: Option<String> = None;
        for element in elements.split('/') {
            match (element, &mut tail) {
                ("{**}", None) => tail = Some(String::new()),
                ("{**}" | "{*}", Some(_)) => return Err(TemplateError::NotLast),
                ("{*}", None) => head.push(Element::Any),
                (literal, _) if literal.contains(['*', '{', '}']) => {
                    return Err(TemplateError::NotWhole);
                }
                (literal, Some(tail)) => {
                    tail.push('/');
                    tail.push_str(literal);
                }
                (literal, None) => head.push(Element::Literal(literal.into())),
            }
        }
        Ok(PathTemplate { head: head.into(), tail: tail.map(Into::into) })
    }

    /// Whether a canonical path is so.
    pub fn matches(&self, path: &str) -> bool {
        let mut rest = path;
        for element in &self.head {
            let Some(behind) = rest.strip_prefix('/') else { return false };
            let end = behind.find('/').unwrap_or(behind.len());
            let (own, after) = behind.split_at(end);
            let fits = match element {
                Element::Literal(literal) => own == &**literal,
                Element::Any => !own.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        match &self.tail {
            None => rest.is_empty(),
            Some(tail) => rest.strip_prefix('/').is_some_and(|rest| rest.ends_with(&**tail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_and_paths() {
        #[rustfmt::skip]
        let rows = [
            ("/a/{*}",        "/a/b",       true),
            ("/a/{*}",        "/a/",        false),
            ("/a/{*}",        "/a",         false),
            ("/a/{*}",        "/a/b/",      false),
            ("/a/{*}",        "/a/b/c",     false),
            ("/{*}/b",        "/a/b",       true),
            ("/{*}/b",        "//b",        false),
            ("/{*}/{*}",      "/a/b",       true),
            ("/a/{**}",       "/a/",        true),
            ("/a/{**}",       "/a/b/c",     true),
            ("/a/{**}",       "/a",         false),
            ("/a/{**}",       "/ab/c",      false),
            ("/{**}",         "/",          true),
            ("/{**}",         "/a/b",       true),
            ("/{**}/b",       "/a/b",       true),
            ("/{**}/b",       "/a/a/b",     true),
            ("/{**}/b",       "/b",         false),
            ("/{**}/b",       "//b",        true),
            ("/{**}/b",       "/a/bb",      false),
            ("/{**}/b/",      "/a/b/",      true),
            ("/{*}/x/{**}/y", "/a/x/b/c/y", true),
            ("/{*}/x/{**}/y", "/a/x/y",     false),
            ("/{*}/x/{**}/y", "/a/b/x/c/y", false),
        ];
        for (template, path, want) in rows {
            assert_eq!(
                PathTemplate::parse(template).unwrap().matches(path),
                want,
                "{template} {path}"
            );
        }
    }

    #[test]
    fn what_is_no_template() {
        for (text, error) in [
            ("a/{*}", TemplateError::NoSlash),
            ("", TemplateError::NoSlash),
            ("/{**}/{*}", TemplateError::NotLast),
            ("/{**}/a/{**}", TemplateError::NotLast),
            ("/{*}.txt", TemplateError::NotWhole),
            ("/a{**}", TemplateError::NotWhole),
            ("/{*}/*", TemplateError::NotWhole),
            ("/{*}/{name}", TemplateError::NotWhole),
            ("/{**}/{a", TemplateError::NotWhole),
        ] {
            assert_eq!(PathTemplate::parse(text), Err(error), "{text}");
        }
    }
}
