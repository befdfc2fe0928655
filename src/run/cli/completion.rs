//! Bash completion for a program; printed by `--print-completion`.
//!
//! In scope: commands and options. Everything else bash completes as a file name.

use super::options;
use super::program::Program;

/// A script that bash loads on demand from the file with the program's name in
/// `/usr/share/bash-completion/completions`.
pub(super) fn completion(program: &Program, commands: &[Program]) -> String {
    let name = program.name;
    let mut cases = String::new();
    for command in commands {
        cases.push_str(&format!("    {}) words='{}' ;;\n", command.word(), options(command)));
    }
    let words: String = commands.iter().map(|command| command.word().to_owned() + " ").collect();
    let first = words + &options(program);
    // Without a command yet, complete the commands.
    let wanted =
        if commands.is_empty() { "$word == -*" } else { "$COMP_CWORD -eq 1 || $word == -*" };
    format!(
        "# Completion of {name} for bash.
_{name}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words
    case ${{COMP_WORDS[1]}} in
{cases}    *) words='{first}' ;;
    esac
    COMPREPLY=()
    if [[ {wanted} ]]; then
        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")
    fi
}}
complete -o bashdefault -o default -F _{name} {name}"
    )
}

/// The arguments that begin with a dash.
fn options(program: &Program) -> String {
    let words = options::options(program).into_iter().map(|(option, _)| option);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const PROGRAM: Program = Program {
        name: "rp_test",
        about: "Does nothing.",
        usage: "",
        arguments: &[("FILE", "a file"), ("--dir DIR", "where"), ("", "--no option")],
        examples: "{name}",
        reads: None,
    };

    /// What bash proposes for Tab after these words.
    fn proposed(commands: &[Program], line: &str) -> String {
        let words = line.split(' ').count() - 1;
        let script = format!(
            "set -eu\n{}\nCOMP_WORDS=({line} '') COMP_CWORD={words}\n_rp_test\n\
             echo \"${{COMPREPLY[*]}}\"",
            completion(&PROGRAM, commands)
        );
        let output = Command::new("bash").arg("-c").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    #[test]
    fn options_are_proposed_and_files_left_to_bash() {
        assert_eq!(
            proposed(&[], "rp_test -"),
            "--dir --print-man --print-completion -h --help -V --version"
        );
        assert_eq!(proposed(&[], "rp_test file --d"), "--dir");
        assert_eq!(proposed(&[], "rp_test fi"), "");
    }

    #[test]
    fn commands_come_first_and_have_options_of_their_own() {
        let command = |name, arguments| Program { name, arguments, ..PROGRAM };
        let list = command("rp_test list", &[("--all", "all")]);
        let commands = [list, command("rp_test wait", &[])];
        assert_eq!(
            proposed(&commands, "rp_test "),
            "list wait --dir --print-man --print-completion -h --help -V --version"
        );
        assert_eq!(proposed(&commands, "rp_test w"), "wait");
        assert_eq!(
            proposed(&commands, "rp_test list --"),
            "--all --print-man --print-completion --help --version"
        );
        assert_eq!(proposed(&commands, "rp_test wait "), "");
    }
}
