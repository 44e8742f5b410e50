#[debug_agent_macros::patchable(name = "a", name = "b")]
fn two() -> u8 {
    2
}

fn main() {
    two();
}
