//! The program runs on every processor of its architecture: no instruction of AVX-512 stands in it where nothing asked
//! the processor first. Machines that build often have them, laptops do not, and nothing else would notice.
//!
//! Scans what `objdump` says of the program beside the tests, or of those that `BOLIDE_ISA_PROGRAM` names, with colons between
//! them (`make isa`: the program and the C library of the release build). Bytes are looked at, not names: most instructions of
//! AVX-512 on the lower sixteen registers look like those of AVX2 but for their encoding.
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

/// Instructions that the smallest of them has at least; fewer are not the whole of it.
const INSTRUCTIONS_MIN: usize = 100_000;

/// What may stand before the code of an instruction: sizes, repetition, lock, segments.
const PREFIXES: [&str; 11] = ["66", "67", "f2", "f3", "f0", "2e", "36", "3e", "26", "64", "65"];

/// The first byte of every instruction in the encoding of AVX-512, EVEX, and in 64-bit code of nothing else.
const EVEX: &str = "62";

/// Whether it is of AVX-512: in its encoding, or on its mask registers, of which some instructions are encoded as those of AVX.
fn is_avx512(bytes: &str, instruction: &str) -> bool {
    // What is no instruction at all is a table among the code.
    if instruction.contains("(bad)") {
        return false;
    }
    let operands = instruction.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
    let is_mask = |register: &str| {
        let end = register.find(|character: char| !character.is_ascii_alphanumeric());
        let number = register[..end.unwrap_or(register.len())].strip_prefix('k');
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    bytes.split_whitespace().find(|byte| !PREFIXES.contains(byte)) == Some(EVEX)
        || operands.split('%').skip(1).any(is_mask)
}

/// The functions of a program that have such instructions, with the first of each, those left out that ask first.
fn scan(program: &Path) -> (usize, Vec<String>) {
    let mut objdump = Command::new("objdump")
        .args(["-d", "--show-raw-insn", "-w"])
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
        } else if let Some((bytes, instruction)) =
            text.split_once(":\t").and_then(|(_, rest)| rest.split_once('\t'))
        {
            count += 1;
            let asks = ASKED_FIRST.iter().any(|(part, _)| function.contains(part));
            if is_avx512(bytes, instruction) && !asks && found.len() < SHOWN_MAX {
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
        Some(programs) => std::env::split_paths(&programs).collect(),
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
        assert!(
            count > INSTRUCTIONS_MIN,
            "{shown}: {count} instructions are not the whole program"
        );
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
        ("move", "vmovdqu64 (%rdi), %ymm0"),
        ("small_address", "vmovdqu64 (%edi), %ymm0"),
        ("segment", "vmovdqu64 %fs:(%rdi), %ymm0"),
        ("rotate", "vprold $7, %xmm1, %xmm2"),
        ("count_bits", "vpopcntd %xmm1, %xmm2"),
        ("least", "vpminsq %ymm1, %ymm2, %ymm3"),
        ("and", "vpandq %ymm1, %ymm2, %ymm3"),
        ("permute", "vpermb %ymm1, %ymm2, %ymm3"),
        ("same_name", "{evex} vpaddd %xmm1, %xmm2, %xmm3"),
        ("mask_of_avx_encoding", "kandw %k1, %k2, %k3"),
    ];
    let harmless = [
        ("avx2", "vpaddd %ymm14, %ymm15, %ymm1"),
        ("avx2_mask", "vpmovmskb %ymm1, %eax"),
        ("avx2_widen", "vpmovzxbw %xmm1, %ymm2"),
        ("scalar", "popcnt %rax, %rbx"),
        ("number", "mov $0x62, %eax"),
        ("prefixed", "movdqa %fs:0x62(%edi), %xmm8"),
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
