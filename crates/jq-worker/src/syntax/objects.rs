//! What is between parentheses, brackets and braces.

use jaq_core::load::{
    lex::{Tok, Token},
    parse::{BinaryOp, Term},
};

use super::{ParseResult, SyntaxFault, SyntaxParser, binary, constant};

type ObjectMember<'s> = (Term<&'s str>, Option<Term<&'s str>>);

impl<'s> SyntaxParser<'s, '_> {
    /// Parse what is between parentheses, brackets or braces.
    pub(super) fn delimited(&mut self) -> ParseResult<'s> {
        match self.peek().and_then(|text| text.chars().next()) {
            Some('(') => self.block(Self::query),
            Some('[') => {
                let inner = self.block(|parser| match parser.peek() {
                    None => Ok(None),
                    _ => parser.query().map(|term| Some(Box::new(term))),
                });
                Ok(Term::Arr(inner?))
            }
            _ => self.block(|parser| {
                let mut members = Vec::new();
                // A comma may end them.
                while parser.peek().is_some() {
                    members.push(parser.member()?);
                    if !parser.take(",") {
                        break;
                    }
                }
                Ok(Term::Obj(members))
            }),
        }
    }

    fn member(&mut self) -> ParseResult<'s, ObjectMember<'s>> {
        let key = match self.peek_token() {
            Some(Token(text, Tok::Block(_))) if text.starts_with('(') => {
                let key = self.key_query()?;
                self.expect(":")?;
                return Ok((key, Some(self.member_value()?)));
            }
            Some(Token(name, Tok::Var)) => {
                self.tokens.next();
                Term::Var(self.no_module(name)?)
            }
            Some(Token(name, Tok::Word)) if !name.contains("::") => {
                self.tokens.next();
                constant(name)
            }
            _ => self.string_term("key")?,
        };
        let value = if self.take(":") { Some(self.member_value()?) } else { None };
        Ok((key, value))
    }

    /// Parse a key in parentheses, which is refused if it is obviously no string.
    pub(super) fn key_query(&mut self) -> ParseResult<'s> {
        let place = self.peek().unwrap_or_default();
        let key = self.block(Self::query)?;
        let kind = match &key {
            Term::Num(_) => "number",
            Term::Arr(None) => "array",
            Term::Obj(members) if members.is_empty() => "object",
            Term::Call("true" | "false", arguments) if arguments.is_empty() => "boolean",
            Term::Call("null", arguments) if arguments.is_empty() => "null",
            _ => return Ok(key),
        };
        Err(SyntaxFault::Refused(format!("a key of an object is a string, not of type {kind}"), place))
    }

    /// Parse a value of an object's member, which may have pipes but no commas.
    fn member_value(&mut self) -> ParseResult<'s> {
        let mut stages = vec![self.expression(0)?];
        while self.take("|") {
            stages.push(self.expression(0)?);
        }
        let last = stages.pop().unwrap_or_default();
        Ok(stages.into_iter().rfold(last, |right, left| binary(left, BinaryOp::Pipe(None), right)))
    }
}
