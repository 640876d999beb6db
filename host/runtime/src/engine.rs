//! The wasmtime engine: how components are compiled, where instances live, and the tick by which guests are interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Result,
    WasmBacktraceDetails,
};

use crate::HostLimits;

/// How often a running guest is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Makes the engine. Where the address space does not suffice for a pool of instances, every instance is allocated on
/// its own, which costs some 40 µs a call.
pub(crate) fn engine(limits: &HostLimits) -> Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(error = %error.root_cause(), "no pool of plugin instances, each is allocated on its own");
            Engine::new(&base())
        }
    }
}

fn base() -> Config {
    let mut config = Config::new();
    config
        // Proposals that plugins do not need are attack surface, and concurrency costs 6 µs a call. The component model's
        // own async is not even compiled in.
        .concurrency_support(false)
        .wasm_gc(false)
        .wasm_exceptions(false)
        .wasm_function_references(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .consume_fuel(false)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(32 << 20)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .cranelift_opt_level(OptLevel::Speed);
    config
}

fn pool(limits: &HostLimits) -> PoolingAllocationConfig {
    // Twice the calls: a dropped store gives its slots back a moment after its call has ended.
    let ahead = limits.plugins.saturating_mul(limits.warm_instances).min(256);
    let instances = limits.calls.saturating_mul(2).saturating_add(ahead);
    let instances = u32::try_from(instances).unwrap_or(256).clamp(16, 1024);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances)
        .max_memory_size(limits.memory_bytes.max(1 << 20))
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(2 << 20)
        .max_core_instances_per_component(64)
        .max_memories_per_component(4)
        .max_tables_per_component(16)
        .table_elements(limits.table_elements)
        // More than the template's stack and data would be kept resident for nothing.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(64)
        .decommit_batch_size(1)
        // With swap, a dirty page could survive into the next instance (wasmtime issue 14357).
        .pagemap_scan(Enabled::No);
    pool
}

/// Ticks while calls run. The thread ends with the engine.
#[derive(Clone)]
pub(crate) struct Ticker {
    active: Arc<AtomicUsize>,
    thread: thread::Thread,
}

/// Keeps the ticker going.
pub(crate) struct Ticking(Arc<AtomicUsize>);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let active = Arc::new(AtomicUsize::new(0));
        let (engine, seen) = (engine.weak(), Arc::clone(&active));
        let handle = thread::Builder::new().name("easel-plugin-tick".into()).spawn(move || tick(&engine, &seen))?;
        Ok(Self { active, thread: handle.thread().clone() })
    }

    /// Ticks until the answer is dropped.
    pub(crate) fn hold(&self) -> Ticking {
        if self.active.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Ticking(Arc::clone(&self.active))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn tick(engine: &EngineWeak, active: &AtomicUsize) {
    while let Some(engine) = engine.upgrade() {
        if active.load(Ordering::Acquire) == 0 {
            drop(engine);
            // An unpark that comes before is not lost; the time bounds how long the thread outlives the engine.
            thread::park_timeout(Duration::from_secs(1));
            continue;
        }
        engine.increment_epoch();
        drop(engine);
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::{Validator, WasmFeatures};

    use super::*;

    #[test]
    fn proposals_that_no_plugin_needs_are_refused() {
        // The header, and one section that only this proposal has.
        let rows: [(&str, &[u8]); 5] = [
            ("threads: a shared memory", b"\x05\x04\x01\x03\x01\x01"),
            ("memory64: a memory of 64 bits", b"\x05\x03\x01\x04\x01"),
            ("exceptions: a tag", b"\x01\x04\x01\x60\0\0\x0d\x03\x01\0\0"),
            ("function references: one in a parameter", b"\x01\x09\x02\x60\0\0\x60\x01\x63\0\0"),
            ("garbage collection: a struct", b"\x01\x03\x01\x5f\0"),
        ];
        let engine = engine(&HostLimits::default()).unwrap();
        for (what, section) in rows {
            let module = [b"\0asm\x01\0\0\0".as_slice(), section].concat();
            Validator::new_with_features(WasmFeatures::all()).validate_all(&module).expect(what);
            assert!(wasmtime::Module::validate(&engine, &module).is_err(), "{what}");
        }
    }
}
