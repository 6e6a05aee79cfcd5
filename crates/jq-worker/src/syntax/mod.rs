//! SyntaxParser of programs by the grammar of jq 1.8, which jaq's parser differs from: in what `as` binds, in alternative
//! patterns (`?//`), and in what it takes besides. The lexer and the tree are jaq's.

use std::slice;

use jaq_core::{
    load::{
        lex::{StrPart, Tok, Token},
        parse::{BinaryOp, Def, Term},
    },
    path::{Opt, Part, Path},
};

mod objects;
mod operators;
mod patterns;

use self::operators::{GroupingSide, operator, operator_strength};

/// Words that are no names of filters.
const KEYWORDS: [&str; 18] = [
    "as", "def", "module", "import", "include", "if", "then", "else", "elif", "reduce", "foreach", "end", "and", "or",
    "try", "catch", "label", "break",
];

/// Maximum nesting of a program. The stack of a worker has room for it.
pub const MAX_NESTING: usize = 4096;

/// What is wrong with a program: what was expected instead of which slice of it, empty at the end.
#[derive(Debug)]
pub enum SyntaxFault<'s> {
    /// Something else was expected at a place; `None` is the end.
    Expected(&'static str, Option<&'s str>),
    /// Something is not allowed.
    Refused(String, &'s str),
}

type ParseResult<'s, T = Term<&'s str>> = Result<T, SyntaxFault<'s>>;

/// Return the tree of a program.
pub fn parse_program<'s>(program: &'s str, tokens: &[Token<&'s str>]) -> ParseResult<'s> {
    let mut parser = SyntaxParser { program, tokens: tokens.iter(), depth: 0 };
    if let Some(word @ ("module" | "import" | "include")) = parser.peek() {
        return Err(SyntaxFault::Refused("modules cannot be imported".to_owned(), word));
    }
    let term = parser.query()?;
    match parser.peek() {
        None => Ok(term),
        place => Err(SyntaxFault::Expected("nothing", place)),
    }
}

struct SyntaxParser<'s, 't> {
    program: &'s str,
    tokens: slice::Iter<'t, Token<&'s str>>,
    /// How deeply what is being parsed is nested.
    depth: usize,
}

impl<'s, 't> SyntaxParser<'s, 't> {
    fn peek(&self) -> Option<&'s str> {
        self.tokens.as_slice().first().map(|token| token.0)
    }

    fn peek_token(&self) -> Option<&'t Token<&'s str>> {
        self.tokens.as_slice().first()
    }

    /// Take the next token if it is `text`.
    fn take(&mut self, text: &str) -> bool {
        let taken = self.peek() == Some(text);
        if taken {
            self.tokens.next();
        }
        taken
    }

    fn expect(&mut self, text: &'static str) -> ParseResult<'s, ()> {
        if self.take(text) { Ok(()) } else { Err(SyntaxFault::Expected(text, self.peek())) }
    }

    fn expected<T>(&self, what: &'static str) -> ParseResult<'s, T> {
        Err(SyntaxFault::Expected(what, self.peek()))
    }

    /// Return whether the next token is a block that opens with `open`.
    fn at_block(&self, open: char) -> bool {
        matches!(self.peek_token(), Some(Token(text, Tok::Block(_))) if text.starts_with(open))
    }

    /// Parse the whole content of the next token, a block.
    fn block<T>(&mut self, parse: impl FnOnce(&mut Self) -> ParseResult<'s, T>) -> ParseResult<'s, T> {
        let Some(Token(_, Tok::Block(tokens))) = self.tokens.next() else { return self.expected("term") };
        let (inner, close) = match tokens.split_last() {
            Some((close, inner)) => (inner, Some(close.0)),
            None => (&tokens[..], None),
        };
        let mut parser = SyntaxParser { program: self.program, tokens: inner.iter(), depth: self.depth };
        let parsed = parse(&mut parser).map_err(|fault| match fault {
            // What ends too early is shown its block's end.
            SyntaxFault::Expected(what, None) => SyntaxFault::Expected(what, close),
            other => other,
        })?;
        match parser.peek() {
            None => Ok(parsed),
            place => Err(SyntaxFault::Expected(closing(close), place)),
        }
    }

    fn variable(&mut self) -> ParseResult<'s, &'s str> {
        match self.peek_token() {
            Some(Token(name, Tok::Var)) => {
                self.tokens.next();
                self.no_module(name)
            }
            _ => self.expected("variable"),
        }
    }

    fn no_module(&self, name: &'s str) -> ParseResult<'s, &'s str> {
        match name.split_once("::") {
            Some((module, _)) => Err(SyntaxFault::Refused(format!("no module {module}"), name)),
            None => Ok(name),
        }
    }

    /// Parse something nested.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> ParseResult<'s, T>) -> ParseResult<'s, T> {
        if self.depth == MAX_NESTING {
            let place = self.peek().unwrap_or(&self.program[self.program.len()..]);
            return Err(SyntaxFault::Refused(format!("the program is nested deeper than {MAX_NESTING} levels"), place));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parse what may have pipes and commas.
    fn query(&mut self) -> ParseResult<'s> {
        self.nested(Self::stages)
    }

    fn stages(&mut self) -> ParseResult<'s> {
        let mut stages = vec![self.stage()?];
        while self.take("|") {
            stages.push(self.stage()?);
        }
        let last = stages.pop().unwrap_or_default();
        Ok(stages.into_iter().rfold(last, |right, left| binary(left, BinaryOp::Pipe(None), right)))
    }

    fn stage(&mut self) -> ParseResult<'s> {
        let mut left = self.comma_operand()?;
        while self.take(",") {
            left = binary(left, BinaryOp::Comma, self.comma_operand()?);
        }
        Ok(left)
    }

    /// Parse an operand of a comma. Definitions, labels and bindings reach to the end of all that follows.
    fn comma_operand(&mut self) -> ParseResult<'s> {
        match self.peek() {
            Some("def") => {
                let mut defs = Vec::new();
                while self.take("def") {
                    defs.push(self.definition()?);
                }
                Ok(Term::Def(defs, Box::new(self.query()?)))
            }
            Some("label") => {
                self.tokens.next();
                let name = self.variable()?;
                self.expect("|")?;
                Ok(Term::Label(name, Box::new(self.query()?)))
            }
            _ => {
                let source = self.expression(0)?;
                if !self.take("as") {
                    return Ok(source);
                }
                let alternatives = self.patterns()?;
                self.expect("|")?;
                let body = self.query()?;
                Ok(patterns::bind(source, alternatives, body))
            }
        }
    }

    fn definition(&mut self) -> ParseResult<'s, Def<&'s str>> {
        let name = match self.tokens.next() {
            Some(Token(name, Tok::Word)) if !KEYWORDS.contains(name) => self.no_module(name)?,
            other => return Err(SyntaxFault::Expected("identifier", other.map(|token| token.0))),
        };
        let mut args = Vec::new();
        if self.at_block('(') {
            args = self.block(|parser| parser.separated(";", Self::parameter))?;
        }
        self.expect(":")?;
        let body = self.query()?;
        self.expect(";")?;
        Ok(Def { name, args, body })
    }

    fn parameter(&mut self) -> ParseResult<'s, &'s str> {
        match self.peek_token() {
            Some(Token(name, Tok::Var)) => {
                self.tokens.next();
                self.no_module(name)
            }
            Some(Token(name, Tok::Word)) if !KEYWORDS.contains(name) => {
                self.tokens.next();
                self.no_module(name)
            }
            _ => self.expected("argument"),
        }
    }

    fn separated<T>(
        &mut self,
        separator: &str,
        parse: impl Fn(&mut Self) -> ParseResult<'s, T>,
    ) -> ParseResult<'s, Vec<T>> {
        let mut parsed = vec![parse(self)?];
        while self.take(separator) {
            parsed.push(parse(self)?);
        }
        Ok(parsed)
    }

    /// Parse operations that bind at least as strongly as `weakest`.
    fn expression(&mut self, weakest: u8) -> ParseResult<'s> {
        let mut left = self.term()?;
        while let Some((operator, strength, side)) = self.peek().and_then(operator) {
            if strength < weakest {
                break;
            }
            self.tokens.next();
            let right = if matches!(side, GroupingSide::Right) { strength } else { strength + 1 };
            let right = self.nested(|parser| parser.expression(right))?;
            left = binary(left, operator, right);
            let next = self.peek().and_then(operator_strength);
            if matches!(side, GroupingSide::None) && next == Some(strength) {
                return self.expected("nothing");
            }
        }
        Ok(left)
    }

    /// Parse a term and what follows it immediately: members, indexes, `?`.
    fn term(&mut self) -> ParseResult<'s> {
        let mut term = self.atom()?;
        let mut parts = Vec::new();
        loop {
            let part = match self.peek_token() {
                Some(Token("?", _)) if self.at_alternative() => break,
                Some(Token("?", _)) => {
                    self.tokens.next();
                    term = Term::TryCatch(Box::new(with_path(term, std::mem::take(&mut parts))), None);
                    continue;
                }
                Some(Token(".", Tok::Sym)) => {
                    self.tokens.next();
                    if self.at_block('[') { self.bracket()? } else { Part::Index(self.string_term("key")?) }
                }
                Some(Token(field, Tok::Sym)) if is_field(field) => {
                    self.tokens.next();
                    Part::Index(constant(&field[1..]))
                }
                Some(Token(_, Tok::Block(_))) if self.at_block('[') => self.bracket()?,
                _ => break,
            };
            let optional = self.peek() == Some("?") && !self.at_alternative();
            // The rewriter makes `?` one of all before it, which costs nothing where nothing is before it.
            let first = parts.is_empty() && matches!(term, Term::Id);
            if optional && first {
                self.tokens.next();
                parts.push((part, Opt::Optional));
                term = with_path(term, std::mem::take(&mut parts));
            } else {
                parts.push((part, Opt::Essential));
            }
        }
        Ok(with_path(term, parts))
    }

    /// Return whether the next token begins the `?//` of patterns.
    fn at_alternative(&self) -> bool {
        matches!(self.tokens.as_slice(), [Token("?", _), Token("//", _), ..] if self.adjacent())
    }

    /// Return whether nothing is between the next two tokens.
    fn adjacent(&self) -> bool {
        match self.tokens.as_slice() {
            [Token(first, _), Token(second, _), ..] => first.as_bytes().as_ptr_range().end == second.as_ptr(),
            _ => false,
        }
    }

    /// Parse `[...]` after a term.
    fn bracket(&mut self) -> ParseResult<'s, Part<Term<&'s str>>> {
        self.block(|parser| {
            if parser.peek().is_none() {
                return Ok(Part::Range(None, None));
            }
            if parser.take(":") {
                return Ok(Part::Range(None, Some(parser.query()?)));
            }
            let from = parser.query()?;
            if !parser.take(":") {
                return Ok(Part::Index(from));
            }
            let to = if parser.peek().is_none() { None } else { Some(parser.query()?) };
            Ok(Part::Range(Some(from), to))
        })
    }

    fn atom(&mut self) -> ParseResult<'s> {
        let Some(Token(text, kind)) = self.peek_token() else { return self.expected("term") };
        match (*text, kind) {
            ("def" | "label", _) => return self.comma_operand(),
            (".", Tok::Sym) if self.adjacent() && matches!(self.tokens.as_slice(), [_, Token(_, Tok::Num), ..]) => {
                self.tokens.next();
                let digits = self.peek().unwrap_or_default();
                self.tokens.next();
                return self.fraction(text, digits);
            }
            (".", Tok::Sym) => {
                self.tokens.next();
                let term = match self.peek_token() {
                    Some(Token(_, Tok::Str(_) | Tok::Fmt)) => {
                        let key = self.string_term("key")?;
                        return Ok(with_path(Term::Id, vec![(Part::Index(key), self.optional())]));
                    }
                    _ => Term::Id,
                };
                return Ok(term);
            }
            (field, Tok::Sym) if is_field(field) => {
                self.tokens.next();
                let key = constant(&field[1..]);
                return Ok(with_path(Term::Id, vec![(Part::Index(key), self.optional())]));
            }
            (_, Tok::Str(_)) => return self.string_term("term"),
            (_, Tok::Block(_)) => return self.delimited(),
            _ => {}
        }
        self.tokens.next();
        match (*text, kind) {
            ("-", _) => Ok(Term::Neg(Box::new(self.nested(Self::term)?))),
            ("..", _) => Ok(Term::Recurse),
            (digits, Tok::Num) => Ok(Term::Num(digits)),
            (name, Tok::Var) => Ok(Term::Var(self.no_module(name)?)),
            (name, Tok::Fmt) => match self.peek_token() {
                Some(Token(_, Tok::Str(parts))) => {
                    self.tokens.next();
                    Ok(Term::Str(Some(name), self.string_parts(parts)?))
                }
                _ => Ok(Term::Call(name, Vec::new())),
            },
            ("break", _) => Ok(Term::Break(self.variable()?)),
            ("if", _) => self.condition(),
            ("try", _) => {
                let tried = self.nested(Self::term)?;
                let handler = if self.take("catch") { Some(Box::new(self.nested(Self::term)?)) } else { None };
                Ok(Term::TryCatch(Box::new(tried), handler))
            }
            (kind @ ("reduce" | "foreach"), _) => {
                let source = self.expression(0)?;
                self.expect("as")?;
                let alternatives = self.patterns()?;
                if !self.at_block('(') {
                    return self.expected("(");
                }
                let arguments = self.block(|parser| parser.separated(";", Self::query))?;
                let (source, pattern) = patterns::source(source, alternatives);
                Ok(Term::Fold(kind, Box::new(source), pattern, arguments))
            }
            (name, Tok::Word) if !KEYWORDS.contains(&name) => {
                let mut arguments = Vec::new();
                if self.at_block('(') {
                    arguments = self.block(|parser| parser.separated(";", Self::query))?;
                }
                Ok(Term::Call(self.no_module(name)?, arguments))
            }
            (text, _) => Err(SyntaxFault::Expected("term", Some(text))),
        }
    }

    fn optional(&mut self) -> Opt {
        if self.at_alternative() || !self.take("?") { Opt::Essential } else { Opt::Optional }
    }

    /// Return a number without digits before its point.
    fn fraction(&self, point: &'s str, digits: &'s str) -> ParseResult<'s> {
        let start = (point.as_ptr() as usize).wrapping_sub(self.program.as_ptr() as usize);
        match self.program.get(start..start.saturating_add(1 + digits.len())) {
            Some(number) if !digits.contains('.') => Ok(Term::Num(number)),
            _ => Err(SyntaxFault::Expected("term", Some(point))),
        }
    }

    fn condition(&mut self) -> ParseResult<'s> {
        let mut branches = Vec::new();
        loop {
            let when = self.query()?;
            self.expect("then")?;
            branches.push((when, self.query()?));
            if self.take("end") {
                return Ok(Term::IfThenElse(branches, None));
            }
            if self.take("else") {
                let otherwise = self.query()?;
                self.expect("end")?;
                return Ok(Term::IfThenElse(branches, Some(Box::new(otherwise))));
            }
            if !self.take("elif") {
                return self.expected("else or end");
            }
        }
    }

    fn string_term(&mut self, what: &'static str) -> ParseResult<'s> {
        let format = match self.tokens.as_slice() {
            [Token(name, Tok::Fmt), Token(_, Tok::Str(_)), ..] => {
                self.tokens.next();
                Some(*name)
            }
            _ => None,
        };
        match self.peek_token() {
            Some(Token(_, Tok::Str(parts))) => {
                self.tokens.next();
                Ok(Term::Str(format, self.string_parts(parts)?))
            }
            _ => self.expected(what),
        }
    }

    fn string_parts(
        &self,
        parts: &'t [StrPart<&'s str, Token<&'s str>>],
    ) -> ParseResult<'s, Vec<StrPart<&'s str, Term<&'s str>>>> {
        let part = |part: &'t StrPart<&'s str, Token<&'s str>>| match part {
            StrPart::Str(text) => Ok(StrPart::Str(*text)),
            StrPart::Char(character) => Ok(StrPart::Char(*character)),
            StrPart::Term(token) => {
                let tokens = slice::from_ref(token).iter();
                let mut parser = SyntaxParser { program: self.program, tokens, depth: self.depth };
                parser.block(Self::query).map(StrPart::Term)
            }
        };
        parts.iter().map(part).collect()
    }
}

fn closing(close: Option<&str>) -> &'static str {
    match close {
        Some(")") => "closing parenthesis",
        Some("]") => "closing bracket",
        _ => "closing brace",
    }
}

fn is_field(text: &str) -> bool {
    text.len() > 1 && text.starts_with('.') && text != ".."
}

fn constant(text: &str) -> Term<&str> {
    Term::Str(None, vec![StrPart::Str(text)])
}

fn with_path<'s>(term: Term<&'s str>, parts: Vec<(Part<Term<&'s str>>, Opt)>) -> Term<&'s str> {
    if parts.is_empty() { term } else { Term::Path(Box::new(term), Path(parts)) }
}

fn binary<'s>(left: Term<&'s str>, operator: BinaryOp<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), operator, Box::new(right))
}
