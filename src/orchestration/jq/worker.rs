//! The child process: evaluates what comes over standard input, one request after another, within its own limits.

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

use super::{
    encode::{EncodeError, encode},
    program::{self, Program},
    protocol::{self, Kind, MAX_MESSAGE},
};

/// Compiled programs that are kept, and how many bytes of program text they may have together: a compiled program
/// takes up to a hundred times its text.
const CACHED_PROGRAMS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
const CACHED_BYTES: usize = 512 * 1024;
/// A program that gives more values than this is not counted to the end.
const COUNTED_VALUES: usize = 1000;

/// Runs a worker until its standard input ends. The process's last two arguments are the memory it may take beyond
/// what it has at the start, in MiB, and the largest output, in bytes. It writes nothing but frames to standard
/// output, and dies with the process that started it.
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
    // The libraries that the executable brings along are mapped already and not the programs' doing.
    limit(Resource::As, address_space()?.saturating_add(memory))?;

    let (input, output) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    // Recursion is bounded by the stack; the main thread's size would depend on the shell that started the service.
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

/// Bytes of this process's address space in use.
fn address_space() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kilobytes.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

fn serve(input: File, mut output: File, max_output: usize) -> io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut programs = Programs { compiled: LruCache::new(CACHED_PROGRAMS), bytes: 0 };
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    output.write_all(&[protocol::HELLO])?;
    while let Some(split) = protocol::read_request(&mut input, &mut request)? {
        let started = Instant::now();
        protocol::begin_answer(&mut answer);
        let header = answer.len();
        let kind = match evaluate(&mut programs, &request, split, max_output, &mut answer) {
            Ok(()) => Kind::Output,
            Err(failure) => {
                answer.truncate(header);
                failure.put(&mut answer)
            }
        };
        protocol::finish_answer(&mut answer, kind, started.elapsed().as_nanos() as u64);
        // Written at once, never gathered: the pool knows by it which request is being evaluated.
        output.write_all(&answer)?;
        request.shrink_to(64 * 1024);
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

struct Programs {
    compiled: LruCache<Box<str>, Rc<Program>>,
    bytes: usize,
}

impl Programs {
    fn get(&mut self, text: &str) -> Result<Rc<Program>, Failure> {
        if let Some(program) = self.compiled.get(text) {
            return Ok(program.clone());
        }
        let program = program::compile(text).map_err(|error| Failure::Program(clipped(&error)))?;
        let program = Rc::new(program);
        self.bytes += text.len();
        if let Some((evicted, _)) = self.compiled.push(text.into(), program.clone()) {
            self.bytes -= evicted.len();
        }
        while self.bytes > CACHED_BYTES {
            let Some((evicted, _)) = self.compiled.pop_lru() else { break };
            self.bytes -= evicted.len();
        }
        Ok(program)
    }
}

fn evaluate(
    programs: &mut Programs,
    request: &[u8],
    split: usize,
    max_output: usize,
    answer: &mut Vec<u8>,
) -> Result<(), Failure> {
    let (program, input) = request.split_at(split);
    let evaluation = || {
        let program = std::str::from_utf8(program).map_err(|error| Failure::Program(error.to_string()))?;
        let program = programs.get(program)?;
        let input =
            read::parse_single(input).map_err(|error| Failure::Program(format!("input is not JSON: {error}")))?;
        let output = only_output(&program, input)?;
        encode(&output, max_output, answer).map_err(|error| match error {
            EncodeError::TooLarge => Failure::TooLarge,
            EncodeError::NotJson(message) => Failure::Program(message),
        })
    };
    // jaq panics in a few corners, such as a string repeated beyond what can be addressed.
    catch_unwind(AssertUnwindSafe(evaluation))
        .unwrap_or_else(|_| Err(Failure::Program("jq cannot compute this".into())))
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
            // The error's value, when it is a string, reads as the string.
            serde_json::from_str::<String>(&text).unwrap_or(text)
        }
        Err(other) => match other.get_halt() {
            Ok(code) => format!("the program halted with code {code}"),
            Err(_) => "the program ended outside of its labels".into(),
        },
    };
    Failure::Program(message)
}

/// `text` as far as a message may go; what would be longer is not even formatted.
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
