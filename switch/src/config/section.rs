//! One table of the file, from which settings are taken key by key while mistakes are collected.

use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::Problem;

/// A table whose settings are taken out one by one. What is left at the end is unknown.
pub(super) struct Section<'a> {
    name: String,
    table: Table,
    taken: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// `name` is empty for the file's top level.
    pub(super) fn new(name: &str, table: Table, problems: &'a mut Vec<Problem>) -> Self {
        Self { name: name.to_owned(), table, taken: Vec::new(), problems }
    }

    /// Notes a mistake in `key`.
    pub(super) fn note(&mut self, key: &str, message: String) {
        let key = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        self.problems.push(Problem { key, message });
    }

    /// The setting `key` as `convert` reads it; `None` when it is absent or wrong, which is noted.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.taken.push(key);
        match convert(&self.table.remove(key)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.note(key, message);
                None
            }
        }
    }

    /// As `get`, and absence is a mistake.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.note(key, "is missing and has no default".to_owned());
        }
        self.get(key, convert)
    }

    /// The section `key`, if it is there.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'_>> {
        let table = self.get(key, |value| match value {
            Value::Table(table) => Ok(table.clone()),
            other => Err(format!("is {}, write a section: [{key}]", describe(other))),
        })?;
        Some(Section::new(key, table, self.problems))
    }

    /// Notes every key that nobody asked for.
    pub(super) fn refuse_unknown(mut self) {
        let known = self.taken.join(", ");
        for key in std::mem::take(&mut self.table).into_iter().map(|(key, _)| key) {
            self.note(&key, format!("is not a setting; remove it or write one of: {known}"));
        }
    }
}

/// What a value is, for messages.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Table(_) => "a section".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => format!("{other}"),
    }
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("is {}, write true or false", describe(value)))
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("is {}, write text in quotes", describe(other))),
    }
}

/// A whole number within `range`.
pub(super) fn integer<T>(value: &Value, range: RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let number = value.as_integer().and_then(|number| T::try_from(number).ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        format!("is {}, write a number from {} to {}", describe(value), range.start(), range.end())
    })
}

/// One of some words.
pub(super) fn one_of<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let known = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
    let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("is {}, write {}", describe(value), known()))
}

/// A list, each element as `convert` reads it. The first wrong element is the mistake.
pub(super) fn list<T>(
    value: &Value,
    convert: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    match value {
        Value::Array(elements) => {
            elements.iter().map(|element| convert(element).map_err(|e| format!("one {e}"))).collect()
        }
        other => Err(format!("is {}, write a list: [...]", describe(other))),
    }
}
