//! Components as files to put into a plugins folder, and other builds of them.

/// The transformer `prompt-styles`, and where it lies in a server's folder.
pub const PROMPT_STYLES: (&str, &[u8]) =
    ("plugins/prompt-styles.wasm", include_bytes!(env!("COMPONENT_PROMPT_STYLES")));

/// The adapter `openai-images`.
pub const OPENAI_IMAGES: &[u8] = include_bytes!(env!("COMPONENT_OPENAI_IMAGES"));

/// The adapter that misbehaves, as its prompt tells it, and the manifest that has to lie beside it.
pub const HOSTILE: [(&str, &[u8]); 2] = [
    ("plugins/hostile/hostile.wasm", include_bytes!(env!("COMPONENT_HOSTILE_GUEST"))),
    (
        "plugins/hostile/plugin.toml",
        b"[plugin]\nid = \"hostile\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.3\"\n[config]\nmodels = \"\"\n",
    ),
];

/// The adapter with every ability, its health check among them, and the manifest that has to lie beside it.
pub const HOSTILE_JOBS: [(&str, &[u8]); 2] = [
    ("plugins/hostile-jobs/hostile-jobs.wasm", include_bytes!(env!("COMPONENT_HOSTILE_JOBS"))),
    ("plugins/hostile-jobs/plugin.toml", include_bytes!("../hostile/guest/jobs/plugin.toml")),
];

/// A build of the misbehaving adapter as one file: its config says `"mark":"0.N.0"`, which it answers to the prompt `config`.
pub fn hostile(number: u32, more: &str) -> Vec<u8> {
    let manifest = String::from_utf8_lossy(HOSTILE[1].1).replace("0.1.0", &format!("0.{number}.0"));
    let manifest = format!("{manifest}mark = \"0.{number}.0\"\n{more}");
    [HOSTILE[0].1, &section("easel:manifest", manifest.as_bytes()), &section("mark", &number.to_le_bytes())].concat()
}

/// A custom section as WebAssembly writes it.
pub fn section(name: &str, content: &[u8]) -> Vec<u8> {
    let inside = [&leb(name.len()), name.as_bytes(), content].concat();
    [&[0][..], &leb(inside.len()), &inside].concat()
}

/// A length as WebAssembly writes it.
pub fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("less than eight bits"));
    bytes
}

/// The transformer that misbehaves, and the manifest that has to lie beside it.
pub const TWIST: [(&str, &[u8]); 2] = [
    ("plugins/twist/twist.wasm", include_bytes!(env!("COMPONENT_HOSTILE_TRANSFORMER"))),
    (
        "plugins/twist/plugin.toml",
        b"[plugin]\nid = \"twist\"\nversion = \"0.1.0\"\nkind = \"transformer\"\ncontract = \"0.3\"\n[network]\n\
          origins = [\"operator\"]\n[needs]\nimages = true\nstore = true\n",
    ),
];

/// The manifest that is embedded in it.
const MANIFEST: &str = include_str!("../../plugins/prompt-styles/plugin.toml");

/// Another build of the transformer, which adds these words to every prompt by default.
///
/// Only the embedded manifest differs, and it stays as long as it was, so that the file around it stays as it is.
pub fn styles_that_add(words: &str) -> Vec<u8> {
    let keys = MANIFEST.lines().filter(|line| !line.starts_with("description") && !line.starts_with('#'));
    let manifest: Vec<_> =
        keys.map(|line| if line.starts_with("default_style") { "default_style = \"x\"" } else { line }).collect();
    let manifest = format!("{}\nx.prompt = \"{words}\"\n", manifest.join("\n"));
    assert!(manifest.len() <= MANIFEST.len(), "the manifest has no room for {words:?}");
    let manifest = format!("{manifest:width$}", width = MANIFEST.len());

    let mut component = PROMPT_STYLES.1.to_vec();
    let length = MANIFEST.len();
    let places: Vec<_> =
        (0..component.len() - length).filter(|&at| &component[at..at + length] == MANIFEST.as_bytes()).collect();
    assert!(!places.is_empty(), "the component has its manifest embedded");
    for at in places {
        component[at..at + length].copy_from_slice(manifest.as_bytes());
    }
    component
}
