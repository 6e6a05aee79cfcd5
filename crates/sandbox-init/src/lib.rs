//! The helper executable. Outside the sandbox it gives up root's privileges and executes bubblewrap; inside it is the
//! first process, which applies the rules to itself and executes the program. It starts within milliseconds, because it
//! links nothing else of the service.

mod confine;
pub mod filter;
pub mod kernel;
mod outer;
pub mod probe;
pub mod wire;

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

use wire::{Plan, Said};

/// Run the mode that the first argument names.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some(wire::OUTER) => outer::become_bubblewrap(&arguments.next().unwrap_or_default()),
        Some(wire::INNER) => inner(),
        Some(wire::PROBE) => probe::main(&arguments.collect::<Vec<_>>()),
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
fn inner() -> io::Result<()> {
    let control = kernel::take_stdin()?;
    let failed = match confined(control.as_fd()) {
        Ok(plan) => become_program(&plan),
        Err(error) => error,
    };
    wire::say(control.as_fd(), &Said::Failed(failed.to_string()), &[])
}

/// Apply every rule of the plan received over `control` to this process, and report that.
fn confined(control: BorrowedFd<'_>) -> io::Result<Plan> {
    let (_, mut descriptors) = wire::receive(control)?;
    let (Some(stdin), Some(plan)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(io::Error::other("no plan came"));
    };
    let mut text = Vec::new();
    File::from(plan).read_to_end(&mut text)?;
    let plan: Plan = serde_json::from_slice(&text)?;
    rustix::stdio::dup2_stdin(stdin)?;
    kernel::close_on_exec()?;
    confine::limit(&plan.limits).map_err(|error| named("limits", &error))?;
    // The service accepts connections to this socket: nothing else leads out of this network.
    let proxy = plan.network.then(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).transpose();
    let proxy = proxy.map_err(|error| named("the proxy's socket", &error))?;
    let port = proxy.as_ref().map(|proxy| proxy.local_addr().map(|address| address.port())).transpose()?;
    confine::landlock(&plan, port).map_err(|error| named("Landlock", &error))?;
    rustix::thread::set_no_new_privs(true)?;
    let filter = filter::compile(&filter::rules(plan.network, plan.watch_files));
    let listener = kernel::install(&filter).map_err(|error| named("seccomp", &error))?;
    let mut descriptors = vec![listener.as_fd()];
    descriptors.extend(proxy.as_ref().map(AsFd::as_fd));
    wire::say(control, &Said::Ready { port }, &descriptors)?;
    let proxy_at = port.map(|port| format!("http://127.0.0.1:{port}"));
    Ok(Plan { env: environment(plan.env, proxy_at.as_deref()), ..plan })
}

/// Add the variables by which programs find the proxy.
fn environment(mut env: Vec<(String, String)>, proxy: Option<&str>) -> Vec<(String, String)> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    env.extend(proxy.into_iter().flat_map(|proxy| names.map(|name| (name.to_owned(), proxy.to_owned()))));
    env
}

/// Execute the program; returns the error if that fails.
fn become_program(plan: &Plan) -> io::Error {
    let Some((program, arguments)) = plan.argv.split_first() else { return io::ErrorKind::InvalidInput.into() };
    let env = plan.env.iter().map(|(name, value)| (name, value));
    let error = Command::new(program).args(arguments).env_clear().envs(env).exec();
    named(program, &error)
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
