//! Programs by jq's rules: in the tree of a program, what jaq evaluates otherwise becomes something else. Changes (`|=`,
//! `=`, `+=`, ...) call filters of the prelude, the right side of an operation varies slowest, and `?` is of all before it.

use jaq_core::{
    load::{
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
    ops::Math,
    path::{Opt, Part, Path},
};

/// Variable that keeps a value while the rest of an operation is evaluated. Programs can't name it: a name has no `%`.
const KEPT: &str = "$%kept";

/// Filters of the prelude that rewritten programs call.
pub const OPERATOR_FILTERS: [&str; 7] =
    ["_assign", "_update_add", "_update_sub", "_update_mul", "_update_div", "_update_rem", "_update_alt"];

/// Rewrites terms of one text.
#[derive(Clone, Copy)]
pub struct TermRewriter<'a> {
    /// The text, which terms are slices of; empty for the prelude.
    pub program: &'a str,
}

impl<'a> TermRewriter<'a> {
    /// Return a program, in which `$ENV` is empty.
    pub fn program(self, term: Term<&'a str>) -> Term<&'a str> {
        let pattern = BinaryOp::Pipe(Some(Pattern::Var("$ENV")));
        Term::BinOp(Box::new(Term::Obj(Vec::new())), pattern, Box::new(self.term(term)))
    }

    /// Return a definition.
    pub fn definition(self, def: Def<&'a str>) -> Def<&'a str> {
        let body = self.term(def.body);
        // `$name` is a filter `name`, too; the prelude and the bodies of patterns do not use it.
        let named = !self.program.is_empty() && !def.name.starts_with('%');
        let variables = def.args.iter().copied().filter(|_| named);
        let filters = variables.filter_map(|variable| {
            Some(Def { name: variable.strip_prefix('$')?, args: Vec::new(), body: Term::Var(variable) })
        });
        let filters: Vec<_> = filters.collect();
        let body = if filters.is_empty() { body } else { Term::Def(filters, Box::new(body)) };
        Def { name: def.name, args: def.args, body }
    }

    fn term(self, term: Term<&'a str>) -> Term<&'a str> {
        let boxed = |term: Box<Term<&'a str>>| Box::new(self.term(*term));
        match term {
            Term::Var(name @ "$__loc__") => self.location(name),
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => term,
            Term::Str(format, parts) => self.string(format, parts),
            Term::Arr(inner) => Term::Arr(inner.map(boxed)),
            Term::Obj(members) => {
                let member = |(key, value): (Term<&'a str>, Option<Term<&'a str>>)| match (key, value) {
                    (Term::Var(name @ "$__loc__"), None) => (text("__loc__"), Some(self.location(name))),
                    (key, value) => (self.term(key), value.map(|value| self.term(value))),
                };
                Term::Obj(members.into_iter().map(member).collect())
            }
            Term::Neg(inner) => Term::Neg(boxed(inner)),
            Term::BinOp(left, operator, right) => self.operation(self.term(*left), operator, self.term(*right)),
            Term::Label(name, inner) => Term::Label(name, boxed(inner)),
            Term::Fold(kind, source, pattern, arguments) => self.fold(kind, self.term(*source), pattern, arguments),
            Term::TryCatch(inner, handler) => Term::TryCatch(boxed(inner), handler.map(boxed)),
            Term::IfThenElse(branches, otherwise) => Term::IfThenElse(
                branches.into_iter().map(|(when, then)| (self.term(when), self.term(then))).collect(),
                otherwise.map(boxed),
            ),
            Term::Def(defs, inner) => {
                Term::Def(defs.into_iter().map(|def| self.definition(def)).collect(), boxed(inner))
            }
            Term::Call(name, arguments) => Term::Call(name, self.all(arguments)),
            Term::Path(inner, path) => self.path(self.term(*inner), path),
        }
    }

    /// Return where a slice of the program stands.
    fn location(self, name: &'a str) -> Term<&'a str> {
        let offset = (name.as_ptr() as usize).wrapping_sub(self.program.as_ptr() as usize);
        let line = self.program.get(..offset).unwrap_or_default().matches('\n').count() + 1;
        // A term has only digits of the text, so that the number is made of characters.
        let digits = Term::Str(None, line.to_string().chars().map(StrPart::Char).collect());
        let line = Term::BinOp(Box::new(digits), BinaryOp::Pipe(None), Box::new(Term::Call("tonumber", vec![])));
        Term::Obj(vec![(text("file"), Some(text("<top-level>"))), (text("line"), Some(line))])
    }

    fn all(self, terms: Vec<Term<&'a str>>) -> Vec<Term<&'a str>> {
        terms.into_iter().map(|term| self.term(term)).collect()
    }

    fn string(self, format: Option<&'a str>, parts: Vec<StrPart<&'a str, Term<&'a str>>>) -> Term<&'a str> {
        let part = |part| match part {
            StrPart::Term(term) => StrPart::Term(self.term(term)),
            other => other,
        };
        ordered_string(format, parts.into_iter().map(part).collect())
    }

    fn fold(
        self,
        kind: &'a str,
        source: Term<&'a str>,
        pattern: Pattern<&'a str>,
        arguments: Vec<Term<&'a str>>,
    ) -> Term<&'a str> {
        let mut arguments = self.all(arguments);
        if let ("foreach", [_, update, ..]) = (kind, &arguments[..])
            && !has_one_value(update)
        {
            arguments = steps_of_foreach(arguments);
        }
        if let ("reduce", [_, update]) = (kind, &mut arguments[..])
            && !has_one_value(update)
        {
            *update = Term::Call("_last_or_null", vec![std::mem::take(update)]);
        }
        Term::Fold(kind, Box::new(source), self.pattern(pattern), arguments)
    }

    fn pattern(self, pattern: Pattern<&'a str>) -> Pattern<&'a str> {
        match pattern {
            Pattern::Var(name) => Pattern::Var(name),
            Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(|item| self.pattern(item)).collect()),
            Pattern::Obj(members) => {
                let member = |(key, value)| (self.term(key), self.pattern(value));
                Pattern::Obj(members.into_iter().map(member).collect())
            }
        }
    }

    /// Return a path of a term that has been rewritten.
    fn path(self, inner: Term<&'a str>, path: Path<Term<&'a str>>) -> Term<&'a str> {
        let parts = path.0.into_iter().map(|(part, opt)| {
            let part = match part {
                Part::Index(index) => Part::Index(self.term(index)),
                Part::Range(from, to) => {
                    Part::Range(from.map(|bound| self.term(bound)), to.map(|bound| self.term(bound)))
                }
            };
            (part, opt)
        });
        let mut whole = inner;
        let mut plain = Vec::new();
        for (part, opt) in parts {
            let several = !plain.is_empty() || !has_one_value(&whole);
            match part {
                // Its values vary slower than those of what it is an index of.
                Part::Index(index) if several && !has_one_value(&index) => {
                    let indexed = joined(std::mem::take(&mut whole), std::mem::take(&mut plain));
                    let kept = Path(vec![(Part::Index(Term::Var(KEPT)), Opt::Essential)]);
                    let kept = Term::Path(Box::new(indexed), kept);
                    whole = Term::BinOp(Box::new(index), BinaryOp::Pipe(Some(Pattern::Var(KEPT))), Box::new(kept));
                }
                part => plain.push((part, Opt::Essential)),
            }
            if matches!(opt, Opt::Optional) {
                whole = joined(std::mem::take(&mut whole), std::mem::take(&mut plain));
                whole = Term::TryCatch(Box::new(whole), None);
            }
        }
        joined(whole, plain)
    }

    /// Return the operation of two sides that have been rewritten.
    fn operation(self, left: Term<&'a str>, operator: BinaryOp<&'a str>, right: Term<&'a str>) -> Term<&'a str> {
        let call = |name: &'static str, left, right| Term::Call(name, vec![left, right]);
        match operator {
            BinaryOp::Assign => call("_assign", left, right),
            BinaryOp::Update => call("_modify", left, right),
            BinaryOp::UpdateAlt => call("_update_alt", left, right),
            BinaryOp::UpdateMath(Math::Add) => call("_update_add", left, right),
            BinaryOp::UpdateMath(Math::Sub) => call("_update_sub", left, right),
            BinaryOp::UpdateMath(Math::Mul) => call("_update_mul", left, right),
            BinaryOp::UpdateMath(Math::Div) => call("_update_div", left, right),
            BinaryOp::UpdateMath(Math::Rem) => call("_update_rem", left, right),
            BinaryOp::Pipe(pattern) => {
                let pattern = pattern.map(|pattern| self.pattern(pattern));
                Term::BinOp(Box::new(left), BinaryOp::Pipe(pattern), Box::new(right))
            }
            operator @ (BinaryOp::Math(_) | BinaryOp::Cmp(_)) if !has_one_value(&right) && !has_one_value(&left) => {
                in_order(left, operator, right)
            }
            operator => Term::BinOp(Box::new(left), operator, Box::new(right)),
        }
    }
}

/// Return the arguments of a `foreach` of which a step may have any number of values: the state is the last of them, null
/// if there is none. Here it is that state with the step's values.
fn steps_of_foreach(arguments: Vec<Term<&str>>) -> Vec<Term<&str>> {
    let pipe = |left, right| Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right));
    let item = |index| Term::Path(Box::new(Term::Id), Path(vec![(Part::Index(Term::Num(index)), Opt::Essential)]));
    let each = Term::Path(Box::new(item("0")), Path(vec![(Part::Range(None, None), Opt::Essential)]));
    let array = |term| Term::Arr(Some(Box::new(term)));
    let mut arguments = arguments.into_iter();
    let (init, update) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let last = Term::Neg(Box::new(Term::Num("1")));
    let last = Term::Path(Box::new(item("0")), Path(vec![(Part::Index(last), Opt::Essential)]));
    let values = array(array(pipe(last, update)));
    let extract = arguments.next().map_or(each.clone(), |extract| pipe(each, extract));
    let rest = arguments;
    [pipe(init, array(array(Term::Id))), values, extract].into_iter().chain(rest).collect()
}

/// Return a string with parts that have been rewritten: the last one varies slowest.
fn ordered_string<'a>(format: Option<&'a str>, mut parts: Vec<StrPart<&'a str, Term<&'a str>>>) -> Term<&'a str> {
    let several = |part: &StrPart<_, Term<&'a str>>| matches!(part, StrPart::Term(term) if !has_one_value(term));
    let last = parts.iter().rposition(several).filter(|last| parts[..*last].iter().any(several));
    let Some(last) = last else { return Term::Str(format, parts) };
    let rest = parts.split_off(last);
    in_order(ordered_string(format, parts), BinaryOp::Math(Math::Add), Term::Str(format, rest))
}

/// Return an operation of which the right side varies slowest.
fn in_order<'a>(left: Term<&'a str>, operator: BinaryOp<&'a str>, right: Term<&'a str>) -> Term<&'a str> {
    let kept = Term::BinOp(Box::new(left), operator, Box::new(Term::Var(KEPT)));
    Term::BinOp(Box::new(right), BinaryOp::Pipe(Some(Pattern::Var(KEPT))), Box::new(kept))
}

fn text(text: &str) -> Term<&str> {
    Term::Str(None, vec![StrPart::Str(text)])
}

fn joined<'a>(inner: Term<&'a str>, parts: Vec<(Part<Term<&'a str>>, Opt)>) -> Term<&'a str> {
    if parts.is_empty() { inner } else { Term::Path(Box::new(inner), Path(parts)) }
}

/// Return whether a term obviously has one value, so that the order of evaluation does not show.
fn has_one_value(term: &Term<&str>) -> bool {
    match term {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Arr(_) => true,
        Term::Neg(inner) => has_one_value(inner),
        Term::Str(_, parts) => parts.iter().all(|part| !matches!(part, StrPart::Term(term) if !has_one_value(term))),
        Term::Obj(members) => {
            members.iter().all(|(key, value)| has_one_value(key) && value.as_ref().is_none_or(has_one_value))
        }
        Term::Path(inner, path) => {
            has_one_value(inner)
                && path.0.iter().all(|(part, _)| match part {
                    Part::Index(index) => has_one_value(index),
                    Part::Range(None, None) => false,
                    Part::Range(from, to) => [from, to].into_iter().flatten().all(has_one_value),
                })
        }
        Term::BinOp(left, BinaryOp::Math(_) | BinaryOp::Cmp(_) | BinaryOp::And | BinaryOp::Or, right)
        | Term::BinOp(left, BinaryOp::Pipe(None), right) => has_one_value(left) && has_one_value(right),
        Term::IfThenElse(branches, otherwise) => {
            branches.iter().all(|(when, then)| has_one_value(when) && has_one_value(then))
                && otherwise.as_deref().is_none_or(has_one_value)
        }
        Term::Call(name, arguments) => ONE_VALUE.contains(name) && arguments.iter().all(has_one_value),
        _ => false,
    }
}

/// Filters with one value, if their arguments have one.
const ONE_VALUE: [&str; 18] = [
    "add",
    "ascii_downcase",
    "ascii_upcase",
    "fromjson",
    "has",
    "join",
    "keys",
    "length",
    "not",
    "setpath",
    "startswith",
    "test",
    "tojson",
    "tonumber",
    "tostring",
    "type",
    "true",
    "false",
];
