//! Reads PTX text as far as needed to say what is in it.

use crate::{Error, Image};

/// A statement of a function, such as `add.rn.f32 %f1, %f2, %f3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction<'a> {
    /// The entry or function it is in.
    pub function: &'a str,
    /// Its line, from 1.
    pub line: usize,
    /// Without predicate, semicolon and comment.
    pub text: &'a str,
}

impl<'a> Instruction<'a> {
    /// The operation with its modifiers: `add.rn.f32`.
    pub fn opcode(&self) -> &'a str {
        self.text.split_whitespace().next().unwrap_or_default()
    }
}

/// The names of the kernels, in order.
pub fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.lines().filter_map(|line| line.split_once(".entry ")).map(|(_, rest)| name(rest))
}

/// The instructions of all functions, in order.
pub fn instructions(ptx: &str) -> impl Iterator<Item = Instruction<'_>> {
    let mut function = "";
    ptx.lines().zip(1..).flat_map(move |(line, number)| {
        let line = line.split("//").next().unwrap_or_default();
        function = defined(line).unwrap_or(function);
        let function = function;
        line.split(';').filter_map(move |text| {
            let text = text.trim().trim_start_matches('{').trim_start();
            let text =
                if text.starts_with('@') { text.split_once(char::is_whitespace)?.1.trim() } else { text };
            // Directives begin with a dot, labels with a dollar sign, what is left of a parameter list with neither.
            let opcode = text.split_whitespace().next()?;
            let is_opcode = opcode.starts_with(|c: char| c.is_ascii_lowercase()) && !opcode.ends_with(':');
            is_opcode.then_some(Instruction { function, line: number, text })
        })
    })
}

/// Refuses an image whose bits would depend on more than its text: on roundings left to the driver, on subnormals
/// flushed, on approximations, on the order of atomic additions; and one that the driver could not load.
///
/// # Errors
/// [`Error::Forbidden`] for the first such line.
pub fn check(image: &Image) -> Result<(), Error> {
    let external =
        image.ptx.lines().zip(1..).find(|(line, _)| line.trim_start().starts_with(".extern .func"));
    let external = external.map(|(text, line)| {
        (Instruction { function: defined(text).unwrap_or_default(), line, text }, "is nowhere defined")
    });
    let refused = || instructions(&image.ptx).find_map(|found| Some((found, refuse(found.opcode())?)));
    let Some((found, reason)) = external.or_else(refused) else { return Ok(()) };
    Err(Error::Forbidden {
        image: image.file(),
        line: found.line,
        function: found.function.to_owned(),
        instruction: found.text.to_owned(),
        reason,
    })
}

/// Why an operation may not be in an image.
fn refuse(opcode: &str) -> Option<&'static str> {
    const FLOATS: &[&str] = &["f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"];
    const ROUNDINGS: &[&str] = &["rn", "rz", "rm", "rp"];
    const ROUNDED: &[&str] = &["add", "sub", "mul", "fma", "mad", "div", "rcp", "sqrt"];

    let mut parts = opcode.split('.');
    let operation = parts.next()?;
    let has = |names: &[&str]| parts.clone().any(|part| names.contains(&part));
    if has(&["ftz"]) {
        Some("flushes subnormals to zero")
    } else if has(&["approx", "full"]) {
        Some("is an approximation")
    } else if ["atom", "red"].contains(&operation) && has(&["add"]) && has(FLOATS) {
        Some("adds in no fixed order")
    } else if ROUNDED.contains(&operation) && has(FLOATS) && !has(ROUNDINGS) {
        Some("has no rounding, so the driver may fuse it")
    } else {
        None
    }
}

/// The text with so many registers at most for a thread of the kernels whose names end in `end`.
pub fn limit_registers(ptx: &str, end: &str, registers: u32) -> String {
    let (mut text, mut of_entry) = (String::new(), false);
    for line in ptx.lines() {
        of_entry |= entries(line).any(|name| name.ends_with(end));
        if of_entry && line == "{" {
            text += &format!(".maxnreg {registers}\n");
            of_entry = false;
        }
        text += line;
        text.push('\n');
    }
    text
}

/// The function whose definition or declaration this line begins.
fn defined(line: &str) -> Option<&str> {
    if let Some((_, rest)) = line.split_once(".entry ") {
        return Some(name(rest));
    }
    let (_, rest) = line.split_once(".func")?;
    // A list of results may come before the name.
    let after_results = rest.trim_start().strip_prefix('(').and_then(|rest| rest.split_once(')'));
    Some(name(after_results.map_or(rest, |(_, rest)| rest)))
}

/// The name at the beginning of `rest`, up to the parameter list.
fn name(rest: &str) -> &str {
    rest.split('(').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
.version 7.0
.func  (.param .b32 func_retval0) helper
(
\t.param .b32 helper_param_0
)
;
.extern .shared .align 128 .b8 dynamic_shared[];
.visible .entry norm__rms(
\t.param .u64 .ptr .align 1 norm__rms_param_0
)
{
\t.reg .b32 \t%r<3>;
\tld.param.b64 \t%rd1, [norm__rms_param_0];  // add.f32 in a comment
\t@%p1 bra \t$L__BB0_2;
$L__BB0_2:
\t{ mul.rn.f32 %r1, %r2, %r2; @!%p2 add.rn.f32 %r1, %r2, %r2; }
}
.visible .func helper(.param .b32 helper_param_0)
{
\tret;
}
";

    #[test]
    fn a_limit_of_registers_stands_before_the_body_of_those_kernels() {
        let limited = limit_registers(PTX, "__rms", 128);
        assert_eq!(limited.replacen("\n)\n.maxnreg 128\n{", "\n)\n{", 1), PTX);
        assert_ne!(limited, PTX);
        assert_eq!(limit_registers(PTX, "__other", 128), PTX);
    }

    #[test]
    fn instructions_are_told_apart_from_everything_else() {
        let found: Vec<_> = instructions(PTX).map(|i| (i.function, i.line, i.opcode())).collect();
        let expected = [
            ("norm__rms", 13, "ld.param.b64"),
            ("norm__rms", 14, "bra"),
            ("norm__rms", 16, "mul.rn.f32"),
            ("norm__rms", 16, "add.rn.f32"),
            ("helper", 20, "ret"),
        ];
        assert_eq!(found, expected);
        assert_eq!(entries(PTX).collect::<Vec<_>>(), ["norm__rms"]);
    }

    #[test]
    fn what_would_change_bits_is_refused_and_nothing_else() {
        for opcode in [
            "mul.f32",
            "add.f64",
            "sub.f16",
            "fma.rn.ftz.f32",
            "div.full.f32",
            "rcp.approx.f32",
            "ex2.approx.ftz.f32",
            "add.f16x2",
            "mad.f32",
            "sqrt.approx.f32",
            "atom.global.add.f32",
            "red.global.gpu.add.f16x2",
        ] {
            assert!(refuse(opcode).is_some(), "{opcode} must be refused");
        }
        for opcode in [
            "mul.rn.f32",
            "add.s32",
            "mul.wide.u32",
            "mad.lo.s32",
            "fma.rn.f16",
            "div.rn.f32",
            "div.u32",
            "cvt.rn.f32.u64",
            "atom.global.add.u32",
            "red.global.max.u32",
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
            "setp.lt.f32",
            "max.f32",
            "neg.f32",
        ] {
            assert_eq!(refuse(opcode), None, "{opcode}");
        }
    }

    #[test]
    fn a_refusal_names_image_line_function_and_instruction() {
        let refusal = |ptx: String| {
            let image = Image { chip: "sm_80".to_owned(), family: "norm".to_owned(), ptx };
            check(&image).map_err(|error| error.to_string())
        };
        assert_eq!(refusal(PTX.to_owned()), Ok(()));
        assert_eq!(
            refusal(PTX.replace("mul.rn.f32 ", "mul.f32 ")),
            Err("sm_80/norm.ptx, line 16, in `norm__rms`: `mul.f32 %r1, %r2, %r2` has no rounding, so the driver may \
                 fuse it"
                .to_owned())
        );
        let missing = refusal(format!("{PTX}.extern .func  (.param .b32 r) memcmp\n"));
        assert_eq!(missing, Err("sm_80/norm.ptx, line 22, in `memcmp`: `.extern .func  (.param .b32 r) memcmp` is nowhere defined".to_owned()));
    }
}
