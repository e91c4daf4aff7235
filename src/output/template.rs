//! Templates for `--format`: the part of Go's text/template that users of Docker and Podman write.
//!
//! Fields, variables, pipelines, parentheses, `if`, `range`, `with`, `else`, trimming, comments;
//! functions as in `FUNCTIONS`, among them Docker's `json`, `join`, `split` and `pad`. What it does
//! not do is refused by name: `define`, `template`, `block`, `break`, `continue`. A template is
//! parsed once (`parse.rs`) and rendered for any number of values. Read first: pkg.go.dev/text/template.

mod functions;
mod parse;

use super::value::Value;
use crate::sorted::SortedMap;
use parse::{Command, Node, Operand, Pipeline, Root};

/// A template that has been read and can be rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
}

/// A template that cannot be read, or that does not fit the value it is for.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not written as a template is.
    #[error("{0}")]
    Syntax(String),
    /// A function that does not exist.
    #[error("there is no function {name:?}; there are {}", functions::names())]
    NoFunction {
        /// What was called.
        name: String,
    },
    /// A part of the language that is not supported.
    #[error("{{{{{word}}}}} is not supported in a --format")]
    Unsupported {
        /// The keyword.
        word: String,
    },
    /// A field that the value does not have.
    #[error("there is no field .{field}; there are {}", known.join(", "))]
    NoField {
        /// What was asked for.
        field: String,
        /// The fields there are, with their dots.
        known: Vec<String>,
    },
    /// A field of something that has none.
    #[error(".{field} is asked of {of}, which has no fields")]
    NotAStruct {
        /// What was asked for.
        field: String,
        /// What it was asked of.
        of: String,
    },
    /// A variable that was not set before.
    #[error("there is no variable ${name}")]
    NoVariable {
        /// Its name without the dollar.
        name: String,
    },
    /// A function's arguments do not fit.
    #[error("{function}: {problem}")]
    Argument {
        /// The function.
        function: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// `range` over something that has no elements.
    #[error("cannot range over {of}")]
    Range {
        /// What it is.
        of: String,
    },
    /// The value itself cannot be shown.
    #[error("{0}")]
    Value(String),
    /// Arguments for something that is no function.
    #[error("{what} takes no arguments")]
    NotAFunction {
        /// The first word of the command.
        what: String,
    },
}

debug_as_display!(TemplateError);

impl Template {
    /// Reads a template. `\t` and `\n` in its text stand for a tab and a line break, as in Docker.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::parse(text)? })
    }

    /// The text that the template makes of a value.
    ///
    /// # Errors
    /// A field or variable that is not there, or a function that cannot do with its arguments.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        self.render_as(value, false)
    }

    /// The heads of a table whose lines the template makes: `heads` has a text for every field,
    /// and an entry of a map, as `.Label "com.example.role"`, has the last part of its key.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_heads(&self, heads: &Value) -> Result<String, TemplateError> {
        self.render_as(heads, true)
    }

    fn render_as(&self, value: &Value, heads: bool) -> Result<String, TemplateError> {
        let variables = SortedMap::from([(String::new(), value.clone())]);
        let mut renderer = Renderer { out: String::new(), variables, heads };
        renderer.nodes(&self.nodes, value)?;
        Ok(renderer.out)
    }
}

struct Renderer {
    out: String,
    /// The variables in force; the empty name is `$`, the whole value.
    variables: SortedMap<String, Value>,
    /// The value has a text for every field.
    heads: bool,
}

impl Renderer {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        nodes.iter().try_for_each(|node| self.node(node, dot))
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => match self.pipeline(pipeline, dot)? {
                Value::Null => self.out.push_str("<no value>"),
                value => self.out.push_str(&value.to_string()),
            },
            Node::Set { name, pipeline } => {
                let value = self.pipeline(pipeline, dot)?;
                self.variables.insert(name.clone(), value);
            }
            Node::If { condition, then, otherwise } => {
                let is_true = self.pipeline(condition, dot)?.is_true();
                self.block(if is_true { then } else { otherwise }, dot)?;
            }
            Node::With { variable, value, then, otherwise } => {
                let value = self.pipeline(value, dot)?;
                if value.is_true() {
                    let set = variable.as_ref().map(|name| (name, value.clone()));
                    self.block_with(then, &value, set)?;
                } else {
                    self.block(otherwise, dot)?;
                }
            }
            Node::Range { index, variable, value, body, otherwise } => {
                let value = self.pipeline(value, dot)?;
                let elements = elements(value)?;
                if elements.is_empty() {
                    return self.block(otherwise, dot);
                }
                for (key, element) in elements {
                    let index = index.as_ref().map(|name| (name, key));
                    let variable = variable.as_ref().map(|name| (name, element.clone()));
                    self.block_with(body, &element, index.into_iter().chain(variable))?;
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        self.block_with(nodes, dot, None)
    }

    /// Renders what is between two actions; variables that are new in it end with it.
    fn block_with<'a>(
        &mut self,
        nodes: &[Node],
        dot: &Value,
        set: impl IntoIterator<Item = (&'a String, Value)>,
    ) -> Result<(), TemplateError> {
        let outer = self.variables.clone();
        for (name, value) in set {
            self.variables.insert(name.clone(), value);
        }
        self.nodes(nodes, dot)?;
        self.variables = outer;
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    /// Runs one command; what came by the pipe is its last argument.
    fn command(
        &self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut arguments = Vec::new();
        for operand in &command.arguments {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        match &command.first {
            Operand::Function(name) => functions::call(name, &arguments),
            Operand::Path { fields, .. } if !arguments.is_empty() && !fields.is_empty() => {
                self.lookup(self.operand(&command.first, dot)?, fields, &arguments)
            }
            Operand::Literal(value) if !arguments.is_empty() => {
                Err(TemplateError::NotAFunction { what: value.to_string() })
            }
            Operand::Path { .. } if !arguments.is_empty() => {
                Err(TemplateError::NotAFunction { what: "a value".into() })
            }
            operand => self.operand(operand, dot),
        }
    }

    /// A field with an argument, as `.Label "com.example.x"`: empty if there is none.
    fn lookup(
        &self,
        value: Value,
        fields: &[String],
        arguments: &[Value],
    ) -> Result<Value, TemplateError> {
        match (value, arguments) {
            (Value::Map(mut map), [Value::Text(key)]) => {
                Ok(map.remove(key).unwrap_or_else(|| Value::Text(String::new())))
            }
            (Value::Method(mut map), [Value::Text(key)]) => {
                Ok(Value::Text(map.remove(key).unwrap_or_default()))
            }
            (Value::Text(_), [Value::Text(key)]) if self.heads => {
                let (_, last) = key.rsplit_once('.').unwrap_or(("", key));
                Ok(Value::Text(last.to_uppercase()))
            }
            _ => Err(TemplateError::NotAFunction { what: format!(".{}", fields.join(".")) }),
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => functions::call(name, &[]),
            Operand::Path { root, fields } => {
                let mut value = match root {
                    Root::Dot => dot.clone(),
                    Root::Variable(name) => self
                        .variables
                        .get(name)
                        .cloned()
                        .ok_or_else(|| TemplateError::NoVariable { name: name.clone() })?,
                    Root::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
                };
                for field in fields {
                    value = get(value, field)?;
                }
                Ok(value)
            }
        }
    }
}

/// A field of a value. A structure's is found in any case (Docker has `ID` in templates and `Id` in
/// JSON), a map's as written; a key that a map does not have is no value.
fn get(value: Value, field: &str) -> Result<Value, TemplateError> {
    match value {
        Value::Struct(mut fields) => {
            let exact = fields.iter().position(|(name, _)| *name == field);
            let found = exact
                .or_else(|| fields.iter().position(|(name, _)| name.eq_ignore_ascii_case(field)));
            match found {
                Some(index) => Ok(fields.swap_remove(index).1),
                None => {
                    let known = fields.iter().map(|(name, _)| format!(".{name}")).collect();
                    Err(TemplateError::NoField { field: field.to_owned(), known })
                }
            }
        }
        Value::Map(mut map) => Ok(map.remove(field).unwrap_or(Value::Null)),
        other => {
            Err(TemplateError::NotAStruct { field: field.to_owned(), of: functions::kind(&other) })
        }
    }
}

/// The elements of a value with their keys, in order.
fn elements(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::List(values) => Ok(values
            .into_iter()
            .zip(0_i128..)
            .map(|(value, index)| (Value::Int(index), value))
            .collect()),
        Value::Map(map) => {
            Ok(map.into_iter().map(|(key, value)| (Value::Text(key), value)).collect())
        }
        other => Err(TemplateError::Range { of: functions::kind(&other) }),
    }
}

#[cfg(test)]
mod tests;
