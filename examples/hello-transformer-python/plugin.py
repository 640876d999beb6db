"""The smallest transformer: it adds the operator's words to every prompt that lacks them, and says so."""

import json

from wit_world import exports
from wit_world.imports import host


class Transform(exports.Transform):
    """The interface `transform` of the world `transformer`."""

    def check(self):
        """Called when the plugin is loaded: raises what is wrong with the config."""

    def on_request(self, ctx, req, e):
        """Decides about a request. Edits count only with the verdict `next`."""
        word = json.loads(host.config())["word"]
        prompt = req.prompt()
        if word and word not in prompt:
            e.set_prompt(f"{prompt}, {word}")
            e.add_note("prompt", f'"{word}" was added')
        return exports.transform.Verdict_Next()
