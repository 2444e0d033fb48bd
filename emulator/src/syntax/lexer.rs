//! Text → tokens.

use super::{ParseError, Parsed};

/// A token and its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'a> {
    pub lexeme: Lexeme<'a>,
    /// Line in the text, from 1.
    pub line: u32,
    /// Byte offset of its start.
    pub start: usize,
    /// Byte offset of its end.
    pub end: usize,
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lexeme<'a> {
    /// An identifier, with its `%`, `$` or `_`.
    Word(&'a str),
    /// A dot and the text after it, without the dot: `.global`, `.L1::no_allocate`, `.x`.
    Dot(&'a str),
    /// An integer: with the suffix `U`, or too large for 64 signed bits, it counts as unsigned.
    Integer {
        value: u64,
        /// Whether it counts as unsigned.
        unsigned: bool,
    },
    /// `0f3F800000`: an f32 by its bits.
    Single(u32),
    /// `0d3FF0000000000000`, `1.0`
    Double(u64),
    /// A string, without its quotes.
    Text(&'a str),
    /// Anything else, one character.
    Mark(char),
    /// The end of the text.
    End,
}

/// All tokens of a text, ending in [`Lexeme::End`]. Comments and preprocessor lines are left out.
pub(super) fn tokens(text: &str) -> Parsed<Vec<Token<'_>>> {
    refuse_non_ascii(text)?;
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut out = Vec::new();
    loop {
        lexer.skip_blank()?;
        let (start, line) = (lexer.at, lexer.line);
        let lexeme = lexer.next()?;
        out.push(Token { lexeme, line, start, end: lexer.at });
        if lexeme == Lexeme::End {
            return Ok(out);
        }
    }
}

/// The compilers of CUDA 12.8 to 13.0 (drivers r570, r575, r580) take ASCII only, in comments too.
fn refuse_non_ascii(text: &str) -> Parsed<()> {
    let foreign = |line: &str| line.chars().find(|c| !c.is_ascii());
    match text.lines().zip(1..).find_map(|(line, number)| Some((number, foreign(line)?))) {
        None => Ok(()),
        Some((line, c)) => {
            let message =
                format!("non-ASCII character {c:?}: drivers r570 to r580 refuse it, even in a comment");
            Err(ParseError::new(line, message))
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

fn word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$'
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(ParseError::new(self.line, message))
    }

    /// Skips blanks, comments, and lines of preprocessor or debug marks (`#…`, `@@…`).
    fn skip_blank(&mut self) -> Parsed<()> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (0, _) if self.at >= self.bytes.len() => return Ok(()),
                (b'\n', _) => {
                    self.line += 1;
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r' | 0x0c | 0, _) => self.at += 1,
                (b'/', b'/') | (b'#', _) | (b'@', b'@') => {
                    while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => {
                    let first = self.line;
                    self.at += 2;
                    while (self.peek(0), self.peek(1)) != (b'*', b'/') {
                        if self.at >= self.bytes.len() {
                            return Err(ParseError::new(first, "a comment that does not end"));
                        }
                        self.line += u32::from(self.peek(0) == b'\n');
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    /// The bytes from here on that `belongs` accepts.
    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.at < self.bytes.len() && belongs(self.bytes[self.at]) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn next(&mut self) -> Parsed<Lexeme<'a>> {
        let b = self.peek(0);
        if self.at >= self.bytes.len() {
            return Ok(Lexeme::End);
        }
        // `.5` after a blank or a mark is a number; after a word it belongs to that: `.2d`.
        let before = self.at.checked_sub(1).and_then(|at| self.bytes.get(at)).copied().unwrap_or(0);
        if b.is_ascii_digit() || b == b'.' && self.peek(1).is_ascii_digit() && !word_byte(before) {
            return self.number();
        }
        if b == b'%' && word_byte(self.peek(1)) || b.is_ascii_alphabetic() || b == b'_' || b == b'$' {
            let start = self.at;
            self.at += 1;
            self.take(word_byte);
            return Ok(Lexeme::Word(&self.text[start..self.at]));
        }
        if b == b'.' && word_byte(self.peek(1)) {
            self.at += 1;
            let start = self.at;
            self.take(word_byte);
            while self.peek(0) == b':' && self.peek(1) == b':' && word_byte(self.peek(2)) {
                self.at += 2;
                self.take(word_byte);
            }
            return Ok(Lexeme::Dot(&self.text[start..self.at]));
        }
        if b == b'"' {
            self.at += 1;
            let string = self.take(|b| b != b'"' && b != b'\n');
            if self.peek(0) != b'"' {
                return self.fail("a string that does not end");
            }
            self.at += 1;
            return Ok(Lexeme::Text(string));
        }
        if b == b'\'' && self.peek(1).is_ascii() && self.peek(2) == b'\'' {
            let value = u64::from(self.peek(1));
            self.at += 3;
            return Ok(Lexeme::Integer { value, unsigned: false });
        }
        let Some(mark) = self.text[self.at..].chars().next() else { return Ok(Lexeme::End) };
        self.at += mark.len_utf8();
        Ok(Lexeme::Mark(mark))
    }

    fn number(&mut self) -> Parsed<Lexeme<'a>> {
        let start = self.at;
        match (self.peek(0), self.peek(1)) {
            (b'0', b'f' | b'F') => {
                self.at += 2;
                let digits = self.take(word_byte);
                return match u32::from_str_radix(digits, 16) {
                    Ok(bits) if digits.len() == 8 => Ok(Lexeme::Single(bits)),
                    _ => self.fail(format!("0f{digits} is not 0f and 8 hexadecimal digits")),
                };
            }
            (b'0', b'd' | b'D') => {
                self.at += 2;
                let digits = self.take(word_byte);
                return match u64::from_str_radix(digits, 16) {
                    Ok(bits) if digits.len() == 16 => Ok(Lexeme::Double(bits)),
                    _ => self.fail(format!("0d{digits} is not 0d and 16 hexadecimal digits")),
                };
            }
            (b'0', b'x' | b'X') => {
                self.at += 2;
                return self.integer(16);
            }
            (b'0', b'b' | b'B') => {
                self.at += 2;
                return self.integer(2);
            }
            _ => {}
        }
        self.take(|b| b.is_ascii_digit());
        let fraction = self.peek(0) == b'.' && !self.peek(1).is_ascii_alphabetic() && self.peek(1) != b'_';
        if fraction {
            self.at += 1;
            self.take(|b| b.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        let exponent = matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit();
        if exponent {
            self.at += 1 + sign;
            self.take(|b| b.is_ascii_digit());
        }
        let digits = &self.text[start..self.at];
        if fraction || exponent {
            return match digits.parse::<f64>() {
                Ok(value) => Ok(Lexeme::Double(value.to_bits())),
                Err(_) => self.fail(format!("{digits} is not a number")),
            };
        }
        self.at = start;
        self.integer(if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 })
    }

    fn integer(&mut self, radix: u32) -> Parsed<Lexeme<'a>> {
        let digits = self.take(word_byte);
        match u64::from_str_radix(digits.strip_suffix('U').unwrap_or(digits), radix) {
            Ok(value) => {
                Ok(Lexeme::Integer { value, unsigned: digits.ends_with('U') || value > i64::MAX as u64 })
            }
            Err(_) => self.fail(format!("{digits} is not an integer of up to 64 bits in base {radix}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexemes(text: &str) -> Vec<Lexeme<'_>> {
        tokens(text).expect("tokens").into_iter().map(|t| t.lexeme).collect()
    }

    #[test]
    fn every_form_of_a_number() {
        use Lexeme::*;
        for (text, expected) in [
            ("17", Integer { value: 17, unsigned: false }),
            ("017", Integer { value: 15, unsigned: false }),
            ("0x1fU", Integer { value: 31, unsigned: true }),
            ("0xffffffffffffffff", Integer { value: u64::MAX, unsigned: true }),
            ("0b101", Integer { value: 5, unsigned: false }),
            ("0", Integer { value: 0, unsigned: false }),
            ("'a'", Integer { value: 97, unsigned: false }),
            ("0f3F800000", Single(0x3f80_0000)),
            ("0d3FF0000000000000", Double(1f64.to_bits())),
            ("1.5", Double(1.5f64.to_bits())),
            ("2.5e-3", Double(2.5e-3f64.to_bits())),
            ("1e5", Double(1e5f64.to_bits())),
            (".5", Double(0.5f64.to_bits())),
            ("1.", Double(1f64.to_bits())),
        ] {
            assert_eq!(lexemes(text), [expected, End], "{text}");
        }
    }

    #[test]
    fn text_that_some_drivers_refuse_is_refused() {
        for text in ["ret;\n// C = A·B\n", "ret;\n/* √x */", "ret;\nmov.u32 %é, 1;"] {
            let complaint = tokens(text).unwrap_err();
            assert_eq!(complaint.line, 2, "{text}");
            assert!(complaint.message.starts_with("non-ASCII character"), "{}", complaint.message);
        }
    }

    #[test]
    fn instructions_words_and_comments() {
        use Lexeme::*;
        let text = "// a line\n@!%p1 ld.global.L1::no_allocate.f32 /* two\nlines */ %f1, [%rd2+-4]; // end";
        let expected = vec![
            Mark('@'),
            Mark('!'),
            Word("%p1"),
            Word("ld"),
            Dot("global"),
            Dot("L1::no_allocate"),
            Dot("f32"),
            Word("%f1"),
            Mark(','),
            Mark('['),
            Word("%rd2"),
            Mark('+'),
            Mark('-'),
            Integer { value: 4, unsigned: false },
            Mark(']'),
            Mark(';'),
            End,
        ];
        assert_eq!(lexemes(text), expected);
        assert_eq!(tokens(text).expect("tokens")[9].line, 3);
    }

    #[test]
    fn broken_tokens_are_complaints_with_their_line() {
        for text in ["\n/* open", "\n\"open", "\n0f12", "\n0d12", "\n0x", "\n99999999999999999999", "\n12abc"]
        {
            assert_eq!(tokens(text).expect_err(text).line, 2, "{text}");
        }
    }
}
