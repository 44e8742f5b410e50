#[debug_agent_macros::patchable(skip(pol))]
fn two(pool: u8) -> u8 {
    pool
}

fn main() {
    two(1);
}
