//! Why a template is refused, in words for whoever wrote it.

use std::fmt;

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// It is none of the words, and no template either.
    NoForm(String),
    /// A `%` has no second one.
    Open(String),
    /// There is no such operator.
    NoOperator(String),
    /// An operator needs something in parentheses.
    NoArgument(String),
    /// This header is not kept for the log.
    NoHeader(String),
    /// These two headers cannot stand for each other.
    NoAlternative(String),
    /// This is no form of a moment.
    NoTime(String),
    /// This is no length.
    NoLength(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoForm(given) => write!(
                f,
                "{given:?} is no form of the access log: use text, istio, json, off, or a template with operators \
                 such as %RESPONSE_CODE%"
            ),
            Self::Open(rest) => {
                write!(f, "a % without a second one at {rest:?}; for a percent sign write %%")
            }
            Self::NoOperator(name) => {
                write!(f, "there is no operator %{name}%; docs/waypoint.md has those there are")
            }
            Self::NoArgument(name) => {
                write!(f, "%{name}% needs a name in parentheses, such as %{name}(X)%")
            }
            Self::NoHeader(name) => write!(
                f,
                "the header {name:?} is not kept for the log; of requests those are :METHOD, :PATH, :AUTHORITY, \
                 X-ENVOY-ORIGINAL-PATH, USER-AGENT, X-REQUEST-ID and X-FORWARDED-FOR, of answers :STATUS, \
                 X-ENVOY-UPSTREAM-SERVICE-TIME and GRPC-STATUS"
            ),
            Self::NoAlternative(both) => {
                write!(
                    f,
                    "of {both:?} one cannot stand for the other; X-ENVOY-ORIGINAL-PATH?:PATH can"
                )
            }
            Self::NoTime(form) => write!(
                f,
                "{form:?} is no form of a moment: use %Y %m %d %H %M %S %F %T, %s, and %3f, %6f or %9f for the fraction"
            ),
            Self::NoLength(given) => write!(f, "{given:?} is no number of characters"),
        }
    }
}

impl std::error::Error for TemplateError {}
