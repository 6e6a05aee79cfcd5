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

use jaq_core::{Ctx, Exn, Vars, data::JustLut};
use jaq_json::{Val, read};
use lru::LruCache;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

mod encode;
pub mod program;
pub mod protocol;
pub mod schema;

use self::{
    encode::{EncodeError, encode},
    program::Program,
    protocol::{Kind, MAX_MESSAGE, Request, Task},
    schema::Schema,
};

/// Maximum number of cached compiled texts, and the maximum sum of their lengths in bytes: a compiled text takes up to
/// a hundred times its length.
const CACHED_TEXTS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
const CACHED_BYTES: usize = 512 * 1024;
/// Maximum number of outputs that are counted for an error message.
const COUNTED_VALUES: usize = 1000;

/// Run a worker until its standard input ends. The last two arguments of the process are the memory it may use beyond
/// what it has at the start, in MiB, and the maximum output in bytes. It writes only frames to standard output, and
/// dies with its parent process.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    let mut arguments = std::env::args().rev();
    let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidInput);
    let (max_output, memory_mb) = (number()? as usize, number()?);
    let memory = memory_mb.saturating_mul(1 << 20);

    set_parent_process_death_signal(Some(Signal::KILL))?;
    limit(Resource::Core, 0)?;
    // The executable's libraries are already mapped and do not count.
    limit(Resource::As, address_space()?.saturating_add(memory))?;

    let (input, output) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    // The stack bounds recursion; the main thread's stack size would depend on the shell that started the service.
    let evaluating = thread::Builder::new()
        .name("jq-eval".into())
        .stack_size((memory / 4).clamp(1 << 20, 256 << 20) as usize)
        .spawn(move || serve(File::from(input), File::from(output), max_output))?;
    evaluating.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

fn limit(resource: Resource, bytes: u64) -> io::Result<()> {
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

fn serve(input: File, mut output: File, max_output: usize) -> io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut compiled = Compiled { programs: Cache::new(), schemas: Cache::new() };
    let (mut buffer, mut answer) = (Vec::new(), Vec::new());
    output.write_all(&[protocol::HELLO])?;
    while let Some(request) = protocol::read_request(&mut input, &mut buffer)? {
        let started = Instant::now();
        protocol::begin_answer(&mut answer);
        let header = answer.len();
        let kind = match evaluate(&mut compiled, request, max_output, &mut answer) {
            Ok(()) => Kind::Output,
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

enum Failure {
    Program(String),
    TooLarge,
}

impl Failure {
    fn put(self, answer: &mut Vec<u8>) -> Kind {
        match self {
            Self::Program(message) => {
                answer.extend_from_slice(message.as_bytes());
                Kind::ProgramError
            }
            Self::TooLarge => Kind::TooLarge,
        }
    }
}

struct Compiled {
    programs: Cache<Rc<Program>>,
    schemas: Cache<Schema>,
}

/// Cache of compiled texts; the least recently used is removed first.
struct Cache<T> {
    compiled: LruCache<Box<str>, T>,
    bytes: usize,
}

impl<T: Clone> Cache<T> {
    fn new() -> Self {
        Self { compiled: LruCache::new(CACHED_TEXTS), bytes: 0 }
    }

    fn get<E: fmt::Display>(&mut self, text: &[u8], compile: impl Fn(&str) -> Result<T, E>) -> Result<T, Failure> {
        let text = std::str::from_utf8(text).map_err(|error| Failure::Program(error.to_string()))?;
        if let Some(compiled) = self.compiled.get(text) {
            return Ok(compiled.clone());
        }
        let compiled = compile(text).map_err(|error| Failure::Program(clipped(&error)))?;
        self.bytes += text.len();
        if let Some((evicted, _)) = self.compiled.push(text.into(), compiled.clone()) {
            self.bytes -= evicted.len();
        }
        while self.bytes > CACHED_BYTES {
            let Some((evicted, _)) = self.compiled.pop_lru() else { break };
            self.bytes -= evicted.len();
        }
        Ok(compiled)
    }
}

fn evaluate(
    compiled: &mut Compiled,
    request: Request<'_>,
    max_output: usize,
    answer: &mut Vec<u8>,
) -> Result<(), Failure> {
    let evaluation = || match request.task {
        Task::Jq => {
            let program = compiled.programs.get(request.text, |text| program::compile(text).map(Rc::new))?;
            let output = only_output(&program, read::parse_single(request.input).map_err(not_json)?)?;
            encode(&output, max_output, answer).map_err(|error| match error {
                EncodeError::TooLarge => Failure::TooLarge,
                EncodeError::NotJson(message) => Failure::Program(message),
            })
        }
        Task::Schema => {
            let schema = compiled.schemas.get(request.text, Schema::read)?;
            let violations = schema.validate(&serde_json::from_slice(request.input).map_err(not_json)?);
            serde_json::to_writer(answer, &violations.err().unwrap_or_default()).map_err(not_json)
        }
    };
    // jaq panics in some cases, such as a string repeated beyond the address space.
    catch_unwind(AssertUnwindSafe(evaluation))
        .unwrap_or_else(|_| Err(Failure::Program("jq cannot compute this".into())))
}

fn not_json(error: impl fmt::Display) -> Failure {
    Failure::Program(format!("not JSON: {error}"))
}

fn only_output(program: &Program, input: Val) -> Result<Val, Failure> {
    let context = Ctx::<JustLut<Val>>::new(&program.lut, Vars::new([]));
    let mut outputs = program.id.run((context, input));
    let Some(first) = outputs.next() else {
        return Err(Failure::Program("the program gave no value; use `// null` or wrap it in [ ]".into()));
    };
    let first = first.map_err(failure)?;
    let mut count = 1;
    for output in outputs.take(COUNTED_VALUES) {
        output.map_err(failure)?;
        count += 1;
    }
    match count {
        1 => Ok(first),
        _ if count > COUNTED_VALUES => {
            Err(Failure::Program(format!("the program gave more than {COUNTED_VALUES} values; wrap it in [ ]")))
        }
        _ => Err(Failure::Program(format!("the program gave {count} values; wrap it in [ ]"))),
    }
}

fn failure(exception: Exn<'_, Val>) -> Failure {
    let message = match exception.get_err() {
        Ok(error) => {
            let text = clipped(&error);
            // An error value that is a string is the message itself.
            serde_json::from_str::<String>(&text).unwrap_or(text)
        }
        Err(other) => match other.get_halt() {
            Ok(code) => format!("the program halted with code {code}"),
            Err(_) => "the program ended outside of its labels".into(),
        },
    };
    Failure::Program(message)
}

/// Format `text`, truncated to the maximum length of a message; the rest is not even formatted.
fn clipped(text: &impl fmt::Display) -> String {
    struct Clip(String);
    impl fmt::Write for Clip {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = MAX_MESSAGE - "…".len() - self.0.len();
            if text.len() > room {
                self.0.push_str(&text[..text.floor_char_boundary(room)]);
                self.0.push('…');
                return Err(fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut clip = Clip(String::new());
    let _ = write!(clip, "{text}");
    clip.0
}
