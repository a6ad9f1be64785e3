//! One YAML or JSON document with the line of every field.

use saphyr::{LoadableYamlNode, MarkedYamlOwned, ScalarOwned, YamlDataOwned};
use serde_json::{Map, Number, Value};

/// Deeper nesting is refused; Kubernetes objects stay below twenty.
const DEEPEST: usize = 64;

/// Most columns of indentation and indicators in front of a line's text.
const WIDEST_INDENTATION: usize = 250;

/// A document that is not empty.
pub(super) struct Document {
    pub(super) value: Value,
    root: MarkedYamlOwned,
    first_line: usize,
}

/// Cuts a file at its `---` lines, so that a mistake in one document leaves the others readable. With the number of each part's first line.
pub(super) fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut begin, mut first_line, mut at) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        // A document marker is at the margin; nothing else can begin like this there.
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push((first_line, &text[begin..at]));
            (begin, first_line) = (at, number);
        }
        at += line.len();
    }
    parts.push((first_line, &text[begin..]));
    parts
}

impl Document {
    /// Parses one document; None if there is nothing in it. The error is a line and a reason.
    pub(super) fn parse(text: &str, first_line: usize) -> Result<Option<Self>, (usize, String)> {
        if too_deep(text) {
            return Err((
                first_line,
                format!("a line is indented by more than {WIDEST_INDENTATION} columns"),
            ));
        }
        let mut documents = MarkedYamlOwned::load_from_str(text).map_err(|error| {
            (first_line + error.marker().line().saturating_sub(1), format!("not YAML: {}", error.info()))
        })?;
        let Some(root) = documents.pop() else { return Ok(None) };
        let value =
            value(&root, DEEPEST).map_err(|(line, reason)| (first_line + line.saturating_sub(1), reason))?;
        Ok(if value.is_null() { None } else { Some(Self { value, root, first_line }) })
    }

    /// The line of a field, or of the deepest field on the way to it that is there.
    pub(super) fn line(&self, path: &str) -> usize {
        let mut node = &self.root;
        let mut line = node.span.start.line();
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let next = match &node.data {
                YamlDataOwned::Mapping(fields) => {
                    fields.iter().find(|(key, _)| text(key).as_deref() == Some(step))
                }
                YamlDataOwned::Sequence(items) => {
                    step.parse::<usize>().ok().and_then(|index| items.get(index)).map(|item| (item, item))
                }
                _ => None,
            };
            let Some((key, value)) = next else { break };
            line = key.span.start.line();
            node = value;
        }
        self.first_line + line.saturating_sub(1)
    }
}

/// The parser recurses into block collections without a limit of its own. Each level takes a column of indentation or an indicator in
/// front of a line's text, so bounding those bounds the levels.
fn too_deep(text: &str) -> bool {
    let indicators = |line: &str| line.bytes().take_while(|octet| b" -?:\t".contains(octet)).count();
    text.lines().any(|line| indicators(line) > WIDEST_INDENTATION)
}

fn text(node: &MarkedYamlOwned) -> Option<String> {
    match &node.data {
        YamlDataOwned::Value(ScalarOwned::String(text)) => Some(text.clone()),
        YamlDataOwned::Value(ScalarOwned::Integer(number)) => Some(number.to_string()),
        YamlDataOwned::Value(ScalarOwned::Boolean(flag)) => Some(flag.to_string()),
        _ => None,
    }
}

/// The node as JSON, or its line within the document and why not.
fn value(node: &MarkedYamlOwned, levels: usize) -> Result<Value, (usize, String)> {
    let line = node.span.start.line();
    let Some(levels) = levels.checked_sub(1) else {
        return Err((line, format!("nested deeper than {DEEPEST} levels")));
    };
    match &node.data {
        YamlDataOwned::Value(scalar) => Ok(match scalar {
            ScalarOwned::Null => Value::Null,
            ScalarOwned::Boolean(flag) => Value::Bool(*flag),
            ScalarOwned::Integer(number) => Value::Number((*number).into()),
            ScalarOwned::FloatingPoint(number) => {
                Number::from_f64(number.into_inner()).map_or(Value::Null, Value::Number)
            }
            ScalarOwned::String(text) => Value::String(text.clone()),
        }),
        YamlDataOwned::Sequence(items) => {
            items.iter().map(|item| value(item, levels)).collect::<Result<_, _>>().map(Value::Array)
        }
        YamlDataOwned::Mapping(fields) => {
            let mut object = Map::new();
            for (key, field) in fields {
                let name =
                    text(key).ok_or_else(|| (key.span.start.line(), "a key that is not text".to_owned()))?;
                object.insert(name, value(field, levels)?);
            }
            Ok(Value::Object(object))
        }
        YamlDataOwned::Tagged(tag, _) => Err((line, format!("the tag {tag} is not for Kubernetes objects"))),
        YamlDataOwned::Alias(_) | YamlDataOwned::BadValue | YamlDataOwned::Representation(..) => {
            Err((line, "not a value: an alias without anchor, or a tag that does not fit".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    //! Lines are found in every document of a file, and hostile nesting is refused, not followed.
    use super::*;

    #[test]
    fn fields_have_their_lines() {
        let text = "# a comment\nkind: A\n---\nkind: B\nspec:\n  rules:\n  - name: one\n  - name: two\n    cidr: x\n";
        let parts = split(text);
        assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), [1, 3]);
        let second = Document::parse(parts[1].1, parts[1].0).unwrap().unwrap();
        let lines = ["spec.rules[1].cidr", "spec.rules[1].missing", "spec.rules[0]", "kind", ""]
            .map(|path| second.line(path));
        assert_eq!(lines, [9, 8, 7, 4, 4]);
    }

    #[test]
    fn mistakes_have_their_line() {
        let (line, reason) = Document::parse("kind: B\nspec: [\n", 10).err().unwrap();
        assert!(line >= 11, "{line}: {reason}");
        assert!(Document::parse("kind: B\nkind: C\n", 1).is_err(), "a repeated key");
        assert!(Document::parse("a: *nowhere\n", 1).is_err(), "an alias without anchor");
    }

    #[test]
    fn nesting_is_bounded() {
        let stairs = (0..=240).map(|column| " ".repeat(column) + "a:\n").collect();
        let hostile = ["[".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000), stairs];
        for text in hostile {
            assert!(Document::parse(&text, 1).is_err());
        }
    }
}
