//! Lists and inspections: tables, JSON, and whatever a `--format` makes of them.
//!
//! As Docker's: a table of the verb's own columns, `--format json` one object for
//! each line, `--format 'table TEMPLATE'` a table of one's own, any other template a line for each.

use super::{Table, Template, TemplateError, Value};

/// How a list is printed.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// The verb's own columns.
    Table,
    /// One JSON object for each line.
    Json,
    /// A line for each.
    Lines(Template),
    /// A table of the template's making, with heads.
    Columns(Template),
}

/// A column that a list can show: the field of its values, and its head.
pub type Column = (&'static str, &'static str);

impl Format {
    /// Reads the value of a list's `--format`.
    ///
    /// # Errors
    /// A template that is wrong.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(match text {
            "" | "table" => Self::Table,
            "json" => Self::Json,
            _ => match text.strip_prefix("table ") {
                Some(template) => Self::Columns(Template::parse(template.trim_start())?),
                None => Self::Lines(Template::parse(text)?),
            },
        })
    }

    /// Prints a list. `columns` are the heads of every field that a table may show, of which the
    /// first `shown` are the verb's own table.
    ///
    /// # Errors
    /// A template that does not fit the values.
    pub fn list(
        &self,
        values: &[Value],
        columns: &[Column],
        shown: usize,
    ) -> Result<String, TemplateError> {
        let heads = || {
            let head = |(field, head): &Column| (*field, Value::Text((*head).to_owned()));
            Value::Struct(columns.iter().map(head).collect())
        };
        match self {
            Self::Json => {
                let lines: Vec<_> = values.iter().map(json).collect();
                Ok(lines.concat())
            }
            Self::Lines(template) => lines(template, values),
            Self::Columns(template) => table(template, &heads(), values),
            Self::Table => {
                let fields = columns.iter().take(shown);
                let fields: Vec<_> = fields.map(|(field, _)| format!("{{{{.{field}}}}}")).collect();
                let template = Template::parse(&fields.join("\t"))?;
                table(&template, &heads(), values)
            }
        }
    }
}

/// A value as JSON in one line, with its line break.
#[must_use]
pub fn json(value: &Value) -> String {
    // Numbers and text of our own always have a form in JSON.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// A value as JSON with an indent of four, which is how Docker inspects, and a line break.
#[must_use]
pub fn json_indented(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    let written = serde::Serialize::serialize(value, &mut serializer);
    debug_assert!(written.is_ok(), "a value always has a form in JSON");
    String::from_utf8(out).unwrap_or_default() + "\n"
}

fn table(template: &Template, heads: &Value, values: &[Value]) -> Result<String, TemplateError> {
    let cells = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let mut table = Table::new(cells(&template.render_heads(heads)?));
    for value in values {
        table.push(cells(&template.render(value)?));
    }
    Ok(table.to_string())
}

fn lines(template: &Template, values: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    for value in values {
        out.push_str(&template.render(value)?);
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sorted::SortedMap;

    const COLUMNS: [Column; 4] =
        [("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Label", "LABEL")];

    fn rows() -> Vec<Value> {
        let text = |text: &str| Value::Text(text.into());
        let row = |id, name| {
            let labels = SortedMap::from([("com.tier".to_owned(), "one".to_owned())]);
            Value::Struct(vec![
                ("ID", text(id)),
                ("Name", text(name)),
                ("Driver", text("bridge")),
                ("Labels", text("com.tier=one")),
                ("Label", Value::Method(labels)),
            ])
        };
        vec![row("0123456789ab", "n1"), row("ba9876543210", "a-longer-name")]
    }

    fn list(format: &str) -> String {
        Format::parse(format).unwrap().list(&rows(), &COLUMNS, 3).unwrap()
    }

    #[test]
    fn a_table_is_aligned_as_dockers() {
        let expected = "NETWORK ID     NAME            DRIVER\n\
                        0123456789ab   n1              bridge\n\
                        ba9876543210   a-longer-name   bridge\n";
        assert_eq!(list("table"), expected);
        assert_eq!(list(""), expected);
        assert_eq!(list(r"table {{.ID}}\t{{.Name}}\t{{.Driver}}"), expected);
        let narrow = "NAME            DRIVER\nn1              bridge\n";
        assert!(list("table {{.Name}}\t{{.Driver}}").starts_with(narrow));
    }

    #[test]
    fn a_table_of_ones_own_may_show_labels() {
        let table = list(r#"table {{.Driver}}\t{{.Label "com.tier"}}"#);
        assert_eq!(table, "DRIVER    TIER\nbridge    one\nbridge    one\n");
    }

    #[test]
    fn lines_by_template_and_by_json() {
        assert_eq!(list("{{.ID}}: {{.Driver}}"), "0123456789ab: bridge\nba9876543210: bridge\n");
        assert_eq!(
            list("json").lines().next().unwrap(),
            r#"{"ID":"0123456789ab","Name":"n1","Driver":"bridge","Labels":"com.tier=one"}"#
        );
        assert!(Format::parse("{{.X").is_err());
        assert!(Format::parse("{{.X}}").unwrap().list(&rows(), &COLUMNS, 3).is_err());
    }

    #[test]
    fn an_inspection_is_indented_by_four() {
        assert_eq!(json_indented(&Value::List(vec![Value::Int(1)])), "[\n    1\n]\n");
    }
}
