//! Starts and stops the agent: first every check, then the log, then the socket.

mod assemble;
mod complain;
mod deadlines;
mod error;
mod history;
mod log;
mod names;
mod notices;
mod prepare;
mod registration;
pub(crate) mod status;
mod stop;
pub(crate) mod watchdog;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use debug_wire::records::Armed;

pub use self::error::{Mistake, StartError};
pub(crate) use self::prepare::{Prepared, prepare};
pub(crate) use self::registration::Registration;
pub use self::status::{Late, Occupied, Panics, Status};
pub use self::stop::NotUndone;
use crate::boot::status::SharedStatus;
use crate::core::Core;
use crate::eval::queue::Queue;
use crate::methods::Methods;
use crate::recorder::records::record;
use debug_base::threads::{Faults, Next};
use debug_base::{BootTime, Panicked, fenced, threads};
use debug_lease::{Stuck, lock_soon};
use debug_net as net;
use debug_net::{Bounds, NetHandle, Tls};

/// How often a port or folder that another process holds is retried: a rolling restart takes seconds.
const RETRY: Duration = Duration::from_secs(1);
/// The stack of eval threads, in bytes; only touched pages cost memory.
const EVAL_STACK: usize = 16 << 20;
/// The nice value of the threads that run evals: under load a thread of the service gets about three times as much. The
/// thread that ends changes keeps the service's priority.
const BEHIND_THE_SERVICE: i32 = 5;

/// Reports that the agent does not start: once on stderr, and in the service's log once it has a subscriber.
pub(crate) fn refuse_start(why: &str) {
    let what = format!("the debug agent does not start, the service goes on without it: {why}");
    complain::complain(&what);
    let lines: Vec<&str> = what.lines().map(str::trim).collect();
    crate::recorder::events::refused(&lines.join("; "));
}

/// A running agent's threads.
pub(crate) struct Running {
    /// The process that has the threads. A forked child has a copy of everything else.
    process: u32,
    shared: Arc<Machinery>,
    boot: Option<JoinHandle<()>>,
}

/// The state that the threads share before the core exists, which needs the open log.
struct Machinery {
    status: SharedStatus,
    stopping: AtomicBool,
    up: Mutex<Option<Up>>,
}

/// What runs once the socket is open.
struct Up {
    core: Arc<Core>,
    queue: Arc<Queue>,
    net: NetHandle,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the agent's first thread, which does the rest.
///
/// # Errors
/// The system starts no thread.
pub(crate) fn launch(prepared: Prepared, status: SharedStatus) -> Result<Running, StartError> {
    let shared = Arc::new(Machinery {
        status,
        stopping: AtomicBool::new(false),
        up: Mutex::new(None),
    });
    let machinery = shared.clone();
    let boot = std::thread::Builder::new()
        .name(REVERT.to_owned())
        .spawn(move || {
            if let Err(Panicked) = fenced(|| boot(prepared, &machinery)) {
                machinery.refuse(StartError::Panicked);
            }
        })
        .map_err(|e| no_thread(&e))?;
    Ok(Running {
        process: std::process::id(),
        shared,
        boot: Some(boot),
    })
}

impl Machinery {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits for something that another process holds.
    fn wait(&self, occupied: Occupied) {
        let waiting = Status::Waiting(occupied);
        if self.status.set(waiting.clone()) {
            complain::complain(&waiting.to_string());
        }
        std::thread::park_timeout(RETRY);
    }

    fn refuse(&self, error: StartError) {
        refuse_start(&error.why());
        self.status.set(Status::Refused(error));
    }
}

fn no_thread(error: &std::io::Error) -> StartError {
    StartError::System(Mistake::new(format!("no thread for the agent: {error}"), ""))
}

/// Runs the first thread: opens the log, then the socket, then serves as the revert thread.
fn boot(prepared: Prepared, machinery: &Arc<Machinery>) {
    let Some((log, opened)) = log::open(&prepared, machinery) else {
        return;
    };
    let (core, tls, listen) = match assemble::assemble(prepared, log, &opened, &machinery.status) {
        Ok(parts) => parts,
        Err(error) => return machinery.refuse(error),
    };
    let Some(()) = listen_and_serve(&core, tls, listen, machinery) else {
        return;
    };
    threads::stand(REVERT, &core.faults, || {
        let Some(due) = core.changes.leases.wait_due() else {
            return Next::End;
        };
        due.into_iter()
            .for_each(|(id, cause)| deadlines::end_due(&core, id, &cause));
        Next::Turn
    });
}

/// The name of the first thread, which becomes the revert thread.
const REVERT: &str = "debug-revert";

/// Opens the socket and starts the eval threads.
fn listen_and_serve(
    core: &Arc<Core>,
    tls: Tls,
    listen: SocketAddr,
    machinery: &Arc<Machinery>,
) -> Option<()> {
    let queue = Arc::new(Queue::default());
    let desk = Arc::new(Methods::new(core.clone(), queue.clone()));
    let net = loop {
        if machinery.stopping() {
            return None;
        }
        match net::start(listen, tls.clone(), desk.clone(), Bounds::default()) {
            Ok(net) => break net,
            Err(net::ListenError::InUse(address)) => {
                machinery.wait(Occupied::Address(address));
            }
            Err(error) => {
                machinery.refuse(StartError::Listen(Mistake::new(prepare::whole(&error), "")));
                return None;
            }
        }
    };
    let threads = match eval_threads(&queue, &core.faults) {
        Ok(threads) => threads,
        Err(error) => {
            // The threads that did start wait for work that never comes.
            queue.stop();
            machinery.refuse(no_thread(&error));
            return None;
        }
    };
    let mut up = machinery.up.lock().unwrap_or_else(PoisonError::into_inner);
    if machinery.stopping() {
        // The thread that stops the agent has found nothing to stop, and will not look again.
        drop(up);
        net.shutdown();
        queue.stop();
        return None;
    }
    core.recorder.append(vec![record(&Armed {
        listen: net.address.to_string(),
    })]);
    core.recorder.emitter.info(&format!(
        "the debug agent listens on {}; log {}",
        net.address, core.origin
    ));
    machinery.status.set(Status::Running);
    *up = Some(Up {
        core: core.clone(),
        queue,
        net,
        threads,
    });
    Some(())
}

fn eval_threads(queue: &Arc<Queue>, faults: &Faults) -> std::io::Result<Vec<JoinHandle<()>>> {
    let evals = |name| {
        let (queue, mut nice) = (queue.clone(), false);
        threads::spawn(name, Some(EVAL_STACK), faults.clone(), move || {
            if !std::mem::replace(&mut nice, true) {
                // On Linux this affects only the calling thread (setpriority(2)). If it fails, evals compete with the
                // service at equal priority.
                let _ = rustix::process::nice(BEHIND_THE_SERVICE);
            }
            queue.work()
        })
    };
    let reserved = queue.clone();
    Ok(vec![
        evals("debug-eval-1")?,
        evals("debug-eval-2")?,
        threads::spawn("debug-eval-r", Some(EVAL_STACK), faults.clone(), move || {
            reserved.work_reserved()
        })?,
    ])
}

impl Running {
    /// The core of an agent that listens; `None` before that. Waits at most 5 ms. Do not call it in a forked child,
    /// where the holder of a lock may not exist.
    ///
    /// # Errors
    /// `Stuck` if the lock is held for 5 ms.
    fn core(&self) -> Result<Option<Arc<Core>>, Stuck> {
        let up = lock_soon(&self.shared.up).ok_or(Stuck)?;
        Ok(up.as_ref().map(|up| up.core.clone()))
    }

    /// The state of the agent.
    pub(crate) fn status(&self) -> Status {
        if self.process != std::process::id() {
            return Status::Stopped;
        }
        let status = &self.shared.status;
        match self.core() {
            Ok(None) => status.now(),
            Ok(Some(core)) => status.with_leases(&core.changes.leases),
            Err(Stuck) => Status::Late(Late::Stuck),
        }
    }

    /// The number of leases in force; 0 also if it cannot be read within milliseconds.
    pub(crate) fn leases_in_force(&self) -> usize {
        if self.process != std::process::id() {
            return 0;
        }
        let core = self.core().ok().flatten();
        core.and_then(|core| core.changes.leases.glance(BootTime::now()).ok())
            .map_or(0, |(count, _)| count)
    }
}
