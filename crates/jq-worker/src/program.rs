//! Compilation of jq programs.

use std::{collections::HashMap, sync::LazyLock};

use jaq_core::{
    Compiler, Filter, compile,
    data::JustLut,
    load::{self, Arena, File, Loader, lex, parse, parse::Def},
};
use jaq_json::Val;

/// Maximum length of a program, in bytes.
pub const MAX_PROGRAM_BYTES: usize = 64 * 1024;

/// Compiled program; its only context is its lookup table.
pub type JqProgram = Filter<JustLut<Val>>;

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
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    // The process's environment must not be visible; `ENV_OVERRIDE` replaces this filter.
    let funs = funs.filter(|(name, ..)| *name != "env");
    if program.len() > MAX_PROGRAM_BYTES {
        let message = format!("the program has {} bytes, at most {MAX_PROGRAM_BYTES} are taken", program.len());
        return Err(ProgramError { message, line: 1, column: 1 });
    }
    let arena = Arena::default();
    let file = File { code: program, path: () };
    let modules = Loader::new(PRELUDE.definitions_for(program)).load(&arena, file);
    let modules = modules.map_err(|errors| load_error(program, errors))?;
    load::import(&modules, |_| Err("data files cannot be imported".into()))
        .map_err(|errors| load_error(program, errors))?;
    Compiler::default().with_funs(funs).compile(modules).map_err(|errors| compile_error(program, errors))
}

/// Filters of jq that are defined in jq. Only those that a program can reach are compiled into it, which takes a tenth
/// of the time and memory.
struct JqPrelude {
    defs: Vec<Def<&'static str>>,
    by_name: HashMap<&'static str, Vec<usize>>,
    /// Names used by each definition that are defined here too.
    calls: Vec<Vec<&'static str>>,
}

const ENV_OVERRIDE: &str = "def env: {};";

static PRELUDE: LazyLock<JqPrelude> = LazyLock::new(|| {
    let own = load::parse(ENV_OVERRIDE, |parser| parser.defs()).unwrap_or_default();
    let defs: Vec<_> = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(own).collect();
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

fn load_error(program: &str, errors: load::Errors<&str, ()>) -> ProgramError {
    let first = errors.into_iter().find_map(|(_, error)| match error {
        load::Error::Io(errors) => errors.into_iter().next(),
        load::Error::Lex(errors) => {
            errors.into_iter().next().map(|(expected, place)| (place, lex_error(&expected, place)))
        }
        load::Error::Parse(errors) => {
            errors.into_iter().next().map(|(expected, place)| (place, parse_error(&expected, place)))
        }
    });
    error_at(program, first)
}

fn lex_error(expected: &lex::Expect<&str>, place: &str) -> String {
    let expected = match expected {
        lex::Expect::Delim(open) if !matches!(*open, "(" | "[" | "{" | "\"") => "closing delimiter",
        known => known.as_str(),
    };
    unexpected_token(expected, place)
}

fn parse_error(expected: &parse::Expect<&str>, place: &str) -> String {
    unexpected_token(expected.as_str(), place)
}

fn unexpected_token(expected: &str, place: &str) -> String {
    match place.chars().next() {
        Some(_) => format!("expected {expected} at `{}`", place.chars().take(20).collect::<String>().trim_end()),
        None => format!("expected {expected} at the end"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(error("include \"a\"; .").contains("module loading not supported"));
        assert!(error("import \"a\" as a; a::f").contains("module loading not supported"));
        assert!(error("import \"a\" as $a; $a").contains("data files cannot be imported"));
        assert!(error("$ENV").contains("no variable $ENV"));
    }

    #[test]
    fn a_program_is_at_most_64_kib() {
        assert!(check_program(&format!(".{}", " ".repeat(MAX_PROGRAM_BYTES - 1))).is_ok());
        assert!(error(&format!(".{}", " ".repeat(MAX_PROGRAM_BYTES))).contains("65537 bytes"));
    }

    #[test]
    fn the_deepest_nesting_compiles_where_there_is_stack() {
        let sized = |bytes: usize, open: &str, middle: &str, close: &str| {
            let levels = (bytes - middle.len()) / (open.len() + close.len());
            open.repeat(levels) + middle + &close.repeat(levels)
        };
        let deepest = |open, middle, close| sized(MAX_PROGRAM_BYTES, open, middle, close);
        let deep = |open, middle, close| sized(MAX_PROGRAM_BYTES / 8, open, middle, close);
        for program in [
            deepest("[", "", "]"),
            deep("(", "1", ")"),
            deepest("-", "1", ""),
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
