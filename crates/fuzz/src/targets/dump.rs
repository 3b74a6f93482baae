//! Streams of `pg_dump`, and the statements that a dump leaves out.

use std::collections::BTreeMap;

use arkstream_postgres::fuzzing::{scan_dump, setting_statement};

use super::two;

/// However a dump is cut into pieces, the same is shown of it, with the same rows: those that stand
/// between a COPY and its end mark, each once. Only lines that `psql` may not see are hidden, in the
/// settings at the head and the end mark of their restriction.
pub fn dump_scan(data: &[u8]) {
    let Some((&[server, piece], dump)) = data.split_first_chunk::<2>() else {
        return;
    };
    let server = [140_000, 160_000, 170_000][usize::from(server) % 3];
    let whole = scan_dump(server, dump, dump.len());
    assert_eq!(scan_dump(server, dump, usize::from(piece)), whole);

    let (mut shown, mut rows) = (Vec::<u8>::new(), BTreeMap::<String, u64>::new());
    let mut copying: Option<(String, u64)> = None;
    let (mut head, mut key) = (true, None::<&[u8]>);
    for line in dump.split_inclusive(|byte| *byte == b'\n') {
        let content = line.strip_suffix(b"\n");
        if let Some((name, mut count)) = copying.take() {
            shown.extend(line);
            match content {
                Some(b"\\.") => *rows.entry(name).or_default() += count,
                content => {
                    count += u64::from(content.is_some());
                    copying = Some((name, count));
                }
            }
            continue;
        }
        let setting = [&b"--"[..], b"\n", b"SET ", b"SELECT pg_catalog.set_config("];
        let restricts = content.is_some() && line.starts_with(b"\\restrict ");
        let hidden = match line.strip_prefix(b"\\unrestrict ") {
            Some(named) if content.is_some() => key.take_if(|key| *key == named).is_some(),
            _ if !head || content.is_none() => false,
            _ if restricts => {
                key = line.strip_prefix(b"\\restrict ");
                true
            }
            _ => {
                head = setting.iter().any(|start| line.starts_with(start));
                server < 170_000 && line.starts_with(b"SET transaction_timeout = ")
            }
        };
        if !hidden {
            shown.extend(line);
        }
        let name = content
            .and_then(|_| std::str::from_utf8(line).ok())
            .and_then(|line| line.trim_end().strip_prefix("COPY "))
            .and_then(|line| line.strip_suffix(" FROM stdin;"));
        copying = name.map(|name| (name.to_owned(), 0));
    }
    assert_eq!(whole.shown, shown);
    assert_eq!(whole.whole, copying.is_none());
    let counts: BTreeMap<String, u64> = whole
        .tables
        .into_iter()
        .map(|(name, (count, _))| (name, count))
        .collect();
    assert_eq!(counts, rows);
}

/// A setting becomes one statement or one comment, whatever stands in the names and the value.
pub fn dump_settings(data: &[u8]) {
    let (database, rest) = two(data);
    let (role, setting) = two(rest);
    let text = |bytes| std::str::from_utf8(bytes);
    let (Ok(database), Ok(role), Ok(setting)) = (text(database), text(role), text(setting)) else {
        return;
    };
    let role = Some(role).filter(|role| !role.is_empty());
    let Some(statement) = setting_statement(database, role, setting) else {
        assert!(!setting.contains('='));
        return;
    };
    if statement.starts_with("--") {
        assert!(
            !statement.contains(['\n', '\r']),
            "what follows a comment's line is SQL: {statement:?}"
        );
        return;
    }
    assert_eq!(
        outside_of_quotes(&statement).matches(';').count(),
        1,
        "{statement:?}"
    );
    assert!(statement.ends_with(';'));
}

/// A statement without what stands in its quotes. Panics where a quote does not end.
fn outside_of_quotes(statement: &str) -> String {
    let mut outside = String::new();
    let mut rest = statement.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '"' && character != '\'' {
            outside.push(character);
            continue;
        }
        let escapes = character == '\'' && outside.ends_with('E');
        loop {
            match rest.next() {
                Some('\\') if escapes => drop(rest.next()),
                Some(end) if end == character => {
                    if rest.next_if_eq(&character).is_none() {
                        break;
                    }
                }
                Some(_) => {}
                None => panic!("a quote does not end: {statement:?}"),
            }
        }
        outside.push(' ');
    }
    outside
}
