//! The tensor core's instructions of a warpgroup, `wgmma`, as functions in LLVM's text: one operand for each of a lane's sums is
//! too much to be written by hand.

use std::fmt::Write;

/// This file: changed functions make changed images.
pub(crate) const SOURCE: &str = include_str!("warpgroup.rs");

/// Tokens that there are functions for: columns of the products.
const TOKENS: [usize; 3] = [32, 64, 128];
/// Chains that there are functions for: their columns, and their steps.
const CHAINS: [[usize; 2]; 3] = [[128, 8], [128, 4], [64, 8]];
/// Columns of chains of four steps whose a is in shared memory too.
const SHARED: [usize; 2] = [128, 256];

/// The module with the functions
///
/// ```text
/// warpgroup_{f16,bf16}_N(sums, a0, .. a3, first, a4, .. a7, second)   two steps, begun and closed as a group
/// warpgroup_wait_{0,1}()                                              until at most so many groups are under way
/// warpgroup_show()                                                    before a barrier, after which `wgmma` reads what was written
/// ```
///
/// `first` and `second` describe the tokens of a step in shared memory. Of `sums`, N / 4 f32 of the lane's row come first and
/// those of the row eight further on after them.
///
/// ```text
/// warpgroup_{f16,bf16}_N_steps_S(c, a, first)   c += a b, one step after the other, begun and closed as a group
/// warpgroup_sums_N(c)                           until no group is under way: c may be used
/// ```
///
/// `c` has the fragments of N / 8 steps of `mma`, `a` those of S; `first` describes the first step's b, of which 64 rows are a part
/// of 128 N bytes.
///
/// ```text
/// warpgroup_{f16,bf16}_N_shared(c, a, b)        the same in four steps, where `a` and `b` describe the first one's
/// ```
pub(crate) fn module() -> String {
    let mut text = String::from("target triple = \"nvptx64-nvidia-cuda\"\n");
    for tokens in TOKENS {
        for input in ["f16", "bf16"] {
            text += &steps(tokens, input);
        }
    }
    for columns in [64, 128, 256] {
        text += &sums(columns);
    }
    for [columns, steps] in CHAINS {
        for input in ["f16", "bf16"] {
            text += &chain(columns, steps, input);
        }
    }
    for columns in SHARED {
        for input in ["f16", "bf16"] {
            text += &shared(columns, input);
        }
    }
    for (name, instruction) in [
        ("wait_0", "wgmma.wait_group.sync.aligned 0;"),
        ("wait_1", "wgmma.wait_group.sync.aligned 1;"),
        ("show", "fence.proxy.async.shared::cta;"),
    ] {
        let _ = write!(
            text,
            "define void @warpgroup_{name}() alwaysinline convergent nounwind {{\n  \
             call void asm sideeffect \"{instruction}\", \"~{{memory}}\"() convergent\n  ret void\n}}\n"
        );
    }
    text
}

/// Numbers `first..end` as `f` writes them.
fn list(first: usize, end: usize, f: impl Fn(usize) -> String) -> String {
    (first..end).map(f).collect::<Vec<_>>().join(", ")
}

/// Loads of all sums, each from where it stands in `c`.
fn loads(sums: usize, place: impl Fn(usize) -> usize) -> String {
    let load = |i| {
        format!("  %p{i} = getelementptr float, ptr %c, i64 {}\n  %c{i} = load float, ptr %p{i}\n", place(i))
    };
    (0..sums).map(load).collect()
}

/// Stores of all results there, and the end of the function.
fn stores(sums: usize, floats: &str) -> String {
    let store = |i| format!("  %d{i} = extractvalue {{{floats}}} %r, {i}\n  store float %d{i}, ptr %p{i}\n");
    (0..sums).map(store).collect::<String>() + "  ret void\n}\n"
}

fn steps(tokens: usize, input: &str) -> String {
    let sums = tokens / 2;
    // Of each eight tokens the instruction has two of a row, then two of the other.
    let place = |operand: usize| operand % 4 / 2 * (tokens / 4) + operand / 4 * 2 + operand % 2;
    let all = list(0, sums, |i| format!("${i}"));
    let step = |first: usize| {
        let a = list(first, first + 4, |i| format!("${i}"));
        format!(
            "wgmma.mma_async.sync.aligned.m64n{tokens}k16.f32.{input}.{input} {{{all}}}, {{{a}}}, ${}, p, 1, 1, 0; ",
            first + 4
        )
    };
    let (one, two) = (step(2 * sums), step(2 * sums + 5));
    let instructions = format!(
        "{{ .reg .pred p; setp.eq.u32 p, 0, 0; wgmma.fence.sync.aligned; {one}{two}wgmma.commit_group.sync.aligned; }}"
    );
    let constraints = [
        list(0, sums, |_| "=f".to_owned()),
        list(0, sums, |i| i.to_string()),
        "r,r,r,r,l,r,r,r,r,l,~{memory}".to_owned(),
    ]
    .join(",")
    .replace(' ', "");
    let floats = list(0, sums, |_| "float".to_owned());

    let mut text = format!(
        "define void @warpgroup_{input}_{tokens}(ptr %c, i32 %a0, i32 %a1, i32 %a2, i32 %a3, i64 %b0, i32 %a4, i32 %a5, \
         i32 %a6, i32 %a7, i64 %b1) alwaysinline convergent nounwind {{\n"
    );
    text += &loads(sums, place);
    let given = list(0, sums, |i| format!("float %c{i}"));
    let _ = writeln!(
        text,
        "  %r = call {{{floats}}} asm sideeffect \"{instructions}\", \"{constraints}\"({given}, i32 %a0, i32 %a1, i32 %a2, \
         i32 %a3, i64 %b0, i32 %a4, i32 %a5, i32 %a6, i32 %a7, i64 %b1) convergent"
    );
    text + &stores(sums, &floats)
}

fn chain(columns: usize, steps: usize, input: &str) -> String {
    let (sums, values) = (columns / 2, 4 * steps);
    let all = list(0, sums, |i| format!("${i}"));
    // Where a step's b lies, in units of 16 bytes after the first's.
    let place = |step: usize| step % 4 * 2 + step / 4 * columns * 8;
    let mut instructions =
        String::from("{ .reg .pred p; .reg .b64 b; setp.eq.u32 p, 0, 0; wgmma.fence.sync.aligned; ");
    for step in 0..steps {
        let a = list(2 * sums + 4 * step, 2 * sums + 4 * step + 4, |i| format!("${i}"));
        let _ = write!(
            instructions,
            "add.s64 b, ${}, {}; wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{input}.{input} {{{all}}}, {{{a}}}, b, p, 1, 1, 0; ",
            2 * sums + values,
            place(step),
        );
    }
    instructions += "wgmma.commit_group.sync.aligned; }";
    let constraints = [
        list(0, sums, |_| "=f".to_owned()),
        list(0, sums, |i| i.to_string()),
        list(0, values, |_| "r".to_owned()),
        "l,~{memory}".to_owned(),
    ]
    .join(",")
    .replace(' ', "");
    let floats = list(0, sums, |_| "float".to_owned());

    let mut text = format!(
        "define void @warpgroup_{input}_{columns}_steps_{steps}(ptr %c, ptr %a, i64 %b) alwaysinline convergent nounwind {{\n"
    );
    text += &loads(sums, |i| i);
    for i in 0..values {
        let _ = write!(text, "  %q{i} = getelementptr i32, ptr %a, i64 {i}\n  %a{i} = load i32, ptr %q{i}\n");
    }
    let given =
        [list(0, sums, |i| format!("float %c{i}")), list(0, values, |i| format!("i32 %a{i}"))].join(", ");
    let _ = writeln!(
        text,
        "  %r = call {{{floats}}} asm sideeffect \"{instructions}\", \"{constraints}\"({given}, i64 %b) convergent"
    );
    text + &stores(sums, &floats)
}

fn shared(columns: usize, input: &str) -> String {
    let sums = columns / 2;
    let all = list(0, sums, |i| format!("${i}"));
    let (a, b) = (2 * sums, 2 * sums + 1);
    let mut instructions =
        String::from("{ .reg .pred p; .reg .b64 a, b; setp.eq.u32 p, 0, 0; wgmma.fence.sync.aligned; ");
    for step in 0..4 {
        // Two units of 16 bytes further on each.
        let _ = write!(
            instructions,
            "add.s64 a, ${a}, {0}; add.s64 b, ${b}, {0}; \
             wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{input}.{input} {{{all}}}, a, b, p, 1, 1, 0, 0; ",
            2 * step
        );
    }
    instructions += "wgmma.commit_group.sync.aligned; }";
    let constraints =
        [list(0, sums, |_| "=f".to_owned()), list(0, sums, |i| i.to_string()), "l,l,~{memory}".to_owned()];
    let (constraints, floats) =
        (constraints.join(",").replace(' ', ""), list(0, sums, |_| "float".to_owned()));
    let mut text = format!(
        "define void @warpgroup_{input}_{columns}_shared(ptr %c, i64 %a, i64 %b) alwaysinline convergent nounwind {{\n"
    );
    text += &loads(sums, |i| i);
    let given = list(0, sums, |i| format!("float %c{i}"));
    let _ = writeln!(
        text,
        "  %r = call {{{floats}}} asm sideeffect \"{instructions}\", \"{constraints}\"({given}, i64 %a, i64 %b) convergent"
    );
    text + &stores(sums, &floats)
}

fn sums(columns: usize) -> String {
    let sums = columns / 2;
    let constraints =
        [list(0, sums, |_| "=f".to_owned()), list(0, sums, |i| i.to_string()), "~{memory}".to_owned()];
    let (constraints, floats) =
        (constraints.join(",").replace(' ', ""), list(0, sums, |_| "float".to_owned()));
    let mut text =
        format!("define void @warpgroup_sums_{columns}(ptr %c) alwaysinline convergent nounwind {{\n");
    text += &loads(sums, |i| i);
    let given = list(0, sums, |i| format!("float %c{i}"));
    let _ = writeln!(
        text,
        "  %r = call {{{floats}}} asm sideeffect \"wgmma.wait_group.sync.aligned 0;\", \"{constraints}\"({given}) convergent"
    );
    text + &stores(sums, &floats)
}
