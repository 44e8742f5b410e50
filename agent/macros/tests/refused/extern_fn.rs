#[debug_agent_macros::patchable]
extern "C" fn two() -> u8 {
    2
}

fn main() {
    two();
}
