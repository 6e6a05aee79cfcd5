//! Patterns of bindings, and alternatives of them (`. as [$a] ?// $a | ...`).

use jaq_core::{
    load::{
        lex::{Tok, Token},
        parse::{BinaryOp, Def, Pattern, Term},
    },
    path::{Opt, Part, Path},
};

use super::{ParseResult, SyntaxFault, SyntaxParser, binary, constant};

/// Names that programs can't have: of the value that is taken apart, of the input, and of what follows.
const TAKEN_APART: &str = "$%taken";
const INPUT: &str = "$%input";
const BODY: &str = "%body";

impl<'s> SyntaxParser<'s, '_> {
    /// Parse patterns with `?//` between them.
    pub(super) fn patterns(&mut self) -> ParseResult<'s, Vec<Pattern<&'s str>>> {
        let mut alternatives = vec![self.pattern()?];
        while self.at_alternative() {
            self.tokens.next();
            self.tokens.next();
            alternatives.push(self.pattern()?);
        }
        Ok(alternatives)
    }

    fn pattern(&mut self) -> ParseResult<'s, Pattern<&'s str>> {
        if self.at_block('[') {
            return self.block(|parser| parser.separated(",", Self::pattern)).map(Pattern::Arr);
        }
        if self.at_block('{') {
            let members = self.block(|parser| parser.separated(",", Self::pattern_members))?;
            return Ok(Pattern::Obj(members.into_iter().flatten().collect()));
        }
        match self.peek_token() {
            Some(Token(_, Tok::Var)) => self.variable().map(Pattern::Var),
            _ => self.expected("pattern"),
        }
    }

    /// Parse a member of an object's pattern, which is two if it is bound as a whole and taken apart (`$a: [$b]`).
    fn pattern_members(&mut self) -> ParseResult<'s, Vec<(Term<&'s str>, Pattern<&'s str>)>> {
        let key = match self.peek_token() {
            Some(Token(name, Tok::Var)) => {
                let whole = Pattern::Var(self.variable()?);
                let mut members = vec![(constant(&name[1..]), whole)];
                if self.take(":") {
                    members.push((constant(&name[1..]), self.pattern()?));
                }
                return Ok(members);
            }
            Some(Token(text, Tok::Block(_))) if text.starts_with('(') => self.key_query()?,
            Some(Token(name, Tok::Word)) if !name.contains("::") => {
                self.tokens.next();
                constant(name)
            }
            _ => self.string_term("key")?,
        };
        self.expect(":")?;
        Ok(vec![(key, self.pattern()?)])
    }
}

/// Return the term that binds the values of `source` for `body`. An alternative is taken if those before it fail, be it in
/// taking the value apart or in what follows; variables of the others are null.
pub fn bind<'s>(source: Term<&'s str>, alternatives: Vec<Pattern<&'s str>>, body: Term<&'s str>) -> Term<&'s str> {
    let mut alternatives = alternatives;
    if alternatives.len() < 2 {
        return binary(source, BinaryOp::Pipe(alternatives.pop()), body);
    }
    let variables = all_variables(&alternatives);
    let call = Term::Call(BODY, variables.iter().copied().map(Term::Var).collect());
    let def = Def { name: BODY, args: variables.clone(), body };
    let chosen = choose(alternatives, &variables, call);
    let chosen = binary(Term::Id, BinaryOp::Pipe(Some(Pattern::Var(INPUT))), chosen);
    let taken = binary(source, BinaryOp::Pipe(Some(Pattern::Var(TAKEN_APART))), chosen);
    Term::Def(vec![def], Box::new(taken))
}

/// Return a source and a single pattern for a `reduce` or `foreach`.
pub fn source<'s>(source: Term<&'s str>, mut alternatives: Vec<Pattern<&'s str>>) -> (Term<&'s str>, Pattern<&'s str>) {
    if alternatives.len() < 2 {
        return (source, alternatives.pop().unwrap_or(Pattern::Arr(Vec::new())));
    }
    let variables = all_variables(&alternatives);
    let values = variables.iter().copied().map(Term::Var);
    let values = values.reduce(|left, right| binary(left, BinaryOp::Comma, right)).map(Box::new);
    let pattern = Pattern::Arr(variables.into_iter().map(Pattern::Var).collect());
    (bind(source, alternatives, Term::Arr(values)), pattern)
}

fn choose<'s>(alternatives: Vec<Pattern<&'s str>>, variables: &[&'s str], call: Term<&'s str>) -> Term<&'s str> {
    let alternatives = alternatives.into_iter().rev().map(|pattern| {
        let mut own = Vec::new();
        collect_variables(&pattern, &mut own);
        let bound = binary(Term::Var(TAKEN_APART), BinaryOp::Pipe(Some(pattern)), call.clone());
        variables
            .iter()
            .filter(|name| !own.contains(*name))
            .fold(bound, |bound, name| binary(null(), BinaryOp::Pipe(Some(Pattern::Var(name))), bound))
    });
    let chosen = alternatives.reduce(|next, tried| {
        let next = binary(Term::Var(INPUT), BinaryOp::Pipe(None), next);
        Term::TryCatch(Box::new(tried), Some(Box::new(next)))
    });
    chosen.unwrap_or_default()
}

/// Return null as a term that no definition changes.
fn null<'s>() -> Term<&'s str> {
    Term::Path(Box::new(Term::Arr(None)), Path(vec![(Part::Index(Term::Num("0")), Opt::Essential)]))
}

fn all_variables<'s>(alternatives: &[Pattern<&'s str>]) -> Vec<&'s str> {
    let mut variables = Vec::new();
    for pattern in alternatives {
        collect_variables(pattern, &mut variables);
    }
    variables
}

fn collect_variables<'s>(pattern: &Pattern<&'s str>, variables: &mut Vec<&'s str>) {
    match pattern {
        Pattern::Var(name) if variables.contains(name) => {}
        Pattern::Var(name) => variables.push(name),
        Pattern::Arr(items) => items.iter().for_each(|item| collect_variables(item, variables)),
        Pattern::Obj(members) => members.iter().for_each(|(_, member)| collect_variables(member, variables)),
    }
}

impl<'s> SyntaxFault<'s> {
    /// Return the place, which is empty at the end of the program, and what is wrong there.
    pub fn at(self, program: &'s str) -> (&'s str, String) {
        let end = &program[program.len()..];
        match self {
            Self::Expected(what, Some(place)) => {
                let shown = place.chars().take(20).collect::<String>();
                (place, format!("expected {what} at `{}`", shown.trim_end()))
            }
            Self::Expected(what, None) => (end, format!("expected {what} at the end")),
            Self::Refused(message, place) => (place, message),
        }
    }
}
