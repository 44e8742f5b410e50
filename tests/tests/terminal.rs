//! `debugctl attach` as an on-call engineer uses it: at a terminal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::net::SocketAddr;

use debug_tests::terminal::{CTRL_BACKSLASH, CTRL_C, CTRL_D, ENTER, Terminal};
use debug_tests::{Certificates, Client, Ctl, Proxy, Service, wait};
use rustix::process::Signal;

/// Wider than every line of these tests.
const WIDE: (u16, u16) = (40, 160);
/// The default size of terminals.
const USUAL: (u16, u16) = (24, 80);
const OBSERVE: &str = "dienstplan(development) alice[oncall] observe›";
const CHANGE: &str = "dienstplan(development) alice[oncall] CHANGE›";
/// A patch that makes the service a teapot.
const TEAPOT: &str = r#"patch("GET /api/healthcheck", |req| #{ status: 418 })"#;
/// Runs for seconds, until it has used all its operations. `loop {}` uses them at once.
const LONG: &str = r#"loop { get("config.db.host"); }"#;
/// The question on leaving with changes in force.
const QUESTION: &str = "revert now, keep for 60 s more, or stay? [r/k/S]";

struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        // A route becomes a point at its first call.
        assert_eq!(service.health().status, 200);
        Self {
            certificates,
            service,
        }
    }

    /// Attaches `alice`, in colours, and waits for her prompt.
    fn attach(&self, size: (u16, u16)) -> Terminal {
        self.attach_at(self.service.agent(), size)
    }

    /// Like [`Set::attach`], at another address.
    fn attach_at(&self, address: SocketAddr, (rows, columns): (u16, u16)) -> Terminal {
        let mut command = Ctl::command(&self.certificates, "alice");
        command.args(["attach", &address.to_string()]);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let terminal = Terminal::run(&command, rows, columns);
        // The prompt also shows the changes in force, if there are any.
        let prompt = terminal.prompt();
        assert!(prompt.starts_with(OBSERVE.trim_end_matches('›')), "{prompt}");
        terminal
    }

    /// Like [`Set::attach`]; lease 1 makes the service a teapot.
    fn attach_and_patch(&self) -> Terminal {
        let terminal = self.attach(WIDE);
        terminal.submit(":change INC-42 a test");
        shows(&terminal.submit(TEAPOT), "lease 1: GET /api/healthcheck patched");
        assert_eq!(self.service.health().status, 418);
        terminal
    }
}

#[track_caller]
fn shows(screen: &str, text: &str) {
    assert!(screen.contains(text), "`{text}` is not in:\n{screen}");
}

/// Submits [`LONG`], and waits until it runs.
#[track_caller]
fn begin_long(terminal: &Terminal) {
    terminal.press(&format!("print(\"it runs\"); {LONG}{ENTER}"));
    wait::until_true("the eval runs", || {
        terminal.lines().iter().any(|line| line == "it runs")
    });
}

/// The program has left with this code, and the terminal is as before.
#[track_caller]
fn leaves(terminal: &Terminal, code: u32) {
    assert_eq!(terminal.exit_code(), code);
    assert!(terminal.modes().are_for_lines(), "{:?}", terminal.modes());
    terminal.press("typed to the shell");
    terminal.wait_for("typed to the shell");
}

#[test]
fn a_value_is_shown_below_its_line_and_a_secret_is_not() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    assert_eq!(
        terminal.submit("config.db.host"),
        format!("{OBSERVE} config.db.host\n\"localhost\"")
    );
    let secret = terminal.submit("config.slack.token");
    shows(&secret, "‹secret ");
    assert!(!String::from_utf8_lossy(&terminal.bytes()).contains(debug_tests::process::SLACK_TOKEN));
    assert_eq!(terminal.prompt(), OBSERVE);
}

#[test]
fn a_session_of_a_teapot() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    assert!(!terminal.is_coloured());
    shows(
        &terminal.submit(":change INC-42 health checks lie"),
        "mode change",
    );
    assert_eq!(terminal.prompt(), CHANGE);
    assert!(
        terminal.is_coloured(),
        "the mode in which changes are possible must stand out"
    );
    assert_eq!(terminal.submit(":leases"), format!("{CHANGE} :leases\nno leases"));

    let lines = r#"patch("GET /api/healthcheck", |req| {"#;
    terminal.press(&format!("{lines}{ENTER}"));
    wait::until_true("the line goes on", || {
        terminal.lines().iter().any(|line| line.trim() == "...")
    });
    assert_eq!(set.service.health().status, 200);
    terminal.press(&format!("    #{{ status: 418 }}{ENTER}"));
    let patched = terminal.submit_rest("})");
    let margin = " ".repeat(CHANGE.chars().count() - "...".len());
    let whole = format!("{CHANGE} {lines}\n{margin}...     #{{ status: 418 }}\n{margin}... }})\n");
    assert!(patched.starts_with(&whole), "{patched}");
    shows(&patched, "lease 1: GET /api/healthcheck patched, reverts in 10m");
    assert_eq!(set.service.health().status, 418);

    let leases = terminal.submit(":leases");
    shows(&leases, "1   point:GET /api/healthcheck  alice  provisional");
    shows(&leases, "INC-42 health checks lie");
    shows(&terminal.submit(":revert 1"), "is as it was before");
    assert_eq!(set.service.health().status, 200);
    assert_eq!(terminal.submit(":leases"), format!("{CHANGE} :leases\nno leases"));
    terminal.submit(":observe");
    assert_eq!(terminal.prompt(), OBSERVE);
    terminal.press(CTRL_D);
    leaves(&terminal, 0);
    assert!(terminal.lines().iter().all(|line| !line.contains(QUESTION)));
}

#[test]
fn a_mistake_is_told_and_the_session_goes_on() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    let mistake = terminal.submit("config.db.hots");
    shows(
        &mistake,
        "error: no such path `config.db.hots`; did you mean `host`?",
    );
    shows(&mistake, "\nhelp: ");
    shows(
        &terminal.submit(":laeses"),
        "error: there is no command `:laeses`",
    );
    shows(&terminal.submit("let a = ;"), "error: ");
    shows(&terminal.submit("1 + 1"), "\n2");
}

/// T46.
#[test]
fn what_would_act_on_the_terminal_is_shown_instead() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    let printed = terminal.submit(r#"print("\x1b[31mred\x1b]0;mine\x07\rand back")"#);
    shows(&printed, "\n\\u{1b}[31mred\\u{1b}]0;mine\\u{7}\\u{d}and back");
    shows(&terminal.submit(r#""\x1b[31mred""#), r#""\u001b[31mred""#);
    shows(&terminal.submit(r#"throw "\x1b[31mred""#), r"\u{1b}[31mred");
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(
        !bytes.contains("\x1b[31m") && !bytes.contains("\x1b]0;"),
        "{bytes:?}"
    );
}

#[test]
fn ctrl_c_cancels_what_runs_and_nothing_else() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    begin_long(&terminal);
    let cancelled = terminal.press_below(CTRL_C);
    shows(
        &cancelled,
        "cancelling; Ctrl-C again detaches\nerror: the eval was cancelled",
    );
    shows(&terminal.submit("1 + 1"), "\n2");

    // At the prompt, Ctrl-C discards the line.
    terminal.press("config.slack");
    terminal.wait_for(&format!("{OBSERVE} config.slack"));
    let discarded = terminal.press_below(CTRL_C);
    assert!(!discarded.contains("secret"), "{discarded}");
    shows(&terminal.submit("2 + 2"), "\n4");
    terminal.press(CTRL_D);
    leaves(&terminal, 0);
}

#[test]
fn who_leaves_changes_behind_is_asked_and_reverts_them() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    terminal.press(CTRL_D);
    terminal.wait_for(QUESTION);
    shows(&terminal.lines().join("\n"), "of this session, in force: lease 1");
    assert_eq!(set.service.health().status, 418);
    terminal.press(&format!("revert{ENTER}"));
    leaves(&terminal, 0);
    terminal.wait_for("is as it was before");
    assert_eq!(set.service.health().status, 200);
}

#[test]
fn who_leaves_changes_behind_is_asked_and_keeps_them() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    terminal.press(CTRL_D);
    terminal.wait_for(QUESTION);
    terminal.press(&format!("keep{ENTER}"));
    leaves(&terminal, 0);
    terminal.wait_for("leases that were not confirmed revert 60 s after the session");
    assert_eq!(set.service.health().status, 418);
    // A client that only looks takes nothing over.
    let looked = Ctl::run(
        &set.certificates,
        "alice",
        &["leases", &set.service.agent().to_string()],
    );
    assert_eq!(looked.code, 0, "{}", looked.err);
    let opened = set.certificates.records_of("session.open");
    assert_eq!(opened.last().unwrap()["resumed"], serde_json::json!([]));
    // The next client that attaches takes them over, and is asked in turn.
    let terminal = set.attach(WIDE);
    terminal.wait_for("taken over from your lost session: lease 1");
    terminal.press(&format!(":quit{ENTER}"));
    terminal.wait_for(QUESTION);
    terminal.press(&format!("r{ENTER}"));
    leaves(&terminal, 0);
    assert_eq!(set.service.health().status, 200);
}

#[test]
fn whoever_does_not_answer_stays_and_a_mistyped_answer_is_asked_for_again() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    let is_asked = |times: usize| {
        wait::until_true("it is asked", || {
            let lines = terminal.lines();
            let asked = lines.iter().filter(|line| line.starts_with(QUESTION)).count();
            asked == times && lines.last().is_some_and(|line| line == QUESTION)
        });
    };
    let mut asked = 0;
    for answer in [ENTER, CTRL_C, CTRL_D, "s\r"] {
        terminal.press(CTRL_D);
        for _ in 0..2 {
            asked += 1;
            is_asked(asked);
            terminal.press(&format!("rever{ENTER}"));
            terminal.wait_for("that is no answer: `r` reverts, `k` keeps, `s` or Enter alone stays");
        }
        asked += 1;
        is_asked(asked);
        let stayed = terminal.press_below(answer);
        assert!(!stayed.contains("error"), "{stayed}");
        assert!(
            terminal
                .prompt()
                .starts_with(&format!("{}[1, ", CHANGE.trim_end_matches('›')))
        );
    }
    assert_eq!(set.service.health().status, 418);
}

#[test]
fn the_prompt_counts_down_what_is_in_force() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    let in_force = |count: u32, left: &str| format!("{}[{count}, {left}", CHANGE.trim_end_matches('›'));
    // Also while nothing is typed.
    wait::until_true("the time goes by", || {
        terminal.prompt().starts_with(&in_force(1, "9m5"))
    });
    terminal.submit(r#"set("config.db.port", 1, #{ ttl: "90s" })"#);
    let prompt = terminal.prompt();
    assert!(prompt.starts_with(&in_force(2, "1m")), "{prompt}");
    terminal.submit(":revert 2");
    terminal.submit(":revert 1");
    assert_eq!(terminal.prompt(), CHANGE);
}

/// An assignment has no value that could name its change.
#[test]
fn a_change_without_a_value_is_told() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    let assigned = terminal.submit("config.db.port = 1");
    shows(
        &assigned,
        "config.db.port = 1\nlease 2: config.db.port set, reverts in 10m unless confirmed",
    );
    let both = terminal.submit("config.server.port = 2; config.db.host = \"elsewhere\"; 42");
    shows(
        &both,
        "\n42\nlease 3: config.server.port set, reverts in 10m unless confirmed\nlease 4: config.db.host set, ",
    );
    // A lease that the value names is not printed again.
    let told = terminal.submit(":confirm 2 5m");
    assert_eq!(told.matches("lease 2").count(), 1, "{told}");
    let told = terminal.submit(r#"set("config.db.port", 3, #{ over: 2 })"#);
    assert_eq!(told.matches("lease 5").count(), 1, "{told}");

    let target = set.service.agent().to_string();
    let code = "config.server.loglevel = \"DEBUG\"";
    let args = [
        "eval",
        &target,
        "--change",
        "--reason",
        "a test",
        "--persist",
        code,
    ];
    let ctl = Ctl::run(&set.certificates, "bob", &args);
    let told = "lease 6: config.server.loglevel set, reverts in 10m unless confirmed\n";
    assert_eq!((ctl.code, ctl.out.as_str(), ctl.err.as_str()), (0, "", told));
}

#[test]
fn the_end_of_ones_change_is_told_while_the_prompt_stands() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    let mut lea = Client::attach(set.service.agent(), &set.certificates.operator("lea"));
    shows(
        &terminal.submit(r#"set("config.db.port", 1, #{ ttl: "1s" })"#),
        "lease ",
    );
    terminal.wait_for("lease 2, config.db.port, has ended, as its time is over");
    let guarded = r#"set("config.db.port", 1, #{ guard: |s| s.points["GET /api/healthcheck"].calls < 20 })"#;
    shows(&terminal.submit(guarded), "lease ");
    wait::until_true("it has ended", || {
        set.service.health();
        lea.eval("leases().len()").display() == "1"
    });
    terminal.wait_for("lease 3, config.db.port, has ended, as its guard no longer holds");
    // An end is reported once, and not if the session ended the lease itself.
    assert_eq!(terminal.submit("1 + 1").lines().count(), 2);
    let told = terminal.submit(":revert 1");
    assert_eq!(told.matches("lease 1").count(), 1, "{told}");
    terminal.submit("config.db.port = 2");
    lea.eval("revert(4)").ok();
    terminal.wait_for("lease 4, config.db.port, was reverted");
    terminal.submit("");
    assert_eq!(terminal.prompt(), CHANGE);
    let told = terminal
        .lines()
        .iter()
        .filter(|line| line.contains("lease 2, config.db.port"))
        .count();
    assert_eq!(told, 1);
}

/// The line that is being typed stays as it is, with the cursor in its place: on one row or several, also at the bottom of the
/// screen. No part of it is left above.
#[test]
fn what_ends_is_told_above_the_line_that_is_being_typed() {
    let set = Set::new();
    let mut lea = Client::attach(set.service.agent(), &set.certificates.operator("lea"));
    let terminal = set.attach(USUAL);
    terminal.submit(":change INC-42 a test");
    let mut lease = 0;
    let mut ends_amid = |typed: &str, rest: &str, first: &str, given: &str| {
        terminal.submit("config.db.port = 1");
        lease += 1;
        terminal.press(typed);
        terminal.wait_for(first);
        lea.eval(&format!("revert({lease})")).ok();
        let told = format!("lease {lease}, config.db.port, was reverted");
        terminal.wait_for(&told);
        wait::until_true("the line stands below", || {
            let lines = terminal.lines();
            let at = lines.iter().rposition(|line| *line == told).unwrap();
            lines[at + 1..].iter().any(|line| line.contains(first))
        });
        let lines = terminal.lines();
        assert_eq!(
            lines.iter().filter(|line| line.contains(first)).count(),
            1,
            "{lines:#?}"
        );
        terminal.press(&format!("{rest}{ENTER}"));
        terminal.wait_for(given);
        terminal.prompt();
    };
    ends_amid("20 + 1", "00", "20 + 1", "120");
    // The first row holds the prompt and a part of the line.
    let long = "\"a long line that goes on and on until it takes a second row\"";
    ends_amid(long, ".len()", long, "59");
    // The cursor is in the first of two rows, and stays there.
    let long = "\"one more line that goes on and on until it takes a second row\"";
    ends_amid(&format!("{long}.len()\x01"), "1000 + ", long, "1061");
    ends_amid(&format!("[71,{ENTER}72,{ENTER}73"), "]", "[71,", "[71, 72, 73]");
    terminal.submit("for number in 0..50 { print(number); }");
    ends_amid("30 + 1", "00", "30 + 1", "130");
    ends_amid(&format!("[81,{ENTER}82"), "]", "[81,", "[81, 82]");
    let long = "\"another long line that goes on and on until it takes more rows\"";
    ends_amid(&format!("{long}.len()\x01"), "2000 + ", long, "2062");
}

/// A failing patch is ended by its breaker; its operator must know before relying on it.
#[test]
fn a_patch_ended_by_its_breaker_is_told_above_the_line() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    terminal.submit(":change INC-42 a test");
    shows(
        &terminal.submit(r#"patch("GET /api/healthcheck", |req| { throw "no"; })"#),
        "lease 1",
    );
    terminal.press("20 + 1");
    terminal.wait_for("› 20 + 1");
    for _ in 0..5 {
        assert_eq!(set.service.health().status, 200);
    }
    terminal.wait_for("lease 1, GET /api/healthcheck, has ended, as it failed too often or took too long");
    terminal.wait_for(&format!("{CHANGE} 20 + 1"));
    shows(&terminal.submit_rest("00"), "\n120");
}

#[test]
fn a_patch_that_fails_is_told_while_the_prompt_stands() {
    let set = Set::new();
    let terminal = set.attach((30, 160));
    terminal.submit(":change INC-42 a test");
    shows(
        &terminal.submit(r#"patch("GET /api/healthcheck", |req| throw "not today")"#),
        "lease 1",
    );
    assert_eq!(set.service.health().status, 200);
    let told = terminal.wait_for("fails:");
    shows(
        &told,
        "lease 1, GET /api/healthcheck, fails: the original answered call 1, because",
    );
    shows(&told, "not today (line 1");
}

/// Changes of others, and ends, are visible in the prompt, also to an operator who only looks.
#[test]
fn the_prompt_tells_what_is_in_force_now() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    terminal.press("half a line");
    let mut bob = Client::attach(set.service.agent(), &set.certificates.operator("bob"));
    bob.eval(r#"change("a test")"#).ok();
    bob.eval("config.db.port = 1").ok();
    let begins = format!("{}[1, 9m5", OBSERVE.trim_end_matches('›'));
    wait::until_true("it counts down", || {
        let lines = terminal.lines();
        let last = lines.last().unwrap();
        last.starts_with(&begins) && last.ends_with("› half a line")
    });
    bob.eval("revert_all()").ok();
    terminal.wait_for(&format!("{OBSERVE} half a line"));
    assert_eq!(
        terminal
            .lines()
            .iter()
            .filter(|line| line.contains("half a line"))
            .count(),
        1
    );
}

/// Dumb terminals, such as those inside editors: lines, and nothing that moves a cursor.
#[test]
fn a_terminal_that_shows_text_and_no_more_has_all_but_the_editor() {
    let set = Set::new();
    let mut lea = Client::attach(set.service.agent(), &set.certificates.operator("lea"));
    for (name, lease) in [(Some("dumb"), 1), (None, 2)] {
        let mut command = Ctl::command(&set.certificates, "alice");
        command.args(["attach", &set.service.agent().to_string()]);
        match name {
            Some(name) => command.env("TERM", name),
            None => command.env_remove("TERM"),
        };
        let terminal = Terminal::run(&command, WIDE.0, WIDE.1);
        assert_eq!(terminal.prompt(), OBSERVE);
        shows(&terminal.submit("[1,\r2]"), "\n[1, 2]");
        terminal.submit(":change INC-42 a test");
        shows(
            &terminal.submit("config.db.port = 1"),
            &format!("lease {lease}: config.db.port set"),
        );
        lea.eval(&format!("revert({lease})")).ok();
        terminal.wait_for(&format!("lease {lease}, config.db.port, was reverted"));
        assert_eq!(terminal.prompt(), CHANGE);
        begin_long(&terminal);
        shows(&terminal.press_below(CTRL_C), "error: the eval was cancelled");
        terminal.press("half a line");
        terminal.wait_for("half a line");
        terminal.press_below(CTRL_C);
        shows(&terminal.submit("2 + 2"), "\n4");
        assert!(
            !terminal.bytes().contains(&0x1b),
            "{:?}",
            String::from_utf8_lossy(&terminal.bytes())
        );
        terminal.press(CTRL_D);
        leaves(&terminal, 0);
    }
}

#[test]
fn who_leaves_as_other_programs_are_left_is_asked_as_with_ctrl_d() {
    let set = Set::new();
    let terminal = set.attach_and_patch();
    for word in ["exit", "quit", "q", "quit()", ":q", ":exit"] {
        terminal.press(&format!("{word}{ENTER}"));
        terminal.wait_for(QUESTION);
        assert!(!terminal.press_below(ENTER).contains("error"));
    }
    // A variable with that name is shown.
    terminal.submit("let q = 41;");
    shows(&terminal.submit("q + 1"), "\n42");
    shows(&terminal.submit("q"), "\n41");
    terminal.submit(":revert_all");
    terminal.press(&format!("exit{ENTER}"));
    leaves(&terminal, 0);
}

#[test]
fn leases_are_watched_in_place() {
    let mut set = Set::new();
    let alice = set.attach_and_patch();
    let mut command = Ctl::command(&set.certificates, "vera");
    command
        .args(["leases", &set.service.agent().to_string(), "--watch"])
        .env("TERM", "xterm-256color");
    let (rows, columns) = WIDE;
    let watch = Terminal::run(&command, rows, columns);
    let lines = |text: &str| watch.lines().iter().filter(|line| line.contains(text)).count();
    watch.wait_for("1   point:GET /api/healthcheck  alice  provisional  9m5");
    alice.submit(r#"set("config.db.port", 1, #{ ttl: "5m" })"#);
    watch.wait_for("2   state:config.db.port        alice  provisional  4m5");
    wait::until_true("it counts down", || lines("provisional  4m55s") == 1);
    assert_eq!(
        (lines("healthcheck"), lines("Ctrl-C ends")),
        (1, 1),
        "{:?}",
        watch.lines()
    );
    alice.submit("revert_all()");
    watch.wait_for("no leases");
    assert_eq!(
        (lines("healthcheck"), lines("Ctrl-C ends")),
        (0, 1),
        "{:?}",
        watch.lines()
    );
    set.service.kill();
    watch.wait_for("NOT CURRENT: the connection was lost");
    watch.press(CTRL_C);
    leaves(&watch, 5);
}

#[test]
fn a_tab_completes_commands_and_functions() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    terminal.press(":lea\t");
    terminal.wait_for("the changes in force and when they revert");
    // The first Enter accepts the completion.
    terminal.press(ENTER);
    shows(&terminal.submit_rest(""), ":leases\nno leases");
}

/// Lines typed while an eval runs are kept for the next prompts, all of them. (On Ctrl-C a terminal discards what was typed
/// before it.)
#[test]
fn lines_that_are_typed_ahead_are_not_lost() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    begin_long(&terminal);
    terminal.press(&format!("30 + 1{ENTER}30 + 2{ENTER}[{ENTER}33]{ENTER}unfinished"));
    assert_eq!(
        terminal.lines().last().unwrap(),
        "it runs",
        "the eval ended too soon for this test"
    );
    terminal.wait_for(&format!("{OBSERVE} unfinished"));
    let screen = terminal.lines().join("\n");
    shows(
        &screen,
        &format!("\n{OBSERVE} 30 + 1\n31\n{OBSERVE} 30 + 2\n32\n{OBSERVE} ["),
    );
    shows(&screen, &format!("... 33]\n[33]\n{OBSERVE} unfinished"));
}

#[test]
fn more_than_a_screen_is_shown_and_long_lines_are_not_cut() {
    let set = Set::new();
    let terminal = set.attach(USUAL);
    let counted = terminal.submit("for number in 0..50 { print(number); }");
    let numbers: Vec<String> = (0..50).map(|number: u32| number.to_string()).collect();
    assert!(
        counted.ends_with(&format!("\n{}", numbers.join("\n"))),
        "{counted}"
    );
    let long = format!("\"{}\"", "word ".repeat(40).trim_end());
    assert_eq!(terminal.submit(&long), format!("{OBSERVE} {long}\n{long}"));
    assert_eq!(terminal.prompt(), OBSERVE);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let set = Set::new();
    let terminal = set.attach(WIDE);
    terminal.press("half a line");
    terminal.wait_for("half a line");
    assert!(!terminal.modes().are_for_lines());
    terminal.signal(Signal::TERM);
    leaves(&terminal, 5);
    terminal.wait_for("error: a signal asked to end");

    let terminal = set.attach(WIDE);
    begin_long(&terminal);
    terminal.press(CTRL_BACKSLASH);
    leaves(&terminal, 5);
}

#[test]
fn a_lost_service_gives_the_terminal_back() {
    let mut set = Set::new();
    let terminal = set.attach(WIDE);
    terminal.press("half a line");
    terminal.wait_for("half a line");
    set.service.kill();
    terminal.wait_for("Attaching again");
    terminal.press(CTRL_C);
    leaves(&terminal, 5);
    terminal.wait_for("error: the connection was lost");
}

/// An answer is proven to be in the log, if not in this session then in the next; if it never was, that is reported.
#[test]
fn what_a_lost_session_has_not_seen_proven_is_demanded_of_the_next_one() {
    let set = Set::new();
    let proxy = Proxy::start(set.service.agent());
    let unproven = "before the agent proved that the last eval is in its log";
    for (breaks_again, code) in [(false, 0), (true, 6)] {
        let terminal = set.attach_at(proxy.address, WIDE);
        // The eval gets through, the request for its proof does not.
        proxy.break_after(1);
        let lost = terminal.submit("20 + 1");
        shows(
            &lost,
            "\n21\nthe connection was lost: the agent vanished without a goodbye",
        );
        shows(
            &lost,
            "Attaching again for 30 s; Ctrl-C gives up …\nattached to dienstplan",
        );
        if breaks_again {
            proxy.break_after(0);
        }
        terminal.press(CTRL_D);
        leaves(&terminal, code);
        assert_eq!(terminal.lines().join("\n").contains(unproven), breaks_again);
    }
}
