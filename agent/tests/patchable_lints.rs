//! `#[patchable]` in a service that denies every warning: generated code causes none, for any form of the function, on
//! one line or on several.
#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    unused_lifetimes,
    unused_qualifications,
    rust_2018_idioms,
    clippy::pedantic,
    clippy::allow_attributes_without_reason
)]

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
    #[expect(
        unused_variables,
        reason = "an attribute on the function also counts for its moved body"
    )]
    pub(crate) fn ignores(argument: u8) {}

    #[debug_agent::patchable(name = "rota.first", watch_only)]
    pub(crate) fn first<'a>(names: &'a [String]) -> &'a str {
        &names[0]
    }
}

/// Bodies on one line, as they are written by hand.
#[rustfmt::skip]
mod in_one_line {
    #[debug_agent::patchable] pub(crate) fn expression(cents: i64) -> i64 { cents / 10 }
    #[debug_agent::patchable] pub(crate) fn empty() {}
    #[debug_agent::patchable] pub(crate) fn unit() -> () { empty(); }
    #[debug_agent::patchable] pub(crate) fn call(cents: i64) -> i64 { expression(cents) }
    #[debug_agent::patchable] pub(crate) fn ends_in_a_macro(cents: i64) -> String { format!("{cents}") }
    #[debug_agent::patchable] pub(crate) fn is_a_macro() { println!("a macro that is a statement") }
    #[debug_agent::patchable] pub(crate) fn branches(cents: i64) -> i64 { if cents < 0 { 0 } else { cents } }
    #[debug_agent::patchable] pub(crate) fn matches(cents: i64) -> bool { match cents { 0 => true, n => n > 9 } }
    #[debug_agent::patchable] pub(crate) fn question(text: &str) -> Result<i64, std::num::ParseIntError> { Ok(text.parse::<i64>()? + 1) }
    #[debug_agent::patchable] pub(crate) fn closure(cents: i64) -> i64 { Some(cents).map_or(0, |n| n + 1) }
    #[debug_agent::patchable] pub(crate) fn block(cents: i64) -> i64 { let half = { cents / 2 }; half.max(0) }
    #[debug_agent::patchable] pub(crate) fn pattern((a, b): (i64, i64), _: u8, _unused: u8) -> i64 { a + b }
    #[debug_agent::patchable] pub(crate) fn for_ever() -> ! { std::process::exit(0) }
    #[debug_agent::patchable(watch_only)] pub(crate) fn watched(cents: i64) -> i64 { cents / 10 }
    #[debug_agent::patchable(watch_only)] pub(crate) fn watched_item() -> u8 { const TWO: u8 = 2; TWO }
    #[debug_agent::patchable] pub(crate) fn lent(text: &str) -> &str { text }
    #[debug_agent::patchable] pub(crate) fn hidden(n: u8) -> impl Iterator<Item = u8> { 0..n }
    #[debug_agent::patchable] pub(crate) async fn later(cents: i64) -> i64 { cents / 10 }
    #[debug_agent::patchable] pub(crate) async fn later_empty() {}
    #[debug_agent::patchable] pub(crate) async fn later_await(cents: i64) -> i64 { later(cents).await }
    #[debug_agent::patchable] pub(crate) async fn later_macro(cents: i64) -> String { format!("{cents}") }
    #[debug_agent::patchable] pub(crate) async fn later_question(text: &str) -> Result<i64, std::num::ParseIntError> { Ok(text.parse::<i64>()? + 1) }
    #[debug_agent::patchable] pub(crate) async fn later_pattern((a, b): (i64, i64), _: u8, _unused: u8, mut c: i64) -> i64 { c += a; b + c }
    #[debug_agent::patchable(watch_only)] pub(crate) async fn later_watched(cents: i64) -> i64 { cents / 10 }
    #[debug_agent::patchable] pub(crate) async fn later_lent(text: &str) -> &str { text }
}

/// Bodies with various contents.
mod in_many_lines {
    use std::fmt::{Display, Write as _};

    #[debug_agent::patchable]
    pub(crate) fn items(n: u64) -> u64 {
        const ONE: u64 = 1;
        struct Pair(u64, u64);
        impl Pair {
            fn new(n: u64) -> Self {
                Self(n, ONE)
            }
        }
        fn sum(pair: &Pair) -> u64 {
            pair.0 + pair.1
        }
        sum(&Pair::new(n))
    }

    #[debug_agent::patchable(watch_only)]
    pub(crate) fn watched_items(n: u64) -> u64 {
        const ONE: u64 = 1;
        n + ONE
    }

    #[debug_agent::patchable]
    pub(crate) fn attributes_inside(n: u64) -> u64 {
        #![allow(clippy::let_and_return, reason = "an attribute of the body stays at its top")]
        let sum = n + 1;
        sum
    }

    #[debug_agent::patchable]
    pub(crate) async fn attributes_inside_later(n: u64) -> u64 {
        #![allow(clippy::let_and_return, reason = "likewise")]
        let sum = n + 1;
        sum
    }

    #[debug_agent::patchable]
    pub(crate) fn loops(mut n: u64) -> u64 {
        let mut steps = 0;
        'all: loop {
            while n > 1 {
                n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
                steps += 1;
                if steps == 1_000 {
                    break 'all;
                }
            }
            if n == 1 {
                return steps;
            }
            n += 1;
        }
        0
    }

    #[debug_agent::patchable]
    pub(crate) fn many<'a, 'b>(left: &'a [String], right: &'b mut Vec<&'a str>) -> usize
    where
        'a: 'b,
    {
        right.extend(left.iter().map(String::as_str));
        right.len()
    }

    #[debug_agent::patchable]
    pub(crate) fn boxed(n: u64) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        if n == 0 {
            return Err("zero".into());
        }
        Ok(n)
    }

    #[debug_agent::patchable]
    pub(crate) fn with_a_text_of_the_program(n: u64) -> Result<u64, &'static str> {
        n.checked_sub(1).ok_or("zero")
    }

    #[debug_agent::patchable]
    pub(crate) fn dynamic(value: &dyn Display, out: &mut String) {
        let _ = write!(out, "{value}");
    }

    #[inline]
    #[debug_agent::patchable]
    #[cold]
    pub(crate) fn inlined(n: u64) -> u64 {
        n
    }

    /// A recursive function.
    #[debug_agent::patchable]
    pub(crate) async fn recursive(n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        1 + Box::pin(recursive(n - 1)).await
    }

    #[debug_agent::patchable]
    #[allow(clippy::too_many_arguments, reason = "they are counted once")]
    pub(crate) fn crowded(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8 {
        a | b | c | d | e | f | g | h
    }

    pub(crate) struct Till;

    impl Till {
        /// Without a receiver.
        #[debug_agent::patchable(name = "till.discount")]
        pub(crate) fn discount(cents: i64) -> i64 {
            cents / 10
        }
    }

    pub(crate) trait Prices {
        fn price(n: u64) -> u64;
    }

    impl Prices for Till {
        #[debug_agent::patchable(name = "till.price")]
        fn price(n: u64) -> u64 {
            n
        }
    }
}

#[expect(clippy::expect_used, reason = "a test that gets no runtime fails")]
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn the_functions_do_what_they_did() {
    let names = ["ada".to_owned()];
    assert_eq!(rota::next(&names, 3).as_deref(), Some("ada"));
    assert_eq!(rota::first(&names), "ada");
    rota::ignores(1);
    let _ = rota::load;
}

#[test]
fn those_in_one_line_do_what_they_did() {
    use in_one_line as one;
    assert_eq!(
        (
            one::expression(100),
            one::call(100),
            one::branches(-1),
            one::closure(1)
        ),
        (10, 10, 0, 2)
    );
    assert_eq!(
        (one::ends_in_a_macro(1), one::matches(0), one::block(4)),
        ("1".to_owned(), true, 2)
    );
    assert_eq!((one::question("1"), one::pattern((1, 2), 3, 4)), (Ok(2), 3));
    assert_eq!(
        (one::watched(20), one::watched_item(), one::lent("a")),
        (2, 2, "a")
    );
    assert_eq!(one::hidden(2).count(), 2);
    one::empty();
    one::unit();
    one::is_a_macro();
    let _: fn() -> ! = one::for_ever;
    assert_eq!(block_on(one::later_await(100)), 10);
    block_on(one::later_empty());
    assert_eq!(block_on(one::later_macro(1)), "1");
    assert_eq!(block_on(one::later_question("1")), Ok(2));
    assert_eq!(block_on(one::later_pattern((1, 2), 3, 4, 5)), 8);
    assert_eq!(block_on(one::later_watched(20)), 2);
    assert_eq!(block_on(one::later_lent("a")), "a");
}

#[test]
fn those_in_many_lines_do_what_they_did() {
    use in_many_lines::{self as many, Prices as _, Till};
    assert_eq!(
        (many::items(1), many::watched_items(1), many::attributes_inside(1)),
        (2, 2, 2)
    );
    assert_eq!(block_on(many::attributes_inside_later(1)), 2);
    assert_eq!((many::loops(1), many::loops(6), many::inlined(3)), (0, 8, 3));
    let (left, mut right) = (["ada".to_owned()], Vec::new());
    assert_eq!(many::many(&left, &mut right), 1);
    assert_eq!(many::boxed(0).unwrap_err().to_string(), "zero");
    assert_eq!(many::with_a_text_of_the_program(0), Err("zero"));
    let mut out = String::new();
    many::dynamic(&1, &mut out);
    assert_eq!((out.as_str(), block_on(many::recursive(3))), ("1", 3));
    assert_eq!(many::crowded(1, 2, 4, 8, 16, 32, 64, 128), 255);
    assert_eq!((Till::discount(100), Till::price(1)), (10, 1));
}
