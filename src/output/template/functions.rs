//! The functions of a template: Go's own and Docker's.

use super::super::value::Value;
use super::TemplateError;

/// What a function makes of its arguments.
type Function = fn(&[Value]) -> Result<Value, String>;

/// Calls a function by its name.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let (function, run) = FUNCTIONS
        .iter()
        .find(|(function, _)| *function == name)
        .ok_or_else(|| TemplateError::NoFunction { name: name.to_owned() })?;
    run(arguments).map_err(|problem| TemplateError::Argument { function, problem })
}

/// Every function's name, for an error.
pub(super) fn names() -> String {
    FUNCTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// What a value is, for an error.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "no value".into(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => format!("{value}"),
        Value::Text(text) => format!("{text:?}"),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a map".into(),
        Value::Struct(_) => "a structure".into(),
        Value::Method(_) => "something that takes a key".into(),
    }
}

const FUNCTIONS: [(&str, Function); 23] = [
    ("and", |args| first_that(args, |value| !value.is_true())),
    ("eq", eq),
    ("ge", |args| compare(args, std::cmp::Ordering::is_ge)),
    ("gt", |args| compare(args, std::cmp::Ordering::is_gt)),
    ("index", index),
    ("join", join),
    ("json", json),
    ("le", |args| compare(args, std::cmp::Ordering::is_le)),
    ("len", len),
    ("lower", |args| Ok(Value::Text(one_text(args)?.to_lowercase()))),
    ("lt", |args| compare(args, std::cmp::Ordering::is_lt)),
    ("ne", |args| compare(args, std::cmp::Ordering::is_ne)),
    ("not", |args| Ok(Value::Bool(!one(args)?.is_true()))),
    ("or", |args| first_that(args, Value::is_true)),
    ("pad", pad),
    ("print", |args| Ok(Value::Text(args.iter().map(Value::to_string).collect()))),
    ("printf", printf),
    ("println", |args| {
        let words: Vec<_> = args.iter().map(Value::to_string).collect();
        Ok(Value::Text(words.join(" ") + "\n"))
    }),
    ("split", split),
    ("table", |_| Err("a table is asked for in front of the template: 'table {{.Name}}'".into())),
    ("title", title),
    ("truncate", truncate),
    ("upper", |args| Ok(Value::Text(one_text(args)?.to_uppercase()))),
];

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [value] => Ok(value),
        _ => Err(format!("one argument is wanted, not {}", arguments.len())),
    }
}

fn one_text(arguments: &[Value]) -> Result<&str, String> {
    text(one(arguments)?)
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("text is wanted, not {}", kind(other))),
    }
}

/// A length or position.
fn size(value: &Value) -> Result<usize, String> {
    match value {
        Value::Int(number) => {
            usize::try_from(*number).map_err(|_| format!("{number} is out of range"))
        }
        other => Err(format!("a number is wanted, not {}", kind(other))),
    }
}

/// The first argument that `decides`, or else the last.
fn first_that(arguments: &[Value], decides: fn(&Value) -> bool) -> Result<Value, String> {
    let first = arguments.iter().find(|value| decides(value));
    first.or_else(|| arguments.last()).cloned().ok_or_else(|| "an argument is missing".into())
}

/// Whether the first argument is one of the others.
fn eq(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [first, others @ ..] if !others.is_empty() => Ok(Value::Bool(others.contains(first))),
        _ => Err("two arguments are wanted".into()),
    }
}

fn compare(arguments: &[Value], holds: fn(std::cmp::Ordering) -> bool) -> Result<Value, String> {
    let ordering = match arguments {
        [Value::Int(a), Value::Int(b)] => Some(a.cmp(b)),
        [Value::Text(a), Value::Text(b)] => Some(a.cmp(b)),
        [Value::Bool(a), Value::Bool(b)] => Some(a.cmp(b)),
        [Value::Float(a), Value::Float(b)] => a.partial_cmp(b),
        _ => None,
    };
    let ordering = ordering.ok_or("two values of one kind are wanted")?;
    Ok(Value::Bool(holds(ordering)))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let (value, keys) = arguments.split_first().ok_or("a value is wanted")?;
    let mut value = value.clone();
    for key in keys {
        value = match value {
            Value::Map(mut map) => map.remove(text(key)?).unwrap_or(Value::Null),
            Value::List(mut values) => {
                let at = size(key)?;
                if at >= values.len() {
                    return Err(format!("index {at} is out of range: there are {}", values.len()));
                }
                values.swap_remove(at)
            }
            Value::Null => Value::Null,
            other => return Err(format!("a map or a list is wanted, not {}", kind(&other))),
        };
    }
    Ok(value)
}

fn join(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [Value::List(values), separator] => {
            let words: Vec<_> = values.iter().map(Value::to_string).collect();
            Ok(Value::Text(words.join(text(separator)?)))
        }
        [Value::Null, _] => Ok(Value::Text(String::new())),
        _ => Err("a list and a separator are wanted".into()),
    }
}

fn split(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [value, separator] => {
            let parts = text(value)?.split(text(separator)?);
            Ok(Value::List(parts.map(|part| Value::Text(part.to_owned())).collect()))
        }
        _ => Err("text and a separator are wanted".into()),
    }
}

fn json(arguments: &[Value]) -> Result<Value, String> {
    let json = serde_json::to_string(one(arguments)?).map_err(|error| error.to_string())?;
    Ok(Value::Text(json))
}

fn len(arguments: &[Value]) -> Result<Value, String> {
    let len = match one(arguments)? {
        Value::Text(text) => text.len(),
        Value::List(values) => values.len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("text, a list or a map is wanted, not {}", kind(other))),
    };
    Ok(Value::Int(i128::try_from(len).unwrap_or(i128::MAX)))
}

/// Text with this many spaces before and behind it; an empty text stays empty.
fn pad(arguments: &[Value]) -> Result<Value, String> {
    let [value, before, behind] = arguments else {
        return Err("text and two numbers are wanted".into());
    };
    let value = text(value)?;
    if value.is_empty() {
        return Ok(Value::Text(String::new()));
    }
    let spaces = |value| size(value).map(|count| " ".repeat(count.min(MAX_WIDTH)));
    Ok(Value::Text(format!("{}{value}{}", spaces(before)?, spaces(behind)?)))
}

fn title(arguments: &[Value]) -> Result<Value, String> {
    let mut start = true;
    let mut out = String::new();
    for c in one_text(arguments)?.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = c.is_whitespace();
    }
    Ok(Value::Text(out))
}

fn truncate(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [value, length] => Ok(Value::Text(text(value)?.chars().take(size(length)?).collect())),
        _ => Err("text and a length are wanted".into()),
    }
}

/// The verbs `%s %v %d %t %q %%` with a width, as `%-20s`.
fn printf(arguments: &[Value]) -> Result<Value, String> {
    let (format, mut values) = match arguments.split_first() {
        Some((format, values)) => (text(format)?, values.iter()),
        None => return Err("a format is wanted".into()),
    };
    let mut out = String::new();
    let mut parts = format.split('%');
    out.push_str(parts.next().unwrap_or_default());
    while let Some(part) = parts.next() {
        if part.is_empty() {
            // `%%`; what follows the second one is text.
            out.push('%');
            out.push_str(parts.next().unwrap_or_default());
            continue;
        }
        let (left, spec) = part.strip_prefix('-').map_or((false, part), |spec| (true, spec));
        let digits = spec.find(|c: char| !c.is_ascii_digit()).unwrap_or(spec.len());
        let (width, rest) = spec.split_at(digits);
        let width = width.parse::<usize>().unwrap_or(0).min(MAX_WIDTH);
        let mut chars = rest.chars();
        let verb = chars.next().ok_or("a format ends with %")?;
        let value = values.next().ok_or("too few values for the format")?;
        let shown = match verb {
            's' | 'v' | 'd' | 't' => value.to_string(),
            'q' => format!("{:?}", text(value)?),
            other => return Err(format!("%{other} is not supported: %s %v %d %t %q %%")),
        };
        if left {
            out.push_str(&format!("{shown:<width$}"));
        } else {
            out.push_str(&format!("{shown:>width$}"));
        }
        out.push_str(chars.as_str());
    }
    if values.next().is_some() {
        return Err("too many values for the format".into());
    }
    Ok(Value::Text(out))
}

/// The widest that a value is made by spaces.
const MAX_WIDTH: usize = 1000;
