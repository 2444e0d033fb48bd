//! The token stream, and the directives of a module.

use super::lexer::{Lexeme, Token, tokens};
use super::names::Names;
use super::{Alias, ParseError, Parsed, Unit, Variable};

/// Parses the text of a module.
pub(crate) fn parse(text: &str) -> Parsed<Unit<'_>> {
    let mut parser =
        Parser { text, tokens: tokens(text)?, at: 0, names: Names::default(), variables: Vec::new() };
    let mut unit = Unit::default();
    while parser.peek() != Lexeme::End {
        parser.top(&mut unit)?;
    }
    unit.variables = parser.variables;
    Ok(unit)
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Names that the current function has declared.
    pub(super) names: Names<'a>,
    /// Variables of the unit so far.
    pub(super) variables: Vec<Variable<'a>>,
}

impl<'a> Parser<'a> {
    pub(super) fn token(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub(super) fn peek(&self) -> Lexeme<'a> {
        self.token().lexeme
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Lexeme<'a> {
        self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].lexeme
    }

    pub(super) fn bump(&mut self) {
        self.at += 1;
    }

    pub(super) fn skip(&mut self, tokens: usize) {
        self.at += tokens;
    }

    pub(super) fn eat(&mut self, mark: char) -> bool {
        let found = self.peek() == Lexeme::Mark(mark);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, mark: char) -> Parsed<()> {
        if self.eat(mark) { Ok(()) } else { self.fail(format!("expected {mark}")) }
    }

    /// An error at the next token.
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let token = self.token();
        let found = match self.text.get(token.start..token.end) {
            Some("") | None => "the end of the text".to_owned(),
            Some(found) => format!("`{found}`"),
        };
        Err(ParseError::new(token.line, format!("{}, found {found}", message.into())))
    }

    pub(super) fn word(&mut self) -> Parsed<&'a str> {
        match self.peek() {
            Lexeme::Word(word) => {
                self.bump();
                Ok(word)
            }
            _ => self.fail("expected a name"),
        }
    }

    pub(super) fn unsigned(&mut self) -> Parsed<u64> {
        match self.expression()? {
            value @ 0.. => Ok(value as u64),
            value => self.fail(format!("expected a size, not {value}")),
        }
    }

    /// Takes `.name`, if it is next.
    pub(super) fn eat_dot(&mut self, name: &str) -> bool {
        let found = self.peek() == Lexeme::Dot(name);
        self.at += usize::from(found);
        found
    }

    /// `.file INDEX "NAME"[, TIMESTAMP, SIZE]`
    pub(super) fn file(&mut self) -> Parsed<()> {
        self.bump();
        self.count()?;
        self.string()?;
        if self.eat(',') {
            self.count()?;
            self.expect(',')?;
            self.count()?;
        }
        Ok(())
    }

    /// `.loc FILE LINE COLUMN[, function_name LABEL[+OFFSET], inlined_at FILE LINE COLUMN]`
    pub(super) fn location(&mut self) -> Parsed<()> {
        self.bump();
        for _ in 0..3 {
            self.count()?;
        }
        while self.eat(',') {
            match self.word()? {
                "function_name" => {
                    self.dotted_name()?;
                    if self.eat('+') {
                        self.count()?;
                    }
                }
                "inlined_at" => {
                    for _ in 0..3 {
                        self.count()?;
                    }
                }
                other => {
                    return self
                        .fail(format!("expected function_name or inlined_at, not {other}, before this"));
                }
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Parsed<()> {
        match self.peek() {
            Lexeme::Text(_) => {
                self.bump();
                Ok(())
            }
            _ => self.fail("expected a string"),
        }
    }

    /// `.pragma "…", "…";`
    pub(super) fn pragma(&mut self) -> Parsed<()> {
        self.bump();
        self.string()?;
        while self.eat(',') {
            self.string()?;
        }
        self.expect(';')
    }

    /// Skips the text between two brackets of a kind; the opening one is next.
    pub(super) fn skip_brackets(&mut self, open: char, close: char) -> Parsed<()> {
        self.expect(open)?;
        let mut depth = 1u32;
        while depth > 0 {
            match self.peek() {
                Lexeme::Mark(mark) if mark == open => depth += 1,
                Lexeme::Mark(mark) if mark == close => depth -= 1,
                Lexeme::End => return self.fail(format!("expected {close}")),
                _ => {}
            }
            self.bump();
        }
        Ok(())
    }

    /// `.section NAME { … }`: debug data, which is skipped.
    pub(super) fn section(&mut self) -> Parsed<()> {
        self.bump();
        match self.peek() {
            Lexeme::Dot(_) | Lexeme::Word(_) | Lexeme::Text(_) => self.bump(),
            _ => return self.fail("expected a section's name"),
        }
        self.skip_brackets('{', '}')
    }

    /// `.version 8.0`, `.target sm_90a, debug`, `.address_size 64`
    fn header(&mut self, name: &str, unit: &mut Unit<'a>) -> Parsed<()> {
        self.bump();
        match name {
            "version" if matches!(self.peek(), Lexeme::Double(_)) => self.bump(),
            "version" => return self.fail("expected a version as 8.0"),
            "target" => {
                let digits = self.word()?.trim_start_matches("sm_").trim_end_matches(['a', 'f']);
                unit.target = digits.parse().ok();
                while self.eat(',') {
                    self.word()?;
                }
            }
            _ if self.peek() != (Lexeme::Integer { value: 64, unsigned: false }) => {
                return self.fail("only addresses of 64 bits are supported");
            }
            _ => self.bump(),
        }
        Ok(())
    }

    /// `.alias NAME, FUNCTION;`
    fn alias(&mut self) -> Parsed<Alias<'a>> {
        self.bump();
        let line = self.token().line;
        let name = self.word()?;
        self.expect(',')?;
        let target = self.word()?;
        self.expect(';')?;
        Ok(Alias { name, target, line })
    }

    /// One directive outside functions.
    fn top(&mut self, unit: &mut Unit<'a>) -> Parsed<()> {
        if self.eat(';') {
            return Ok(());
        }
        let mut external = false;
        loop {
            let Lexeme::Dot(name) = self.peek() else { return self.fail("expected a directive") };
            match name {
                "version" | "target" | "address_size" => return self.header(name, unit),
                "file" => return self.file(),
                "loc" => return self.location(),
                "section" => return self.section(),
                "pragma" => return self.pragma(),
                "alias" => {
                    let alias = self.alias()?;
                    unit.aliases.push(alias);
                    return Ok(());
                }
                "visible" | "weak" | "common" => self.bump(),
                "extern" => {
                    external = true;
                    self.bump();
                }
                "entry" | "func" => {
                    let function = self.function(name == "entry")?;
                    unit.functions.push(function);
                    return Ok(());
                }
                "global" | "const" | "shared" | "local" | "tex" => {
                    let found = self.declaration(external)?;
                    self.variables.extend(found);
                    return Ok(());
                }
                _ => return self.fail("expected a directive that is known here"),
            }
        }
    }
}
