//! What is seen on a terminal, and what is said where there is none that can show bars.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::support::{Bundle, Profile, arkstream, run, scratch};

/// Long enough for a small bundle.
const LIMIT: Duration = Duration::from_secs(60);

/// A program in a window of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    /// What the window shows, and every byte that made it so.
    seen: Arc<Mutex<(vt100::Parser, Vec<u8>)>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn start(command: &mut Command, rows: u16, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("a terminal");
        unlockpt(&ours).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let theirs = File::from(theirs.expect("a terminal"));
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&theirs, size).expect("a size");
        let twice = |file: &File| file.try_clone().expect("a file");
        command
            .stdin(twice(&theirs))
            .stdout(twice(&theirs))
            .stderr(theirs);
        let child = command.spawn().expect("arkstream");
        // The command would keep their end open, and ours would never end.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let keyboard = File::from(ours);
        let side = |length: u16| NonZero::new(length).expect("a window");
        let mut screen = twice(&keyboard);
        let seen = Arc::new(Mutex::new((
            vt100::Parser::new(side(rows), side(columns), 0),
            Vec::new(),
        )));
        let kept = Arc::clone(&seen);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end is an error: nobody has the other side open.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let mut kept = kept.lock().expect("what was seen");
                kept.0.process(&bytes[..read]);
                kept.1.extend_from_slice(&bytes[..read]);
            }
        });
        Self {
            child,
            keyboard,
            seen,
            reader,
        }
    }

    fn screen(&self) -> String {
        shown(&self.seen.lock().expect("what was seen").0)
    }

    fn wait_for(&self, words: &str) {
        let began = Instant::now();
        while !self.screen().contains(words) {
            assert!(
                began.elapsed() < LIMIT,
                "{words:?} is not in\n{}",
                self.screen()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn answer(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").expect("a keyboard");
    }

    /// What the window shows in the end, and every byte that was written to it.
    fn end(mut self) -> (String, String) {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("our child") {
                Some(status) => break status,
                None if began.elapsed() > LIMIT => {
                    let _ = self.child.kill();
                    panic!("not ended:\n{}", self.screen());
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.reader.join().expect("a reader");
        let seen = self.seen.lock().expect("what was seen");
        let screen = shown(&seen.0);
        assert!(status.success(), "{status}:\n{screen}");
        (screen, String::from_utf8_lossy(&seen.1).into_owned())
    }
}

/// The rows of the window that are not empty.
fn shown(window: &vt100::Parser) -> String {
    let (_, columns) = window.screen().size();
    let rows = window.screen().rows(0, columns.get());
    let rows = rows.map(|row| row.trim_end().to_owned() + "\n");
    rows.filter(|row| row != "\n").collect()
}

fn golden() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v1");
    let path = folder.join("complete-zlib-rs/bundle.zip");
    path.canonicalize().expect("the golden bundle")
}

/// The components of the golden bundle that a verification shows.
fn components() -> Vec<String> {
    let shown = run(arkstream().args(["show", "--json"]).arg(golden()))
        .ok()
        .json();
    let components = shown["components"].as_object().expect("an object");
    components.keys().cloned().collect()
}

fn verify(terminal: &str, words: &[&str]) -> Command {
    let mut command = arkstream();
    command.env("TERM", terminal).env_remove("NO_COLOR");
    command.arg("verify").args(words).arg(golden());
    command
}

#[test]
fn progress_is_a_row_a_component_however_narrow_the_terminal_is() {
    for columns in [120, 80, 50, 40] {
        let (screen, _) = Terminal::start(&mut verify("xterm", &[]), 40, columns).end();
        let lines: Vec<&str> = screen.lines().collect();
        let components = components();
        for line in &lines[..components.len()] {
            let of = |component: &String| line.starts_with(&format!("{component:>11} ["));
            assert!(components.iter().any(of), "{columns}: {line}\n{screen}");
        }
        let after = lines[components.len()..].join("");
        assert!(!after.contains('['), "{columns}:\n{screen}");
        assert!(after.contains("good: all"), "{columns}:\n{screen}");
    }
}

#[test]
fn progress_shows_sizes_and_rates_where_there_is_room() {
    let (wide, _) = Terminal::start(&mut verify("xterm", &[]), 40, 80).end();
    assert!(
        wide.contains("/s  done") && wide.contains("KiB / "),
        "{wide}"
    );
    let (narrow, _) = Terminal::start(&mut verify("xterm", &[]), 40, 50).end();
    assert!(
        !narrow.contains("/s") && narrow.contains("KiB / "),
        "{narrow}"
    );
}

/// Neither bars nor what they would have said is lost: a pipe, and a terminal that cannot draw them.
#[test]
fn progress_without_a_terminal_for_bars_is_lines() {
    let lines = |text: &str| {
        for component in components() {
            let done = format!("{component}: done, ");
            assert!(text.contains(&done), "{done:?} is not in {text}");
        }
    };
    lines(
        &run(&mut verify("xterm", &["--progress", "bar"]))
            .ok()
            .stderr,
    );
    for mode in ["bar", "auto"] {
        let mut command = verify("dumb", &["--progress", mode]);
        lines(&Terminal::start(&mut command, 40, 80).end().0);
        let mut command = verify("dumb", &["--progress", mode]);
        lines(&Terminal::start(command.env_remove("TERM"), 40, 80).end().0);
    }
}

#[test]
fn progress_and_the_log_do_not_erase_each_other() {
    let (screen, _) = Terminal::start(&mut verify("xterm", &["-v"]), 60, 160).end();
    for component in components() {
        let count = |word: &str| screen.lines().filter(|line| line.contains(word)).count();
        assert_eq!(
            count(&format!("finished component={component}")),
            1,
            "{screen}"
        );
        assert_eq!(count(&format!("{component} [")), 1, "{screen}");
    }
    assert!(screen.contains("good: all"), "{screen}");
}

#[test]
fn colours_are_for_terminals_that_know_them_and_for_those_who_want_them() {
    let coloured = |command: &mut Command| {
        Terminal::start(command, 60, 160)
            .end()
            .1
            .contains("\u{1b}[32m")
    };
    let log = |terminal: &str| verify(terminal, &["-v", "--progress", "none"]);
    assert!(coloured(&mut log("xterm")));
    assert!(coloured(log("xterm").env("NO_COLOR", "")));
    assert!(!coloured(log("xterm").env("NO_COLOR", "1")));
    assert!(!coloured(&mut log("dumb")));
}

/// What was agreed to stays in sight, and the bars come below.
#[test]
fn progress_of_a_restore_leaves_plan_and_question_alone() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("terminal");
    let mut command = arkstream();
    command
        .env("TERM", "xterm")
        .arg("restore")
        .arg(&bundle.path);
    command.args(["--components", "filestore,chroma", "--filestore"]);
    command
        .arg(folder.join("filestore"))
        .arg("--chroma")
        .arg(folder.join("chroma"));
    command.arg("--state-dir").arg(folder.join("state"));
    command.arg("--report").arg(folder.join("report.md"));
    let mut terminal = Terminal::start(&mut command, 50, 80);
    terminal.wait_for("Type yes:");
    let asked = terminal.screen();
    assert!(!asked.contains('['), "bars beside a question:\n{asked}");
    terminal.answer("yes");
    let (screen, _) = terminal.end();
    assert!(
        screen.starts_with(asked.trim_end()),
        "before\n{asked}\nafter\n{screen}"
    );
    let at = |word: &str| {
        screen
            .find(word)
            .unwrap_or_else(|| panic!("{word:?} is not in\n{screen}"))
    };
    assert!(at("Type yes: yes") < at("filestore ["), "{screen}");
    assert!(at("filestore [") < at("chroma ["), "{screen}");
    assert!(screen.matches('[').count() == 2, "{screen}");
}

#[test]
fn a_table_is_no_wider_than_the_terminal_and_whole_in_a_pipe() {
    let mut list = arkstream();
    list.env("TERM", "xterm").arg("ls").arg(golden());
    let whole = run(&mut list).ok().stdout;
    let widest = whole.lines().map(|line| line.chars().count()).max();
    assert!(widest > Some(80), "{whole}");
    for columns in [100, 80] {
        let (_, written) = Terminal::start(&mut list, 60, columns).end();
        for line in written.lines() {
            let width = line.chars().count();
            // The sum below the table is a sentence.
            assert!(
                width <= usize::from(columns) || line.contains(" members, "),
                "{line}"
            );
        }
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        assert_eq!(letters(&written), letters(&whole), "{written}");
    }
    // Where nothing could be read any more, the terminal wraps whole lines.
    let (_, written) = Terminal::start(&mut list, 60, 40).end();
    assert_eq!(written.replace('\r', ""), whole);
}
