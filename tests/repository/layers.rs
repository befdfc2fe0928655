//! The architecture is enforced: modules use only those below them, and dangerous or foreign
//! interfaces have one home. Checked by the paths in the source files, without test code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module directly below the crate, from the top down, with the modules that it may use.
const HOUSE: &[(&str, &[&str])] = &[
    ("bin", &["run", "remoted", "ca", "identity", "config", "event"]),
    (
        "run",
        &[
            "node",
            "identity",
            "handler",
            "config",
            "net",
            "lifecycle",
            "process",
            "rules",
            "http1",
            "event",
            "sync",
            "fs",
        ],
    ),
    (
        "node",
        &[
            "http",
            "tcp_tunnel",
            "link",
            "handler",
            "identity",
            "metrics",
            "config",
            "net",
            "lifecycle",
            "rules",
            "wire",
            "event",
            "sync",
        ],
    ),
    ("http", &["tcp_tunnel", "config", "net", "http1", "event", "sync"]),
    ("remoted", &["identity", "config", "net", "rules", "http1", "sync", "fs"]),
    ("tcp_tunnel", &["handler", "config", "net", "event", "sync"]),
    ("link", &["handler", "identity", "metrics", "wire", "event", "sync"]),
    ("handler", &["config", "http1", "process", "rules", "event", "sync"]),
    ("ca", &["identity", "event", "fs"]),
    ("identity", &["config", "event", "fs"]),
    ("metrics", &["config", "event", "sync"]),
    ("config", &["net", "event", "fs"]),
    ("net", &["http1", "sync"]),
    ("lifecycle", &["process", "event", "sync"]),
    ("process", &["sync"]),
    ("rules", &["event", "fs"]),
    ("wire", &["event"]),
    ("http1", &[]),
    ("event", &[]),
    ("sync", &[]),
    ("guide", &[]),
    ("fs", &[]),
];

/// Paths that only these places may use: whole modules, or single files.
const HOMES: &[(&str, &[&str])] = &[
    // TLS and certificates.
    ("rustls", &["identity", "ca", "link/tls", "node", "remoted"]),
    ("rustls::Connection", &["link/tls", "remoted/stream/tls"]),
    ("rustls::ClientConnection", &["link/tls", "remoted/stream/tls"]),
    ("rustls::ServerConnection", &["link/tls", "remoted/stream/tls"]),
    ("rustls::Stream", &[]),
    ("rustls::StreamOwned", &[]),
    (
        "rustls::pki_types",
        &["identity", "ca", "link/tls", "node", "remoted", "config/value", "run", "bin"],
    ),
    ("rustls_pemfile", &["identity/pem"]),
    ("webpki", &["identity", "ca"]),
    ("aws_lc_rs", &["identity", "ca", "remoted"]),
    ("aws_lc_rs::digest", &["identity", "ca", "handler/example", "remoted"]),
    ("rcgen", &["ca"]),
    ("pkcs8", &["ca/key"]),
    ("rpassword", &["ca/passphrase"]),
    ("x509_parser", &["identity", "ca"]),
    // The process's environment.
    ("std::env", &["config/environment"]),
    ("pico_args", &["run", "bin"]),
    ("pico_args::Arguments::from_env", &["run/cli"]),
    ("Arguments::from_env", &["run/cli"]),
    ("Environment::from_process", &["run", "bin/rp_remoted"]),
    ("env_logger", &["run/logging"]),
    ("signal_hook", &["run/signals"]),
    // Other processes, and exiting this one.
    ("std::process", &["process", "run", "bin", "lifecycle/hook", "handler/exec"]),
    ("std::process::exit", &[]),
    ("std::process::abort", &[]),
    ("process::exit", &[]),
    ("process::abort", &[]),
    (
        "rustix",
        &[
            "fs",
            "net/accept",
            "net/hangup",
            "run/systemd",
            "process",
            "handler/exec",
            "remoted",
            "run/check",
        ],
    ),
    ("listenfd", &["net/accept/handed"]),
    // Every thread has a name.
    ("std::thread::Builder", &["sync/threads", "bin"]),
    ("thread::Builder", &["sync/threads", "bin"]),
    ("std::thread::spawn", &[]),
    ("thread::spawn", &[]),
    ("thread::scope", &[]),
    // Formats.
    ("httparse", &["http1/head"]),
    ("tungstenite", &["remoted"]),
    ("tiny_http", &["http"]),
    ("quick_protobuf", &["wire"]),
    ("cap_std", &["handler/files"]),
    ("mime_guess", &["handler/files"]),
    ("prometheus", &["metrics/exposition"]),
];

/// Modules without sockets, files, threads, clocks, locks or logs, which they may not name.
const PURE: &[&str] = &[
    "wire",
    "event/pipe",
    "http1/body",
    "http1/chunked",
    "http1/framing",
    "http1/head",
    "rules/table",
    "rules/pattern",
];
const IMPURE: &[&str] = &[
    "std::net",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::sync::mpsc",
    "log",
    "crossbeam_channel",
    "socket2",
    "libc",
];

#[test]
fn imports_run_downwards_only() {
    for (at, (module, below)) in HOUSE.iter().enumerate() {
        for used in *below {
            let place = HOUSE.iter().position(|(other, _)| other == used);
            assert!(place.is_some_and(|place| place > at), "{module} is allowed {used} above it");
        }
    }
}

#[test]
fn the_source_keeps_to_the_house() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&source).unwrap().with_extension("");
        let name = name.to_str().unwrap();
        if name == "lib" || name.starts_with("wire/pb") {
            continue;
        }
        let module = name.split('/').next().unwrap();
        seen.push(module.to_owned());
        wrong.extend(violations(name, &fs::read_to_string(file).unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (module, _) in HOUSE {
        assert!(seen.iter().any(|seen| seen == module), "{module} is in the table but not in src/");
    }
}

/// A library never ends its caller's process: its code does not panic on external conditions.
/// (`expect` is allowed for what the reader can see to hold.)
#[test]
fn nothing_gives_up() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let found = given_up(&fs::read_to_string(&file).unwrap());
        wrong.extend(found.iter().map(|word| format!("{}: {word}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    assert_eq!(given_up("fn f() { x.unwrap(); panic!(); y.unwrap_or(1) }"), ["unwrap", "panic"]);
    assert_eq!(given_up("// x.unwrap()\nconst A: &str = \"panic!\";"), [""; 0]);
    assert_eq!(given_up("#[cfg(test)]\nmod tests {\n    fn f() { todo!() }\n}\n"), [""; 0]);
}

/// The words in a file, without test code, that end a thread on purpose.
fn given_up(source: &str) -> Vec<String> {
    const MACROS: [&str; 4] = ["panic", "todo", "unimplemented", "unreachable"];
    let tokens = tokens(&without_tests(source));
    let gives_up = |three: &&[String]| {
        let [before, word, after] = three else { return false };
        (before == "." && word == "unwrap" && after == "(")
            || (MACROS.contains(&word.as_str()) && after == "!")
    };
    tokens.windows(3).filter(gives_up).map(|three| three[1].clone()).collect()
}

/// The rules above work: each of these is detected.
#[test]
fn what_is_forbidden_is_noticed() {
    let cases = [
        ("wire/frame", "use crate::link::Link;", "wire may not use link"),
        ("wire/frame", "fn f() { crate::http::bind() }", "wire may not use http"),
        ("wire/frame", "use super::super::node;", "wire may not use node"),
        ("wire", "pub(super) use super::node::Server;", "wire may not use node"),
        ("link/tls", "use crate::{event::Event, node::{Client}};", "link may not use node"),
        ("link/tls", "use crate::node::{self};", "link may not use node"),
        ("http/server", "use crate::link;", "http may not use link"),
        ("handler", "use crate::http::{HttpServer};", "handler may not use http"),
        ("bin/rp_x", "use restpipe::{run, link::Link};", "bin may not use link"),
        ("new/file", "", "new is not in the house"),
        ("http/server", "use rustls::ServerConfig;", "rustls::ServerConfig"),
        ("handler", "fn f(n: rustls::pki_types::ServerName) {}", "rustls::pki_types"),
        ("node/server", "use rustls::{ServerConfig, ServerConnection};", "ServerConnection"),
        ("link/output", "use rustls::Connection;", "rustls::Connection"),
        ("identity/check", "use rustls_pemfile::Item;", "rustls_pemfile::Item"),
        ("node/client", "fn f() { std::env::var(\"X\") }", "std::env::var"),
        ("run", "use std::{env, sync::Arc};", "std::env"),
        ("bin/rp_x", "let a = Arguments::from_env();", "Arguments::from_env"),
        ("run", "use std::process; fn f() { process::exit(1) }", "process::exit"),
        ("bin/rp_x", "use std::process::abort;", "std::process::abort"),
        ("node/client", "use std::process::Command;", "std::process::Command"),
        ("link", "use std::thread; fn f() { thread::spawn(g) }", "thread::spawn"),
        ("link", "use std::thread::spawn;", "std::thread::spawn"),
        ("wire/frame", "use std::{fmt, net::TcpStream};", "std::net::TcpStream"),
        ("wire/pending", "use std::sync::{Arc, Mutex};", "std::sync::Mutex"),
        ("wire/pending", "use std::time::{Duration, Instant};", "std::time::Instant"),
        ("wire/message", "fn f() { log::warn!(\"{}\", 1) }", "log::warn"),
        (
            "wire/a",
            "#[cfg(test)]\nmod tests {\n    use std::net::X;\n}\nuse log::warn;",
            "log::warn",
        ),
        ("wire/a", "const A: &str = \"//\"; use log::warn;", "log::warn"),
        ("wire/a", "const A: char = '\"'; use log::warn;", "log::warn"),
    ];
    for (name, code, expected) in cases {
        let found = violations(name, code);
        assert_eq!(found.len(), 1, "{name}: {code}: {found:?}");
        assert!(found[0].contains(expected), "{name}: {code}: {found:?}");
    }
    for (name, code) in [
        ("wire/frame", "// use crate::link;\n/// [`crate::link`]\nuse crate::event::Event;"),
        ("wire/frame", "use super::error::WireError;\nconst A: &str = \"crate::link\";"),
        ("wire/a", "#[cfg(test)]\nmod tests {\n    use std::net::X;\n}\n"),
        ("wire/a", "impl A {\n    #[cfg(test)]\n    fn f() {\n        log::warn!();\n    }\n}\n"),
        ("link/tls", "use rustls::{Connection, ServerConnection};"),
        ("config/value", "use rustls::pki_types::ServerName;"),
        ("node/client", "const A: &str = env!(\"CARGO_PKG_NAME\");"),
    ] {
        assert_eq!(violations(name, code), [""; 0], "{name}: {code}");
    }
}

/// One file of `src`, reduced to its imports.
struct Source {
    /// Its path below `src` without the extension.
    name: String,
    /// The modules that it declares in separate files.
    children: Vec<String>,
    /// Its own definitions, types first: the name, whether it is a type, whether it is visible outside.
    items: Vec<Item>,
    /// Its imports and re-exports: the path, the local name, whether it is a re-export.
    uses: Vec<(Vec<String>, String, bool)>,
    /// The paths in its code.
    paths: Vec<Vec<String>>,
    /// Whether a macro defines names in it that are invisible here.
    is_generated: bool,
}

struct Item {
    name: String,
    is_type: bool,
    is_visible: bool,
}

/// No file imports, directly or indirectly, a file that imports it: each can be read and understood
/// after those that it uses. An import counts towards the file that defines the name.
#[test]
fn no_file_imports_in_a_circle() {
    let sources = sources();
    let (edges, unknown) = imports(&sources);
    assert!(unknown.is_empty(), "paths that lead nowhere known:\n{}", unknown.join("\n"));
    let circles = circles(sources.len(), &edges);
    let show = |circle: &Vec<usize>| {
        let names: Vec<_> = circle.iter().map(|at| sources[*at].name.as_str()).collect();
        let inside = |(from, to, _): &&Import| circle.contains(from) && circle.contains(to);
        let arrows = edges.iter().filter(inside);
        let arrows: Vec<_> = arrows
            .map(|(from, to, path)| {
                format!("  {} -> {}: {path}", sources[*from].name, sources[*to].name)
            })
            .collect();
        format!("{}\n{}", names.join(", "), arrows.join("\n"))
    };
    let shown: Vec<_> = circles.iter().map(show).collect();
    assert!(shown.is_empty(), "{} circles:\n{}", shown.len(), shown.join("\n"));
}

#[test]
fn a_circle_is_noticed() {
    let sources = [
        source("lib", "mod a; mod b; mod c; pub use a::A;"),
        source(
            "a",
            "mod inner; pub use inner::Inner; use crate::b::{self, B as Other}; pub struct A;",
        ),
        source("a/inner", "use super::super::c; pub struct Inner; fn f() { c::f() }"),
        source("b", "pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::A;\n}\n"),
        source("c", "pub fn f() {} fn g(_: crate::a::Inner) {}"),
    ];
    let (edges, unknown) = imports(&sources);
    assert_eq!(unknown, [""; 0]);
    // Through a re-export the edge leads to the file that defines the name.
    assert_eq!(circles(sources.len(), &edges), [vec![2, 4]]);

    let sources = [
        source("lib", "mod a; mod b;"),
        source("a", "pub struct A;"),
        source("b", "use crate::a::Missing;"),
    ];
    assert_eq!(imports(&sources).1, ["src/b.rs: crate::a::Missing"]);
}

/// The public interface has few names.
#[test]
fn the_house_is_small() {
    let modules = HOUSE.iter().filter(|(name, _)| *name != "bin").count();
    assert!(modules <= 23, "{modules} modules directly below the crate");
}

/// A name that is visible outside its file has one meaning.
#[test]
fn no_two_types_share_a_name() {
    let sources = sources();
    let twice = shared_names(&sources);
    assert!(twice.is_empty(), "{} names:\n{}", twice.len(), twice.join("\n"));

    let sources = [
        source("a", "pub struct Same; struct Own; impl T for Same { type Out = u8; }"),
        source("b", "pub(crate) enum Same {} struct Own; pub type Out = u8;"),
    ];
    assert_eq!(shared_names(&sources), ["Same: src/a.rs, src/b.rs"]);
}

fn shared_names(sources: &[Source]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources {
        for item in source.items.iter().filter(|item| item.is_type && item.is_visible) {
            places.entry(&item.name).or_default().push(format!("src/{}.rs", source.name));
        }
    }
    let twice = places.iter().filter(|(_, places)| places.len() > 1);
    twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

/// All files except the programs and generated code.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let name = |file: &PathBuf| {
        file.strip_prefix(&root).unwrap().with_extension("").to_str().unwrap().to_owned()
    };
    let files = files.iter().map(|file| (name(file), file));
    files
        .filter(|(name, _)| !name.starts_with("wire/pb") && !name.starts_with("bin/"))
        .map(|(name, file)| source(&name, &fs::read_to_string(file).unwrap()))
        .collect()
}

fn source(name: &str, code: &str) -> Source {
    let tokens = tokens(&without_tests(code));
    let mut found = Source {
        name: name.to_owned(),
        children: Vec::new(),
        items: Vec::new(),
        uses: Vec::new(),
        paths: Vec::new(),
        is_generated: false,
    };
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1).map_or("", String::as_str);
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].as_str());
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "mod" if depth == 0 => match tokens.get(at + 2).map(String::as_str) {
                Some(";") => found.children.push(next.to_owned()),
                _ => found.items.push(Item {
                    name: next.to_owned(),
                    is_type: false,
                    is_visible: false,
                }),
            },
            "!" if depth == 0 && tokens.get(at + 1).is_some_and(|open| open == "{") => {
                found.is_generated |= before(1) != "macro_rules";
            }
            "use" => {
                let is_export = ["pub", ")"].contains(&before(1));
                at = read_use(&tokens, at + 1, &[], is_export, &mut found.uses);
                continue;
            }
            word @ ("struct" | "enum" | "trait" | "type" | "union" | "fn" | "const" | "static")
                if depth == 0 && is_name(next) && !["fn", "unsafe", "extern"].contains(&next) =>
            {
                let is_type = !["fn", "const", "static"].contains(&word);
                let is_visible = ["pub", ")"].contains(&before(1));
                found.items.push(Item { name: next.to_owned(), is_type, is_visible });
            }
            "macro_rules" => found.items.push(Item {
                name: tokens.get(at + 2).cloned().unwrap_or_default(),
                is_type: false,
                is_visible: false,
            }),
            word if is_name(word) && next == "::" && before(1) != "::" => {
                at = path(&tokens, at, &[], &mut found.paths);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Parses a `use` tree with its renames; returns its end.
fn read_use(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    is_export: bool,
    out: &mut Vec<(Vec<String>, String, bool)>,
) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let is_start = is_name(&tokens[at]) || tokens[at] == "{";
                    at = if is_start {
                        read_use(tokens, at, &segments, is_export, out)
                    } else {
                        at + 1
                    };
                }
                return at + 1;
            }
            Some("self") if !segments.is_empty() => {}
            Some(name) if is_name(name) => segments.push(name.to_owned()),
            _ => return at,
        }
        at += 1;
        match tokens.get(at).map(String::as_str) {
            Some("::") => at += 1,
            Some("as") => {
                out.push((segments, tokens[at + 1].clone(), is_export));
                return at + 2;
            }
            _ => {
                let name = segments.last().cloned().unwrap_or_default();
                out.push((segments, name, is_export));
                return at;
            }
        }
    }
}

/// One file imports from another, by this path.
type Import = (usize, usize, String);

/// All imports, and the paths that lead nowhere.
fn imports(sources: &[Source]) -> (Vec<Import>, Vec<String>) {
    let (mut edges, mut unknown) = (Vec::new(), Vec::new());
    for (from, source) in sources.iter().enumerate() {
        let imported = source.uses.iter().filter(|(_, _, is_export)| !is_export);
        let paths = imported.map(|(path, ..)| path).chain(&source.paths);
        for path in paths {
            match lead(sources, from, path, 0) {
                Lead::Defined(to) if to != from => edges.push((from, to, path.join("::"))),
                Lead::Nowhere => {
                    unknown.push(format!("src/{}.rs: {}", source.name, path.join("::")))
                }
                _ => {}
            }
        }
    }
    edges.sort();
    edges.dedup_by_key(|(from, to, _)| (*from, *to));
    (edges, unknown)
}

enum Lead {
    /// A name that this file defines.
    Defined(usize),
    /// A module as a whole.
    Module(usize),
    /// Outside the crate.
    Outside,
    /// A name of the crate that no file defines.
    Nowhere,
}

/// Resolves a path from a file, through modules, imports and re-exports.
fn lead(sources: &[Source], from: usize, path: &[String], depth: usize) -> Lead {
    assert!(depth < 16, "{path:?} from {} leads round and round", sources[from].name);
    let file = |name: &str| sources.iter().position(|source| source.name == name);
    let Some((first, mut rest)) = path.split_first() else { return Lead::Outside };
    let parent = |name: &str| name.rsplit_once('/').map_or("lib", |(parent, _)| parent).to_owned();
    let mut here = match first.as_str() {
        "crate" => file("lib"),
        "self" => Some(from),
        "super" => {
            let mut name = parent(&sources[from].name);
            while let Some((again, after)) = rest.split_first()
                && again == "super"
            {
                name = parent(&name);
                rest = after;
            }
            file(&name)
        }
        // A module or a name of this file; or of another crate.
        local => {
            let source = &sources[from];
            let is_known = source.children.iter().any(|child| child == local)
                || source.items.iter().any(|item| item.name == *local)
                || source.uses.iter().any(|(used, name, _)| name == local && used[0] != *local);
            if !is_known {
                return Lead::Outside;
            }
            rest = path;
            Some(from)
        }
    };
    while let Some(at) = here {
        let source = &sources[at];
        let Some((name, after)) = rest.split_first() else { return Lead::Module(at) };
        if source.children.contains(name) {
            let child = match source.name.as_str() {
                "lib" => name.clone(),
                parent => format!("{parent}/{name}"),
            };
            // Imports of generated code are not checked.
            if child.starts_with("wire/pb") {
                return Lead::Outside;
            }
            here = file(&child);
            rest = after;
            continue;
        }
        if source.items.iter().any(|item| item.name == *name) {
            return Lead::Defined(at);
        }
        let Some((used, ..)) = source.uses.iter().find(|(_, here, _)| here == name) else {
            return if source.is_generated { Lead::Defined(at) } else { Lead::Nowhere };
        };
        match lead(sources, at, used, depth + 1) {
            Lead::Module(module) => {
                here = Some(module);
                rest = after;
            }
            other => return other,
        }
    }
    Lead::Nowhere
}

/// Groups of files that can all reach each other.
fn circles(count: usize, edges: &[Import]) -> Vec<Vec<usize>> {
    let mut reached = vec![vec![false; count]; count];
    for (from, to, _) in edges {
        reached[*from][*to] = true;
    }
    for middle in 0..count {
        let through = reached[middle].clone();
        for row in reached.iter_mut().filter(|row| row[middle]) {
            row.iter_mut().zip(&through).for_each(|(known, new)| *known |= new);
        }
    }
    let mut circles: Vec<Vec<usize>> = Vec::new();
    for (at, row) in reached.iter().enumerate() {
        let is_new = !circles.iter().any(|circle| circle.contains(&at));
        if row[at] && is_new {
            circles.push((0..count).filter(|to| row[*to] && reached[*to][at]).collect());
        }
    }
    circles
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The violations in a file; `name` is its path below `src` without the extension.
fn violations(name: &str, source: &str) -> Vec<String> {
    let module = name.split('/').next().unwrap();
    let Some((_, below)) = HOUSE.iter().find(|(known, _)| *known == module) else {
        return vec![format!("src/{name}.rs: {module} is not in the house; give it a floor there")];
    };
    let mut wrong = Vec::new();
    for path in paths(&tokens(&without_tests(source))) {
        if let Some(used) = module_used(name, &path)
            && used != module
            && HOUSE.iter().any(|(known, _)| *known == used)
            && !below.contains(&used)
        {
            wrong.push(format!("src/{name}.rs: {module} may not use {used}: {}", path.join("::")));
        }
        if !is_at_home(name, &path) {
            wrong.push(format!("src/{name}.rs may not name {}", path.join("::")));
        }
    }
    wrong.dedup();
    wrong
}

/// The module directly below the crate that a path leads to.
fn module_used<'a>(name: &str, path: &'a [String]) -> Option<&'a str> {
    let depth = name.split('/').count();
    let first = match path[0].as_str() {
        "crate" => 1,
        "restpipe" if name.starts_with("bin/") => 1,
        "super" => {
            let up = path.iter().take_while(|segment| *segment == "super").count();
            if up < depth {
                return None;
            }
            up
        }
        _ => return None,
    };
    path.get(first).map(String::as_str)
}

fn is_at_home(name: &str, path: &[String]) -> bool {
    let begins = |prefix: &str| {
        let mut segments = path.iter();
        prefix.split("::").all(|part| segments.next().is_some_and(|segment| segment == part))
    };
    let lies_in = |home: &str| name == home || name.starts_with(&format!("{home}/"));
    let is_pure = PURE.iter().any(|module| lies_in(module));
    let homes = HOMES.iter().filter(|(prefix, _)| begins(prefix));
    // Below a crate the longest rule applies.
    let decides = homes.max_by_key(|(prefix, _)| prefix.len());
    decides.is_none_or(|(_, homes)| homes.iter().any(|home| lies_in(home)))
        && !(is_pure && IMPURE.iter().any(|prefix| begins(prefix)))
}

/// The source without code compiled only for tests. It relies on `rustfmt`: an item ends with the
/// first line that closes it at the depth at which it began.
fn without_tests(source: &str) -> String {
    let mut kept = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let depth = line.len() - line.trim_start().len();
        if line.trim_start() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        for line in lines.by_ref() {
            let text = line.trim_start();
            let is_here = line.len() - text.len() == depth;
            if is_here && (text.starts_with('}') || text.ends_with(';') || text.ends_with('}')) {
                break;
            }
        }
    }
    kept
}

/// Words, `::`, and single punctuation characters, without comments, strings and character literals.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            text_length(rest)
        } else if first == '\'' {
            char_length(rest)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let token = &rest[..length];
        if !(token.starts_with("//") || token.starts_with('"') || token.trim().is_empty()) {
            tokens.push(token.to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// The length of a string literal. A raw string that ends in a backslash would be misread.
fn text_length(code: &str) -> usize {
    let mut is_escaped = true;
    for (at, c) in code.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The length of a character literal such as `'"'` or `'\n'`; of a lifetime, only its tick.
fn char_length(code: &str) -> usize {
    let mut chars = code.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// All paths of more than one word; `a::{self, b, c::d}` is `a`, `a::b` and `a::c::d`.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = path(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Parses one path from `at`, below `prefix`; returns its end.
fn path(tokens: &[String], mut at: usize, prefix: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let is_start = is_name(&tokens[at]) || tokens[at] == "{";
                    at = if is_start { path(tokens, at, &segments, out) } else { at + 1 };
                }
                return at + 1;
            }
            Some("self") if !segments.is_empty() => {}
            Some(name) if is_name(name) => segments.push(name.to_owned()),
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    out.push(segments);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
