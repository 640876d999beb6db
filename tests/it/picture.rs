//! Whether the picture shows what was asked for, and the same again. The demo model makes it, through HTTP.

use image::RgbImage;
use serde_json::{Value, json};

use crate::harness::{Client, Server, pictures};

/// A server that nobody configured.
async fn unconfigured() -> Server {
    Server::start("").await
}

async fn files(client: &Client, body: &Value) -> Vec<Vec<u8>> {
    let answer = client.generate(body).await.expect(200);
    pictures::files(client, &answer).await
}

/// What the one picture of a request shows. Its file also tells how it was made, so two files differ more easily.
async fn shown(client: &Client, body: &Value) -> RgbImage {
    pictures::decode(&files(client, body).await[0]).1
}

#[tokio::test(flavor = "multi_thread")]
async fn item_17_first_request_to_an_unconfigured_server_shows_what_it_asks_for() {
    let server = unconfigured().await;
    let body = json!({ "prompt": "a red circle on a blue background", "seed": 3, "response_format": "b64_json" });

    let answer = server.client().generate(&body).await.expect(200);

    assert_eq!((answer.header("x-backend-used"), answer.header("x-model-used")), ("engine", "shapes"));
    let (_, picture) = pictures::decode(&pictures::files(&server.client(), &answer).await[0]);
    let [red, green, blue] = pictures::mean_colour(&picture, (0.5, 0.5), 0.2);
    assert!(red > green + 60.0 && red > blue + 60.0, "the middle is red, not {:?}", [red, green, blue]);
    for corner in [(0.05, 0.05), (0.95, 0.05), (0.05, 0.95), (0.95, 0.95)] {
        let [red, green, blue] = pictures::mean_colour(&picture, corner, 0.1);
        assert!(
            blue > red + 40.0 && blue > green + 20.0,
            "the corner {corner:?} is blue, not {:?}",
            [red, green, blue]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_9_same_request_gives_the_same_bytes_and_each_of_several_is_reproducible_alone() {
    let server = unconfigured().await;
    let client = server.client();
    let body = |seed: u64, n: u32| json!({ "prompt": "a green square", "seed": seed, "n": n, "steps": 4, "response_format": "b64_json" });

    let answer = client.generate(&body(40, 3)).await.expect(200);
    let seeds: Vec<_> = answer.json()["data"].as_array().unwrap().iter().map(|item| item["seed"].clone()).collect();
    let three = pictures::files(&client, &answer).await;

    assert_eq!(seeds, [40, 41, 42]);
    let [first, second, third] = [0, 1, 2].map(|index| pictures::decode(&three[index]).1);
    assert!(first != second && second != third && first != third);
    for (seed, picture) in (40..).zip(&three) {
        assert_eq!(&files(&client, &body(seed, 1)).await[0], picture, "seed {seed} alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_9_picture_without_a_seed_is_another_one_each_time_and_can_be_made_again() {
    let server = unconfigured().await;
    let client = server.client();
    let body = json!({ "prompt": "a yellow triangle", "steps": 2, "response_format": "b64_json" });

    let first = client.generate(&body).await.expect(200);
    let second = client.generate(&body).await.expect(200);

    let seed = first.json()["data"][0]["seed"].as_u64().expect("the seed that was drawn is told");
    assert_ne!(Some(seed), second.json()["data"][0]["seed"].as_u64());
    let mut again = body.clone();
    again["seed"] = seed.into();
    assert_eq!(files(&client, &again).await, pictures::files(&client, &first).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_8_controls_change_the_picture() {
    let server = unconfigured().await;
    let client = server.client();
    let body = |more: Value| {
        let mut body = json!({ "prompt": "a red circle", "seed": 5, "steps": 4, "response_format": "b64_json" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let plain = shown(&client, &body(json!({}))).await;

    for change in [
        json!({ "seed": 6 }),
        json!({ "steps": 5 }),
        json!({ "cfg_scale": 2.0 }),
        json!({ "negative_prompt": "blue background" }),
        json!({ "scheduler": "euler" }),
        json!({ "prompt": "a blue circle" }),
    ] {
        let changed = shown(&client, &body(change.clone())).await;
        assert_eq!(changed.dimensions(), plain.dimensions());
        assert!(changed != plain, "{change} has no effect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_8_sampler_that_does_not_exist_is_refused_with_the_list() {
    let server = unconfigured().await;
    let body = json!({ "prompt": "a red circle", "scheduler": "euler_b" });

    let answer = server.client().generate(&body).await.expect(400);

    let error = &answer.json()["error"];
    assert_eq!(error["param"], "scheduler");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("ddim")), "{error}");
    assert_eq!(answer.header("x-backend-used"), "engine");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_4_picture_has_the_size_that_was_asked_for() {
    let server = unconfigured().await;
    let client = server.client();
    for (size, width, height) in [("64x64", 64, 64), ("65x130", 65, 130)] {
        let body = json!({ "prompt": "a circle", "size": size, "steps": 2, "response_format": "b64_json" });
        assert_eq!(shown(&client, &body).await.dimensions(), (width, height));
    }
    let answer = client.generate(&json!({ "prompt": "a circle", "size": "64x8" })).await.expect(400);
    assert_eq!(answer.json()["error"]["param"], "size");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_13_demo_model_is_listed_with_what_it_can_do() {
    let server = unconfigured().await;
    let list = server.client().get("/v1/models").await.expect(200).json();
    let shapes = list["data"].as_array().unwrap().iter().find(|model| model["id"] == "shapes").expect("it is listed");
    assert_eq!((&shapes["backend"], &shapes["determinism"]), (&json!("engine"), &json!("exact")));
    assert_eq!(shapes["available"], true);
}
