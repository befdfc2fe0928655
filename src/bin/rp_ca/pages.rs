//! The pages of `--help`: the program's and each command's.

use restpipe::run::cli::Program;

pub const PROGRAM: Program = Program {
    name: "rp_ca",
    about: "Makes a CA and identities that rp_server_set_identity and rp_client_set_identity \
            accept,\nrenews them and revokes them.\n\
            Keys are ECDSA P-256 and have mode 0600. No key is ever overwritten.",
    usage: "",
    arguments: &[],
    examples: "rp_ca init --dir ca\n\
               rp_ca issue pipe.example.com --server --san localhost --dir ca\n\
               rp_ca issue fileserver --client --dir ca\n\
               rp_ca list --dir ca",
    reads: None,
};

const DIR: (&str, &str) = ("--dir DIR", "where the CA is (default: the current directory)");
const PASSPHRASE: (&str, &str) =
    ("--passphrase-file F", "a file of one line, the passphrase of ca.key.pem; without it, an");
const ASKED: (&str, &str) = ("", "encrypted key's is asked for on the terminal");
const SERVER: (&str, &str) = ("--server", "it is for a server");
const CLIENT: (&str, &str) = ("--client", "it is for a client");
const SAN: (&str, &str) =
    ("--san DNS-or-IP", "a further name or address; may be given several times");
const DAYS: (&str, &str) =
    ("--days N", "for how long, 1 to 36500, but never longer than its CA (default: 365)");

pub const INIT: Program = Program {
    name: "rp_ca init",
    about: "Makes a CA: ca.key.pem and ca.crt.pem.\n\
            Keep ca.key.pem to yourself: who has it can be any server and any client.",
    usage: "[--name CN] [--days N] [--passphrase-file F] [--dir DIR]",
    arguments: &[
        ("--name CN", "its name, at most 64 characters (default: RestPipe CA and a random end)"),
        ("--days N", "for how long, 1 to 36500 (default: 3650)"),
        ("--passphrase-file F", "encrypt ca.key.pem with the passphrase in F, a file of one line"),
        ("--dir DIR", "where to make it (default: the current directory)"),
    ],
    examples: "rp_ca init --dir ca",
    reads: None,
};

pub const ISSUE: Program = Program {
    name: "rp_ca issue",
    about: "Makes an identity, NAME.key.pem and NAME.crt.pem, signed by the CA.\n\
            The CA, ca.key.pem and ca.crt.pem, is in the same directory.",
    usage: "NAME --server|--client [--san DNS-or-IP]... [--days N] [OPTION]...",
    arguments: &[
        ("NAME", "the host name or IP address under which clients dial a server,"),
        ("", "or the name under which the server knows a client"),
        SERVER,
        CLIENT,
        SAN,
        DAYS,
        PASSPHRASE,
        ASKED,
        DIR,
    ],
    examples: "rp_ca issue pipe.example.com --server --san 10.0.0.5 --dir ca\n\
               rp_ca issue fileserver --client --days 90 --dir ca",
    reads: None,
};

pub const REQUEST: Program = Program {
    name: "rp_ca request",
    about: "Makes a key and a certificate request, NAME.key.pem and NAME.csr.pem.\n\
            Run it where the key shall live; only the request goes to the CA's machine.",
    usage: "NAME [--dir DIR]",
    arguments: &[
        ("NAME", "whose identity it will be, as for rp_ca issue"),
        ("--dir DIR", "where to make them (default: the current directory)"),
    ],
    examples: "rp_ca request fileserver",
    reads: None,
};

pub const SIGN: Program = Program {
    name: "rp_ca sign",
    about: "Signs a certificate request, and puts NAME.crt.pem beside it.\n\
            Role and names are what this command says. What else the request asks for is left\n\
            out, and told.",
    usage: "CSR --server|--client [--name NAME] [--san DNS-or-IP]... [--days N] [OPTION]...",
    arguments: &[
        ("CSR", "the file of the request, such as NAME.csr.pem"),
        SERVER,
        CLIENT,
        ("--name NAME", "whose it is (default: the name that the request asks for, where the name"),
        ("", "of its file or a --san is the same)"),
        SAN,
        DAYS,
        PASSPHRASE,
        ASKED,
        DIR,
    ],
    examples: "rp_ca sign fileserver.csr.pem --client --dir ca",
    reads: None,
};

pub const VERIFY: Program = Program {
    name: "rp_ca verify",
    about: "Says whether a certificate is valid, by the checks that nodes make, or why not.\n\
            It must come from the CA, and not be in ca.crl.pem where there is one.",
    usage: "CRT [--server|--client] [--dir DIR]",
    arguments: &[
        ("CRT", "the file of the certificate"),
        ("--server", "it must be good for a server"),
        ("--client", "it must be good for a client (default: either will do)"),
        DIR,
    ],
    examples: "rp_ca verify ca/fileserver.crt.pem --client --dir ca",
    reads: None,
};

pub const LIST: Program = Program {
    name: "rp_ca list",
    about: "Prints a table of all certificates that were issued.\n\
            Its columns are name, role, serial number, fingerprint (SHA-256), when it ends, and\n\
            when and why it was revoked.",
    usage: "[--dir DIR]",
    arguments: &[DIR],
    examples: "rp_ca list --dir ca",
    reads: None,
};

pub const RENEW: Program = Program {
    name: "rp_ca renew",
    about: "Makes a new certificate for the names, the role and the key of an old one.\n\
            It takes the place of NAME.crt.pem in the CA's directory. No key is read or written:\n\
            install it beside the key that is in use. The old certificate stays good until it\n\
            ends, and a copy of it is kept.",
    usage: "NAME [--days N] [--passphrase-file F] [--dir DIR]",
    arguments: &[("NAME", "whose certificate"), DAYS, PASSPHRASE, ASKED, DIR],
    examples: "rp_ca renew fileserver --dir ca",
    reads: None,
};

pub const REVOKE: Program = Program {
    name: "rp_ca revoke",
    about: "Takes certificates back: adds them to ca.crl.pem, and signs it.\n\
            Nodes learn of it when they get that file.",
    usage: "NAME-or-CRT [--reason R] [--passphrase-file F] [--dir DIR]",
    arguments: &[
        ("NAME-or-CRT", "a name: all that was issued for it and has not ended, since renewed"),
        ("", "certificates have the same key; or a file: the certificate in it alone"),
        ("--reason R", "unspecified (default), keyCompromise, affiliationChanged, superseded,"),
        ("", "cessationOfOperation or privilegeWithdrawn"),
        PASSPHRASE,
        ASKED,
        DIR,
    ],
    examples: "rp_ca revoke fileserver --reason keyCompromise --dir ca",
    reads: None,
};

pub const CRL: Program = Program {
    name: "rp_ca crl",
    about: "Signs ca.crl.pem anew, so that it counts for longer; makes it where there is none.",
    usage: "[--days N] [--passphrase-file F] [--dir DIR]",
    arguments: &[("--days N", "for how long, 1 to 36500 (default: 30)"), PASSPHRASE, ASKED, DIR],
    examples: "rp_ca crl --days 90 --dir ca",
    reads: None,
};
