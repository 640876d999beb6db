//! What compiling a component would take, foretold from its code: a compiler cannot be stopped, and what it needs grows with
//! what stands in single functions and not with the file. A megabyte of code can be made to take ten gigabytes of memory.
//!
//! It is an estimate, so it refuses what is far from what compilers of languages write, and nothing else. That it never falls
//! short by much was measured with wasmtime 46 on functions made for it: many locals that are live over many branches, the
//! same over nested loops, one long function, and many short ones.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::refusal::Refusal;

/// The bytes that each byte of code takes, over all functions.
const PER_BYTE: u64 = 50;
/// The bytes that each byte of a function takes while it is compiled.
const PER_BYTE_OF_ONE: u64 = 100;
/// The bytes for each local at each place where ways part or meet.
const PER_PATH: u64 = 64;
/// How many such places a loop is worth.
const LOOP: u64 = 32;

/// What would be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Foretold {
    /// The memory, in bytes.
    pub(crate) bytes: u64,
}

impl Foretold {
    /// Refuses what would take more.
    pub(crate) fn within(self, most: u64) -> Result<(), Refusal> {
        if self.bytes <= most {
            return Ok(());
        }
        let (mib, most) = (self.bytes >> 20, most >> 20);
        let message = format!("compiling it would take some {mib} MiB of memory, at most {most} are given");
        Err(Refusal::new(message).with_fix("split its largest functions, or raise plugin_limits.compile_mib"))
    }
}

/// Looks through all code. What is not well-formed is the compiler's to refuse. `threads` functions are compiled at a time.
pub(crate) fn foretell(component: &[u8], threads: usize) -> Foretold {
    let (mut all, mut heaviest) = (0_u64, Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::CodeSectionEntry(body)) => {
                all = all.saturating_add(body.range().len() as u64);
                heaviest.push(function(&body));
                // The few that matter are kept.
                if heaviest.len() >= 1024 {
                    keep_heaviest(&mut heaviest, threads);
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    keep_heaviest(&mut heaviest, threads);
    let at_a_time = heaviest.into_iter().fold(0_u64, u64::saturating_add);
    Foretold { bytes: all.saturating_mul(PER_BYTE).saturating_add(at_a_time) }
}

fn keep_heaviest(weights: &mut Vec<u64>, most: usize) {
    weights.sort_unstable_by(|a, b| b.cmp(a));
    weights.truncate(most.max(1));
}

/// The bytes that compiling one function takes.
fn function(body: &FunctionBody<'_>) -> u64 {
    let length = body.range().len() as u64;
    let locals = body.get_locals_reader().map_or(0, |locals| {
        locals.into_iter().filter_map(Result::ok).fold(0_u64, |sum, (count, _)| sum.saturating_add(count.into()))
    });
    let mut places = 0_u64;
    if let Ok(operators) = body.get_operators_reader() {
        for operator in operators {
            let Ok(operator) = operator else { break };
            places = places.saturating_add(match operator {
                Operator::Loop { .. } => LOOP,
                Operator::Block { .. }
                | Operator::If { .. }
                | Operator::Else
                | Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::Return => 1,
                Operator::BrTable { targets } => targets.len().into(),
                _ => 0,
            });
        }
    }
    length.saturating_mul(PER_BYTE_OF_ONE).saturating_add(locals.saturating_mul(places).saturating_mul(PER_PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
        [&[id], leb(bytes.len()).as_slice(), bytes].concat()
    }

    /// A component with a module of one function that has so many locals, branches and loops.
    fn component(locals: usize, branches: usize, loops: usize) -> Vec<u8> {
        let begin = [0x03, 0x40].repeat(loops);
        // if (local.get 0) { local.set 0 (i32.const 1) }
        let branches = [0x20, 0, 0x04, 0x40, 0x41, 1, 0x21, 0, 0x0b].repeat(branches);
        of_functions(&[[vec![1], leb(locals), vec![0x7f], begin, branches, vec![0x0b; loops + 1]].concat()])
    }

    /// A component with a module of these functions.
    fn of_functions(functions: &[Vec<u8>]) -> Vec<u8> {
        let code: Vec<_> = functions.iter().map(|code| [leb(code.len()), code.clone()].concat()).collect();
        let body = [leb(functions.len()), code.concat()].concat();
        let types = [leb(functions.len()), vec![0; functions.len()]].concat();
        let module =
            [b"\0asm\x01\0\0\0".to_vec(), section(1, &[1, 0x60, 0, 0]), section(3, &types), section(10, &body)];
        [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat())].concat()
    }

    #[test]
    fn what_is_foretold_grows_with_locals_and_the_places_where_ways_part() {
        let bytes = |locals, branches, loops| foretell(&component(locals, branches, loops), 2).bytes;
        assert!(bytes(10, 10, 0) < 1 << 20);
        assert!(bytes(10_000, 10_000, 0) > 5 << 30, "as was measured");
        assert!(bytes(1000, 1, 200) > 300 << 20);
        assert_eq!(foretell(b"no component", 2), Foretold::default());
    }

    #[test]
    fn every_target_of_a_branch_table_is_a_place() {
        // br_table with so many targets, all the same
        let table = |targets: usize| {
            [vec![1], leb(1000), vec![0x7f, 0x41, 0, 0x0e], leb(targets), vec![0; targets + 1], vec![0x0b]]
        };
        let bytes = |targets| foretell(&of_functions(&[table(targets).concat()]), 2).bytes;
        assert!(bytes(1001) - bytes(1) >= 1000 * 1000 * PER_PATH);
    }

    #[test]
    fn all_functions_count_and_the_heaviest_at_a_time_count_more() {
        let function = [vec![0], vec![0x01; 997], vec![0x0b]].concat();
        let bytes = |count| foretell(&of_functions(&vec![function.clone(); count]), 2).bytes;
        assert_eq!(bytes(1), 999 * (PER_BYTE + PER_BYTE_OF_ONE));
        assert_eq!(bytes(5000), 999 * (5000 * PER_BYTE + 2 * PER_BYTE_OF_ONE), "two are compiled at a time");
    }

    #[test]
    fn limit_is_told_with_the_way_out() {
        assert_eq!(Foretold { bytes: 5 << 20 }.within(5 << 20), Ok(()));
        let refusal = Foretold { bytes: 6 << 20 }.within(5 << 20).unwrap_err().to_string();
        assert!(refusal.contains("some 6 MiB of memory, at most 5") && refusal.contains("compile_mib"), "{refusal}");
    }
}
