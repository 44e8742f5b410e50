#[debug_agent_macros::patchable]
fn largest<T: Ord>(items: Vec<T>) -> usize {
    items.len()
}

fn main() {
    largest(vec![1]);
}
