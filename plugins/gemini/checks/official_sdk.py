"""Holds this plugin against the official Python SDK: both ask one local server for the same pictures, and what they send must be
the same; the server answers with what the SDK's own types write, and the plugin must read it. Not part of `cargo test`.

    pip install google-genai==3.3.0
    python official_sdk.py EASEL GEMINI.WASM
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from google import genai
from google.genai import types

sys.path.insert(0, str(Path(__file__).parents[3] / "sdk" / "checks"))
import served

FOX = (Path(__file__).parent.parent / "tests" / "fox.png").read_bytes()


def candidate(**fields):
    return types.Candidate(index=0, **fields)


def answer(*candidates, **fields):
    usage = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=12,
        candidates_token_count=1290,
        thoughts_token_count=20,
        total_token_count=1322,
        candidates_tokens_details=[types.ModalityTokenCount(modality="IMAGE", token_count=1290)],
    )
    return types.GenerateContentResponse(candidates=list(candidates) or None, usage_metadata=usage, **fields)


def picture(thought=None, data=FOX):
    return types.Part(inline_data=types.Blob(mime_type="image/png", data=data), thought=thought)


PICTURE = answer(
    candidate(
        finish_reason="STOP",
        content=types.Content(role="model", parts=[picture(True, b"draft"), types.Part(text="Here it is"), picture()]),
    )
)
BLOCKED = answer(
    prompt_feedback=types.GenerateContentResponsePromptFeedback(
        block_reason="PROHIBITED_CONTENT", block_reason_message="by a rule"
    )
)
UNSAFE = answer(candidate(finish_reason="IMAGE_SAFETY", finish_message="Unable to show this"))
TALK = answer(candidate(finish_reason="STOP", content=types.Content(role="model", parts=[types.Part(text="Which fox?")])))


# The SDK has no type for the whole answer of `:predict`.
PREDICTIONS = {"predictions": [{"bytesBase64Encoded": base64.b64encode(FOX).decode(), "prompt": "a red fox"}]}


def written(response):
    """As the SDK's types write it, base64 in the alphabet for addresses."""
    if isinstance(response, dict):
        return json.dumps(response).encode()
    return response.model_dump_json(by_alias=True, exclude_none=True).encode()


class Server(served.Server):
    """Answers each POST with the next of `answers`."""

    def __init__(self):
        super().__init__()
        self.answers = []
        self.answer = lambda: ("application/json", written(self.answers.pop(0)))

    def last(self):
        """What was asked last: the path, the headers and the fields."""
        path, headers, body = self.asked.pop()
        return path, headers, json.loads(body)

    def ask_imagen_by_sdk(self, model, config):
        self.answers = [PREDICTIONS]
        options = types.HttpOptions(base_url=self.base, api_version="v1")
        client = genai.Client(api_key=served.KEY, vertexai=True, http_options=options)
        client.models.generate_images(model=model, prompt="a fox", config=types.GenerateImagesConfig(**config))
        path, _, body = self.last()
        return path, body

    def ask_by_sdk(self, model, config):
        self.answers = [PICTURE]
        options = types.HttpOptions(base_url=self.base, api_version="v1beta")
        client = genai.Client(api_key=served.KEY, vertexai=False, http_options=options)
        client.models.generate_content(model=model, contents="a fox", config=config)
        path, headers, body = self.last()
        return path, headers, camel(body)


def ask_by_plugin(easel, **fields):
    body = json.dumps({"prompt": "a fox", "response_format": "b64_json", **fields}).encode()
    request = urllib.request.Request(f"{easel}/v1/images/generations", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def camel(said):
    """Names as the API writes them: the SDK leaves some with underscores, which the API takes as well."""
    if isinstance(said, list):
        return [camel(one) for one in said]
    if not isinstance(said, dict):
        return said
    def name(words):
        first, *others = words.split("_")
        return first + "".join(word.title() for word in others)

    return {name(words): camel(one) for words, one in said.items()}


# Model, the plugin's fields, and the SDK's config for the same.
REQUESTS = [
    ("gemini-2.5-flash-image", {"size": "1536x1024", "seed": 7}, {"seed": 7, "image_config": {"aspect_ratio": "3:2"}}),
    ("gemini-3-pro-image", {"size": "4096x4096", "seed": 7}, {"seed": 7, "image_config": {"aspect_ratio": "1:1", "image_size": "4K"}}),
    (
        "gemini-nano-banana-2.1",
        {
            "options": {
                "aspect_ratio": "1:8",
                "image_size": "2K",
                "thinking_level": "high",
                "google_search": True,
                "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}],
            }
        },
        {
            "image_config": {"aspect_ratio": "1:8", "image_size": "2K"},
            "thinking_config": {"thinking_level": "HIGH"},
            "tools": [{"google_search": {}}],
            "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}],
        },
    ),
]

# What the server says, and what becomes of it.
ANSWERS = [
    (PICTURE, 200, None),
    (BLOCKED, 400, "the prompt was blocked: PROHIBITED_CONTENT: by a rule"),
    (UNSAFE, 400, "the picture was blocked: IMAGE_SAFETY: Unable to show this"),
    (TALK, 400, "made no picture: Which fox?"),
]


def check(server, easel):
    for model, fields, config in REQUESTS:
        config = types.GenerateContentConfig(response_modalities=["IMAGE"], candidate_count=1, **config)
        path, _, expected = server.ask_by_sdk(model, config)
        server.answers = [PICTURE]
        status, said = ask_by_plugin(easel, model=model, **fields)
        assert status == 200, said
        assert base64.b64decode(said["data"][0]["b64_json"]) == FOX, "the last picture that is no draft"
        asked_path, headers, asked = server.last()
        assert asked_path == path, (asked_path, path)
        assert headers["x-goog-api-key"] == served.KEY
        types.Content.model_validate(asked["contents"][0])
        types.GenerateContentConfig.model_validate(asked["generationConfig"])
        assert asked == expected, f"\n{json.dumps(asked, sort_keys=True)}\n{json.dumps(expected, sort_keys=True)}"
        print(f"the same request: {json.dumps(asked, sort_keys=True)}")
    for reply, status, message in ANSWERS:
        server.answers = [reply]
        answered, said = ask_by_plugin(easel, model="gemini-2.5-flash-image")
        assert answered == status, said
        assert message is None or message in said["error"]["message"], said
        print(f"read: {answered} {said.get('error', {}).get('message', 'a picture')}")


def check_imagen(server, easel):
    """Vertex AI's form of `:predict`, which is the only one that the SDK still has."""
    config = {
        "number_of_images": 1,
        "aspect_ratio": "16:9",
        "guidance_scale": 2.5,
        "person_generation": "ALLOW_ADULT",
        "safety_filter_level": "BLOCK_ONLY_HIGH",
        "include_rai_reason": True,
        "output_mime_type": "image/jpeg",
        "output_compression_quality": 85,
        "add_watermark": False,
        "seed": 7,
        "enhance_prompt": False,
        "language": "en",
        "negative_prompt": "blur",
    }
    path, expected = server.ask_imagen_by_sdk("imagen-3.0-generate-002", config)
    server.answers = [PREDICTIONS]
    options = {"person_generation": "ALLOW_ADULT", "safety_setting": "BLOCK_ONLY_HIGH", "language": "en", "enhance_prompt": False}
    fields = {"size": "1408x768", "cfg_scale": 2.5, "output_format": "jpeg", "output_compression": 85, "seed": 7}
    status, said = ask_by_plugin(
        easel, model="imagen-3.0-generate-002", negative_prompt="blur", options=options, **fields
    )
    assert status == 200, said
    asked_path, _, asked = server.last()
    assert (asked_path, asked) == (path, expected), f"\n{asked_path} {asked}\n{path} {expected}"
    print(f"the same request: {json.dumps(asked, sort_keys=True)}")
    print(f"read: {status} {said['data'][0]['revised_prompt']}")


def main(program, component):
    server = Server()
    origins = f'origins = ["https://generativelanguage.googleapis.com", "{server.base}"]'
    for check_form, config in [
        (check, f'base_url = "{server.base}/v1beta"'),
        (check_imagen, f'base_url = "{server.base}/v1"\nvertex = true\nwatermark = false'),
    ]:
        settings = f"{origins}\n[plugin.gemini.config]\n{config}"
        with served.easel(program, "gemini", component, settings, "gemini-2.5-flash-image") as address:
            check_form(server, address)


if __name__ == "__main__":
    main(*sys.argv[1:])
