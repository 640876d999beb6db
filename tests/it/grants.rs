//! Grants as an operator gives them: what a plugin waits for is told with the command to paste, the command is followed by
//! the running server, and what is taken back is gone.

use serde_json::{Value, json};

use crate::harness::{Client, Process, Reply, Server, Upstream, components, until};

/// The misbehaving adapter, wanting this.
fn files(wants: &str) -> [(&'static str, Vec<u8>); 2] {
    let [(component, bytes), (manifest, text)] = components::HOSTILE;
    let key = "[[credential]]\nname = \"key\"\nheader = \"x-secret\"\n";
    [(component, bytes.to_vec()), (manifest, [text, b"\n", key.as_bytes(), wants.as_bytes()].concat())]
}

async fn server(wants: &str) -> Server {
    let [(component, bytes), (manifest, text)] = files(wants);
    Server::start_with("mode = \"stub\"", &[(component, &bytes), (manifest, &text)]).await
}

async fn status(client: &Client) -> Value {
    client.get("/v1/plugins/hostile").await.expect(200).json()
}

async fn has_state(client: &Client, state: &str) -> bool {
    status(client).await["state"] == state
}

/// Runs `easel plugin …` for a server's folder; gives what it wrote, and whether it succeeded.
fn command(server: &Server, line: &str) -> (bool, String) {
    let words = line.strip_prefix("easel ").expect("a command").split(' ');
    let arguments: Vec<_> = words.chain(["--data", "data", "--plugins", "plugins"]).collect();
    let ended = Process::run(server.folder(), &arguments, &[]);
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
    (ended.status.success(), format!("{}{}", ended.output, ended.log))
}

async fn ask(client: &Client, prompt: &str) -> u16 {
    client.generate(&json!({ "prompt": prompt, "backend": "hostile", "size": "1x1" })).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_the_status_tells_gives_what_the_plugin_waits_for() {
    let upstream = Upstream::start(|_| Reply::bytes(200, "text/plain", "hello".into())).await;
    let origin = upstream.origin();
    let server =
        server(&format!("[[network]]\norigin = \"{origin}\"\npaths = [\"/v1/**\"]\ncredential = \"key\"\n")).await;
    let client = server.client();
    let waiting = status(&client).await;
    assert_eq!((&waiting["state"], &waiting["models"]), (&json!("awaiting_grant"), &json!([])), "{waiting}");
    assert_eq!(ask(&client, "count").await, 400, "no such backend serves");

    let told = waiting["missing_grant"]["command"].as_str().expect("a command is told").to_owned();
    let (is_done, text) = command(&server, &told);
    assert!(is_done && text.contains("everything that hostile wants is decided"), "{told}: {text}");
    until("the server follows", async || has_state(&client, "ready").await).await;
    assert_eq!(ask(&client, &format!("fetch GET {origin}/v1/x")).await, 200);
    assert_eq!(ask(&client, &format!("fetch GET {origin}/v2/x")).await, 502);

    let (is_done, text) = command(&server, &format!("easel plugin revoke hostile --origin {origin}"));
    assert!(is_done, "{text}");
    until("the grant is gone", async || has_state(&client, "awaiting_grant").await).await;
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_the_status_tells_give_the_same_in_the_config() {
    let server = server("[[network]]\norigin = \"https://*.example.org\"\nmethods = [\"GET\"]\n").await;
    let client = server.client();
    let waiting = status(&client).await;
    let lines = waiting["missing_grant"]["toml"].as_str().expect("lines are told").to_owned();
    server.reconfigure(&format!("mode = \"stub\"\n\n{lines}"));
    until("the server follows", async || has_state(&client, "ready").await).await;
    let (is_done, text) = command(&server, "easel plugin revoke hostile --all");
    assert!(!is_done && text.contains("what easel.toml gives is taken back there"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_refuse_what_the_plugin_does_not_want_and_say_what_it_does() {
    let server =
        server("[[network]]\norigin = \"https://*.example.org\"\n[[network]]\norigin = \"http://10.0.0.5\"\n").await;
    let rows = [
        ("grant nothing", "there are: hostile"),
        ("grant hostile --origin https://example.com", "it wants: https://*.example.org, http://10.0.0.5"),
        ("grant hostile --withhold https://example.com", "does not want"),
        ("grant hostile --credential kex=env:KEY", "it has: key"),
        ("grant hostile --credential key=sk-live-1234", "as in api_key=env:PROVIDER_KEY"),
        ("revoke hostile --origin https://a.example.org", "does not give hostile https://a.example.org"),
        ("revoke hostile", "--all"),
    ];
    for (line, expected) in rows {
        let (is_done, text) = command(&server, &format!("easel plugin {line}"));
        assert!(!is_done && text.contains(expected), "{line}: {text}");
    }
    assert!(!server.folder().join("data/grants.toml").exists(), "nothing was written");

    let (is_done, text) = command(&server, "easel plugin grant hostile");
    assert!(is_done && text.contains("https://*.example.org  GET POST  every path"), "{text}");
    let (_, text) = command(&server, "easel plugin grant hostile --all");
    assert!(
        text.contains("easel plugin grant hostile --origin http://10.0.0.5"),
        "an address is given by name: {text}"
    );
    let (_, text) = command(&server, "easel plugin grant hostile --withhold http://10.0.0.5 --credential key=env:KEY");
    assert!(text.contains("everything that hostile wants is decided"), "{text}");
    let file = std::fs::read_to_string(server.folder().join("data/grants.toml")).expect("it was written");
    assert!(file.contains("env = \"KEY\"") && file.contains("withheld = [\"http://10.0.0.5\"]"), "{file}");
    until("the server follows", async || has_state(&server.client(), "ready").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_tells_the_lines_that_let_a_plugins_variables_count() {
    let variables = "[[environment]]\nvariable = \"OTHER_KEY\"\ncredential = \"key\"\n\
                     [[environment]]\nvariable = \"OTHER_URL\"\nconfig = \"models\"\n";
    let server = server(variables).await;
    let (is_done, text) = command(&server, "easel plugin grant hostile");
    assert!(is_done && text.contains("the variable OTHER_URL may set config.models"), "{text}");
    let lines = "[plugin.hostile]\nenvironment = [\"OTHER_KEY\", \"OTHER_URL\"]\n";
    assert!(text.contains(lines), "{text}");
    server.reconfigure(&format!("mode = \"stub\"\n{lines}"));
    let (is_done, _) = command(&server, "easel plugin grant hostile");
    assert!(is_done, "what the lines say is a config");
}
