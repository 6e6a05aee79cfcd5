//! Code of the child process: evaluates requests from standard input, one after another, within its own limits.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, BufReader, Write},
    num::NonZeroUsize,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    rc::Rc,
    thread,
    time::Instant,
};

use am_json_schema::CompiledSchema;
use jaq_core::{Ctx, Exn, Vars};
use jaq_json::read;
use lru::LruCache;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setpriority_process, setrlimit,
};

mod encode;
mod natives;
pub mod program;
pub mod protocol;
mod rewrite;
mod syntax;
mod value;

use self::{
    encode::{EncodeError, encode_json},
    natives::ProgramData,
    program::JqProgram,
    protocol::{AnswerKind, MAX_MESSAGE_BYTES, RequestFrame, TaskKind},
    value::JqValue,
};

/// Maximum number of cached compiled texts, and the maximum sum of their lengths in bytes: a compiled text takes up to
/// a hundred times its length.
const MAX_CACHED_TEXTS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
const MAX_CACHED_BYTES: usize = 512 * 1024;
/// Maximum number of outputs that are counted for an error message.
const MAX_COUNTED_VALUES: usize = 1000;

/// Run a worker until its standard input ends. The last three arguments of the process are its nice value, the memory it may use beyond
/// what it has at the start, in MiB, and the maximum output in bytes. It writes only frames to standard output, and
/// dies with its parent process.
pub fn main() -> ExitCode {
    match run_worker() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run_worker() -> io::Result<()> {
    let mut arguments = std::env::args().rev();
    let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidInput);
    let (max_output, memory_mb, nice) = (number()? as usize, number()?, number()?);
    let memory = memory_mb.saturating_mul(1 << 20);

    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_limit(Resource::Core, 0)?;
    // Lower than it was inherited is allowed to everybody; a failure would only cost latency elsewhere.
    let _ = setpriority_process(None, nice.min(19) as i32);
    // The executable's libraries are already mapped and do not count.
    set_limit(Resource::As, address_space()?.saturating_add(memory))?;

    let (input, output) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    // The stack bounds recursion; the main thread's stack size would depend on the shell that started the service.
    let evaluating = thread::Builder::new()
        .name("jq-eval".into())
        .stack_size((memory / 4).clamp(1 << 20, 256 << 20) as usize)
        .spawn(move || serve_requests(File::from(input), File::from(output), max_output))?;
    evaluating.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

fn set_limit(resource: Resource, bytes: u64) -> io::Result<()> {
    let bytes = getrlimit(resource).maximum.map_or(bytes, |maximum| maximum.min(bytes));
    Ok(setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) })?)
}

/// Return the size of the mapped address space, in bytes.
fn address_space() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kilobytes.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

fn serve_requests(input: File, mut output: File, max_output: usize) -> io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut compiled = CompiledTexts { programs: TextCache::new(), schemas: TextCache::new() };
    let (mut buffer, mut answer) = (Vec::new(), Vec::new());
    output.write_all(&[protocol::READY_BYTE])?;
    while let Some(request) = protocol::read_request(&mut input, &mut buffer)? {
        let started = Instant::now();
        protocol::begin_answer(&mut answer);
        let header = answer.len();
        let kind = match evaluate_request(&mut compiled, request, max_output, &mut answer) {
            Ok(()) => AnswerKind::Output,
            Err(failure) => {
                answer.truncate(header);
                failure.put(&mut answer)
            }
        };
        protocol::finish_answer(&mut answer, kind, started.elapsed().as_nanos() as u64);
        // Written at once: the answers show the pool which request is being evaluated.
        output.write_all(&answer)?;
        buffer.shrink_to(64 * 1024);
        answer.shrink_to(64 * 1024);
    }
    Ok(())
}

enum EvaluationFailure {
    Program(String),
    TooLarge,
}

impl EvaluationFailure {
    fn put(self, answer: &mut Vec<u8>) -> AnswerKind {
        match self {
            Self::Program(message) => {
                answer.extend_from_slice(message.as_bytes());
                AnswerKind::ProgramError
            }
            Self::TooLarge => AnswerKind::TooLarge,
        }
    }
}

struct CompiledTexts {
    programs: TextCache<Rc<JqProgram>>,
    schemas: TextCache<CompiledSchema>,
}

/// Cache of compiled texts; the least recently used is removed first.
struct TextCache<T> {
    compiled: LruCache<Box<str>, T>,
    bytes: usize,
}

impl<T: Clone> TextCache<T> {
    fn new() -> Self {
        Self { compiled: LruCache::new(MAX_CACHED_TEXTS), bytes: 0 }
    }

    fn get<E: fmt::Display>(
        &mut self,
        text: &[u8],
        compile: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, EvaluationFailure> {
        let text = std::str::from_utf8(text).map_err(|error| EvaluationFailure::Program(error.to_string()))?;
        if let Some(compiled) = self.compiled.get(text) {
            return Ok(compiled.clone());
        }
        let compiled = compile(text).map_err(|error| EvaluationFailure::Program(truncate_message(&error)))?;
        self.bytes += text.len();
        if let Some((evicted, _)) = self.compiled.push(text.into(), compiled.clone()) {
            self.bytes -= evicted.len();
        }
        while self.bytes > MAX_CACHED_BYTES {
            let Some((evicted, _)) = self.compiled.pop_lru() else { break };
            self.bytes -= evicted.len();
        }
        Ok(compiled)
    }
}

fn evaluate_request(
    compiled: &mut CompiledTexts,
    request: RequestFrame<'_>,
    max_output: usize,
    answer: &mut Vec<u8>,
) -> Result<(), EvaluationFailure> {
    let evaluation = || match request.task {
        TaskKind::Jq => {
            let program = compiled.programs.get(request.text, |text| program::compile_program(text).map(Rc::new))?;
            let output = only_output(&program, JqValue(read::parse_single(request.input).map_err(not_json_failure)?))?;
            encode_json(&output.0, max_output, answer).map_err(|error| match error {
                EncodeError::TooLarge => EvaluationFailure::TooLarge,
                EncodeError::NotJson(message) => EvaluationFailure::Program(message),
            })
        }
        TaskKind::Schema => {
            let schema = compiled.schemas.get(request.text, CompiledSchema::parse)?;
            let violations = schema.validate(&serde_json::from_slice(request.input).map_err(not_json_failure)?);
            serde_json::to_writer(answer, &violations.err().unwrap_or_default()).map_err(not_json_failure)
        }
        // Not cached: a text that takes much memory would take it from the next.
        TaskKind::CompileJq => compile_only(request.text, program::compile_program, answer),
        TaskKind::CompileSchema => compile_only(request.text, CompiledSchema::parse, answer),
    };
    // jaq panics in some cases, such as a string repeated beyond the address space.
    catch_unwind(AssertUnwindSafe(evaluation))
        .unwrap_or_else(|_| Err(EvaluationFailure::Program("jq cannot compute this".into())))
}

/// Compile `text` and drop the result; the output is null.
fn compile_only<T, E: fmt::Display>(
    text: &[u8],
    compile: impl Fn(&str) -> Result<T, E>,
    answer: &mut Vec<u8>,
) -> Result<(), EvaluationFailure> {
    let text = std::str::from_utf8(text).map_err(|error| EvaluationFailure::Program(error.to_string()))?;
    compile(text).map_err(|error| EvaluationFailure::Program(truncate_message(&error)))?;
    answer.extend_from_slice(b"null");
    Ok(())
}

fn not_json_failure(error: impl fmt::Display) -> EvaluationFailure {
    EvaluationFailure::Program(format!("not JSON: {error}"))
}

fn only_output(program: &JqProgram, input: JqValue) -> Result<JqValue, EvaluationFailure> {
    let context = Ctx::<ProgramData>::new(&program.lut, Vars::new([]));
    let mut outputs = program.id.run((context, input));
    let Some(first) = outputs.next() else {
        return Err(EvaluationFailure::Program("the program gave no value; use `// null` or wrap it in [ ]".into()));
    };
    let first = first.map_err(exception_failure)?;
    let mut count = 1;
    for output in outputs.take(MAX_COUNTED_VALUES) {
        output.map_err(exception_failure)?;
        count += 1;
    }
    match count {
        1 => Ok(first),
        _ if count > MAX_COUNTED_VALUES => Err(EvaluationFailure::Program(format!(
            "the program gave more than {MAX_COUNTED_VALUES} values; wrap it in [ ]"
        ))),
        _ => Err(EvaluationFailure::Program(format!("the program gave {count} values; wrap it in [ ]"))),
    }
}

fn exception_failure(exception: Exn<'_, JqValue>) -> EvaluationFailure {
    let message = match exception.get_err() {
        Ok(error) => {
            let text = truncate_message(&error);
            // An error value that is a string is the message itself.
            serde_json::from_str::<String>(&text).unwrap_or(text)
        }
        Err(other) => match other.get_halt() {
            Ok(code) => format!("the program halted with code {code}"),
            Err(_) => "the program ended outside of its labels".into(),
        },
    };
    EvaluationFailure::Program(message)
}

/// Format `text`, truncated to the maximum length of a message; the rest is not even formatted.
fn truncate_message(text: &impl fmt::Display) -> String {
    struct MessageBuffer(String);
    impl fmt::Write for MessageBuffer {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = MAX_MESSAGE_BYTES - "…".len() - self.0.len();
            if text.len() > room {
                self.0.push_str(&text[..text.floor_char_boundary(room)]);
                self.0.push('…');
                return Err(fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut clip = MessageBuffer(String::new());
    let _ = write!(clip, "{text}");
    clip.0
}
