//! Directives, declarations and statements.

use super::lexer::{Lexeme, Token, tokens};
use super::{
    Call, Complaint, Function, Initial, Instruction, Label, Operand, Parsed, Patch, Prototype, Registers,
    Space, Statement, Type, Unit, Variable,
};

/// Most bytes of one variable: more than any GPU's memory.
const VARIABLE_BYTES: u64 = 1 << 40;
/// Most bytes that an initialiser may write out.
const INITIAL_BYTES: usize = 1 << 28;
/// Deepest nesting of braces in an initialiser.
const INITIAL_DEPTH: u32 = 8;

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

    fn word(&mut self) -> Parsed<&'a str> {
        match self.peek() {
            Lexeme::Word(word) => {
                self.bump();
                Ok(word)
            }
            _ => self.fail("expected a name"),
        }
    }

    fn unsigned(&mut self) -> Parsed<u64> {
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
                "version" | "target" | "address_size" | "file" | "loc" => {
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

    /// `(.param .u64 a, .param .align 8 .b8 b[16], …)`
    fn formals(&mut self) -> Parsed<Vec<Variable<'a>>> {
        self.expect('(')?;
        let mut formals = Vec::new();
        if self.eat(')') {
            return Ok(formals);
        }
        loop {
            let space = match self.peek() {
                Lexeme::Dot("param") => Space::Param,
                Lexeme::Dot("reg") => Space::Register,
                _ => return self.fail("expected .param or .reg"),
            };
            self.bump();
            let (ty, align, lanes) = self.declared_type()?;
            formals.push(self.declarator(space, ty, align, lanes, false)?);
            if self.eat(')') {
                return Ok(formals);
            }
            self.expect(',')?;
        }
    }

    /// Type, alignment and vector length of a declaration; `.ptr` and what follows it say nothing that is needed.
    fn declared_type(&mut self) -> Parsed<(Type, u64, u64)> {
        let (mut ty, mut align, mut lanes) = (None, 0, 1);
        while let Lexeme::Dot(name) = self.peek() {
            self.bump();
            match name {
                "align" => {
                    align = self.unsigned()?;
                    if !align.is_power_of_two() || align > 1 << 16 {
                        return self.fail("expected an alignment that is a power of two, at most 65536,");
                    }
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "ptr" | "global" | "const" | "shared" | "local" | "param" | "managed" | "unified" => {}
                "attribute" => {
                    while !self.eat(')') {
                        if self.peek() == Lexeme::End {
                            return self.fail("expected )");
                        }
                        self.bump();
                    }
                }
                _ => match Type::named(name) {
                    Some(named) if ty.is_none() => ty = Some(named),
                    _ => return Err(Complaint::new(self.token().line, format!("unknown type .{name}"))),
                },
            }
        }
        match ty {
            Some(ty) => Ok((ty, align.max(ty.bytes() * lanes), lanes)),
            None => self.fail("expected a type"),
        }
    }

    /// A variable's name, array lengths and initialiser.
    fn declarator(
        &mut self,
        space: Space,
        ty: Type,
        align: u64,
        lanes: u64,
        external: bool,
    ) -> Parsed<Variable<'a>> {
        let line = self.token().line;
        let name = match self.peek() {
            Lexeme::Word(word) => {
                self.bump();
                word
            }
            // Formal parameters of prototypes need no name.
            _ if space == Space::Param || space == Space::Register => "_",
            _ => return self.fail("expected a name"),
        };
        let mut bytes = ty.bytes() * lanes;
        let mut lengths = Vec::new();
        let mut open = false;
        while self.eat('[') {
            if self.eat(']') {
                open = true;
                continue;
            }
            let length = self.unsigned()?;
            self.expect(']')?;
            lengths.push(length);
            bytes = bytes.saturating_mul(length);
        }
        let initial = if self.eat('=') {
            let row =
                lengths.iter().skip(usize::from(!open)).product::<u64>().saturating_mul(ty.bytes() * lanes);
            Some(self.initial(ty, row)?)
        } else {
            None
        };
        if open {
            bytes = match &initial {
                Some(initial) => (initial.bytes.len() as u64).next_multiple_of(bytes.max(1)),
                None => 0,
            };
        }
        if bytes > VARIABLE_BYTES {
            return Err(Complaint::new(
                line,
                format!("{name} has {bytes} bytes; at most {VARIABLE_BYTES} are possible"),
            ));
        }
        if initial.as_ref().is_some_and(|i| i.bytes.len() as u64 > bytes) {
            return Err(Complaint::new(
                line,
                format!("{name} has more initial values than its {bytes} bytes hold"),
            ));
        }
        Ok(Variable { name, space, ty, bytes, align, initial, external, line })
    }

    /// An initialiser: one value, or values in braces. Rows of a nested array start at multiples of `row` bytes.
    fn initial(&mut self, ty: Type, row: u64) -> Parsed<Initial<'a>> {
        let mut out = Initial::default();
        self.initial_part(ty, row, INITIAL_DEPTH, &mut out)?;
        Ok(out)
    }

    fn initial_part(&mut self, ty: Type, row: u64, depth: u32, out: &mut Initial<'a>) -> Parsed<()> {
        if !self.eat('{') {
            return self.initial_value(ty, out);
        }
        let Some(depth) = depth.checked_sub(1) else { return self.fail("an initialiser nested too deep") };
        while !self.eat('}') {
            let nested = self.peek() == Lexeme::Mark('{');
            self.initial_part(ty, row, depth, out)?;
            if nested && row > 0 {
                let length = (out.bytes.len() as u64).next_multiple_of(row);
                if length > INITIAL_BYTES as u64 {
                    return self.fail("an initialiser that is too large");
                }
                out.bytes.resize(length as usize, 0);
            }
            if !self.eat(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(())
    }

    fn initial_value(&mut self, ty: Type, out: &mut Initial<'a>) -> Parsed<()> {
        let width = ty.bytes() as usize;
        if out.bytes.len() + width > INITIAL_BYTES {
            return self.fail("an initialiser that is too large");
        }
        let mut bits = match self.operand()? {
            Operand::Integer(value) if ty.integer() || ty.bits == 16 => value as u64,
            Operand::Integer(value) if ty.bits == 32 => u64::from((value as f32).to_bits()),
            Operand::Integer(value) => (value as f64).to_bits(),
            Operand::Single(bits) if ty.bits == 64 => f64::from(f32::from_bits(bits)).to_bits(),
            Operand::Single(bits) => u64::from(bits),
            Operand::Double(bits) if ty.bits == 64 => bits,
            Operand::Double(bits) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            operand @ (Operand::Name(_) | Operand::Offset(..)) => {
                let (mut name, offset) = match operand {
                    Operand::Name(name) => (name, 0),
                    Operand::Offset(name, offset) => (name, offset),
                    _ => return self.fail("expected an initial value"),
                };
                let mut offset = offset;
                if name == "generic" && self.eat('(') {
                    name = self.word()?;
                    self.expect(')')?;
                    if matches!(self.peek(), Lexeme::Mark('+' | '-')) {
                        offset = self.expression()?;
                    }
                }
                out.patches.push(Patch { at: out.bytes.len(), bytes: width.min(8), name, offset });
                0
            }
            _ => return self.fail("expected an initial value"),
        };
        for _ in 0..width {
            out.bytes.push(bits as u8);
            bits >>= 8;
        }
        Ok(())
    }

    /// `.space type name, name, …;`
    fn variables(&mut self, external: bool, mut found: impl FnMut(Variable<'a>)) -> Parsed<()> {
        let space = match self.peek() {
            Lexeme::Dot("global") => Space::Global,
            Lexeme::Dot("const") => Space::Const,
            Lexeme::Dot("shared") => Space::Shared,
            Lexeme::Dot("local") => Space::Local,
            Lexeme::Dot("param") => Space::Param,
            _ => return self.fail("expected a state space"),
        };
        self.bump();
        let (ty, align, lanes) = self.declared_type()?;
        loop {
            found(self.declarator(space, ty, align, lanes, external)?);
            if self.eat(';') {
                return Ok(());
            }
            self.expect(',')?;
        }
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
