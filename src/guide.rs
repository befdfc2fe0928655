//! The guide: how to install, configure and run RestPipe, and what it promises.
//!
//! Start with [`installation`] and [`configuration`]. Then what a node answers with: [`files`], [`scripts`],
//! [`services`] or handlers of your own ([`library`]). [`requests`] says what callers send and get.

macro_rules! pages {
    ($($page:ident)+) => {$(
        #[doc = include_str!(concat!(env!("OUT_DIR"), "/", stringify!($page), ".md"))]
        pub mod $page {}
    )+};
}

pages! {
    broker
    configuration
    development
    figures
    files
    identity
    installation
    library
    monitoring
    operation
    original
    protocol
    requests
    rules
    scripts
    servers
    services
    tcp
}
