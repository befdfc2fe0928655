//! Whether the files that a node reads when it starts exist, and who else may read them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::geteuid;

use super::report::CheckProblem;
use crate::config::NodeConfig;
use crate::handler::Role;
use crate::process::program::is_executable;
use crate::rules::Rulebook;

/// Read and write permission for others.
const OTHERS_READ_WRITE: u32 = 0o006;

/// Checks all files. The first problem ends the step.
pub(super) fn check(config: &NodeConfig, role: Role) -> Result<String, CheckProblem> {
    let files = &config.identity;
    let is_crl_there = config.crl.required || fs::symlink_metadata(&config.crl.path).is_ok();
    let mut all = vec![&files.key, &files.crt, &files.ca];
    all.extend(is_crl_there.then_some(&config.crl.path));
    all.extend(&config.rules);
    all.extend(config.hook.as_ref().map(|hook| &hook.path));
    for path in &all {
        readable(path, role)?;
    }
    let mode = mode(&files.key);
    if mode & OTHERS_READ_WRITE != 0 {
        let key = files.key.display();
        return Err(CheckProblem::new(
            format!("{key}: every user of this machine may use the private key (mode {mode:04o})"),
            format!("chmod 600 {key}; if others may have read it, make another key"),
        ));
    }
    let is_no_program = |path: &Path| fs::metadata(path).is_ok_and(|file| !is_executable(&file));
    if let Some(hook) = config.hook.as_ref().filter(|hook| is_no_program(&hook.path)) {
        let path = hook.path.display();
        return Err(CheckProblem::new(
            format!("{path}: not executable"),
            format!("chmod +x {path}"),
        ));
    }
    if let Some(rules) = &config.rules {
        let advice = "correct that line of RP_RULES_FILE";
        Rulebook::open(rules).map_err(|error| CheckProblem::new(error, advice))?;
    }
    Ok(format!("{} of them, all readable", all.len()))
}

fn readable(path: &Path, role: Role) -> Result<(), CheckProblem> {
    let shown = path.display();
    match crate::fs::open(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            use io::ErrorKind::{InvalidInput, IsADirectory, NotFound};
            let advice = match error.kind() {
                NotFound | IsADirectory | InvalidInput => missing(role),
                _ => format!(
                    "let the user that runs this program (here uid {}) read {shown} and search the \
                     directories above it (chown, chmod)",
                    geteuid().as_raw()
                ),
            };
            Err(CheckProblem::new(format!("{shown}: {error}"), advice))
        }
    }
}

fn missing(role: Role) -> String {
    let (role, upper) = (role.as_str(), role.as_str().to_ascii_uppercase());
    format!(
        "put it there (rp_{role}_set_identity KEY CRT CA does, for an identity), or correct the \
         variable that says where it is (RP_{upper}_CERT_PATH and others: see --help)"
    )
}

/// The mode; zero if it cannot be read.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o7777)
}
