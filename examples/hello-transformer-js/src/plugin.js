// The smallest transformer: it adds the operator's words to every prompt that lacks them, and says so.

import { config } from 'easel:plugin/host@0.3.0';

// The interface `transform` of the world `transformer`.
export const transform = {
  /** Called when the plugin is loaded: throws what is wrong with the config. */
  check() {},

  /** Decides about a request. Edits count only with the verdict `next`. */
  onRequest(context, request, edits) {
    const { word } = JSON.parse(config());
    const prompt = request.prompt();
    if (word !== '' && !prompt.includes(word)) {
      edits.setPrompt(`${prompt}, ${word}`);
      edits.addNote('prompt', `"${word}" was added`);
    }
    return { tag: 'next' };
  },
};
