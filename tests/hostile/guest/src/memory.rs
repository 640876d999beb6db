//! Looks through the plugin's own memory, all of it, for a text that is not in it: the text comes disguised and is never
//! put together.

/// Every byte of it is this one apart from what the test says.
const DISGUISE: u8 = 0x5a;

/// How often the disguised text, in hexadecimal, stands in the memory.
pub fn occurrences(disguised: &str) -> usize {
    let digit = |at: usize| disguised.as_bytes().get(at).and_then(|byte| char::from(*byte).to_digit(16)).unwrap_or(0);
    let length = disguised.len() / 2;
    let sought = |at: usize| ((digit(2 * at) * 16 + digit(2 * at + 1)) as u8) ^ DISGUISE;
    let end = core::arch::wasm32::memory_size(0) * 65536;
    let (first, rest) = (sought(0), 1..length);
    (1..end.saturating_sub(length))
        .filter(|at| byte(*at) == first && rest.clone().all(|i| byte(at + i) == sought(i)))
        .count()
}

fn byte(address: usize) -> u8 {
    // SAFETY: the address is not null and below the memory's size, and every byte of a plugin's memory can be read.
    unsafe { core::ptr::read_volatile(address as *const u8) }
}
