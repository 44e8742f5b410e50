#[debug_agent_macros::patchable]
fn show(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn main() {
    show(&1);
}
