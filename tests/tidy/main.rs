//! Small rooms: lengths of files and functions, and the headers that say what a shader does.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

mod sources;

use sources::Source;

/// Longest file in lines.
const FILE_LINES: usize = 600;
/// Longest file of a shader in lines: one formula, one tile.
const SHADER_LINES: usize = 250;
/// Longest function in lines, its signature and braces included.
const FUNCTION_LINES: usize = 60;

/// Longer on purpose: path, and the reason.
const LONG_FILES: &[(&str, &str)] = &[];
/// Longer on purpose: path, function, and the reason.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "wgsl/attention_lane.wgsl",
        "main",
        "the online softmax keeps its state in registers, which no function shares",
    ),
    (
        "wgsl/attention_tile.wgsl",
        "main",
        "the online softmax keeps its state in registers, which no function shares",
    ),
];

#[test]
fn files_are_short() {
    let mut long = String::new();
    for source in sources::all() {
        let limit = if source.is_shader() { SHADER_LINES } else { FILE_LINES };
        let lines = source.text.lines().count();
        if lines > limit && !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
            long += &format!("{}: {lines} lines, at most {limit}\n", source.path);
        }
    }
    assert!(long.is_empty(), "\n{long}");
}

#[test]
fn functions_are_short() {
    let mut long = String::new();
    let mut count = 0;
    for source in sources::all() {
        for (name, line, length) in functions(&source) {
            count += 1;
            let is_listed = LONG_FUNCTIONS.iter().any(|(path, f, _)| *path == source.path && *f == name);
            if length > FUNCTION_LINES && !is_listed {
                long += &format!("{}:{line}: `{name}` has {length} lines\n", source.path);
            }
        }
    }
    assert!(count > 100, "only {count} functions were found: the check is broken");
    assert!(long.is_empty(), "\nat most {FUNCTION_LINES} lines:\n{long}");
}

#[test]
fn exceptions_are_still_needed() {
    let sources = sources::all();
    let find =
        |path: &str| sources.iter().find(|s| s.path == path).unwrap_or_else(|| panic!("{path} is gone"));
    for (path, _) in LONG_FILES {
        assert!(find(path).text.lines().count() > SHADER_LINES, "{path} is short now");
    }
    for (path, name, _) in LONG_FUNCTIONS {
        let found = functions(find(path)).into_iter().find(|(n, _, _)| n == name);
        assert!(found.is_some_and(|(_, _, length)| length > FUNCTION_LINES), "{path}: {name} is short now");
    }
}

#[test]
fn every_shader_says_what_it_does() {
    let shaders: Vec<Source> = sources::all().into_iter().filter(Source::is_shader).collect();
    assert!(shaders.len() >= 10, "{} shaders", shaders.len());
    for shader in shaders {
        // Imports of the composition tool come first.
        let first = shader.text.lines().find(|l| !l.trim().is_empty() && !l.trim_start().starts_with("{%"));
        let is_comment = first.is_some_and(|l| l.starts_with("//") || l.starts_with("{#"));
        assert!(is_comment, "{} starts with {first:?}, expected a comment", shader.path);
    }
}

#[test]
fn the_readme_names_what_there_is() {
    let text = std::fs::read_to_string(sources::root().join("README.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut count = 0;
    for path in quoted.chain(linked) {
        let is_path =
            path.contains('/') && !path.contains([' ', '<', '*', ':']) && path != "out/stylised.mp4";
        // Places inside a room are named from the room.
        let rooms = ["", "wgsl", "kernels/src", "engine/src", "app/src", "app", "tests"];
        if path.starts_with('/') && is_path {
            assert!(is_route(path), "README.md names {path}, which the server does not have");
        } else if is_path {
            count += 1;
            let is_there = rooms.iter().any(|room| sources::root().join(room).join(path).exists());
            assert!(is_there, "README.md names {path}, which is not there");
        }
    }
    assert!(count > 20, "only {count} paths were found: the check is broken");
}

/// Whether the server has a route for `path`.
fn is_route(path: &str) -> bool {
    let source = std::fs::read_to_string(sources::root().join("app/src/web/mod.rs")).unwrap();
    let path: Vec<&str> = path.split('?').next().unwrap().split('/').collect();
    let routes: Vec<&str> = source.split(".route(").skip(1).filter_map(|r| r.split('"').nth(1)).collect();
    assert!(routes.len() > 10, "only {} routes were found: the check is broken", routes.len());
    routes.iter().map(|route| route.split('/').collect::<Vec<_>>()).any(|route| {
        route.len() == path.len() && route.iter().zip(&path).all(|(r, p)| r.starts_with('{') || r == p)
    })
}

/// (name, first line, length) of every function. rustfmt ends a function with a brace indented like
/// its first line; shaders follow the same habit.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (ix, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_end = |l: &&str| l.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}'));
        let is_over = |l: &&str| {
            is_end(l) || l.ends_with(';') && l.starts_with(indent) && !l[indent.len()..].starts_with(' ')
        };
        // One-liners and declarations end where they begin.
        let ends_here = line.ends_with('}') || line.ends_with(';');
        let length =
            if ends_here { 1 } else { 2 + lines[ix + 1..].iter().take_while(|l| !is_over(l)).count() };
        found.push((name, ix + 1, length));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let rest = line.trim_start();
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "unsafe ", "async ", "extern \"C\" "];
    let mut rest = rest;
    while let Some(next) = words.iter().find_map(|w| rest.strip_prefix(w)) {
        rest = next;
    }
    let name = rest.strip_prefix("fn ")?;
    Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn functions_are_measured() {
    let text =
        "pub fn short() {}\n\npub(crate) const fn long(\n    a: u32,\n) -> u32 {\n    a\n}\n".to_string();
    let source = Source { path: "x.rs".into(), text };
    assert_eq!(functions(&source), [("short".into(), 1, 1), ("long".into(), 3, 5)]);
}
