//! `selector`: the workloads that an object is for.

use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::labels;
use crate::source::objects::Labels;
use crate::source::yaml::fields::{Fields, mapping};
use crate::source::yaml::value::Value;

/// The labels that are asked for. Without any, every workload is meant, as without a selector.
pub(super) fn selector(fields: &mut Fields<'_, '_>, context: &mut Context) -> Option<Labels> {
    fields.must_not_be_null("selector", "leave the key out to mean every workload");
    let labels = fields.optional("selector", |value, reporter| read(value, context, reporter));
    labels.filter(|labels| !labels.is_empty())
}

fn read(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Labels> {
    mapping("selector", value, reporter, |fields| {
        fields.must_not_be_null("matchLabels", "leave the key out to mean every workload");
        fields.optional("matchLabels", |value, reporter| {
            report_wildcards(value, reporter);
            labels("matchLabels", value, context, reporter)
        })
    })?
    .or_else(|| Some(Labels::default()))
}

fn report_wildcards(value: &Value, reporter: &mut Reporter) {
    for (key, value) in value.entries().unwrap_or_default() {
        let texts = [(key.place, Some(&*key.text)), (value.place, value.text())];
        for (place, _) in
            texts.into_iter().filter(|(_, text)| text.is_some_and(|text| text.contains('*')))
        {
            let message = "a selector compares labels as they are, `*` means nothing in it";
            reporter.report(Problem::error(place, message));
        }
    }
}
