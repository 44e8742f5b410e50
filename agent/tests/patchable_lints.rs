//! `#[patchable]` under a service that denies every warning: nothing generated causes one.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, clippy::pedantic, clippy::allow_attributes_without_reason)]

mod rota {
    /// Who is on duty.
    #[must_use]
    #[debug_agent::patchable]
    pub(crate) fn next(names: &[String], mut week: usize) -> Option<String> {
        week %= names.len().max(1);
        names.get(week).cloned()
    }

    #[debug_agent::patchable(skip(connection))]
    pub(crate) async fn load(connection: &std::net::TcpStream, id: u64) -> std::io::Result<String> {
        let _ = connection;
        Ok(id.to_string())
    }

    #[debug_agent::patchable]
    #[expect(unused_variables, reason = "an attribute on the function also counts for its moved body")]
    pub(crate) fn ignores(argument: u8) {}

    #[debug_agent::patchable(name = "rota.first", watch_only)]
    pub(crate) fn first<'a>(names: &'a [String]) -> &'a str {
        &names[0]
    }
}

#[test]
fn the_functions_do_what_they_did() {
    let names = ["ada".to_owned()];
    assert_eq!(rota::next(&names, 3).as_deref(), Some("ada"));
    assert_eq!(rota::first(&names), "ada");
    rota::ignores(1);
    let _ = rota::load;
}
