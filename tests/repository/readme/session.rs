//! Runs the commands of the README and the guide as written, and compares their output.
//!
//! Each machine is a directory, so paths are relative to it; all hosts are this machine, ports are free ones,
//! and nobody is root. Nothing else in a command is changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::{page, pages};
use crate::support::{self, CURL, PATIENCE, PYTHON};

const PROMPTS: [&str; 6] = ["hub", "fileserver", "ca", "broker", "home", "laptop"];

/// Commands that are not run, and what runs them elsewhere or why nothing does.
const SKIPPED: [(&str, &str); 8] = [
    ("scripts/package", "the package's own test"),
    ("scp target/", "likewise"),
    ("apt ", "likewise"),
    ("install ", "the programs are found already"),
    ("sudoedit ", "an editor"),
    ("ssh ", "tests of TCP, with a server of its own"),
    ("psql ", "another program for the same"),
    ("rp_ca --print-man | man", "man may be missing"),
];

/// The directories of a machine with programs and files, for those that read them.
const DIRECTORIES: [&str; 5] =
    ["/etc/restpipe", "/var/lib/restpipe", "/srv/share", "/run/restpipe", "/home/you"];

struct World {
    root: tempfile::TempDir,
    /// The running programs of each machine, by name.
    running: BTreeMap<(String, String), Running>,
    /// The actual port for each one in the text.
    ports: BTreeMap<&'static str, String>,
}

impl World {
    /// Machines with their files but without identities.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = Self { root, running: BTreeMap::new(), ports: BTreeMap::new() };
        for machine in PROMPTS {
            for directory in DIRECTORIES {
                fs::create_dir_all(world.dir(machine).join(&directory[1..])).unwrap();
            }
        }
        for (machine, role) in [("hub", "server"), ("fileserver", "client")] {
            // As in the package, without the settings of this environment.
            let settings = format!(
                "env -i $(command -v rp_{role}_start) --print-settings > /etc/restpipe/{role}.env"
            );
            world.shell(machine, &settings);
        }
        let write = |machine: &str, path: &str, text: &str, mode| {
            let path = world.dir(machine).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("fileserver", "srv/share/docs/hello.txt", "hello\n", 0o644);
        write("fileserver", "srv/share/report.pdf", "12345678", 0o644);
        let script = shown("scripts", "cat /etc/restpipe/handlers/get_disk");
        write("fileserver", "etc/restpipe/handlers/get_disk", &script, 0o755);
        write(
            "hub",
            "etc/restpipe/changed",
            &shown("monitoring", "cat /etc/restpipe/changed"),
            0o755,
        );
        let rules = page("rules");
        let (_, rules) = rules.blocks().remove(0);
        write("hub", "etc/restpipe/rules", &(rules.join("\n") + "\n"), 0o644);
        for machine in PROMPTS {
            // As on a terminal.
            write(machine, "home/you/.curlrc", "silent\nshow-error\n", 0o644);
        }
        write("ca", "passphrase", "correct horse\n", 0o600);
        let scp = "#!/bin/sh\nfor to; do :; done\nto=${to%:}\n\
                   while [ $# -gt 1 ]; do cp \"$1\" \"$ROOT/${to%%.*}/\" || exit 1; shift; done\n";
        write("shims", "scp", scp, 0o755);
        world
    }

    /// Machines with identities, and a running server.
    fn with_identities() -> Self {
        let mut world = Self::new();
        world.issue(&["rp_ca ", "scp ~", "sudo rp_"]);
        world.run("hub", "rp_server_start &");
        world
    }

    /// Runs the README's commands that begin like this.
    fn issue(&mut self, begins: &[&str]) {
        for line in page("README").text.lines() {
            if let Some((machine, command)) = prompt(line)
                && begins.iter().any(|begin| command.starts_with(begin))
            {
                let (printed, worked) = self.run(machine, command).unwrap();
                assert!(worked, "{command}: {printed}");
            }
        }
    }

    fn dir(&self, machine: &str) -> PathBuf {
        self.root.path().join(machine)
    }

    /// The environment of a machine, from its settings files.
    fn command(&self, machine: &str, program: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_rp_ca")).parent().unwrap();
        let shims = self.dir("shims");
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{path}", shims.display(), programs.display());
        let identity = self.dir(machine).join("var/lib/restpipe");
        let mut command = Command::new(program);
        command.current_dir(self.dir(machine)).env_clear();
        command.envs([
            ("PATH", path.as_str()),
            ("PYTHONUNBUFFERED", "1"),
            ("BIND_IP", "127.0.0.1"),
            ("BIND_PORT", "0"),
        ]);
        command.env("HOME", self.dir(machine).join("home/you")).env("ROOT", self.root.path());
        command.env("RP_SERVER_CERT_PATH", &identity).env("RP_CLIENT_CERT_PATH", &identity);
        command.env("RP_SERVER_HTTP_BIND", "127.0.0.1:0").env("RP_CLIENT_HTTP_BIND", "127.0.0.1:0");
        command.env("RP_CLIENT_SERVER_NAME", "hub.example.com");
        command.env("RP_REMOTED_BIND", "127.0.0.1:0");
        command.env("RP_REMOTED_CONFIG", self.dir(machine).join("var/lib/restpipe/remoted.json"));
        if let Some(pipe) = self.ports.get("1234") {
            command.env("RP_CLIENT_TARGET_PORT", pipe);
        }
        command
    }

    /// The command, adapted to this machine.
    fn adapted(&self, machine: &str, command: &str) -> String {
        let mut text = command.replace("sudo -u restpipe ", "").replace("sudo ", "");
        for directory in DIRECTORIES {
            let place = self.dir(machine).join(&directory[1..]);
            text = text.replace(directory, place.to_str().unwrap());
        }
        for (port, real) in &self.ports {
            text = text.replace(&format!(":{port}"), &format!(":{real}"));
        }
        for server in ["rwss://broker.example.com", "rwrs://broker.example.com"] {
            let broker = self.ports.get("37791").map_or("", String::as_str);
            let plain = format!("{}://127.0.0.1:{broker}", &server[..3]);
            text = text.replace(server, &plain);
        }
        for (of_the_text, here) in [
            ("=hub.example.com", "=127.0.0.1"),
            ("--listen 127.0.0.1:2222", "--listen 127.0.0.1:0"),
            ("LISTEN=127.0.0.1:5432", "LISTEN=127.0.0.1:0"),
            ("http.server 9000", "http.server 0"),
            ("%2Ftmp", "%2F"),
        ] {
            text = text.replace(of_the_text, here);
        }
        text
    }

    /// Runs a command to its end; returns its output and whether it reports success.
    fn shell(&self, machine: &str, command: &str) -> (String, bool) {
        let mut shell = self.command(machine, "timeout");
        shell
            .args(["60", "bash", "-c"])
            .arg(format!("{{ {}\n}} 2>&1", self.adapted(machine, command)));
        let output = shell.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let root = self.dir(machine);
        (text.replace(root.to_str().unwrap(), ""), output.status.success())
    }

    /// Runs a command as its reader would; `None` if it is skipped or its output depends on this machine.
    fn run(&mut self, machine: &str, command: &str) -> Option<(String, bool)> {
        let plain = command.trim_start_matches("sudo ");
        if SKIPPED.iter().any(|(skipped, _)| plain.starts_with(skipped)) {
            return None;
        }
        if let Some(rest) = plain.strip_prefix("systemctl ") {
            self.systemctl(machine, rest);
            return None;
        }
        if plain == "kill %1" {
            self.running.remove(&(machine.to_owned(), "python3".to_owned()));
            return None;
        }
        if let Some(command) = plain.strip_suffix('&') {
            return Some((self.start(machine, command, &[]), true));
        }
        let ran = self.shell(machine, command);
        if command.starts_with("rp_remoted keys ") {
            self.hand_out_keys();
        }
        Some(ran)
    }

    /// Distributes the broker's keys to their users.
    fn hand_out_keys(&self) {
        let keys = self.dir("broker").join("var/lib/restpipe/remoted.json");
        let keys: serde_json::Value = serde_json::from_slice(&fs::read(keys).unwrap()).unwrap();
        for (name, file) in
            [("server_apikey", "home/server.key"), ("client_apikey", "laptop/caller.key")]
        {
            let file = self.root.path().join(file);
            fs::write(&file, keys[name].as_str().unwrap()).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// Starts or stops a node like its systemd unit.
    fn systemctl(&mut self, machine: &str, arguments: &str) {
        let role = if arguments.contains("restpipe-server") { "server" } else { "client" };
        let program = format!("rp_{role}_start");
        if arguments.starts_with("stop") {
            self.running.remove(&(machine.to_owned(), program));
            return;
        }
        assert!(arguments.starts_with("enable --now "), "{arguments}");
        let settings = self.dir(machine).join(format!("etc/restpipe/{role}.env"));
        let settings = fs::read_to_string(settings).unwrap();
        let lines = settings.lines().filter(|line| !line.starts_with('#'));
        let env: Vec<_> = lines
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.start(machine, &program, &env);
    }

    /// Starts a background program, replacing the previous one of its name; returns its ready line.
    fn start(&mut self, machine: &str, command: &str, env: &[(String, String)]) -> String {
        let is_program = |word: &&str| !word.contains('=') && *word != "\\";
        let mut words = command.split_whitespace().filter(is_program);
        let mut name = words.next().unwrap().to_owned();
        if name == "rp_remoted" {
            name = words.next().unwrap().to_owned();
        }
        if name == "sums" {
            name = "rp_client_start".to_owned();
        }
        let key = (machine.to_owned(), name.clone());
        self.running.remove(&key);
        let text = self.adapted(machine, command);
        let mut shell = self.command(machine, "bash");
        // The shell becomes the program, so that killing it kills the program.
        shell.args(["-c", &format!("exec env {text}")]).envs(env.iter().cloned());
        let running = Running::new(shell, &format!("{machine}$ {command}"));
        // Where BIND_IP is not set, as for the reader.
        let line = running.line.replace("pipe=127.0.0.1:", "pipe=[::]:");
        let words = line.split_whitespace().filter_map(|word| word.split_once('='));
        for (what, address) in words {
            let port = address.rsplit(':').next().unwrap().to_owned();
            match (what, name.as_str()) {
                ("pipe", _) => self.ports.insert("1234", port),
                ("http", "rp_server_start") => self.ports.insert("8081", port),
                ("http", "rp_client_start") => self.ports.insert("8082", port),
                ("remoted", _) => self.ports.insert("37791", port),
                _ => None,
            };
        }
        if let Some((_, rest)) = line.split_once(" port ") {
            self.ports.insert("9000", rest.split(' ').next().unwrap().to_owned());
        }
        self.running.insert(key, running);
        let is_client = text.contains("=127.0.0.1 ") || env.iter().any(|(_, to)| to == "127.0.0.1");
        if is_client && !command.contains("http.server") {
            // A reader would be slower: wait until the server knows the client.
            let ask = "curl http://localhost:8082/server/time";
            let (answer, _) = self.shell(machine, ask);
            assert!(answer.contains("time_from_server"), "{command}: {answer}");
        }
        line
    }

    /// Runs all commands of a page and compares their output.
    fn follow(&mut self, name: &str, before_block: impl Fn(&mut Self)) -> usize {
        let page = page(name);
        let mut commands = 0;
        for (language, block) in page.blocks() {
            if let ("python", Some(file)) = (language, block[0].strip_prefix("# ")) {
                let text = self.adapted("hub", &block.join("\n"));
                fs::write(self.dir("hub").join(file), text).unwrap();
            }
            if language != "console" {
                continue;
            }
            before_block(self);
            for (machine, command, expected) in session(&block) {
                commands += 1;
                let Some((printed, worked)) = self.run(machine, &command) else { continue };
                let shown = expected.join("\n");
                if command.ends_with('&') && shown.is_empty() {
                    continue;
                }
                let place = format!("{name}: {machine}$ {command}");
                if !agrees(&expected, &printed) {
                    panic!("{place}\nprints\n{printed}\nand not\n{shown}");
                }
                // A command without output to compare must report success.
                let is_compared = expected.iter().any(|line| !["", "..."].contains(line));
                assert!(worked || is_compared, "{place}: {printed}");
            }
        }
        commands
    }
}

/// A program that runs until it is dropped.
struct Running {
    child: Child,
    line: String,
}

impl Running {
    fn new(mut command: Command, what: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, heard) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let stderr = child.stderr.take().unwrap();
        let (complained, complaints) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = complained.send(line);
            }
        });
        let line = heard.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("{what}: not ready: {:#?}", complaints.try_iter().collect::<Vec<_>>())
        });
        Self { child, line }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A machine and its command, if the line has a prompt.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (machine, command) = line.split_once("$ ")?;
    PROMPTS.contains(&machine).then_some((machine, command))
}

/// The commands of a block, each with its machine and its output.
fn session<'a>(block: &[&'a str]) -> Vec<(&'a str, String, Vec<&'a str>)> {
    let mut session: Vec<(&str, String, Vec<&str>)> = Vec::new();
    let mut until: Option<&str> = None;
    for line in block {
        if let Some((_, command, _)) = session.last_mut()
            && (command.ends_with('\\') || until.is_some())
        {
            command.push('\n');
            command.push_str(line);
            until = until.filter(|end| line != end);
        } else if let Some((machine, command)) = prompt(line) {
            // A trailing remark is not part of the command.
            let command = command.split("   #").next().unwrap().trim_end();
            until = command.split_once("<<'").map(|(_, end)| end.trim_end_matches('\''));
            session.push((machine, command.to_owned(), Vec::new()));
        } else {
            session.last_mut().unwrap_or_else(|| panic!("no prompt: {line}")).2.push(line);
        }
    }
    session
}

/// The output of a command on a page.
fn shown(name: &str, command: &str) -> String {
    let page = page(name);
    let blocks = page.blocks();
    let sessions = blocks.iter().filter(|(language, _)| *language == "console");
    let mut commands = sessions.flat_map(|(_, block)| session(block));
    let (_, _, lines) = commands.find(|(_, found, _)| found == command).unwrap();
    lines.join("\n") + "\n"
}

/// Whether this was printed, apart from numbers, hashes, dates and spaces. `...` matches anything.
fn agrees(expected: &[&str], printed: &str) -> bool {
    let printed: Vec<String> = printed.trim_end().lines().map(neutral).collect();
    let expected: Vec<String> = expected.iter().map(|line| neutral(line)).collect();
    matches(&expected, &printed.iter().map(String::as_str).collect::<Vec<_>>())
}

fn matches(expected: &[String], printed: &[&str]) -> bool {
    match (expected, printed) {
        ([], []) => true,
        ([], _) => false,
        ([any, rest @ ..], _) if any == "..." => {
            (0..=printed.len()).any(|skip| matches(rest, &printed[skip..]))
        }
        ([line, rest @ ..], [found, others @ ..]) => {
            line_matches(line, found) && matches(rest, others)
        }
        _ => false,
    }
}

fn line_matches(expected: &str, found: &str) -> bool {
    let Some((begin, rest)) = expected.split_once("...") else { return expected == found };
    let (middle, end) = rest.rsplit_once("...").unwrap_or(("", rest));
    let found = found.strip_prefix(begin).and_then(|found| found.strip_suffix(end));
    found.is_some_and(|found| found.contains(middle))
}

/// The line without the parts that vary between runs.
fn neutral(line: &str) -> String {
    const DATES: [&str; 19] = [
        "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun",
        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut neutral = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (token, after) = rest.split_at(length.max(first.len_utf8()));
        // Nothing was measured yet.
        let is_number = token == "null"
            || token.chars().any(|c| c.is_ascii_digit())
            || (token.len() >= 4 && token.chars().all(|c| c.is_ascii_hexdigit()));
        match token {
            " " if neutral.ends_with(' ') || neutral.is_empty() => {}
            _ if is_number => neutral.push('0'),
            token if DATES.contains(&token) => neutral.push_str("Day"),
            token => neutral.push_str(token),
        }
        rest = after;
    }
    neutral.trim_end().replace("0.0", "0")
}

fn can_run() -> bool {
    support::has_all(&[CURL, PYTHON])
}

#[test]
fn the_walk_of_the_readme_works() {
    if can_run() {
        let commands = World::new().follow("README", |_| {});
        assert!(commands > 25, "{commands}");
    }
}

#[test]
fn the_commands_of_the_guide_work() {
    if !can_run() {
        return;
    }
    let mut seen = 0;
    for page in pages() {
        let has_commands = page.blocks().iter().any(|(language, _)| *language == "console");
        if page.name() == "README" || !has_commands {
            continue;
        }
        let name = page.name();
        if ["identity", "broker"].contains(&name) {
            seen += World::new().follow(name, |_| {});
            continue;
        }
        let mut world = World::with_identities();
        let sums = super::sums();
        symlink(sums, world.dir("shims").join("sums")).unwrap();
        seen += world.follow(name, |world| {
            if name == "installation" {
                // It installs them twice, in two ways, and removes the copies.
                world.issue(&["scp ~"]);
            }
            // If the page starts none, use the client from the page about custom handlers.
            let runs = world.running.keys().any(|(machine, _)| machine == "fileserver");
            if ["requests", "library", "monitoring"].contains(&name) && !runs {
                world.run("fileserver", "RP_CLIENT_TARGET_HOSTNAME=hub.example.com sums &");
            }
        });
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn what_would_be_wrong_is_noticed() {
    for (expected, printed) in
        [("a 1\nb", "a 22\nb"), ("...\nb", "x\ny\nb"), ("{\"a\": ...}", "{\"a\": {2}}")]
    {
        assert!(agrees(&expected.lines().collect::<Vec<_>>(), printed), "{expected}");
    }
    for (expected, printed) in
        [("a 1", "b 1"), ("a", "a\nb"), ("a\nb", "a"), ("{\"a\": ...}", "{\"b\": 1}"), ("", "x")]
    {
        assert!(!agrees(&expected.lines().collect::<Vec<_>>(), printed), "{expected}");
    }
}
