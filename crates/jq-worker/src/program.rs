//! Compilation of jq programs.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use jaq_core::{
    Compiler, Filter, compile,
    load::{self, Arena, File, Loader, lex, parse::Def},
    native::{self, Fun},
};

use super::{
    natives::{ProgramData, native_filters},
    rewrite::{OPERATOR_FILTERS, TermRewriter},
    syntax::{SyntaxFault, parse_program},
    value::JqValue,
};

/// Maximum length of a program, in bytes.
pub const MAX_PROGRAM_BYTES: usize = 64 * 1024;

/// Compiled program; its only context is its lookup table.
pub type JqProgram = Filter<ProgramData>;

/// Error in a jq program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ProgramError {
    /// Expected syntax, or unknown name.
    pub message: String,
    /// Line in the program, from 1.
    pub line: usize,
    /// Column in the line, in characters from 1.
    pub column: usize,
}

/// Parse and compile: every filter, variable and label exists, and neither modules nor data files are imported. Takes
/// microseconds, and up to seconds for a program nested as deeply as its size allows. Recursive: a stack that is too small
/// ends the process.
pub fn compile_program(program: &str) -> Result<JqProgram, ProgramError> {
    if program.len() > MAX_PROGRAM_BYTES {
        let message = format!("the program has {} bytes, at most {MAX_PROGRAM_BYTES} are taken", program.len());
        return Err(ProgramError { message, line: 1, column: 1 });
    }
    let paired = join_surrogates(program);
    let program = paired.as_ref();
    let tokens = lex::Lexer::new(program).lex().map_err(|errors| lex_error(program, errors))?;
    let main = parse_program(program, &tokens).map_err(|fault| error_at(program, Some(fault.at(program))))?;
    let main = TermRewriter { program }.program(main);
    let arena = Arena::default();
    let main = Def { name: MAIN_FILTER, args: vec![], body: main };
    let definitions = PRELUDE.definitions_for(program).into_iter().chain([main]);
    let modules = Loader::new(definitions).load(&arena, File { code: MAIN_FILTER, path: () });
    // The file is no more than the name of the program's definition.
    let modules = modules.map_err(|_| error_at(program, None))?;
    // The first filter of a name is taken. The process's environment must not be visible: the prelude has another `env`.
    let funs = native_filters()
        .chain([builtins_filter()])
        .chain(jaq_core::funs())
        .chain(jaq_std::funs())
        .filter(|(name, ..)| *name != "env");
    Compiler::default().with_funs(funs).compile(modules).map_err(|errors| compile_error(program, errors))
}

/// Return the text with the characters that are written as two surrogates (`\ud83d\ude00`), which jaq's lexer takes for
/// none.
fn join_surrogates(program: &str) -> Cow<'_, str> {
    let surrogate = |at: usize, range: Range<u32>| {
        let digits = program.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok().filter(|code| range.contains(code))
    };
    let mut joined = String::new();
    let (mut kept, mut from) = (0, 0);
    while let Some(found) = program[from..].find('\\') {
        let at = from + found;
        let pair = surrogate(at, 0xD800..0xDC00).zip(surrogate(at + 6, 0xDC00..0xE000));
        let character = pair.and_then(|(high, low)| char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
        match character {
            Some(character) => {
                joined.push_str(&program[kept..at]);
                joined.push(character);
                (kept, from) = (at + 12, at + 12);
            }
            // What follows a backslash is never one that begins an escape.
            None => from = at + 1 + program[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    if kept == 0 { Cow::Borrowed(program) } else { Cow::Owned(joined + &program[kept..]) }
}

/// NativeFilters of jq that are defined in jq. Only those that a program can reach are compiled into it, which takes a tenth
/// of the time and memory.
struct JqPrelude {
    defs: Vec<Def<&'static str>>,
    by_name: HashMap<&'static str, Vec<usize>>,
    /// Names used by each definition that are defined here too.
    calls: Vec<Vec<&'static str>>,
}

/// What the operators of changes call: before all, as every definition may have them.
const OPERATORS: &str = "
def _assign(p; f): f as $x | _modify(p; $x);
def _update_add(p; f): f as $x | _modify(p; . + $x);
def _update_sub(p; f): f as $x | _modify(p; . - $x);
def _update_mul(p; f): f as $x | _modify(p; . * $x);
def _update_div(p; f): f as $x | _modify(p; . / $x);
def _update_rem(p; f): f as $x | _modify(p; . % $x);
def _update_alt(p; f): f as $x | _modify(p; . // $x);
";
/// jaq's filters of numbers, by the number of arguments. They are called by definitions with jq's message for what is none.
const NUMBER_FILTERS: [&[&str]; 4] = [
    &[
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "cbrt",
        "ceil",
        "cos",
        "cosh",
        "erf",
        "erfc",
        "exp",
        "exp10",
        "exp2",
        "expm1",
        "fabs",
        "floor",
        "frexp",
        "j0",
        "j1",
        "lgamma",
        "log",
        "log10",
        "log1p",
        "log2",
        "modf",
        "nearbyint",
        "rint",
        "round",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "tgamma",
        "trunc",
        "y0",
        "y1",
    ],
    &[],
    &[
        "atan2",
        "copysign",
        "fdim",
        "fmax",
        "fmin",
        "fmod",
        "hypot",
        "jn",
        "ldexp",
        "nextafter",
        "pow",
        "remainder",
        "scalbln",
        "yn",
    ],
    &["fma"],
];

static NUMBER_DEFINITIONS: LazyLock<String> = LazyLock::new(|| {
    let mut text =
        "def _number: if type == \"number\" then . else error(\"\\(_described) number required\") end;".to_owned();
    for (names, (parameters, checked)) in NUMBER_FILTERS.iter().zip([
        ("", ""),
        ("($a)", "($a | _number)"),
        ("($a; $b)", "($a | _number; $b | _number)"),
        ("($a; $b; $c)", "($a | _number; $b | _number; $c | _number)"),
    ]) {
        let input = if parameters.is_empty() { "_number | " } else { "" };
        for name in *names {
            text += &format!("def _native_{name}{parameters}: {name}{};", parameters);
            text += &format!("def {name}{parameters}: {input}_native_{name}{checked};");
        }
    }
    text
});

/// Name of the definition that a program becomes.
const MAIN_FILTER: &str = "_main";

static PRELUDE: LazyLock<JqPrelude> = LazyLock::new(|| {
    let parse = |text: &'static str| load::parse(text, |parser| parser.defs()).unwrap_or_default();
    let native: HashSet<_> = native_filters().map(|(name, parameters, _)| (name, parameters.len())).collect();
    let defs = parse(OPERATORS).into_iter().chain(jaq_core::defs()).chain(jaq_std::defs()).chain(jaq_json::defs());
    let defs = defs
        .filter(|def| !native.contains(&(def.name, def.args.len())))
        .chain(parse(&NUMBER_DEFINITIONS))
        .chain(parse(include_str!("prelude.jq")));
    let defs: Vec<_> = defs.map(|def| TermRewriter { program: "" }.definition(def)).collect();
    let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
    for (index, def) in defs.iter().enumerate() {
        by_name.entry(def.name).or_default().push(index);
    }
    // The debug format of the syntax tree contains every name as a separate word.
    let calls = defs.iter().map(|def| referenced_names(&format!("{:?}", def.body), &by_name)).collect();
    JqPrelude { defs, by_name, calls }
});

impl JqPrelude {
    /// Return the definitions reachable from the words of `program`, in order. Unneeded ones do no harm.
    fn definitions_for(&self, program: &str) -> Vec<Def<&'static str>> {
        let mut needed = vec![false; self.defs.len()];
        let mut names = referenced_names(program, &self.by_name);
        if program.contains('=') {
            names.extend(OPERATOR_FILTERS);
        }
        while let Some(name) = names.pop() {
            for &index in self.by_name.get(name).into_iter().flatten() {
                if !std::mem::replace(&mut needed[index], true) {
                    names.extend_from_slice(&self.calls[index]);
                }
            }
        }
        self.defs.iter().zip(needed).filter(|(_, needed)| *needed).map(|(def, _)| def.clone()).collect()
    }
}

fn referenced_names(text: &str, known: &HashMap<&'static str, Vec<usize>>) -> Vec<&'static str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '@'))
        .filter_map(|word| known.get_key_value(word).map(|(name, _)| *name))
        .collect()
}

fn lex_error(program: &str, errors: Vec<lex::Error<&str>>) -> ProgramError {
    let first = errors.into_iter().next().map(|(expected, place)| {
        let expected = match expected {
            lex::Expect::Delim(open) if !matches!(open, "(" | "[" | "{" | "\"") => "closing delimiter",
            known => known.as_str(),
        };
        SyntaxFault::Expected(expected, (!place.is_empty()).then_some(place)).at(program)
    });
    error_at(program, first)
}

fn compile_error(program: &str, errors: compile::Errors<&str, ()>) -> ProgramError {
    let first = errors.into_iter().flat_map(|(_, errors)| errors).next().map(|(name, undefined)| {
        let message = match undefined {
            compile::Undefined::Filter(arity) => format!("no filter {name}/{arity}"),
            other => format!("no {} {name}", other.as_str()),
        };
        (name, message)
    });
    error_at(program, first)
}

/// Locate an error: `place` is a slice of `program`; any other text counts as its start.
fn error_at(program: &str, first: Option<(&str, String)>) -> ProgramError {
    let (place, message) = first.unwrap_or((program, "the program cannot be compiled".into()));
    let offset = (place.as_ptr() as usize).wrapping_sub(program.as_ptr() as usize);
    let before = program.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    ProgramError { message, line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// Return the filter that gives the names of the filters that programs may use.
fn builtins_filter() -> Fun<ProgramData> {
    native::run(("builtins", [].into(), |_| {
        let defined = PRELUDE.defs.iter().map(|def| (def.name, def.args.len()));
        let native = native_filters().chain(jaq_core::funs()).chain(jaq_std::funs());
        let native = native.map(|(name, parameters, _)| (name, parameters.len()));
        let all: BTreeSet<_> = defined.chain(native).chain([("builtins", 0)]).collect();
        let public = all.into_iter().filter(|(name, _)| !name.starts_with(['_', '@']));
        let names = public.map(|(name, parameters)| JqValue::text(format!("{name}/{parameters}")));
        native::bome(Ok(names.collect()))
    }))
}

#[cfg(test)]
mod tests {
    use super::{super::syntax::MAX_NESTING, *};

    /// Compile with the stack that the deepest nesting takes.
    fn check_program(program: &str) -> Result<(), ProgramError> {
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(512 << 20);
            builder.spawn_scoped(scope, || compile_program(program).map(drop)).unwrap().join().unwrap()
        })
    }

    fn error(program: &str) -> String {
        check_program(program).unwrap_err().to_string()
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(error("{y: (.x * 2}"), "line 1, column 12: expected closing parenthesis at `}`");
        assert_eq!(error(".a |\n  nope(1)"), "line 2, column 3: no filter nope/1");
        assert_eq!(error("ä | $who"), "line 1, column 1: expected token at `ä | $who`");
        assert_eq!(error(". | $who"), "line 1, column 5: no variable $who");
        assert_eq!(error("1 +"), "line 1, column 4: expected term at the end");
        assert_eq!(error(""), "line 1, column 1: expected term at the end");
        assert_eq!(error("break $out"), "line 1, column 7: no label $out");
        assert_eq!(error("\"\\q\""), "line 1, column 3: expected string escape sequence at `q\"`");
    }

    #[test]
    fn nothing_is_read_from_files() {
        assert!(error("include \"a\"; .").contains("modules cannot be imported"));
        assert!(error("import \"a\" as a; a::f").contains("modules cannot be imported"));
        assert!(error("import \"a\" as $a; $a").contains("modules cannot be imported"));
        assert!(error("a::f").contains("no module a"));
    }

    #[test]
    fn a_program_is_at_most_64_kib() {
        assert!(check_program(&format!(".{}", " ".repeat(MAX_PROGRAM_BYTES - 1))).is_ok());
        assert!(error(&format!(".{}", " ".repeat(MAX_PROGRAM_BYTES))).contains("65537 bytes"));
    }

    #[test]
    fn the_deepest_nesting_compiles_where_there_is_stack() {
        let sized =
            |levels: usize, open: &str, middle: &str, close: &str| open.repeat(levels) + middle + &close.repeat(levels);
        let deep = |open, middle, close| sized(MAX_NESTING / 2 - 2, open, middle, close);
        for program in [
            deep("[", "", "]"),
            deep("(", "1", ")"),
            deep("-", "1", ""),
            deep(".|", ".", ""),
            deep(".+", ".", ""),
            deep(".[", "0", "]"),
            deep("\"\\(", ".", ")\""),
            deep("{a:", "1", "}"),
            deep("try ", ".", ""),
            deep("def f:", ".", ";."),
            deep("if . then ", ".", " end"),
            deep("map(", ".", ")"),
        ] {
            assert_eq!(check_program(&program), Ok(()), "{}", &program[..20]);
        }
        for too_deep in [
            sized(MAX_NESTING + 1, "[", "", "]"),
            sized(MAX_NESTING, "-", "1", ""),
            sized(MAX_NESTING, "try ", ".", ""),
        ] {
            assert!(error(&too_deep).contains("nested deeper than 4096 levels"), "{}", error(&too_deep));
        }
        assert!(check_program(&"[".repeat(MAX_PROGRAM_BYTES)).is_err());
        assert!(check_program(&"\"\\(".repeat(MAX_PROGRAM_BYTES / 3)).is_err());
    }

    #[test]
    fn every_filter_written_in_jq_is_complete() {
        for def in &PRELUDE.defs {
            let args = vec!["."; def.args.len()].join(";");
            let call = if args.is_empty() { def.name.to_owned() } else { format!("{}({args})", def.name) };
            assert_eq!(check_program(&call), Ok(()), "{call}");
        }
    }

    #[test]
    fn only_what_is_needed_is_compiled_in() {
        assert!(PRELUDE.definitions_for("{y: (.x * 2)}").is_empty());
        assert!(PRELUDE.definitions_for("map(.x) | add").len() < 10);
    }
}
