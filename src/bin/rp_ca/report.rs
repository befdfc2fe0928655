//! The output of the commands.

use restpipe::ca::{
    CreatedRequest, IssuedCertificate, IssuedIdentity, Revocation, SignedCertificate, Verdict,
};
use restpipe::event::peer::Role;
use restpipe::identity::PeerCertificate;

pub fn made(made: &IssuedIdentity) -> String {
    let mut rows = vec![("private key", made.key.display().to_string())];
    rows.push(("certificate", made.crt.display().to_string()));
    certificate(&mut rows, &made.certificate, made.cut_short);
    lines(&rows)
}

pub fn requested(made: &CreatedRequest) -> String {
    lines(&[
        ("private key", made.key.display().to_string()),
        ("request", made.csr.display().to_string()),
        ("key sha256", made.public_key.clone()),
    ])
}

pub fn signed(signed: &SignedCertificate) -> String {
    let mut rows = vec![("certificate", signed.crt.display().to_string())];
    rows.push(("role", signed.role.as_str().to_owned()));
    certificate(&mut rows, &signed.certificate, signed.cut_short);
    rows.push(("key sha256", signed.public_key.clone()));
    rows.extend(signed.left_out.iter().map(|line| ("not granted", line.clone())));
    lines(&rows)
}

pub fn verdict(verdict: &Verdict) -> String {
    let roles: Vec<&str> = verdict.roles.iter().map(|role| role.as_str()).collect();
    let mut rows = vec![("valid for", roles.join(", "))];
    certificate(&mut rows, &verdict.certificate, false);
    lines(&rows)
}

pub fn revocation(revocation: &Revocation) -> String {
    let shown = |listed: &IssuedCertificate| format!("{} {}", listed.name, listed.serial);
    let mut rows = Vec::new();
    rows.extend(revocation.added.iter().map(|listed| ("revoked", shown(listed))));
    rows.extend(revocation.already.iter().map(|listed| {
        let since = listed.revoked.map(|revoked| format!(", {revoked}")).unwrap_or_default();
        ("already", format!("{}{since}", shown(listed)))
    }));
    rows.push(("list", revocation.list.display().to_string()));
    rows.push(("entries", revocation.len.to_string()));
    rows.extend(revocation.next_update.map(|next| ("next update", next.to_string())));
    lines(&rows)
}

/// A header line and one line for each certificate.
pub fn table(listed: &[IssuedCertificate]) -> String {
    const TITLES: [&str; 6] = ["name", "role", "serial", "fingerprint", "expires", "revoked"];
    let mut rows = vec![TITLES.map(str::to_owned)];
    for one in listed {
        rows.push([
            one.name.clone(),
            one.role.map_or("-", Role::as_str).to_owned(),
            one.serial.clone(),
            one.fingerprint.clone(),
            one.expires.to_string(),
            one.revoked.map_or("-".to_owned(), |revoked| {
                let text = revoked.to_string();
                text.strip_prefix("revoked on ").unwrap_or(&text).to_owned()
            }),
        ]);
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

fn certificate(
    rows: &mut Vec<(&'static str, String)>,
    certificate: &PeerCertificate,
    cut_short: bool,
) {
    let end = if cut_short { ", with its CA" } else { "" };
    rows.push(("name", certificate.name.clone()));
    rows.push(("expires", format!("{}{end}", certificate.expires)));
    rows.push(("sha256", certificate.fingerprint.clone()));
}

/// One line for each row, with its value escaped.
fn lines(rows: &[(&str, String)]) -> String {
    let clean = |value: &str| -> String {
        let escaped = |c: char| match c.is_control() {
            true => c.escape_default().collect(),
            false => String::from(c),
        };
        value.chars().map(escaped).collect()
    };
    let lines: Vec<String> =
        rows.iter().map(|(what, value)| format!("{what:12} {}", clean(value))).collect();
    lines.join("\n")
}
