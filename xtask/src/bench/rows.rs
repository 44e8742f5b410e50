//! The table. The programs are in `bench/benches`; the limit of a row includes what both sides have in common.

use super::{BenchRow, RowBudget};

/// The rows of this version.
pub(super) const ROWS: &[BenchRow] = &[
    BenchRow {
        name: "unpatched-point",
        about: "a point that is not patched against a plain function; instructions per call, its loop included",
        measured: |programs| programs.instructions("point_patchable"),
        limit: |programs| programs.instructions("point_plain"),
        // Load, test, jump.
        budget: RowBudget::More(3.0),
    },
    BenchRow {
        name: "patched-call",
        about: "a patched function against its closure on a bare Rhai engine; nanoseconds per call",
        measured: |programs| programs.number("patched_call"),
        limit: |programs| programs.number("patched_limit"),
        budget: RowBudget::Times(1.3),
    },
    BenchRow {
        name: "eval-roundtrip",
        about: "a read-only eval against an echo over mutual TLS, two writes and one fdatasync; microseconds",
        measured: |programs| programs.number("eval_roundtrip"),
        limit: |programs| programs.number("eval_limit"),
        budget: RowBudget::Times(1.25),
    },
    BenchRow {
        name: "revert-lateness",
        about: "from a patch's deadline to the first answer of the original, against any answer; 1 kHz, cores busy, p99, microseconds",
        measured: |programs| programs.number("revert_lateness"),
        limit: |programs| programs.number("revert_limit"),
        // 10 ms.
        budget: RowBudget::More(10_000.0),
    },
];
