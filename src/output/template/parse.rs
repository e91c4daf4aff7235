//! From a template's text to its nodes.
//!
//! Two steps: words within an action (`tokens`), and the grammar over text and actions (`Parser`).
//! Nesting has a bound, so that no input exhausts the stack.

use super::super::value::Value;
use super::TemplateError;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Set {
        name: String,
        pipeline: Pipeline,
    },
    If {
        condition: Pipeline,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    With {
        variable: Option<String>,
        value: Pipeline,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Range {
        index: Option<String>,
        variable: Option<String>,
        value: Pipeline,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) commands: Vec<Command>,
}

/// A value or function with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) first: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Literal(Value),
    Function(String),
    Path { root: Root, fields: Vec<String> },
}

/// Where a chain of fields starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Root {
    Dot,
    Variable(String),
    Pipeline(Box<Pipeline>),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter(), depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End => Err(syntax("{{end}} without {{if}}, {{range}} or {{with}}")),
        Stop::Else(_) => Err(syntax("{{else}} without {{if}}, {{range}} or {{with}}")),
    }
}

fn syntax(problem: impl Into<String>) -> TemplateError {
    TemplateError::Syntax(problem.into())
}

/// What lies between two delimiters.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Word {
    /// A name: a function, a keyword, true, false, nil.
    Name(String),
    /// `.name`
    Field(String),
    /// `.` alone
    Dot,
    /// `$name`; `$` alone is the empty name.
    Variable(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
    /// `:=` or `=`
    Assign,
    Comma,
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    word: Word,
    /// No space before it: it belongs to what it follows.
    glued: bool,
}

/// Splits a template at its delimiters.
fn pieces(mut text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut trim_next = false;
    loop {
        let (before, action) = match text.split_once("{{") {
            Some((before, action)) => (before, Some(action)),
            None => (text, None),
        };
        let trims = |action: &str| {
            action.strip_prefix('-').is_some_and(|rest| rest.starts_with(char::is_whitespace))
        };
        let trim_before = action.is_some_and(trims);
        let mut before = before;
        if trim_next {
            before = before.trim_start();
        }
        if trim_before {
            before = before.trim_end();
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.replace("\\t", "\t").replace("\\n", "\n")));
        }
        let Some(action) = action else { return Ok(pieces) };
        let action = if trim_before { &action[1..] } else { action };
        let comment = action.trim_start();
        let rest = if let Some(comment) = comment.strip_prefix("/*") {
            let (_, rest) = comment.split_once("*/").ok_or_else(|| syntax("unclosed comment"))?;
            rest
        } else {
            let (tokens, rest) = tokens(action)?;
            if tokens.is_empty() {
                return Err(syntax("{{}} is empty"));
            }
            pieces.push(Piece::Action(tokens));
            rest
        };
        let trimmed = rest.trim_start();
        (text, trim_next) = if let Some(rest) = trimmed.strip_prefix("-}}") {
            (rest, true)
        } else if let Some(rest) = trimmed.strip_prefix("}}") {
            (rest, false)
        } else {
            return Err(syntax("unclosed comment"));
        };
    }
}

/// The words of an action, and the text from its closing delimiter on.
fn tokens(mut text: &str) -> Result<(Vec<Token>, &str), TemplateError> {
    let mut tokens = Vec::new();
    loop {
        let trimmed = text.trim_start();
        let glued = trimmed.len() == text.len();
        let closes = trimmed.starts_with("}}") || (trimmed.starts_with("-}}") && !glued);
        if closes {
            return Ok((tokens, trimmed));
        }
        let (word, rest) = word(trimmed)?;
        tokens.push(Token { word, glued });
        text = rest;
    }
}

/// The first word of an action's text, and what follows it.
fn word(text: &str) -> Result<(Word, &str), TemplateError> {
    let mut chars = text.chars();
    let first = chars.next().ok_or_else(|| syntax("{{ without }}"))?;
    let rest = chars.as_str();
    Ok(match first {
        '|' => (Word::Pipe, rest),
        '(' => (Word::Open, rest),
        ')' => (Word::Close, rest),
        ',' => (Word::Comma, rest),
        '=' => (Word::Assign, rest),
        ':' => match rest.strip_prefix('=') {
            Some(rest) => (Word::Assign, rest),
            None => return Err(syntax("unexpected ':'")),
        },
        '"' => quoted(rest)?,
        '`' => {
            let (raw, rest) = rest.split_once('`').ok_or_else(|| syntax("unclosed raw string"))?;
            (Word::Literal(Value::Text(raw.to_owned())), rest)
        }
        '$' => {
            let (name, rest) = name(rest);
            (Word::Variable(name.to_owned()), rest)
        }
        '.' => {
            let (name, rest) = name(rest);
            let word = if name.is_empty() { Word::Dot } else { Word::Field(name.to_owned()) };
            (word, rest)
        }
        '0'..='9' | '-' | '+' => {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, rest) = text.split_at(1 + digits);
            let number = number.parse().map_err(|_| syntax(format!("bad number {number:?}")))?;
            (Word::Literal(Value::Int(number)), rest)
        }
        c if c.is_alphabetic() || c == '_' => {
            let (name, rest) = name(text);
            (Word::Name(name.to_owned()), rest)
        }
        c => return Err(syntax(format!("unexpected {c:?} in an action"))),
    })
}

/// The name at the start of a text, perhaps empty, and what follows it.
fn name(text: &str) -> (&str, &str) {
    let len = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(len)
}

/// An interpreted string, from behind its opening quotation mark.
fn quoted(text: &str) -> Result<(Word, &str), TemplateError> {
    let mut out = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or_else(|| syntax("unclosed string"))? {
            '"' => return Ok((Word::Literal(Value::Text(out)), chars.as_str())),
            '\n' => return Err(syntax("unclosed string")),
            '\\' => out.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(c @ ('"' | '\\')) => c,
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(syntax(format!("unknown escape \\{other} in a string")));
                }
            }),
            c => out.push(c),
        }
    }
}

/// What ended a run of nodes.
enum Stop {
    /// The end of the template.
    Text,
    End,
    /// `{{else}}`, with the rest of its action.
    Else(Vec<Token>),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Parser {
    /// Nodes up to whatever ends them.
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let end = loop {
            match self.pieces.next() {
                None => break Stop::Text,
                Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
                Some(Piece::Action(tokens)) => match self.action(tokens)? {
                    Ok(node) => nodes.push(node),
                    Err(end) => break end,
                },
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// A node, or the end of the block that it is in.
    fn action(&mut self, tokens: Vec<Token>) -> Result<Result<Node, Stop>, TemplateError> {
        let mut words = Words { tokens: tokens.into_iter().peekable(), depth: self.depth };
        let keyword = match words.tokens.peek() {
            Some(Token { word: Word::Name(name), .. }) => name.clone(),
            _ => String::new(),
        };
        if !KEYWORDS.contains(&keyword.as_str()) {
            return words.statement().map(Ok);
        }
        words.tokens.next();
        Ok(Ok(match keyword.as_str() {
            "end" => {
                words.finish()?;
                return Ok(Err(Stop::End));
            }
            "else" => return Ok(Err(Stop::Else(words.tokens.collect()))),
            "if" => self.branch(words)?,
            "with" => {
                let mut names = words.names()?;
                let (value, then, otherwise) = self.block(words)?;
                Node::With { variable: names.pop(), value, then, otherwise }
            }
            "range" => {
                let mut names = words.names()?;
                let (value, body, otherwise) = self.block(words)?;
                let variable = names.pop();
                Node::Range { index: names.pop(), variable, value, body, otherwise }
            }
            _ => return Err(TemplateError::Unsupported { word: keyword }),
        }))
    }

    fn branch(&mut self, words: Words) -> Result<Node, TemplateError> {
        let (condition, then, otherwise) = self.block(words)?;
        Ok(Node::If { condition, then, otherwise })
    }

    /// The rest of an `if`, `with` or `range`: its pipeline, its body and what is done else.
    #[allow(clippy::type_complexity)] // three things that belong together nowhere else
    fn block(
        &mut self,
        mut words: Words,
    ) -> Result<(Pipeline, Vec<Node>, Vec<Node>), TemplateError> {
        let pipeline = words.pipeline()?;
        words.finish()?;
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            Stop::Text => return Err(syntax("{{end}} is missing")),
            Stop::End => Vec::new(),
            Stop::Else(rest) => self.otherwise(rest)?,
        };
        Ok((pipeline, body, otherwise))
    }

    /// What follows `{{else`: the other branch up to `{{end}}`, or `if` and all of its own.
    fn otherwise(&mut self, rest: Vec<Token>) -> Result<Vec<Node>, TemplateError> {
        let mut words = Words { tokens: rest.into_iter().peekable(), depth: self.depth };
        match words.tokens.next() {
            None => {
                let (nodes, end) = self.nodes()?;
                match end {
                    Stop::End => Ok(nodes),
                    Stop::Text => Err(syntax("{{end}} is missing")),
                    Stop::Else(_) => Err(syntax("two {{else}} in one block")),
                }
            }
            Some(Token { word: Word::Name(name), .. }) if name == "if" => {
                self.deeper()?;
                let node = self.branch(words)?;
                self.depth -= 1;
                Ok(vec![node])
            }
            Some(token) => Err(unexpected(&token.word)),
        }
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(syntax("nested too deeply")) } else { Ok(()) }
    }
}

/// The words of one action.
struct Words {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Words {
    /// A pipeline to print, or a variable to set.
    fn statement(&mut self) -> Result<Node, TemplateError> {
        let mut names = self.names()?;
        let pipeline = self.pipeline()?;
        self.finish()?;
        match (names.pop(), names.pop()) {
            (None, _) => Ok(Node::Print(pipeline)),
            (Some(name), None) => Ok(Node::Set { name, pipeline }),
            (Some(_), Some(_)) => Err(syntax("two variables are set by {{range}} only")),
        }
    }

    /// `$a :=` or `$a, $b :=`, if that is how it starts.
    fn names(&mut self) -> Result<Vec<String>, TemplateError> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Token { word: Word::Variable(name), .. }) = ahead.next() {
            names.push(name);
            match ahead.next().map(|token| token.word) {
                Some(Word::Comma) if names.len() == 1 => {}
                Some(Word::Assign) => {
                    if names.iter().any(String::is_empty) {
                        return Err(syntax("$ cannot be set"));
                    }
                    self.tokens = ahead;
                    return Ok(names);
                }
                _ => break,
            }
        }
        Ok(Vec::new())
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(syntax("nested too deeply"));
        }
        let mut commands = vec![self.command()?];
        while self.tokens.next_if(|token| token.word == Word::Pipe).is_some() {
            commands.push(self.command()?);
        }
        self.depth -= 1;
        Ok(Pipeline { commands })
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let first = self.operand()?.ok_or_else(|| syntax("a value or function is missing"))?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand()? {
            arguments.push(argument);
        }
        Ok(Command { first, arguments })
    }

    /// An operand with the fields that hang on it; `None` where the command ends.
    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let ends =
            |word: &Word| matches!(word, Word::Pipe | Word::Close | Word::Assign | Word::Comma);
        let Some(token) = self.tokens.next_if(|token| !ends(&token.word)) else {
            return Ok(None);
        };
        let (root, mut fields) = match token.word {
            Word::Literal(value) => return Ok(Some(Operand::Literal(value))),
            Word::Name(name) => return Ok(Some(named(name))),
            Word::Dot => (Root::Dot, Vec::new()),
            Word::Field(field) => (Root::Dot, vec![field]),
            Word::Variable(name) => (Root::Variable(name), Vec::new()),
            Word::Open => {
                let pipeline = self.pipeline()?;
                match self.tokens.next() {
                    Some(Token { word: Word::Close, .. }) => {}
                    _ => return Err(syntax("unclosed parenthesis")),
                }
                (Root::Pipeline(Box::new(pipeline)), Vec::new())
            }
            Word::Pipe | Word::Close | Word::Assign | Word::Comma => return Ok(None),
        };
        let hangs = |token: &Token| token.glued && matches!(token.word, Word::Field(_));
        while let Some(Token { word: Word::Field(field), .. }) = self.tokens.next_if(hangs) {
            fields.push(field);
        }
        Ok(Some(Operand::Path { root, fields }))
    }

    fn finish(&mut self) -> Result<(), TemplateError> {
        self.tokens.next().map_or(Ok(()), |token| Err(unexpected(&token.word)))
    }
}

fn named(name: String) -> Operand {
    match name.as_str() {
        "true" => Operand::Literal(Value::Bool(true)),
        "false" => Operand::Literal(Value::Bool(false)),
        "nil" => Operand::Literal(Value::Null),
        _ => Operand::Function(name),
    }
}

fn unexpected(word: &Word) -> TemplateError {
    let word = match word {
        Word::Name(name) => name.clone(),
        Word::Field(name) => format!(".{name}"),
        Word::Dot => ".".into(),
        Word::Variable(name) => format!("${name}"),
        Word::Literal(value) => value.to_string(),
        Word::Pipe => "|".into(),
        Word::Open => "(".into(),
        Word::Close => ")".into(),
        Word::Assign => "=".into(),
        Word::Comma => ",".into(),
    };
    syntax(format!("unexpected {word:?}"))
}

/// Names that are no functions.
const KEYWORDS: [&str; 10] =
    ["if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"];

/// How deep blocks and parentheses may be nested.
const MAX_DEPTH: usize = 64;
