// OpenAI's client for Node against the server at the URL given; run by scripts/check-clients.sh.

import assert from "node:assert/strict";
import OpenAI from "openai";

const url = process.argv[2];
const client = new OpenAI({ baseURL: `${url}/v1`, maxRetries: 0, timeout: 60_000 });
const model = "smollm2";
const messages = [{ role: "user", content: "Name three colours." }];
const sampled = { model, messages, max_tokens: 12, temperature: 0.9, seed: 7 };

const get = async (path, body) => {
  const headers = { authorization: `Bearer ${process.env.OPENAI_API_KEY}` };
  const options = body ? { method: "POST", body: JSON.stringify(body), headers } : { headers };
  return (await fetch(url + path, options)).text();
};

const metric = async (name) => {
  const lines = (await get("/metrics")).split("\n").filter((line) => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
};

const checks = {
  async models() {
    const names = [];
    for await (const found of client.models.list()) names.push(found.id);
    assert.deepEqual(names, [model]);
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async chats() {
    const whole = await client.chat.completions.create(sampled);
    const said = whole.choices[0].message.content;
    assert.ok(said.length > 0);
    const { tokens } = JSON.parse(await get("/tokenize", { messages }));
    assert.equal(whole.usage.prompt_tokens, tokens.length);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);

    const stream = await client.chat.completions.create({
      ...sampled,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    const reasons = [];
    let usage = null;
    for await (const chunk of stream) {
      assert.equal(usage, null, "the usage comes last");
      usage = chunk.usage ?? null;
      for (const choice of chunk.choices) {
        text += choice.delta.content ?? "";
        if (choice.finish_reason) reasons.push(choice.finish_reason);
      }
    }
    assert.equal(text, said);
    assert.deepEqual(reasons, [whole.choices[0].finish_reason]);
    for (const count of ["prompt_tokens", "completion_tokens", "total_tokens"])
      assert.equal(usage[count], whole.usage[count]);

    // The client's own way to put the pieces together.
    const helped = client.chat.completions.stream({ ...sampled, n: 2 });
    const together = await helped.finalChatCompletion();
    assert.deepEqual(together.choices.map((choice) => choice.index), [0, 1]);
    assert.equal(together.choices[0].message.content, said);
    assert.notEqual(together.choices[1].message.content, said);
  },

  async completions() {
    const request = { model, prompt: ["One, two,", "Red, green,"], max_tokens: 6, temperature: 0, echo: true };
    const whole = await client.completions.create(request);
    const texts = ["", ""];
    for await (const chunk of await client.completions.create({ ...request, stream: true }))
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
    assert.deepEqual(texts, whole.choices.map((choice) => choice.text));
    request.prompt.forEach((prompt, index) => assert.ok(texts[index].startsWith(prompt) && texts[index] !== prompt));
  },

  async logprobs() {
    const answer = await client.chat.completions.create({ ...sampled, temperature: 0, logprobs: true, top_logprobs: 2 });
    const { content } = answer.choices[0].logprobs;
    assert.equal(content.length, answer.usage.completion_tokens);
    const bytes = Buffer.from(content.flatMap((token) => token.bytes));
    assert.equal(bytes.toString(), answer.choices[0].message.content);
  },

  async errors() {
    const wrong = (more) => () => client.chat.completions.create({ ...sampled, ...more });
    await assert.rejects(wrong({ temperature: 9 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "temperature");
      return true;
    });
    await assert.rejects(wrong({ model: "gpt-other" }), OpenAI.NotFoundError);
    const stranger = new OpenAI({ baseURL: `${url}/v1`, maxRetries: 0, apiKey: "a-wrong-key" });
    await assert.rejects(() => stranger.models.list(), OpenAI.AuthenticationError);
    // More than may ever wait.
    await assert.rejects(wrong({ n: 16 }), OpenAI.BadRequestError);
  },

  async aborts() {
    const waitUntil = async (what, holds) => {
      const deadline = Date.now() + 20_000;
      while (!(await holds())) {
        assert.ok(Date.now() < deadline, what);
        await new Promise((wake) => setTimeout(wake, 50));
      }
    };
    const idle = async () => (await metric("worker_running")) + (await metric("worker_queue_depth")) === 0;
    const cancelled = () => metric('worker_requests_total{outcome="cancelled"}');
    await waitUntil("the choices of a refused request go on", idle);
    const before = await cancelled();
    const endless = { ...sampled, max_tokens: 1500, ignore_eos: true, stream: true };
    const stream = await client.chat.completions.create(endless);
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) stream.controller.abort();
    const ended = async () => (await idle()) && (await cancelled()) > before;
    await waitUntil("a job goes on after its client has gone", ended);
  },
};

for (const [name, check] of Object.entries(checks)) {
  const start = Date.now();
  await check();
  console.log(`node: ${name} (${(Date.now() - start) / 1000} s)`);
}
