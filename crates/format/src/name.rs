//! Which names members may have.

/// Whether a name may stand in a bundle: relative, `/`-separated, without `..`, at most 1,024
/// bytes, no control characters, no backslash. So that extracting a bundle stays in its folder on
/// every system.
///
/// # Errors
/// Why it may not.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 1024 {
        return Err("it is empty or longer than 1,024 bytes");
    }
    if name.contains(|c: char| c.is_control() || c == '\\') {
        return Err("it holds a control character or a backslash");
    }
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return Err("it is not relative");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it has an empty, `.` or `..` component");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        for name in [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "",
            "c:/x",
            "a\\b",
            "a\nb",
            "./a",
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["metadata.json", "databases/chroma_data/ü/header.bin"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
