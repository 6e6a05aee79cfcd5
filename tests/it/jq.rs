//! jq programs in real worker processes, among them such as want to harm.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use am_orchestration::jq::{JqError, JqPool, JqSettings};
use serde_json::{Value, json, value::to_raw_value};

/// Long enough for a busy machine, short enough to wait for.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Loops for ever, in any number of ways.
const LOOPS: [&str; 3] = ["def f: f; f", "[limit(1; range(1e18) | select(. < 0))]", "last(repeat(1))"];

fn executable() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_agent-management")).with_file_name("agent-management-jq")
}

async fn pool_with(settings: JqSettings) -> JqPool {
    JqPool::start(executable(), vec![], settings).await.unwrap()
}

async fn pool(workers: usize) -> JqPool {
    pool_with(JqSettings { workers, timeout: TIMEOUT, max_output: 1 << 20, memory_mb: 256 }).await
}

/// The output's text, exactly.
async fn text(pool: &JqPool, program: &str, input: &str) -> Result<String, JqError> {
    let input = Arc::from(serde_json::value::RawValue::from_string(input.into()).unwrap());
    Ok(pool.eval(program.into(), input).await?.output.get().to_owned())
}

async fn eval(pool: &JqPool, program: &str, input: Value) -> Result<Value, JqError> {
    let output = pool.eval(program.into(), Arc::from(to_raw_value(&input).unwrap())).await?.output;
    Ok(serde_json::from_str(output.get()).unwrap())
}

async fn message(pool: &JqPool, program: &str) -> String {
    match eval(pool, program, json!(null)).await {
        Err(JqError::Program(message)) => message,
        other => panic!("{program}: {other:?}"),
    }
}

#[tokio::test]
async fn jq_program_gives_one_output() {
    let pool = pool(1).await;
    assert_eq!(eval(&pool, "{y: (.x * 2)}", json!({"x": 21})).await.unwrap(), json!({"y": 42}));
    assert_eq!(eval(&pool, "[.[] | select(. > 1)] | add", json!([1, 2, 3])).await.unwrap(), json!(5));
    let evaluated = pool.eval(".".into(), Arc::from(to_raw_value("x").unwrap())).await.unwrap();
    assert!(evaluated.seconds > 0.0 && evaluated.seconds < 1.0);
    assert_eq!(pool.stats().evaluations(), 3);
    assert_eq!(pool.stats().waiting(), 0);
}

#[tokio::test]
async fn jq_errors_are_reported() {
    let pool = pool(1).await;
    assert_eq!(message(&pool, "error(\"no \\\"price\\\" ü\")").await, "no \"price\" ü");
    assert_eq!(message(&pool, "error({a: 1})").await, "{\"a\":1}");
    assert_eq!(message(&pool, "1 | .a").await, "Cannot index number with string (\"a\")");
    assert_eq!(message(&pool, "1, 2, 3").await, "the program gave 3 values; wrap it in [ ]");
    assert_eq!(message(&pool, "range(1e6)").await, "the program gave more than 1000 values; wrap it in [ ]");
    assert_eq!(message(&pool, "empty").await, "the program gave no value; use `// null` or wrap it in [ ]");
    assert_eq!(message(&pool, "1, error(\"late\")").await, "late");
    assert_eq!(message(&pool, "halt").await, "the program halted with code 0");
    assert_eq!(message(&pool, "nope").await, "line 1, column 1: no filter nope/0");
    assert_eq!(message(&pool, "{(\"a\", 1): 2}").await, "Cannot use number (1) as object key");
    assert_eq!(
        message(&pool, "{(1): 2}").await,
        "line 1, column 2: a key of an object is a string, not of type number"
    );
    assert_eq!(message(&pool, "\"x\" * 1e18").await, "Repeat string result too long");
    assert_eq!(message(&pool, "\"xx\" * 9223372036854775807").await, "Repeat string result too long");
    let long = message(&pool, "error(\"x\" * 1000000)").await;
    assert!(long.len() < 3000 && long.ends_with('…'), "{} bytes", long.len());
    assert_eq!(pool.stats().respawns(), 0);
}

#[tokio::test]
async fn jq_text_and_numbers_are_exact() {
    let pool = pool(1).await;
    for exact in [
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551616",
        "123456789012345678901234567890",
        "1e16",
        "0.1",
        "1e-7",
        "\"ünïcödé 🦀 \\u0000 \\\" \\\\ \\n\"",
        "[{\"z\":1,\"a\":[]},{}]",
    ] {
        assert_eq!(text(&pool, ".", exact).await.unwrap(), exact);
    }
    assert_eq!(text(&pool, ". + 1", "9007199254740993").await.unwrap(), "9007199254740994");
    assert_eq!(text(&pool, ". * 1.0", "1e16").await.unwrap(), "1e+16");
    assert_eq!(text(&pool, ". / 3", "1").await.unwrap(), "0.3333333333333333");
    assert_eq!(text(&pool, "nan", "1").await.unwrap(), "null");
    assert_eq!(text(&pool, "ascii_upcase + \"é\" | explode | implode", "\"aß🦀\"").await.unwrap(), "\"Aß🦀é\"");
}

#[tokio::test]
async fn jq_endless_loop_is_ended_by_timeout() {
    let pool = pool(1).await;
    for program in LOOPS {
        let started = Instant::now();
        let outcome = eval(&pool, program, json!(1)).await;
        assert!(matches!(outcome, Err(JqError::Timeout { limit: TIMEOUT })), "{program}: {outcome:?}");
        assert!(started.elapsed() >= TIMEOUT, "{program}");
    }
    assert_eq!(eval(&pool, ".", json!(1)).await.unwrap(), json!(1));
    assert_eq!((pool.stats().timeouts(), pool.stats().crashes()), (3, 0));
    // One that was ended while the whole process did not run is tried once more.
    assert!(pool.stats().respawns() >= 3);
}

#[tokio::test]
async fn jq_memory_and_stack_are_limited() {
    let settings = JqSettings { workers: 1, timeout: Duration::from_secs(30), max_output: 1 << 20, memory_mb: 128 };
    let pool = pool_with(settings).await;
    let programs = [
        "[range(1e9)]",
        "def f: \"x\" + f + \"x\"; f",
        "reduce range(1e9) as $i (\"x\"; . + .)",
        "reduce range(3e6) as $i (null; [.]) | 1",
    ];
    for program in programs {
        let outcome = eval(&pool, program, json!(null)).await;
        assert!(matches!(outcome, Err(JqError::Crashed)), "{program}: {outcome:?}");
    }
    // Deep, but not without end.
    let deep = "def f: if . == 0 then 0 else . - 1 | 1 + f end; 300 | f";
    assert_eq!(eval(&pool, deep, json!(null)).await.unwrap(), json!(300));
    assert_eq!((pool.stats().timeouts(), pool.stats().crashes()), (0, programs.len() as u64));
}

#[tokio::test]
async fn jq_output_size_is_limited() {
    let settings = JqSettings { workers: 1, timeout: TIMEOUT, max_output: 1000, memory_mb: 256 };
    let pool = pool_with(settings).await;
    assert_eq!(text(&pool, "\"x\" * 998", "1").await.unwrap().len(), 1000);
    for program in ["\"x\" * 999", "[range(1000)]", "\"\\u0000\" * 500"] {
        let outcome = eval(&pool, program, json!(null)).await;
        assert!(matches!(outcome, Err(JqError::OutputTooLarge { limit: 1000 })), "{program}: {outcome:?}");
    }
    let nested = "def f: if . == 0 then null else [. - 1 | f] end; 150 | f";
    assert_eq!(message(&pool, nested).await, "the output is nested deeper than 100 levels");
    assert_eq!(pool.stats().respawns(), 0);
}

/// More than both pipes hold, both ways, in one batch.
#[tokio::test]
async fn jq_large_inputs_and_outputs_do_not_deadlock() {
    let pool = pool(1).await;
    let large = json!("x".repeat(100_000));
    let all = (0..16).map(|_| eval(&pool, ".", large.clone()));
    for output in futures_util::future::join_all(all).await {
        assert_eq!(output.unwrap(), large);
    }
}

#[tokio::test]
async fn jq_crashing_program_fails_alone() {
    let pool = pool(2).await;
    let all = (0..200).map(|n| {
        let pool = pool.clone();
        async move {
            let program = match n {
                77 => "def f: f; f",
                133 => "\"x\" * 1000000000",
                _ => "{n: .n, double: (.n * 2)}",
            };
            eval(&pool, program, json!({"n": n})).await
        }
    });
    for (n, outcome) in futures_util::future::join_all(all).await.into_iter().enumerate() {
        match n {
            77 => assert!(matches!(outcome, Err(JqError::Timeout { .. })), "{outcome:?}"),
            133 => assert!(matches!(outcome, Err(JqError::Crashed)), "{outcome:?}"),
            _ => assert_eq!(outcome.unwrap(), json!({"n": n, "double": n * 2})),
        }
    }
    assert_eq!((pool.stats().timeouts(), pool.stats().crashes(), pool.stats().evaluations()), (1, 1, 198));
}

#[tokio::test]
async fn jq_program_sees_no_environment_or_files() {
    const MAX_OUTPUT: usize = (1 << 20) + 1;
    let pool = pool_with(JqSettings { workers: 1, timeout: TIMEOUT, max_output: MAX_OUTPUT, memory_mb: 256 }).await;
    assert_eq!(eval(&pool, "env", json!(null)).await.unwrap(), json!({}));
    assert_eq!(eval(&pool, "$ENV", json!(null)).await.unwrap(), json!({}));
    assert_eq!(message(&pool, "input").await, "break");
    assert_eq!(message(&pool, "import \"a\" as a; 1").await, "line 1, column 1: modules cannot be imported");
    assert_eq!(eval(&pool, "debug | stderr", json!(7)).await.unwrap(), json!(7));
    let [worker] = *workers_of(MAX_OUTPUT) else { panic!("one worker") };
    assert_eq!(fs::read(format!("/proc/{worker}/environ")).unwrap(), b"");
}

#[tokio::test]
async fn jq_killed_worker_is_replaced() {
    const MAX_OUTPUT: usize = (1 << 20) + 2;
    let settings = JqSettings { workers: 1, timeout: Duration::from_secs(30), max_output: MAX_OUTPUT, memory_mb: 256 };
    let pool = pool_with(settings).await;
    // Idle.
    let [worker] = *workers_of(MAX_OUTPUT) else { panic!("one worker") };
    kill(worker);
    assert_eq!(eval(&pool, ".", json!(1)).await.unwrap(), json!(1));

    // In the middle of an evaluation, which is known by the processor time it takes.
    let [worker] = *workers_of(MAX_OUTPUT) else { panic!("one worker") };
    let program = "reduce range(300000) as $i (0; . + 1)";
    let evaluation = tokio::spawn({
        let pool = pool.clone();
        async move { eval(&pool, program, json!(null)).await }
    });
    let before = ticks(worker);
    while ticks(worker) == before {
        assert!(!evaluation.is_finished(), "ended before it could be killed");
        crate::harness::poll_interval().await;
    }
    kill(worker);
    assert_eq!(evaluation.await.unwrap().unwrap(), json!(300_000));
    assert_eq!((pool.stats().respawns(), pool.stats().crashes()), (2, 0));
}

#[tokio::test]
async fn jq_program_is_given_up_after_killed_workers() {
    const MAX_OUTPUT: usize = (1 << 20) + 3;
    let settings = JqSettings { workers: 1, timeout: Duration::from_secs(60), max_output: MAX_OUTPUT, memory_mb: 256 };
    let pool = pool_with(settings).await;
    let evaluation = tokio::spawn({
        let pool = pool.clone();
        async move { eval(&pool, "def f: f; f", json!(null)).await }
    });
    let mut killed = HashSet::new();
    while !evaluation.is_finished() {
        for worker in workers_of(MAX_OUTPUT) {
            if ticks(worker) > 0 && killed.len() < 3 && killed.insert(worker) {
                kill(worker);
            }
        }
        crate::harness::poll_interval().await;
    }
    assert!(matches!(evaluation.await.unwrap(), Err(JqError::Crashed)));
    assert_eq!(pool.stats().crashes(), 1);
}

#[tokio::test]
async fn jq_pool_shutdown_answers_waiting_requests() {
    const MAX_OUTPUT: usize = (1 << 20) + 4;
    let settings = JqSettings { workers: 2, timeout: Duration::from_secs(60), max_output: MAX_OUTPUT, memory_mb: 256 };
    let pool = pool_with(settings).await;
    let workers = workers_of(MAX_OUTPUT);
    assert_eq!(workers.len(), 2);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { eval(&pool, "def f: f; f", json!(null)).await })
        })
        .collect();
    while pool.stats().waiting() < 50 {
        crate::harness::poll_interval().await;
    }
    pool.shutdown().await;
    for waiting in waiting {
        assert!(matches!(waiting.await.unwrap(), Err(JqError::PoolClosed)));
    }
    assert!(matches!(eval(&pool, ".", json!(1)).await, Err(JqError::PoolClosed)));
    for worker in workers {
        assert!(!fs::exists(format!("/proc/{worker}")).unwrap());
    }
}

#[tokio::test]
async fn jq_wrong_executable_refuses_the_start() {
    let settings = JqSettings { workers: 1, timeout: TIMEOUT, max_output: 1 << 20, memory_mb: 256 };
    let Err(error) = JqPool::start("/bin/false".into(), vec![], settings.clone()).await else { panic!("started") };
    assert!(error.to_string().contains("/bin/false did not start: exit status: 1"), "{error}");
    assert!(JqPool::start("/nowhere".into(), vec![], settings).await.is_err());
}

#[tokio::test]
async fn json_schemas_have_the_jq_limits() {
    let pool = pool(1).await;
    let validate = |schema: Value, instance: Value| {
        let instance = Arc::from(to_raw_value(&instance).unwrap());
        pool.validate(schema.to_string().into(), instance)
    };
    let schema = json!({"required": ["id"], "properties": {"score": {"maximum": 1}}});
    assert_eq!(validate(schema.clone(), json!({"id": 1, "score": 0.5})).await.unwrap().violations, []);
    let verdict = validate(schema, json!({"score": 2})).await.unwrap();
    let paths: Vec<_> = verdict.violations.iter().map(|violation| violation.path.as_str()).collect();
    assert_eq!(paths, ["", "/score"]);
    assert!(verdict.seconds > 0.0);
    assert!(
        matches!(validate(json!({"type": 7}), json!(1)).await, Err(JqError::Program(message)) if message.contains("/type"))
    );

    let double = |n| {
        (
            format!("d{n}"),
            json!({"allOf": [{"$ref": format!("#/$defs/d{}", n - 1)}, {"$ref": format!("#/$defs/d{}", n - 1)}]}),
        )
    };
    let mut defs: serde_json::Map<_, _> = (1..40).map(double).collect();
    defs.insert("d0".into(), json!({"type": "integer"}));
    let outcome = validate(json!({"$ref": "#/$defs/d39", "$defs": defs}), json!(1)).await;
    assert!(matches!(outcome, Err(JqError::Timeout { .. })), "{outcome:?}");
}

/// The parent here is a shell, and the worker's standard input stays open, so that its end can't be what it notices.
#[test]
fn jq_worker_dies_with_its_parent() {
    let script = "exec 3<&0; \"$0\" 10 256 1000 <&3 >/dev/null & echo $!; wait";
    let mut shell = std::process::Command::new("/bin/sh");
    let shell = shell.args(["-c", script]).arg(executable()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut worker = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut worker).unwrap();
    let worker = worker.trim();
    let comes_true = |condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() && Instant::now() < deadline {
            std::thread::sleep(crate::harness::POLL_INTERVAL);
        }
        condition()
    };
    let status = || fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
    // Its second thread starts when everything is set.
    assert!(comes_true(&|| status().contains("Threads:\t2")));
    let evaluating = fs::read_dir(format!("/proc/{worker}/task")).unwrap().last().unwrap().unwrap().path();
    let stat = fs::read_to_string(evaluating.join("stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(16), Some("10"), "the service goes first: {stat}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(comes_true(&|| status().is_empty() || status().contains("State:\tZ")));
}

/// Process ids of the workers that were started by this process with this limit, which each test has for itself.
fn workers_of(max_output: usize) -> Vec<u32> {
    let marker = format!("\0{max_output}\0");
    let parent = format!("PPid:\t{}\n", std::process::id());
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let mine = |process: &u32| {
        let read = |file| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        read("status").contains(&parent) && read("cmdline").ends_with(&marker)
    };
    processes.filter(mine).collect()
}

fn kill(process: u32) {
    let process = rustix::process::Pid::from_raw(process as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// Processor time that a worker has spent on evaluations, in clock ticks.
fn ticks(worker: u32) -> u64 {
    let evaluating = fs::read_dir(format!("/proc/{worker}/task")).into_iter().flatten().filter_map(|thread| {
        let stat = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        name.ends_with("(jq-eval").then(|| rest.split(' ').nth(11)?.parse::<u64>().ok())?
    });
    evaluating.sum()
}
