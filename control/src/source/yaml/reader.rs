//! Reads a file of YAML documents value by value, without ever holding more than one value.
//!
//! ```text
//! next_document ─▶ value                          a document as a whole, or
//!       ▲     └──▶ enter ─▶ key ─▶ value …        a mapping entry by entry, or
//!       │                    └───▶ enter ─▶ more ─▶ value …   a list in it element by element
//!       └── Abandoned: a syntax error ends its document, and the next one is read
//! ```
//!
//! Anchors, aliases and merge keys (`<<`) are resolved here; nobody above sees them. What they may multiply, how deep
//! values may nest and how large one may be is bounded, so that no text makes the reader take more than it is worth.

use std::collections::HashMap;

use granit_parser::{Event, FallibleBufferedInput, Parser, Span, Tag};

use super::mappings::{merged, report_duplicates};
use super::syntax;
use super::text::{Allowance, Characters};
use super::value::{Content, Key, Scalar, Value};
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{FileId, Place, Problem, Reporter};
use crate::source::{NESTING_MAX, VALUE_PARTS_MAX};

/// The rest of the document cannot be read; the reporter knows why.
#[derive(Debug)]
pub(crate) struct Abandoned;

type Read<T> = Result<T, Abandoned>;

/// A file that is being read.
pub(crate) struct Reader<'t> {
    file: FileId,
    parser: Parser<'static, FallibleBufferedInput<Characters<'t>>>,
    allowance: Allowance,
    /// Parts of the value that is being built.
    parts: usize,
    anchors: Anchors,
    /// Whether values may carry a tag of their own, such as `!Exact`.
    pub(crate) tags: bool,
}

/// The anchored values of a document.
#[derive(Default)]
struct Anchors {
    values: HashMap<usize, (Value, usize)>,
    names: Vec<Box<str>>,
    parts: usize,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(file: FileId, characters: Characters<'t>) -> Reader<'t> {
        let options = granit_parser::options! {
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            emit_comments: false,
            flow_nesting_limit: NESTING_MAX,
            block_nesting_limit: NESTING_MAX,
        };
        let allowance = characters.allowance();
        let parser = Parser::new_from_fallible_iter_with_options(characters, options);
        Reader { file, parser, allowance, parts: 0, anchors: Anchors::default(), tags: false }
    }

    /// Goes to the next document. `false`: there is none.
    pub(crate) fn next_document(&mut self, reporter: &mut Reporter) -> bool {
        self.anchors = Anchors::default();
        self.allowance.renew();
        loop {
            match self.next(reporter) {
                Ok((Event::DocumentStart(..), _)) => return true,
                Ok((Event::StreamEnd, _)) => return false,
                Ok(_) => {}
                Err(Abandoned) if self.skip_document() => {}
                Err(Abandoned) => return false,
            }
        }
    }

    /// Gives up the document that was abandoned. `false`: there is no other.
    pub(crate) fn skip_document(&mut self) -> bool {
        // A failure of the source ends the file, and was reported when it was met.
        self.allowance.renew();
        self.parser.proceed_next_document().unwrap_or(false)
    }

    pub(crate) fn at_mapping(&mut self) -> bool {
        matches!(self.parser.peek(), Some(Ok((Event::MappingStart(..), _))))
    }

    pub(crate) fn at_sequence(&mut self) -> bool {
        matches!(self.parser.peek(), Some(Ok((Event::SequenceStart(..), _))))
    }

    /// Steps into the mapping or list that comes next; from there it is read with [`Self::key`] or [`Self::more`].
    pub(crate) fn enter(&mut self, reporter: &mut Reporter) -> Read<Place> {
        let (_, span) = self.next(reporter)?;
        if matches!(self.parser.peek(), Some(Ok((Event::Anchor(..), _)))) {
            self.next(reporter)?;
        }
        Ok(self.place(span))
    }

    /// The next key of the mapping that was entered; `None` behind the last one.
    pub(crate) fn key(&mut self, reporter: &mut Reporter) -> Read<Option<Key>> {
        loop {
            let (event, span) = self.next(reporter)?;
            if event == Event::MappingEnd {
                return Ok(None);
            }
            self.begin_value();
            if let Some(key) = self.key_from(event, span, reporter)? {
                return Ok(Some(key));
            }
            self.value_in(reporter)?;
        }
    }

    /// Whether the list that was entered has another element.
    pub(crate) fn more(&mut self, reporter: &mut Reporter) -> Read<bool> {
        if matches!(self.parser.peek(), Some(Ok((Event::SequenceEnd, _)))) {
            self.next(reporter)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The value that comes next, as a whole.
    pub(crate) fn value(&mut self, reporter: &mut Reporter) -> Read<Value> {
        self.begin_value();
        self.value_in(reporter)
    }

    fn begin_value(&mut self) {
        self.allowance.renew();
        self.parts = 0;
    }

    fn value_in(&mut self, reporter: &mut Reporter) -> Read<Value> {
        let (event, span) = self.next(reporter)?;
        self.value_from(event, span, reporter)
    }

    fn value_from(
        &mut self,
        event: Event<'static>,
        span: Span,
        reporter: &mut Reporter,
    ) -> Read<Value> {
        let place = self.place(span);
        self.count(1, place, reporter)?;
        let before = self.parts;
        let anchor = self.anchor(reporter)?;
        let (content, tag) = match event {
            Event::Scalar(text, style, _, tag) => {
                let plain = style == granit_parser::ScalarStyle::Plain;
                (Content::Scalar(Scalar { text: text.into(), plain }), tag)
            }
            Event::SequenceStart(_, _, tag) => (self.sequence(reporter)?, tag),
            Event::MappingStart(_, _, tag) => (self.mapping(reporter)?, tag),
            Event::Alias(id) => return self.alias(id, place, reporter),
            Event::UnresolvedAlias(name) => {
                self.unresolved(&name, place, reporter);
                (Content::Scalar(Scalar { text: "".into(), plain: true }), None)
            }
            // The parser alternates starts and ends correctly; a value cannot begin with an end.
            _ => return Err(self.malformed(place, reporter)),
        };
        let mut value = Value { place, tag: None, content };
        self.apply_tag(&mut value, tag.as_deref(), reporter);
        if let Some((id, name)) = anchor {
            self.remember(id, name, &value, self.parts - before + 1, reporter)?;
        }
        Ok(value)
    }

    fn sequence(&mut self, reporter: &mut Reporter) -> Read<Content> {
        let mut elements = Vec::new();
        while self.more(reporter)? {
            elements.push(self.value_in(reporter)?);
        }
        Ok(Content::Sequence(elements))
    }

    fn mapping(&mut self, reporter: &mut Reporter) -> Read<Content> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next(reporter)?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.key_from(event, span, reporter)?;
            let value = self.value_in(reporter)?;
            entries.extend(key.map(|key| (key, value)));
        }
        report_duplicates(&entries, reporter);
        Ok(Content::Mapping(merged(entries, reporter)))
    }

    /// `None`: it was not text, which was reported.
    fn key_from(
        &mut self,
        event: Event<'static>,
        span: Span,
        reporter: &mut Reporter,
    ) -> Read<Option<Key>> {
        let value = self.value_from(event, span, reporter)?;
        match value.content {
            Content::Scalar(Scalar { text, .. }) => Ok(Some(Key { place: value.place, text })),
            _ => {
                let message = format!("a key must be text, this is {}", value.found());
                reporter.report(Problem::error(value.place, message));
                Ok(None)
            }
        }
    }

    fn alias(&mut self, id: usize, place: Place, reporter: &mut Reporter) -> Read<Value> {
        let Some((value, parts)) = self.anchors.values.get(&id) else {
            let message = "this alias stands inside the value it refers to";
            reporter.report(Problem::error(place, message));
            return Err(Abandoned);
        };
        let (value, parts) = (value.clone(), *parts);
        self.count(parts, place, reporter)?;
        Ok(value)
    }

    fn unresolved(&self, name: &str, place: Place, reporter: &mut Reporter) {
        let names = self.anchors.names.iter().map(|name| &**name);
        let help = did_you_mean(name, names)
            .or_else(|| Some("text that begins with `*` must be written in quotes".into()));
        let message = format!("there is no anchor `&{name}` before this alias");
        reporter.report(Problem::error(place, message).help(help));
    }

    fn anchor(&mut self, reporter: &mut Reporter) -> Read<Option<(usize, Box<str>)>> {
        if !matches!(self.parser.peek(), Some(Ok((Event::Anchor(..), _)))) {
            return Ok(None);
        }
        match self.next(reporter)? {
            (Event::Anchor(id, name), _) => Ok(Some((id, name.into()))),
            _ => Ok(None),
        }
    }

    /// What anchors hold lives as long as the document, so it has a bound of its own, which also bounds how deep
    /// values that refer to each other can nest.
    fn remember(
        &mut self,
        id: usize,
        name: Box<str>,
        value: &Value,
        parts: usize,
        reporter: &mut Reporter,
    ) -> Read<()> {
        self.anchors.parts += parts;
        if self.anchors.parts > VALUE_PARTS_MAX {
            return Err(too_many_parts("the anchored values", value.place, reporter));
        }
        self.anchors.names.push(name);
        self.anchors.values.insert(id, (value.clone(), parts));
        Ok(())
    }

    fn count(&mut self, parts: usize, place: Place, reporter: &mut Reporter) -> Read<()> {
        self.parts += parts;
        match self.parts > VALUE_PARTS_MAX {
            true => Err(too_many_parts("this value", place, reporter)),
            false => Ok(()),
        }
    }

    fn apply_tag(&self, value: &mut Value, tag: Option<&Tag>, reporter: &mut Reporter) {
        let Some(tag) = tag else { return };
        match (tag.core_suffix(), &mut value.content) {
            (Some("str"), Content::Scalar(scalar)) => scalar.plain = false,
            (Some(_), _) => {}
            (None, Content::Scalar(scalar)) if tag.suffix().is_empty() => scalar.plain = false,
            (None, _) if self.tags => value.tag = Some(tag.suffix().into()),
            (None, _) => {
                let message = format!("the tag `{}` means nothing here", tag.original());
                let help = "text that begins with `!` must be written in quotes";
                reporter.report(Problem::error(value.place, message).help(help.to_owned()));
            }
        }
    }

    fn next(&mut self, reporter: &mut Reporter) -> Read<(Event<'static>, Span)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                syntax::report(&error, self.file, reporter);
                Err(Abandoned)
            }
            // Behind the end the parser has nothing more to say.
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn malformed(&self, place: Place, reporter: &mut Reporter) -> Abandoned {
        reporter.report(Problem::error(place, "a value is missing here"));
        Abandoned
    }

    fn place(&self, span: Span) -> Place {
        let width = match span.end.line() == span.start.line() {
            true => span.end.col().saturating_sub(span.start.col()).max(1),
            false => 1,
        };
        Place {
            file: self.file,
            line: span.start.line().max(1) as u32,
            column: span.start.col() as u32 + 1,
            width: width as u32,
        }
    }
}

fn too_many_parts(what: &str, place: Place, reporter: &mut Reporter) -> Abandoned {
    let message = format!("{what} would have more than {VALUE_PARTS_MAX} parts");
    reporter.report(Problem::error(place, message));
    Abandoned
}
