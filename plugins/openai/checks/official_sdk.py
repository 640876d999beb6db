"""Holds this plugin against the official Python SDK. The same SDK asks a local server directly, and by way of Easel and this plugin:
what arrives must be the same. The server answers with what the SDK's own types write, and the plugin must read it. Not part of `cargo test`.

    pip install openai==3.52.0
    python official_sdk.py EASEL OPENAI.WASM
"""

import base64
import json
import sys
from email.parser import BytesParser
from pathlib import Path

import openai
from openai.types import ImagesResponse
from openai.types.image_gen_completed_event import ImageGenCompletedEvent
from openai.types.image_gen_partial_image_event import ImageGenPartialImageEvent

sys.path.insert(0, str(Path(__file__).parents[3] / "sdk" / "checks"))
from served import KEY, Server, easel

TESTS = Path(__file__).parent.parent / "tests"
FOX, PHOTO, BLURRED, HOLE = (
    (TESTS / name).read_bytes() for name in ("fox.png", "photo.png", "blurred.png", "mask-with-a-hole.png")
)
USAGE = {
    "input_tokens": 21,
    "output_tokens": 272,
    "total_tokens": 293,
    "input_tokens_details": {"text_tokens": 21, "image_tokens": 0},
}


def base64_of(picture):
    return base64.b64encode(picture).decode()


def pictures(count):
    data = [{"b64_json": base64_of(FOX)}] * count
    answer = ImagesResponse.model_validate({"created": 1795163042, "output_format": "png", "data": data, "usage": USAGE})
    return "application/json", answer.model_dump_json(exclude_none=True).encode()


def stream():
    head = {"background": "opaque", "created_at": 1795163042, "output_format": "png", "quality": "low", "size": "1024x1024"}
    partial = {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": base64_of(BLURRED)}
    completed = {"type": "image_generation.completed", "b64_json": base64_of(FOX), "usage": USAGE}
    events = [ImageGenPartialImageEvent.model_validate(head | partial), ImageGenCompletedEvent.model_validate(head | completed)]
    said = "".join(f"event: {event.type}\ndata: {event.model_dump_json(exclude_none=True)}\n\n" for event in events)
    return "text/event-stream", said.encode()


def last(server):
    """What was asked last: the path, and the fields with the bytes of files."""
    path, headers, sent = server.asked.pop()
    return path, fields(headers, sent)


def fields(headers, sent):
    """JSON as it is; a form as a list, its texts in order of their names, its files as they come."""
    kind = headers["content-type"]
    if kind == "application/json":
        return json.loads(sent)
    form = BytesParser().parsebytes(f"content-type: {kind}\r\n\r\n".encode() + sent)
    parts = [(part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True)) for part in form.get_payload()]
    texts = sorted((name, text.decode()) for name, file, text in parts if file is None)
    return texts + [(name, f"{len(data)} bytes") for name, file, data in parts if file is not None]


GENERATE = [
    {"model": "gpt-image-2", "prompt": "a fox", "n": 1},
    {
        "model": "gpt-image-2.5-flare",
        "prompt": "a fox",
        "n": 2,
        "size": "1536x864",
        "quality": "xhigh",
        "background": "transparent",
        "moderation": "low",
        "output_format": "webp",
        "output_compression": 80,
    },
    {"model": "dall-e-3", "prompt": "a fox", "n": 1, "size": "1792x1024", "quality": "hd", "style": "natural", "response_format": "b64_json"},
]
EDIT = [
    {"model": "gpt-image-2", "prompt": "make it snow", "n": 1, "size": "1024x1024", "image": ("photo.png", PHOTO, "image/png")},
    {
        "model": "gpt-image-1.5",
        "prompt": "make it snow",
        "n": 2,
        "size": "1024x1024",
        "quality": "high",
        "background": "opaque",
        "output_format": "jpeg",
        "output_compression": 70,
        "image": [("photo.png", PHOTO, "image/png"), ("fox.png", FOX, "image/png")],
    },
    {
        "model": "gpt-image-1.5",
        "prompt": "make it snow",
        "n": 1,
        "size": "1024x1024",
        "image": ("photo.png", PHOTO, "image/png"),
        "mask": ("mask-with-a-hole.png", HOLE, "image/png"),
    },
]


def check(server, address):
    direct = openai.OpenAI(base_url=f"{server.base}/v1", api_key=KEY, max_retries=0)
    through = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    for name, requests in [("generate", GENERATE), ("edit", EDIT)]:
        for request in requests:
            server.answer = lambda count=request["n"]: pictures(count)
            getattr(direct.images, name)(**request)
            expected = last(server)
            answer = getattr(through.images, name)(**request)
            asked = last(server)
            assert asked == expected, f"\n{asked}\n{expected}"
            assert len(answer.data) == request["n"] and answer.data[0].b64_json, answer
            assert answer.usage.input_tokens == 21 and answer.usage.output_tokens == 272, answer.usage
            print(f"the same request: {asked[0]} {asked[1]}")
    server.answer = stream
    request = {"model": "gpt-image-2", "prompt": "a fox", "n": 1, "stream": True, "partial_images": 2}
    list(direct.images.generate(**request))
    expected = last(server)
    events = list(through.images.generate(**request))
    asked = last(server)
    assert asked == expected, f"\n{asked}\n{expected}"
    assert [type(event) for event in events] == [ImageGenPartialImageEvent, ImageGenCompletedEvent], events
    assert base64.b64decode(events[1].b64_json) == FOX
    print(f"the same stream: {asked[1]} -> {[event.type for event in events]}")


def main(program, component):
    server = Server()
    settings = f"""
        origins = ["{server.base}"]
        withheld = ["https://api.openai.com"]
        config.base_url = "{server.base}/v1"
    """
    with easel(program, "openai", component, settings, "gpt-image-2") as address:
        check(server, address)


if __name__ == "__main__":
    main(*sys.argv[1:])
