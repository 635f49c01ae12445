//! What of a request rate limits tell apart.

use std::borrow::Cow;

use http::HeaderName;

use crate::authorize::{Facts, PathTemplate, TemplateError, header_text};
use crate::model::policy::{Descriptor, DescriptorValue, PathPattern, TextMatch};

/// The entries of a key, ready to be asked.
#[derive(Debug)]
pub(crate) struct CompiledDescriptors(Box<[Value]>);

#[derive(Debug)]
enum Value {
    Constant(std::sync::Arc<str>),
    Header(HeaderName),
    Path,
    PathIs(TextMatch),
    PathFits(PathTemplate),
    Method,
    Host,
    SourceIdentity,
    SourceNamespace,
    SourceIp,
    Claim(Box<[std::sync::Arc<str>]>),
}

impl CompiledDescriptors {
    /// # Errors
    /// A path template is none.
    pub(crate) fn of(
        descriptors: &[Descriptor],
    ) -> Result<CompiledDescriptors, (Box<str>, TemplateError)> {
        descriptors.iter().map(|one| Value::of(&one.value)).collect::<Result<_, _>>().map(Self)
    }

    /// The key of a request; none: one of its entries is not there.
    pub(crate) fn of_request<'f>(&self, facts: &'f Facts<'_>) -> Option<Vec<Cow<'f, str>>> {
        self.0.iter().map(|value| value.of_request(facts)).collect()
    }
}

impl Value {
    fn of(value: &DescriptorValue) -> Result<Value, (Box<str>, TemplateError)> {
        Ok(match value {
            DescriptorValue::Constant(text) => Value::Constant(text.clone()),
            DescriptorValue::Header(name) => Value::Header(name.clone()),
            DescriptorValue::Path => Value::Path,
            DescriptorValue::PathIs(PathPattern::Text(text)) => Value::PathIs(text.clone()),
            DescriptorValue::PathIs(PathPattern::Template(text)) => {
                let parsed = PathTemplate::parse(text);
                Value::PathFits(parsed.map_err(|error| ((&**text).into(), error))?)
            }
            DescriptorValue::Method => Value::Method,
            DescriptorValue::Host => Value::Host,
            DescriptorValue::SourceIdentity => Value::SourceIdentity,
            DescriptorValue::SourceNamespace => Value::SourceNamespace,
            DescriptorValue::SourceIp => Value::SourceIp,
            DescriptorValue::Claim(path) => Value::Claim(path.as_slice().into()),
        })
    }

    fn of_request<'f>(&self, facts: &'f Facts<'_>) -> Option<Cow<'f, str>> {
        let request = facts.request();
        Some(match self {
            Value::Constant(text) => Cow::Owned(text.to_string()),
            Value::Header(name) => {
                let headers = request?.headers;
                Cow::Owned(header_text(headers, name)?.into_owned())
            }
            Value::Path => Cow::Borrowed(request?.path),
            Value::PathIs(text) => {
                let path = request?.path;
                text.matches(path).then_some(Cow::Borrowed(path))?
            }
            Value::PathFits(template) => {
                let path = request?.path;
                template.matches(path).then_some(Cow::Borrowed(path))?
            }
            Value::Method => Cow::Borrowed(request?.method.as_str()),
            Value::Host => Cow::Borrowed(facts.host()?),
            Value::SourceIdentity => Cow::Borrowed(facts.principal()?),
            Value::SourceNamespace => Cow::Borrowed(facts.source()?.namespace()),
            Value::SourceIp => Cow::Owned(facts.source_ip().to_string()),
            Value::Claim(path) => {
                let token = request?.token?;
                Cow::Owned(token.claim_text(path)?.into_owned())
            }
        })
    }
}
