//! Directives, declarations and statements.

use super::lexer::{Lexeme, Token, tokens};
use super::{Call, Complaint, Function, Instruction, Label, Parsed, Prototype, Registers, Statement, Unit};

/// Reads a module.
pub(crate) fn parse(text: &str) -> Parsed<Unit<'_>> {
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0 };
    let mut unit = Unit::default();
    while parser.peek() != Lexeme::End {
        parser.top(&mut unit)?;
    }
    Ok(unit)
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
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

    /// A complaint about the token that comes next.
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let token = self.token();
        let found = match self.text.get(token.start..token.end) {
            Some("") | None => "the end of the text".to_owned(),
            Some(found) => format!("`{found}`"),
        };
        Err(Complaint::new(token.line, format!("{}, found {found}", message.into())))
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

    fn skip_line(&mut self) {
        let line = self.token().line;
        while self.peek() != Lexeme::End && self.token().line == line {
            self.bump();
        }
    }

    /// Debug sections hold nothing that runs.
    fn skip_section(&mut self) -> Parsed<()> {
        while self.peek() != Lexeme::Mark('{') {
            if self.peek() == Lexeme::End {
                return self.fail("expected { after .section");
            }
            self.bump();
        }
        let mut depth = 0u32;
        loop {
            match self.peek() {
                Lexeme::Mark('{') => depth += 1,
                Lexeme::Mark('}') => depth -= 1,
                Lexeme::End => return self.fail("a .section that does not end"),
                _ => {}
            }
            self.bump();
            if depth == 0 {
                return Ok(());
            }
        }
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
                "address_size" if self.peek_at(1) != Lexeme::Integer(64) => {
                    self.bump();
                    return self.fail("only addresses of 64 bits are supported");
                }
                "version" | "target" | "address_size" | "file" | "loc" => {
                    if let ("target", Lexeme::Word(target)) = (name, self.peek_at(1)) {
                        let digits = target.trim_start_matches("sm_").trim_end_matches(['a', 'f']);
                        unit.target = digits.parse().ok();
                    }
                    self.skip_line();
                    return Ok(());
                }
                "section" => return self.skip_section(),
                "pragma" | "alias" => {
                    while !self.eat(';') {
                        if self.peek() == Lexeme::End {
                            return self.fail("expected ;");
                        }
                        self.bump();
                    }
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
                "global" | "const" | "shared" | "local" => {
                    self.variables(external, |v| unit.variables.push(v))?;
                    return Ok(());
                }
                _ => return self.fail("expected a directive that is known here"),
            }
        }
    }

    fn function(&mut self, entry: bool) -> Parsed<Function<'a>> {
        self.bump();
        while let Lexeme::Dot("noreturn") = self.peek() {
            self.bump();
        }
        let returns = if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
        let line = self.token().line;
        let name = self.word()?;
        let parameters = if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
        let mut function = Function {
            name,
            entry,
            line,
            returns,
            parameters,
            body: None,
            required_block: None,
            max_threads: None,
        };
        loop {
            match self.peek() {
                Lexeme::Dot("noreturn" | "explicitcluster") => self.bump(),
                Lexeme::Dot("reqntid") => function.required_block = Some(self.shape()?),
                Lexeme::Dot("maxntid") => {
                    let shape = self.shape()?;
                    function.max_threads =
                        Some(shape.iter().map(|&n| u64::from(n)).fold(1, u64::saturating_mul));
                }
                Lexeme::Dot(
                    "minnctapersm" | "maxnreg" | "maxclusterrank" | "maxnctapersm" | "reqnctapercluster",
                ) => {
                    self.shape()?;
                }
                Lexeme::Dot("pragma") => {
                    self.bump();
                    while !self.eat(';') {
                        if !matches!(self.peek(), Lexeme::Text(_) | Lexeme::Mark(',')) {
                            return self.fail("expected a string after .pragma");
                        }
                        self.bump();
                    }
                }
                Lexeme::Mark(';') => {
                    self.bump();
                    return Ok(function);
                }
                Lexeme::Mark('{') => {
                    function.body = Some(self.body()?);
                    return Ok(function);
                }
                _ => return self.fail("expected a function's directive, its body or ;"),
            }
        }
    }

    /// A directive with up to three numbers; those left out are 1.
    fn shape(&mut self) -> Parsed<[u32; 3]> {
        self.bump();
        let mut shape = [1; 3];
        for (i, n) in shape.iter_mut().enumerate() {
            if i > 0 && !self.eat(',') {
                break;
            }
            let value = self.unsigned()?;
            let Ok(value) = u32::try_from(value) else { return self.fail("expected a smaller number") };
            *n = value;
        }
        Ok(shape)
    }

    /// A function's statements, between its braces.
    fn body(&mut self) -> Parsed<Vec<Statement<'a>>> {
        self.expect('{')?;
        let mut depth = 0usize;
        let mut out = Vec::new();
        loop {
            let token = self.token();
            match token.lexeme {
                Lexeme::End => return self.fail("a function that does not end: expected }"),
                Lexeme::Mark(';') => self.bump(),
                Lexeme::Mark('{') => {
                    self.bump();
                    depth += 1;
                    out.push(Statement::Open);
                }
                Lexeme::Mark('}') => {
                    self.bump();
                    if depth == 0 {
                        return Ok(out);
                    }
                    depth -= 1;
                    out.push(Statement::Close);
                }
                Lexeme::Dot("loc" | "file") => self.skip_line(),
                Lexeme::Dot("section") => self.skip_section()?,
                Lexeme::Dot("pragma") => {
                    self.bump();
                    while !self.eat(';') {
                        if !matches!(self.peek(), Lexeme::Text(_) | Lexeme::Mark(',')) {
                            return self.fail("expected a string after .pragma");
                        }
                        self.bump();
                    }
                }
                Lexeme::Dot("reg") => out.push(self.registers()?),
                Lexeme::Dot("extern") => self.bump(),
                Lexeme::Dot("shared" | "local" | "param" | "global" | "const") => {
                    self.variables(false, |v| out.push(Statement::Variable(v)))?;
                }
                Lexeme::Mark('@') => {
                    self.bump();
                    let negated = self.eat('!');
                    let guard = Some((self.word()?, negated));
                    out.push(self.instruction(guard, token)?);
                }
                Lexeme::Word(name) if self.peek_at(1) == Lexeme::Mark(':') => {
                    self.skip(2);
                    let label = Label { name, line: token.line };
                    match self.peek() {
                        Lexeme::Dot("branchtargets" | "calltargets") => {
                            self.bump();
                            let mut targets = vec![self.word()?];
                            while self.eat(',') {
                                targets.push(self.word()?);
                            }
                            self.expect(';')?;
                            out.push(Statement::Targets(label, targets));
                        }
                        Lexeme::Dot("callprototype") => {
                            self.bump();
                            let returns =
                                if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
                            self.word()?;
                            let parameters =
                                if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
                            if self.peek() == Lexeme::Dot("noreturn") {
                                self.bump();
                            }
                            self.expect(';')?;
                            out.push(Statement::Prototype(Prototype { name, returns, parameters }));
                        }
                        _ => out.push(Statement::Label(label)),
                    }
                }
                Lexeme::Word(_) => out.push(self.instruction(None, token)?),
                _ => return self.fail("expected a statement"),
            }
        }
    }

    /// `.reg .type name, name<count>;`
    fn registers(&mut self) -> Parsed<Statement<'a>> {
        let line = self.token().line;
        self.bump();
        let (ty, _, lanes) = self.declared_type()?;
        if lanes != 1 {
            return self.fail("vector registers are not supported; use scalars in braces");
        }
        let mut names = Vec::new();
        loop {
            let name = self.word()?;
            let count = if self.eat('<') {
                let count = self.unsigned()?;
                self.expect('>')?;
                Some(count)
            } else {
                None
            };
            names.push((name, count));
            if self.eat(';') {
                return Ok(Statement::Registers(Registers { ty, names, line }));
            }
            self.expect(',')?;
        }
    }

    fn instruction(&mut self, guard: Option<(&'a str, bool)>, first: Token<'a>) -> Parsed<Statement<'a>> {
        let line = self.token().line;
        let name = self.word()?;
        let mut suffixes = Vec::new();
        while let Lexeme::Dot(suffix) = self.peek() {
            self.bump();
            suffixes.push(suffix);
        }
        let mut operands = Vec::new();
        let mut call = None;
        if name == "call" {
            call = Some(self.call()?);
        } else if self.peek() != Lexeme::Mark(';') {
            operands.push(self.operand()?);
            while self.eat(',') {
                operands.push(self.operand()?);
            }
        }
        let end = self.token().end;
        self.expect(';')?;
        let span = (first.start, end);
        Ok(Statement::Instruction(Instruction { guard, name, suffixes, operands, call, line, span }))
    }

    /// `(results), callee, (arguments), prototype`, of which only the callee must be there.
    fn call(&mut self) -> Parsed<Call<'a>> {
        let mut call = Call::default();
        if self.eat('(') {
            while !self.eat(')') {
                call.returns.push(self.word()?);
                self.eat(',');
            }
            self.expect(',')?;
        }
        call.callee = self.word()?;
        if self.eat(',') {
            if self.eat('(') {
                while !self.eat(')') {
                    call.arguments.push(self.operand()?);
                    self.eat(',');
                }
                if self.eat(',') {
                    call.through = Some(self.word()?);
                }
            } else {
                call.through = Some(self.word()?);
            }
        }
        Ok(call)
    }
}
