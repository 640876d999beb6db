//! What belongs to one call: the store's data. It is made anew for every call and dropped with it, so nothing of one
//! caller is there for the next.

use std::sync::Arc;

use easel_core::Progress;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{ForbiddenHeaderFilter, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::HostLimits;
use crate::account::{Account, Trail};
use crate::budget::{CpuBudget, MemoryLimiter, Pool};
use crate::clock::Clock;
use crate::door::{Door, Hooks, Visits};
use crate::fault::Breach;
use crate::host::{BlobQuota, PixelWork, StoreAccess};
use crate::log::{CallLog, Output};
use crate::vitals::Vitals;
use crate::workbench::Stage;

/// The data of a store.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimiter,
    pub(crate) call: CallState,
    pub(crate) trail: Trail,
    cpu: Arc<CpuBudget>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
}

/// What the host's functions need to know about the call.
pub(crate) struct CallState {
    pub(crate) plugin: Arc<str>,
    /// The plugin's configuration as JSON text.
    pub(crate) config: Arc<str>,
    pub(crate) limits: Arc<HostLimits>,
    /// The way out; none while a plugin is asked for its models, and for transformers.
    pub(crate) door: Option<Arc<Door>>,
    /// The credentials that the operator supplied, by name.
    pub(crate) credentials: Arc<[String]>,
    pub(crate) visits: Arc<Visits>,
    pub(crate) account: Arc<Account>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) stage: Option<Arc<Stage>>,
    /// The time of the call.
    pub(crate) clock: Clock,
    pub(crate) blobs: BlobQuota,
    pub(crate) pixels: PixelWork,
    pub(crate) store: StoreAccess,
    pub(crate) log: Arc<CallLog>,
    pub(crate) deadline: Instant,
    pub(crate) cancellation: CancellationToken,
    pub(crate) progress: Progress,
}

impl CallState {
    /// Whether going on is worth it.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.cancellation.is_cancelled() && self.clock.now() < self.deadline
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Makes a store, all limits set, for the call that it begins with or for one that comes later.
pub(crate) fn new_store(
    engine: &Engine,
    call: CallState,
    cpu: &Arc<CpuBudget>,
    hidden: ForbiddenHeaderFilter,
    memory: Arc<Pool>,
) -> Store<State> {
    let limits = Arc::clone(&call.limits);
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.resources);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(64 << 10);
    let (wasi, hooks) = surroundings(&call, hidden);
    let memory = MemoryLimiter::new(memory, limits.memory_bytes, limits.table_elements);
    let state = State { table, memory, call, trail: Trail::default(), cpu: Arc::clone(cpu), wasi, http, hooks };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.handles);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        let cpu = &store.data().cpu;
        if cpu.is_spent() {
            return Err(Breach::Cpu(cpu.limit()).into());
        }
        // Others on this thread get their turn, and a call that was given up ends here.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Gives a store that was made ahead to its call. Nothing of what it was made with is left but the guest's memory, and that
/// was never shown a request.
pub(crate) fn begin_call(
    store: &mut Store<State>,
    call: CallState,
    cpu: &Arc<CpuBudget>,
    hidden: ForbiddenHeaderFilter,
) {
    store.set_epoch_deadline(1);
    let (wasi, hooks) = surroundings(&call, hidden);
    let state = store.data_mut();
    (state.call, state.wasi, state.hooks) = (call, wasi, hooks);
    (state.cpu, state.trail) = (Arc::clone(cpu), Trail::default());
}

/// What of a store is of one call.
fn surroundings(call: &CallState, hidden: ForbiddenHeaderFilter) -> (WasiCtx, Hooks) {
    let mut wasi = WasiCtx::builder();
    let output = Output(Arc::clone(&call.log));
    wasi.max_random_size(1 << 20).allow_tcp(false).allow_udp(false).stdout(output.clone()).stderr(output);
    if let Some(stage) = &call.stage {
        stage.set_time(&mut wasi);
    }
    let hooks = Hooks { door: call.door.clone(), visits: Arc::clone(&call.visits), hidden };
    (wasi.build(), hooks)
}
