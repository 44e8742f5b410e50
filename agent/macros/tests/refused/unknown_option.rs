#[debug_agent_macros::patchable(rename = "two")]
fn two() -> u8 {
    2
}

fn main() {
    two();
}
