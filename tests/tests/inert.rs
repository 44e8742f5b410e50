//! Invariant 1: without the flag there is no trace of the agent; with it, exactly what is documented.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use debug_tests::{Certificates, Service, wait};

/// What the system shows of a process; each list sorted.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Trace {
    /// The threads by name; one that ends during the lookup is left out.
    threads: Vec<String>,
    /// The kinds of descriptors, without numbers: `socket`, `pipe`, `anon_inode:[eventpoll]`, a path.
    descriptors: Vec<String>,
    /// The addresses on which it listens, without ports.
    listeners: Vec<Ipv4Addr>,
}

impl Trace {
    fn of(service: &Service) -> Self {
        let process = format!("/proc/{}", service.pid());
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("{process}/task")).unwrap() {
            let task = task.unwrap();
            // The first thread has the name of the program.
            if task.file_name().to_str() == Some(&service.pid().to_string()) {
                threads.push("main".to_owned());
            } else if let Ok(name) = fs::read_to_string(task.path().join("comm")) {
                threads.push(name.trim_end().to_owned());
            }
        }
        let mut descriptors = Vec::new();
        let mut inodes = BTreeSet::new();
        for descriptor in fs::read_dir(format!("{process}/fd")).unwrap() {
            let Ok(target) = fs::read_link(descriptor.unwrap().path()) else {
                continue;
            };
            let target = target.to_str().unwrap().to_owned();
            match target.strip_suffix(']').and_then(|t| t.split_once(":[")) {
                Some(("socket", inode)) => {
                    inodes.insert(inode.to_owned());
                    descriptors.push("socket".to_owned());
                }
                Some(("pipe", _)) => descriptors.push("pipe".to_owned()),
                _ => descriptors.push(target),
            }
        }
        let mut listeners = listeners(&format!("{process}/net/tcp"), &inodes);
        assert!(
            listeners_of_version_6(&process, &inodes).is_empty(),
            "nothing of ours listens on IPv6"
        );
        threads.sort();
        descriptors.sort();
        listeners.sort();
        Self {
            threads,
            descriptors,
            listeners,
        }
    }
}

/// The lines of listening sockets (state `0A`) among `inodes`, as words.
fn listening(file: &str, inodes: &BTreeSet<String>) -> Vec<Vec<String>> {
    let table = fs::read_to_string(file).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    table
        .lines()
        .skip(1)
        .map(words)
        .filter(|w| w[3] == "0A" && inodes.contains(&w[9]))
        .collect()
}

/// `0100007F:1F90`: the address is a number in the machine's byte order.
fn listeners(file: &str, inodes: &BTreeSet<String>) -> Vec<Ipv4Addr> {
    let address = |words: Vec<String>| {
        let (address, _) = words[1].split_once(':').unwrap();
        Ipv4Addr::from(u32::from_str_radix(address, 16).unwrap().to_ne_bytes())
    };
    listening(file, inodes).into_iter().map(address).collect()
}

fn listeners_of_version_6(process: &str, inodes: &BTreeSet<String>) -> Vec<Vec<String>> {
    let file = format!("{process}/net/tcp6");
    if fs::exists(&file).unwrap() {
        listening(&file, inodes)
    } else {
        Vec::new()
    }
}

/// The service built without the lines of the agent.
fn without_agent(certificates: &Certificates) -> Service {
    Service::start_program("dienstplan-without-agent", certificates, &[])
}

/// The trace once each thread has its name: until a new one runs, it has that of the program.
#[track_caller]
fn named(service: &Service) -> Trace {
    let program = fs::read_to_string(format!("/proc/{}/comm", service.pid())).unwrap();
    wait::until("each thread has its name", || {
        let trace = Trace::of(service);
        let is_named = |name: &String| name != program.trim_end();
        trace.threads.iter().all(is_named).then_some(trace)
    })
}

/// Compares both until they are equal: a request just answered may still hold a descriptor.
#[track_caller]
fn same(one: &Service, other: &Service) {
    assert_eq!(one.health().status, 200);
    assert_eq!(other.health().status, 200);
    let end = Instant::now() + wait::LIMIT;
    loop {
        let (one, other) = (Trace::of(one), Trace::of(other));
        if one == other {
            return;
        }
        assert!(Instant::now() < end, "expected the same, saw\n{one:?}\n{other:?}");
        std::thread::yield_now();
    }
}

#[test]
fn without_the_flag_there_is_no_trace() {
    let certificates = Certificates::new();
    let without = without_agent(&certificates);
    for variables in [
        &[][..],
        &[("DEBUG_AGENT", "")],
        &[("DEBUG_AGENT", "0")],
        &[("DEBUG_AGENT", "off")],
    ] {
        let inert = Service::start_with(&certificates, variables);
        same(&without, &inert);
        assert!(!inert.log().contains("debug"), "{}", inert.log());
        let files: Vec<_> = fs::read_dir(certificates.audit()).unwrap().collect();
        assert!(files.is_empty(), "{variables:?}: {files:?}");
    }
}

/// An agent that refuses to start leaves only the one line that says why.
#[test]
fn a_refused_start_leaves_no_trace() {
    let certificates = Certificates::new();
    let without = without_agent(&certificates);
    fs::remove_file(certificates.folder().join("agent/policy.toml")).unwrap();
    let refused = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    refused.wait_for_log("policy.toml");
    same(&without, &refused);
}

/// The names in the paragraph of ARCHITECTURE.md that begins with `Threads, all the agent's own:`.
fn documented_threads() -> Vec<String> {
    let text = include_str!("../../ARCHITECTURE.md");
    let (_, rest) = text.split_once("Threads, all the agent's own:").unwrap();
    let (paragraph, _) = rest.split_once("\n\n").unwrap();
    let mut names: Vec<_> = paragraph
        .split('`')
        .filter(|word| word.starts_with("debug-"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[test]
fn with_the_flag_there_are_the_documented_threads_and_one_listener_on_loopback_more() {
    let certificates = Certificates::new();
    let without = named(&without_agent(&certificates));
    let service = Service::start(&certificates);
    let documented = documented_threads();
    assert!(documented.len() > 4, "{documented:?}");
    // A new thread has the name of its parent until it runs.
    let names = || {
        let mut names = Trace::of(&service).threads;
        names.retain(|name| name.starts_with("debug-"));
        names
    };
    wait::until_true(
        &format!("the threads are {documented:?}, seen {:?}", names()),
        || names() == documented,
    );
    let with = named(&service);
    let mut rest = with.threads.clone();
    rest.retain(|name| !name.starts_with("debug-"));
    assert_eq!(
        rest, without.threads,
        "the agent's threads are named `debug-…`, all of them"
    );
    assert_eq!(without.listeners, [Ipv4Addr::LOCALHOST]);
    assert_eq!(with.listeners, [Ipv4Addr::LOCALHOST; 2]);
    // The comparison above can tell the two apart.
    assert_ne!(with.descriptors, without.descriptors);
}

/// A refused start is reported once on stderr and once in the service's log, with advice; the service runs.
#[test]
fn a_refused_start_is_told_and_the_service_serves() {
    let certificates = Certificates::new();
    let cases = [
        (
            vec![("DEBUG_AGENT", "yes")],
            "`yes` is neither on nor off",
            "`1` or `on`",
        ),
        (
            vec![("DEBUG_AGENT", "standby")],
            "`standby` is not part of this version",
            "help:",
        ),
        (
            vec![
                ("DEBUG_AGENT", "1"),
                ("DEBUG_AGENT_CONFIG", "/nowhere/agent.toml"),
            ],
            "cannot read `/nowhere/agent.toml`",
            "check the path",
        ),
    ];
    for (variables, what, help) in cases {
        let service = Service::start_with(&certificates, &variables);
        let line = service.wait_for_log("ERROR debug_agent: the debug agent does not start");
        assert!(line.contains(what) && line.contains(help), "{line}");
        assert_eq!(service.health().status, 200);
        let log = service.log();
        assert_eq!(
            log.matches("debug-agent: the debug agent does not start").count(),
            1,
            "{log}"
        );
        assert_eq!(
            log.matches("ERROR debug_agent: the debug agent does not start")
                .count(),
            1,
            "{log}"
        );
        let threads = Trace::of(&service).threads;
        wait::until_true("no thread of the agent is left", || {
            !Trace::of(&service)
                .threads
                .iter()
                .any(|name| name.starts_with("debug-"))
        });
        assert!(!threads.contains(&"debug-net".to_owned()), "{threads:?}");
    }
}
