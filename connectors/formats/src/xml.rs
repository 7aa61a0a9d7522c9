//! Messages that are documents of XML.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{Columns, PlanContext, Problem, Result, known_names};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::refuse_nested;
use crate::fields::{Field, FieldForm, FieldReader, FieldSettings, FindFields};
use crate::kind::{FormatKind, Settings, Side};
use crate::messages::{MakeReader, MessageFormat, MessageReader, always};
use crate::read::wanted;

pub(crate) const FORMAT: FormatKind = FormatKind {
    name: "xml",
    about: "Documents of XML.",
    endings: &[],
    example: r#"{ type = "xml", paths = { currency = "price/@currency" } }"#,
    is_text: true,
    can_grow: false,
    read: None,
    read_messages: Some(Side::of::<ReadXml>()),
    write_files: None,
    write_streams: None,
    write_messages: None,
};

/// A column is the text of the element of its name in the outermost element, or the attribute of that name which the outermost
/// element has; `paths` says where else one is. Space around a text is no part of it, and what is empty is null. A document
/// that has a column twice fails. Names count without the prefix of their namespace. No entities are known but those of XML
/// itself, so that nothing outside of the document is read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ReadXml {
    /// Where columns are, by the names of elements from the outermost one inwards, and of an attribute behind `@`:
    /// `{ city = "address/city", currency = "price/@currency" }`. `.` is the outermost element itself.
    paths: BTreeMap<String, String>,
    #[serde(flatten)]
    fields: FieldSettings,
}

impl Settings for ReadXml {
    type Made = Arc<dyn MessageFormat>;

    fn make(self, _: &str) -> Result<Self::Made, Problem> {
        for (column, path) in &self.paths {
            let steps: Vec<&str> = path.split('/').collect();
            let is_last = |place: usize| place + 1 == steps.len();
            let is_name = |(place, step): (usize, &&str)| match step.strip_prefix('@') {
                Some(name) => is_last(place) && !name.is_empty(),
                None => !step.is_empty() && !step.contains('@'),
            };
            if !steps.iter().enumerate().all(is_name) {
                let problem =
                    Problem::new(format!("`{path}` is no path")).help("such as `address/city` or `price/@currency`");
                return Err(problem.at(["paths", column.as_str()]));
            }
        }
        Ok(Arc::new(XmlMessages { paths: self.paths, form: self.fields.form()? }))
    }
}

/// Documents of XML to read from messages.
#[derive(Debug)]
struct XmlMessages {
    paths: BTreeMap<String, String>,
    form: FieldForm,
}

impl MessageFormat for XmlMessages {
    fn check_columns(&self, columns: &Columns) -> Result<(), Problem> {
        refuse_nested(&columns.schema(), "a text in XML")?;
        let names = columns.0.iter().map(|(name, _)| name.as_str());
        match self.paths.keys().find(|path| names.clone().all(|name| name != path.as_str())) {
            None => Ok(()),
            Some(path) => {
                Err(Problem::new(format!("there is a path of `{path}`, which is no column"))
                    .help(known_names(path, names)))
            }
        }
    }

    fn readers(self: Arc<Self>, columns: &Columns, context: &PlanContext) -> Result<MakeReader, Problem> {
        Ok(always(self, columns, context, Self::open))
    }
}

impl XmlMessages {
    /// Reads messages that are rows of these columns.
    fn open(&self, columns: &Columns, context: &PlanContext) -> Box<dyn MessageReader> {
        let columns = wanted(columns, context.columns.as_ref());
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, (name, _)) in columns.0.iter().enumerate() {
            let paths = match self.paths.get(name) {
                Some(path) if path == "." => vec![String::new()],
                Some(path) => vec![path.clone()],
                None => vec![name.clone(), format!("@{name}")],
            };
            paths.into_iter().for_each(|path| places.entry(path).or_default().push(place));
        }
        Box::new(FieldReader::new(&columns, self.form.clone(), context.batch_rows, Document::new(places)))
    }
}

/// Finds the texts of elements and attributes.
struct Document {
    /// The columns of a path.
    places: BTreeMap<String, Vec<usize>>,
    /// Where the reader is: the names of elements inside of the outermost one, each behind a `/` but the first.
    path: String,
    /// How long the path was before each element that is open.
    open: Vec<usize>,
    /// The texts of open elements that are columns, each with how many elements are open in and around it.
    texts: Vec<(usize, String)>,
}

impl Document {
    fn new(places: BTreeMap<String, Vec<usize>>) -> Self {
        Self { places, path: String::new(), open: Vec::new(), texts: Vec::new() }
    }

    /// Goes on inside of an element.
    fn enter(&mut self, element: &BytesStart<'_>, fields: &mut [Field<'_>]) -> Result<(), String> {
        let length = self.path.len();
        if !self.open.is_empty() {
            self.path.push_str(if self.path.is_empty() { "" } else { "/" });
            self.path
                .push_str(std::str::from_utf8(element.local_name().into_inner()).map_err(|error| error.to_string())?);
        }
        self.open.push(length);
        if self.places.contains_key(&self.path) {
            self.texts.push((self.open.len(), String::new()));
        }
        self.take_attributes(element, fields)
    }

    fn take_attributes(&mut self, element: &BytesStart<'_>, fields: &mut [Field<'_>]) -> Result<(), String> {
        let length = self.path.len();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let name =
                std::str::from_utf8(attribute.key.local_name().into_inner()).map_err(|error| error.to_string())?;
            self.path.push_str(if length == 0 { "@" } else { "/@" });
            self.path.push_str(name);
            if self.places.contains_key(&self.path) {
                let text = attribute.unescape_value().map_err(|error| error.to_string())?;
                self.put(&text, fields)?;
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    /// Goes on behind an element.
    fn leave(&mut self, fields: &mut [Field<'_>]) -> Result<(), String> {
        if self.texts.last().is_some_and(|(depth, _)| *depth == self.open.len())
            && let Some((_, text)) = self.texts.pop()
        {
            self.put(&text, fields)?;
        }
        let length = self.open.pop().ok_or("an element ends that has not begun")?;
        self.path.truncate(length);
        Ok(())
    }

    /// The text of the columns that are at the path.
    fn put(&self, text: &str, fields: &mut [Field<'_>]) -> Result<(), String> {
        let text = text.trim();
        for place in self.places.get(&self.path).into_iter().flatten().filter(|_| !text.is_empty()) {
            if fields[*place].replace(Cow::Owned(text.to_owned())).is_some() {
                return Err(format!("`{}` is there twice", self.path));
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        if self.open.is_empty() && !text.trim().is_empty() {
            return Err("there is text outside of the outermost element".to_owned());
        }
        self.texts.iter_mut().for_each(|(_, of_element)| of_element.push_str(text));
        Ok(())
    }

    fn add_reference(&mut self, reference: &BytesRef<'_>) -> Result<(), String> {
        if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
            return self.add(character.encode_utf8(&mut [0; 4]));
        }
        let name = reference.decode().map_err(|error| error.to_string())?;
        let text = resolve_predefined_entity(&name).ok_or_else(|| format!("the entity `&{name};` is not known"))?;
        self.add(text)
    }

    fn read(&mut self, message: &str, fields: &mut [Field<'_>]) -> Result<(), String> {
        let mut reader = Reader::from_str(message);
        let mut roots = 0;
        loop {
            let event = reader.read_event().map_err(|error| format!("the text is no XML: {error}"))?;
            roots += usize::from(self.open.is_empty() && matches!(event, Event::Start(_) | Event::Empty(_)));
            if roots > 1 {
                return Err("there is more than one outermost element".to_owned());
            }
            match event {
                Event::Start(element) => self.enter(&element, fields)?,
                Event::Empty(element) => {
                    self.enter(&element, fields)?;
                    self.leave(fields)?;
                }
                Event::End(_) => self.leave(fields)?,
                Event::Text(text) => self.add(&text.xml_content().map_err(|error| error.to_string())?)?,
                Event::CData(text) => self.add(&text.xml_content().map_err(|error| error.to_string())?)?,
                Event::GeneralRef(reference) => self.add_reference(&reference)?,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
                Event::Eof if !self.open.is_empty() => {
                    return Err("the text is no XML: an element does not end".to_owned());
                }
                Event::Eof if roots == 0 => return Err("the text has no element".to_owned()),
                Event::Eof => return Ok(()),
            }
        }
    }
}

impl FindFields for Document {
    fn find<'m>(&mut self, message: &'m str, fields: &mut [Field<'m>]) -> Result<(), String> {
        self.path.clear();
        self.open.clear();
        self.texts.clear();
        self.read(message, fields)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<Vec<Option<String>>, String> {
        let paths = [("id", 0), ("@id", 0), ("price/@currency", 1), ("address/city", 2), ("address", 3)];
        let places = paths.into_iter().map(|(path, place)| (path.to_owned(), vec![place])).collect();
        let mut fields = vec![None; 4];
        Document::new(places).find(text, &mut fields)?;
        Ok(fields.into_iter().map(|field| field.map(Cow::into_owned)).collect())
    }

    #[track_caller]
    fn check(text: &str, expected: [Option<&str>; 4]) {
        assert_eq!(find(text).unwrap().iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn elements_and_attributes_are_columns() {
        check(
            r#"<?xml version="1.0"?><o id="7"><price currency="EUR">5</price></o>"#,
            [Some("7"), Some("EUR"), None, None],
        );
        check(
            "<o><id> 7\n</id><address>x <city>Wien</city></address></o>",
            [Some("7"), None, Some("Wien"), Some("x Wien")],
        );
        check(
            "<s:o xmlns:s='u'><s:id>7</s:id><other><id>8</id></other><address/></s:o>",
            [Some("7"), None, None, None],
        );
    }

    #[test]
    fn what_is_escaped_is_read_as_it_is() {
        check("<o><id>a&lt;b &#65;<![CDATA[<&]]></id><!-- no --></o>", [Some("a<b A<&"), None, None, None]);
        check(r#"<o id="&quot;&amp;"/>"#, [Some("\"&"), None, None, None]);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for (text, error) in [
            ("", "the text has no element"),
            ("no", "there is text outside of the outermost element"),
            ("<o><id>7</id>", "the text is no XML: an element does not end"),
            ("<o/><o/>", "there is more than one outermost element"),
            ("<o id='7'><id>8</id></o>", "`id` is there twice"),
            (
                "<!DOCTYPE o [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><o><id>&x;</id></o>",
                "the entity `&x;` is not known",
            ),
        ] {
            assert_eq!(find(text).unwrap_err(), error, "{text}");
        }
        assert!(find("<o><id>7</o>").unwrap_err().starts_with("the text is no XML: "));
    }

    #[test]
    fn an_element_in_which_there_are_very_many_others_is_read() {
        let depth = 100_000;
        check(
            &format!("<o><id>7</id>{}{}</o>", "<a>".repeat(depth), "</a>".repeat(depth)),
            [Some("7"), None, None, None],
        );
    }
}
