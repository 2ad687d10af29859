//! The program runs on every processor of its architecture: no instruction of AVX-512 stands in it where nothing asked
//! the processor first. Machines that build often have them, laptops do not, and nothing else would notice.
//!
//! Scans what `objdump` says of the program beside the tests, and of the one that `BOLIDE_ISA_PROGRAM` names (`make isa`: the
//! release build).
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Parts of the names of functions that are called only after the processor was asked, each with where that is done.
/// Empty: no dependency brings such code now. One that does gets a line here, after somebody has looked.
const ASKED_FIRST: [(&str, &str); 0] = [];

/// Findings shown; one is enough to fail.
const SHOWN_MAX: usize = 20;

/// The registers and forms that only AVX-512 has: 512-bit registers, masks, the upper sixteen vector registers,
/// broadcasts and roundings in an operand; and instructions that exist in no other encoding.
fn is_avx512(instruction: &str) -> bool {
    let (name, operands) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let only_there =
        ["vpternlog", "vpermt2", "vpermi2", "valign", "vrndscale", "vpconflict", "vpmov"];
    let sign_extends = ["vpmovmskb", "vpmovsx", "vpmovzx"];
    let is_named = only_there.iter().any(|start| name.starts_with(start))
        && !sign_extends.iter().any(|start| name.starts_with(start));
    let registers = operands.split('%').skip(1).map(|rest| {
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric());
        &rest[..end.unwrap_or(rest.len())]
    });
    let number = |register: &str, class: &str| {
        register.strip_prefix(class).and_then(|number| number.parse::<u32>().ok())
    };
    let is_wide = |register: &str| {
        let upper = ["xmm", "ymm"].iter().any(|class| number(register, class) > Some(15));
        upper || number(register, "zmm").is_some() || number(register, "k").is_some()
    };
    let has_form = ["{1to", "{rn-sae}", "{rd-sae}", "{ru-sae}", "{rz-sae}", "{sae}"];
    is_named
        || has_form.iter().any(|form| operands.contains(form))
        || registers.into_iter().any(is_wide)
}

/// The functions of a program that have such instructions, with the first of each, those left out that ask first.
fn scan(program: &Path) -> (usize, Vec<String>) {
    let mut objdump = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", "-w"])
        .arg(program)
        .stdout(Stdio::piped())
        .spawn()
        .expect("objdump, of binutils");
    let mut lines = BufReader::new(objdump.stdout.take().unwrap());
    let (mut line, mut function, mut count, mut found) = (Vec::new(), String::new(), 0, Vec::new());
    while lines.read_until(b'\n', &mut line).unwrap() > 0 {
        let text = String::from_utf8_lossy(&line);
        if let Some(name) = text.trim_end().strip_suffix(">:") {
            function = name.split_once('<').map_or(name, |(_, name)| name).to_owned();
        } else if let Some((_, instruction)) = text.split_once(":\t") {
            count += 1;
            let asks = ASKED_FIRST.iter().any(|(part, _)| function.contains(part));
            if is_avx512(instruction.trim()) && !asks && found.len() < SHOWN_MAX {
                found.push(format!("{function}: {}", instruction.trim()));
            }
        }
        line.clear();
    }
    assert!(objdump.wait().unwrap().success());
    (count, found)
}

fn programs() -> Vec<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let beside = tests.parent().unwrap().parent().unwrap().join("bolide");
    match std::env::var_os("BOLIDE_ISA_PROGRAM") {
        Some(program) => vec![PathBuf::from(program)],
        None => vec![beside],
    }
}

#[test]
fn the_program_has_no_avx_512_that_nobody_asked_for() {
    for program in programs() {
        let shown = program.display();
        assert!(
            program.exists(),
            "{shown} is not built: run `cargo test --workspace` or `make isa`"
        );
        let (count, found) = scan(&program);
        assert!(count > 100_000, "{shown}: {count} instructions are not the whole program");
        assert!(found.is_empty(), "{shown}: {}", found.join("\n"));
    }
}

#[test]
fn planted_instructions_are_found_each_in_its_function() {
    let planted = [
        ("wide", "vpaddd %zmm1, %zmm2, %zmm3"),
        ("mask", "kmovw %eax, %k1"),
        ("masked", "vpaddd %ymm1, %ymm2, %ymm3{%k1}{z}"),
        ("upper", "vpaddd %xmm16, %xmm2, %xmm3"),
        ("broadcast", "vpaddd (%rax){1to8}, %ymm2, %ymm3"),
        ("named", "vpternlogd $0x96, %ymm1, %ymm2, %ymm3"),
        ("narrowed", "vpmovqd %ymm1, %xmm2"),
    ];
    let harmless = [
        ("avx2", "vpaddd %ymm14, %ymm15, %ymm1"),
        ("avx2_mask", "vpmovmskb %ymm1, %eax"),
        ("avx2_widen", "vpmovzxbw %xmm1, %ymm2"),
        ("scalar", "popcnt %rax, %rbx"),
    ];
    let text: String = planted
        .iter()
        .chain(&harmless)
        .map(|(name, code)| {
            format!(".globl {name}\n.type {name}, @function\n{name}: {code}\nret\n")
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let object = directory.path().join("planted.o");
    let mut assembler = Command::new("cc")
        .args(["-c", "-x", "assembler", "-", "-o"])
        .arg(&object)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    assembler.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(assembler.wait().unwrap().success());
    let (count, found) = scan(&object);
    assert_eq!(count, 2 * (planted.len() + harmless.len()));
    let functions: Vec<&str> = found.iter().map(|it| it.split_once(':').unwrap().0).collect();
    assert_eq!(functions, planted.map(|(name, _)| name));
}
