//! Parser of paths, by the grammar of RFC 9535.

use serde_json::{Number, Value};

use am_core::json_number::{JsonReadError, read_json};

use super::syntax::{
    ComparisonOperator, FilterCondition, FilterOperand, FunctionCall, PathSegment, PathSelector, PathStep,
};

/// Maximum depth of brackets and parentheses.
const MAX_PATH_DEPTH: usize = 8;
/// Largest absolute value of an index (RFC 9535, 2.1: integers that a double keeps).
const MAX_PATH_INDEX: i64 = (1 << 53) - 1;

type Parsed<T> = Result<T, String>;

/// Position in a path's text.
pub struct PathParser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    descents: usize,
}

/// What a filter tests or compares, before it is known which.
enum FilterTerm {
    Literal(Value),
    Path(Vec<PathSegment>),
    Call(FunctionCall),
}

impl<'a> PathParser<'a> {
    /// Parse a whole path.
    ///
    /// # Errors
    /// The first error in the text, with its place.
    pub fn parse(text: &'a str) -> Parsed<Vec<PathSegment>> {
        let mut parser = Self { text, at: 0, depth: 0, descents: 0 };
        parser.expect("$")?;
        let segments = parser.segments()?;
        if parser.at < text.len() { Err(parser.fault("a segment should begin here")) } else { Ok(segments) }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn fault(&self, message: &str) -> String {
        let place = self.text[..self.at].chars().count();
        if self.rest().starts_with('$') && self.at > 0 {
            return "has a second $; a path has one, at its start".into();
        }
        format!("is no JSONPath: {message} (at character {place})")
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(self.fault(&format!("{token} should stand here"))) }
    }

    fn blanks(&mut self) {
        self.at += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    /// Parse what stands between an opening bracket, which has been taken, and `close`.
    fn nested<T>(&mut self, close: &str, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_PATH_DEPTH {
            return Err("is nested too deeply".into());
        }
        self.blanks();
        let parsed = inner(self)?;
        self.blanks();
        self.expect(close)?;
        self.depth -= 1;
        Ok(parsed)
    }

    fn segments(&mut self) -> Parsed<Vec<PathSegment>> {
        let mut segments = Vec::new();
        loop {
            let before = self.at;
            self.blanks();
            if self.take("..") {
                self.descents += 1;
                if self.descents > 1 {
                    return Err("descends (..) more than once".into());
                }
                let selectors = if self.take("[") { self.selectors()? } else { vec![self.shorthand()?] };
                segments.push(PathSegment { descends: true, selectors });
            } else if self.take(".") {
                segments.push(PathSegment { descends: false, selectors: vec![self.shorthand()?] });
            } else if self.take("[") {
                segments.push(PathSegment { descends: false, selectors: self.selectors()? });
            } else {
                self.at = before;
                return Ok(segments);
            }
        }
    }

    /// Parse `*` or a name without quotes.
    fn shorthand(&mut self) -> Parsed<PathSelector> {
        if self.take("*") {
            return Ok(PathSelector::All);
        }
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let other = |c: char| first(c) || c.is_ascii_digit();
        let rest = self.rest();
        if !rest.starts_with(first) {
            return Err(self.fault("a name or * should stand here"));
        }
        let name = &rest[..rest.find(|c| !other(c)).unwrap_or(rest.len())];
        self.at += name.len();
        Ok(PathSelector::Step(PathStep::Name(name.to_owned())))
    }

    fn selectors(&mut self) -> Parsed<Vec<PathSelector>> {
        self.nested("]", |parser| {
            let mut selectors = vec![parser.selector()?];
            loop {
                parser.blanks();
                if !parser.take(",") {
                    return Ok(selectors);
                }
                parser.blanks();
                selectors.push(parser.selector()?);
            }
        })
    }

    fn selector(&mut self) -> Parsed<PathSelector> {
        match self.peek() {
            Some('\'' | '"') => Ok(PathSelector::Step(PathStep::Name(self.quoted()?))),
            Some('*') => {
                self.at += 1;
                Ok(PathSelector::All)
            }
            Some('?') => {
                self.at += 1;
                self.blanks();
                self.any_condition().map(PathSelector::Filter)
            }
            _ => self.index_or_slice(),
        }
    }

    fn index_or_slice(&mut self) -> Parsed<PathSelector> {
        let start = self.optional_index()?;
        let before = self.at;
        self.blanks();
        if !self.take(":") {
            self.at = before;
            let index = start.ok_or_else(|| self.fault("a selector should stand here"))?;
            return Ok(PathSelector::Step(PathStep::Index(index)));
        }
        self.blanks();
        let end = self.optional_index()?;
        let before = self.at;
        self.blanks();
        if !self.take(":") {
            self.at = before;
            return Ok(PathSelector::Slice { start, end, step: 1 });
        }
        let before = self.at;
        self.blanks();
        let step = self.optional_index()?;
        if step.is_none() {
            self.at = before;
        }
        Ok(PathSelector::Slice { start, end, step: step.unwrap_or(1) })
    }

    /// Parse an integer, if one stands here.
    fn optional_index(&mut self) -> Parsed<Option<i64>> {
        let rest = self.rest();
        let signs = usize::from(rest.starts_with('-'));
        let digits = rest[signs..].bytes().take_while(u8::is_ascii_digit).count();
        if signs + digits == 0 {
            return Ok(None);
        }
        let text = &rest[..signs + digits];
        let proper = digits > 0 && (!rest[signs..].starts_with('0') || text == "0");
        match text.parse::<i64>() {
            Ok(index) if proper && index.abs() <= MAX_PATH_INDEX => {
                self.at += text.len();
                Ok(Some(index))
            }
            _ => Err(self.fault("an index is an integer of at most 53 bits without leading zeros")),
        }
    }

    /// Parse a text in quotes.
    fn quoted(&mut self) -> Parsed<String> {
        let quote =
            self.peek().filter(|c| matches!(c, '\'' | '"')).ok_or_else(|| self.fault("a quote should stand here"))?;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else { return Err(self.fault("a text in quotes does not end")) };
            match c {
                _ if c == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                '\\' => {
                    self.at += 1;
                    text.push(self.escaped(quote)?);
                }
                '\u{0}'..='\u{1f}' => return Err(self.fault("control characters are escaped")),
                _ => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
    }

    /// Parse what stands behind a backslash.
    fn escaped(&mut self, quote: char) -> Parsed<char> {
        let c = self.peek().ok_or_else(|| self.fault("a text in quotes does not end"))?;
        let plain = match c {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '/' | '\\' => c,
            _ if c == quote => c,
            'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.fault("this character is not escaped")),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Parsed<char> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.fault("half a surrogate pair"));
        }
        if !self.take("\\u") {
            return Err(self.fault("half a surrogate pair"));
        }
        let second = self.four_digits()?;
        let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
        low.and_then(|low| char::from_u32(0x10000 + ((first - 0xd800) << 10) + low))
            .ok_or_else(|| self.fault("half a surrogate pair"))
    }

    fn four_digits(&mut self) -> Parsed<u32> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| self.fault("\\u needs four hexadecimal digits"))?;
        self.at += 4;
        Ok(number)
    }

    fn any_condition(&mut self) -> Parsed<FilterCondition> {
        let conditions = self.joined("||", Self::all_conditions)?;
        Ok(single(conditions).unwrap_or_else(FilterCondition::Any))
    }

    fn all_conditions(&mut self) -> Parsed<FilterCondition> {
        let conditions = self.joined("&&", Self::condition)?;
        Ok(single(conditions).unwrap_or_else(FilterCondition::All))
    }

    fn joined(
        &mut self,
        operator: &str,
        part: impl Fn(&mut Self) -> Parsed<FilterCondition>,
    ) -> Parsed<Vec<FilterCondition>> {
        let mut parts = vec![part(self)?];
        loop {
            let before = self.at;
            self.blanks();
            if !self.take(operator) {
                self.at = before;
                return Ok(parts);
            }
            self.blanks();
            parts.push(part(self)?);
        }
    }

    fn condition(&mut self) -> Parsed<FilterCondition> {
        if self.take("!") {
            self.blanks();
            let negated = if self.take("(") {
                self.nested(")", Self::any_condition)?
            } else {
                let term = self.term()?;
                self.existence(term)?
            };
            return Ok(FilterCondition::Not(Box::new(negated)));
        }
        if self.take("(") {
            return self.nested(")", Self::any_condition);
        }
        let left = self.term()?;
        let before = self.at;
        self.blanks();
        let Some(operator) = self.operator() else {
            self.at = before;
            return self.existence(left);
        };
        self.blanks();
        let right = self.term()?;
        Ok(FilterCondition::Compare(self.operand(left)?, operator, self.operand(right)?))
    }

    fn operator(&mut self) -> Option<ComparisonOperator> {
        use ComparisonOperator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let operators =
            [("==", Equal), ("!=", NotEqual), ("<=", LessOrEqual), (">=", GreaterOrEqual), ("<", Less), (">", Greater)];
        operators.into_iter().find(|(token, _)| self.take(token)).map(|(_, operator)| operator)
    }

    fn existence(&self, term: FilterTerm) -> Parsed<FilterCondition> {
        match term {
            FilterTerm::Path(segments) => Ok(FilterCondition::Exists(segments)),
            FilterTerm::Literal(_) => Err(self.fault("a constant is compared with something")),
            FilterTerm::Call(_) => Err(self.fault("the result of a function is compared with something")),
        }
    }

    fn operand(&self, term: FilterTerm) -> Parsed<FilterOperand> {
        match term {
            FilterTerm::Literal(value) => Ok(FilterOperand::Literal(value)),
            FilterTerm::Call(call) => Ok(FilterOperand::Call(Box::new(call))),
            FilterTerm::Path(segments) => {
                let steps: Option<Vec<PathStep>> = segments.iter().map(|segment| segment.step().cloned()).collect();
                steps
                    .map(FilterOperand::Path)
                    .ok_or_else(|| self.fault("a path that is compared matches one value at most"))
            }
        }
    }

    fn term(&mut self) -> Parsed<FilterTerm> {
        match self.peek() {
            Some('@') => {
                self.at += 1;
                self.segments().map(FilterTerm::Path)
            }
            Some('\'' | '"') => Ok(FilterTerm::Literal(self.quoted()?.into())),
            Some('-' | '0'..='9') => self.number().map(|number| FilterTerm::Literal(number.into())),
            Some('a'..='z') => self.word(),
            _ => Err(self.fault("a constant, a function or a path that begins with @ should stand here")),
        }
    }

    fn number(&mut self) -> Parsed<Number> {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
        let text = &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())];
        let number = read_json(text.as_bytes()).map_err(|error| match error {
            JsonReadError::Number(error) => self.fault(&error.to_string()),
            JsonReadError::Syntax(_) => self.fault(&format!("{text} is no number")),
        })?;
        self.at += text.len();
        Ok(number)
    }

    /// Parse `true`, `false`, `null` or the call of a function.
    fn word(&mut self) -> Parsed<FilterTerm> {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let word = &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())];
        if rest[word.len()..].starts_with('(') {
            let call = self.call(word)?;
            return Ok(FilterTerm::Call(call));
        }
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => return Err(self.fault(&format!("{word} is no constant"))),
        };
        self.at += word.len();
        Ok(FilterTerm::Literal(value))
    }

    fn call(&mut self, name: &str) -> Parsed<FunctionCall> {
        match name {
            "match" | "search" => return Err("has a regular expression; use a jq step".into()),
            "length" | "count" | "value" => {}
            _ => return Err(self.fault(&format!("there is no function {name}"))),
        }
        self.at += name.len() + 1;
        let argument = self.nested(")", Self::term)?;
        if name == "length" {
            return self.operand(argument).map(FunctionCall::Length);
        }
        match argument {
            FilterTerm::Path(segments) if name == "count" => Ok(FunctionCall::Count(segments)),
            FilterTerm::Path(segments) => Ok(FunctionCall::Value(segments)),
            _ => Err(self.fault(&format!("the argument of {name} is a path"))),
        }
    }
}

fn single(mut conditions: Vec<FilterCondition>) -> Result<FilterCondition, Vec<FilterCondition>> {
    match conditions.len() {
        1 => conditions.pop().ok_or(conditions),
        _ => Err(conditions),
    }
}
