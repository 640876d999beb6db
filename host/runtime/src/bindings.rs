//! The contract in `wit/` as Rust: traits that the host implements (`host/`), and the calls into a plugin.
//!
//! One world imports and exports everything, so that each interface has its types once. No component has that world: the
//! calls go through the `GuestIndices` of the one interface that a plugin exports.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package easel:host;

        world host-side {
            import easel:plugin/types@0.3.0;
            import easel:plugin/host@0.3.0;
            import easel:plugin/blobs@0.3.0;
            import easel:plugin/pixels@0.3.0;
            import easel:plugin/images@0.3.0;
            import easel:plugin/fetch@0.3.0;
            import easel:plugin/request-edit@0.3.0;
            import easel:plugin/store@0.3.0;
            export easel:plugin/backend@0.3.0;
            export easel:plugin/transform@0.3.0;
            export easel:plugin/jobs@0.3.0;
            export easel:plugin/catalogue@0.3.0;
            export easel:plugin/health@0.3.0;
            export easel:plugin/transform-result@0.3.0;
        }
    ",
    imports: {
        "easel:plugin/fetch": async | trappable,
        "easel:plugin/pixels": async | trappable,
        "easel:plugin/request-edit.[method]edits.add-input": async | trappable,
        "easel:plugin/request-edit.[method]edits.replace-input": async | trappable,
        "easel:plugin/store": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "easel:plugin/blobs.blob": crate::host::Blob,
        "easel:plugin/blobs.blob-writer": crate::host::BlobWriter,
        "easel:plugin/fetch.response": crate::host::Response,
        "easel:plugin/fetch.document": crate::host::Document,
        "easel:plugin/images.image-request": crate::host::ImageRequest,
        "easel:plugin/images.image-result": crate::host::ImageResult,
        "easel:plugin/images.progress": crate::host::CallProgress,
        "easel:plugin/request-edit.edits": crate::host::Edits,
    },
    trappable_error_type: { "easel:plugin/types.plugin-error" => crate::fault::Failure },
    require_store_data_send: true,
});
