#[debug_agent_macros::patchable(name = "GET /x")]
fn two() -> u8 {
    2
}

fn main() {
    two();
}
