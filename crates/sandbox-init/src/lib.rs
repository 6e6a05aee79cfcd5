//! The helper executable. Outside the sandbox it gives up root's privileges and executes bubblewrap; inside it is the
//! first process, which applies the rules to itself and executes the program. It starts within milliseconds, because it
//! links nothing else of the service.

mod allowed_calls;
mod confine;
pub mod ipc;
mod launcher;
pub mod probe;
pub mod seccomp_filter;
pub mod sys;

use std::{
    fs::File,
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::{Command, ExitCode},
};

use ipc::{InitMessage, InitPlan};

/// Run the mode that the first argument names.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some(ipc::OUTER_MODE) => launcher::become_bubblewrap(&arguments.next().unwrap_or_default()),
        Some(ipc::INNER_MODE) => run_inner(),
        Some(ipc::PROBE_MODE) => probe::main(&arguments.collect::<Vec<_>>()),
        _ => Err(io::Error::other("this executable is started by agent-management, for its sandboxes")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The service reads this text and shows it as the reason why there is no sandbox.
            let _ = rustix::io::write(io::stderr().as_fd(), format!("{error}\n").as_bytes());
            ExitCode::from(125)
        }
    }
}

/// Run the first process inside; returns only on failure.
fn run_inner() -> io::Result<()> {
    let control = sys::duplicate_stdin()?;
    let failed = match confine_process(control.as_fd()) {
        Ok(plan) => become_program(&plan),
        Err(error) => error,
    };
    ipc::send_report(control.as_fd(), &InitMessage::Failed(failed.to_string()), &[])
}

/// Apply every rule of the plan received over `control` to this process, and report that.
fn confine_process(control: BorrowedFd<'_>) -> io::Result<InitPlan> {
    let (_, mut descriptors) = ipc::receive(control)?;
    let (Some(stdin), Some(plan)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(io::Error::other("no plan came"));
    };
    let mut text = Vec::new();
    File::from(plan).read_to_end(&mut text)?;
    let plan: InitPlan = serde_json::from_slice(&text)?;
    rustix::stdio::dup2_stdin(stdin)?;
    sys::close_on_exec()?;
    confine::set_limits(&plan.limits).map_err(|error| error_with_name("limits", &error))?;
    // The service accepts connections to this socket: nothing else leads out of this network.
    let proxy = plan.network.then(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).transpose();
    let proxy = proxy.map_err(|error| error_with_name("the proxy's socket", &error))?;
    let port = proxy.as_ref().map(|proxy| proxy.local_addr().map(|address| address.port())).transpose()?;
    confine::restrict_with_landlock(&plan, port).map_err(|error| error_with_name("Landlock", &error))?;
    rustix::thread::set_no_new_privs(true)?;
    let rules = seccomp_filter::filter_rules(plan.network, plan.watch_files);
    let filter = seccomp_filter::compile_filter(&rules, plan.network);
    let listener = sys::install_filter(&filter).map_err(|error| error_with_name("seccomp", &error))?;
    let mut descriptors = vec![listener.as_fd()];
    descriptors.extend(proxy.as_ref().map(AsFd::as_fd));
    ipc::send_report(control, &InitMessage::Ready { port }, &descriptors)?;
    let proxy_at = port.map(|port| format!("http://127.0.0.1:{port}"));
    Ok(InitPlan { env: with_proxy_variables(plan.env, proxy_at.as_deref()), ..plan })
}

/// Add the variables by which programs find the proxy.
fn with_proxy_variables(mut env: Vec<(String, String)>, proxy: Option<&str>) -> Vec<(String, String)> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    env.extend(proxy.into_iter().flat_map(|proxy| names.map(|name| (name.to_owned(), proxy.to_owned()))));
    env
}

/// Execute the program; returns the error if that fails.
fn become_program(plan: &InitPlan) -> io::Error {
    let Some((program, arguments)) = plan.argv.split_first() else { return io::ErrorKind::InvalidInput.into() };
    let env = plan.env.iter().map(|(name, value)| (name, value));
    let error = Command::new(program).args(arguments).env_clear().envs(env).exec();
    error_with_name(program, &error)
}

fn error_with_name(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
