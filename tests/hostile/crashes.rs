//! A plugin that crashes takes one call with it.

use easel_core::ErrorKind;

use super::Host;

async fn crash(prompt: &str, expected: &str) {
    let host = Host::new().await;
    let error = host.fault(prompt).await;
    assert_eq!(error.kind(), ErrorKind::PluginFault, "{error}");
    assert!(error.message().contains("plugin hostile"), "{error}");
    assert!(error.message().contains(expected), "{:?} should contain {expected:?}", error.message());
}

#[tokio::test]
async fn trap_names_the_function() {
    crash("trap", "trapped: unreachable in ").await;
    crash("trap", "misbehave").await;
}

#[tokio::test]
async fn panic_is_a_fault_and_its_text_stays_in_the_log() {
    let host = Host::new().await;
    let error = host.fault("panic").await;
    assert!(!error.message().contains("on purpose"), "{error}");
    let source = std::error::Error::source(&error).expect("the log is told more").to_string();
    assert!(source.contains("the guest panicked on purpose"), "{source}");
}

#[tokio::test]
async fn exit_is_a_fault() {
    crash("exit", "ended itself with exit code 1").await;
}

#[tokio::test]
async fn endless_recursion_is_a_fault() {
    crash("recursion", "trapped: ").await;
}

#[tokio::test]
async fn no_call_finds_what_another_left() {
    let host = Host::new().await;
    for _ in 0..20 {
        assert_eq!(host.answer("count").await, "1");
    }
}

#[tokio::test]
async fn there_is_no_environment_no_file_no_socket_and_no_thread() {
    let host = Host::new().await;
    assert_eq!(host.answer("std env").await, "[] []");
    assert_eq!(host.answer("std thread").await, "Err(Unsupported)");
    for (prompt, interface) in [("std file", "wasi:filesystem/"), ("std socket", "wasi:sockets/")] {
        // Without preopened folders, the standard library gives up before it asks for a file.
        match host.generate(prompt).await {
            Ok(output) => {
                let answer = output.images[0].revised_prompt.clone().unwrap_or_default();
                assert!(answer.starts_with("Err("), "{answer}");
            }
            Err(error) => {
                let message = error.message();
                assert!(message.contains(interface) && message.contains("is not available to plugins"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn clocks_and_random_numbers_work() {
    let host = Host::new().await;
    assert_eq!(host.answer("std time").await, "0 true 2");
    assert_eq!(host.answer("std random").await, "8");
    assert_eq!(host.fault("std random-flood").await.kind(), ErrorKind::PluginFault);
}
