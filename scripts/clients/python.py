"""OpenAI's client for Python against the server at the URL given; run by scripts/check-clients.sh."""

import json
import os
import sys
import time
from urllib.request import Request, urlopen

import openai

url = sys.argv[1]
MODEL = "smollm2"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name three colours."}]
client = openai.OpenAI(base_url=f"{url}/v1", max_retries=0, timeout=60)


def get(path, body=None):
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    data = None if body is None else json.dumps(body).encode()
    return urlopen(Request(url + path, data, headers), timeout=60).read().decode()


def tokenize(**body):
    return json.loads(get("/tokenize", body))["tokens"]


def metric(name):
    return sum(float(line.split()[-1]) for line in get("/metrics").splitlines() if line.startswith(name))


def expect(error, call, **attributes):
    try:
        call()
    except error as raised:
        found = {name: getattr(raised, name) for name in attributes}
        assert found == attributes, found
        return raised
    sys.exit(f"no {error.__name__}")


def chat(**more):
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "max_tokens": 12} | more)


def complete(**more):
    return client.completions.create(**{"model": MODEL, "prompt": "The capital of France is", "max_tokens": 8} | more)


def streamed(chunks, text):
    """Text, reason and usage of a stream of one choice; `text` finds a chunk's text."""
    said, reasons, usage = "", [], None
    for chunk in chunks:
        assert chunk.model == MODEL
        if chunk.usage is not None:
            assert chunk.choices == [] and usage is None
            usage = chunk.usage
            continue
        assert usage is None, "the usage comes last"
        [choice] = chunk.choices
        said += text(choice) or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []
    [reason] = reasons
    return said, reason, usage


def models():
    [model] = client.models.list().data
    assert (model.id, model.object) == (MODEL, "model"), model
    assert client.models.retrieve(MODEL) == model
    expect(openai.NotFoundError, lambda: client.models.retrieve("other"), status_code=404)


def chats():
    sampled = {"temperature": 0.9, "top_p": 0.95, "seed": 7}
    whole = chat(**sampled)
    [choice] = whole.choices
    assert choice.message.role == "assistant" and choice.message.content, whole
    assert whole.object == "chat.completion" and whole.model == MODEL
    usage = whole.usage
    assert usage.prompt_tokens == len(tokenize(messages=MESSAGES)), usage
    assert 1 <= usage.completion_tokens <= 12, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage

    def content(choice):
        return choice.delta.content

    said, reason, told = streamed(chat(**sampled, stream=True, stream_options={"include_usage": True}), content)
    assert (said, reason) == (choice.message.content, choice.finish_reason), (said, reason)
    counts = ["prompt_tokens", "completion_tokens", "total_tokens"]
    assert [getattr(told, name) for name in counts] == [getattr(usage, name) for name in counts], told
    assert streamed(chat(**sampled, stream=True), content) == (said, reason, None)

    other = chat(**sampled | {"seed": 8}).choices[0].message.content
    assert other != choice.message.content, "another seed says the same"
    new_name = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=12, **sampled)
    assert new_name.choices[0].message.content == choice.message.content
    parts = [MESSAGES[0], {"role": "user", "content": [{"type": "text", "text": MESSAGES[1]["content"]}]}]
    assert chat(**sampled, messages=parts).choices[0].message.content == choice.message.content


def several_choices():
    both = chat(n=2, seed=7, temperature=0.9)
    assert [choice.index for choice in both.choices] == [0, 1]
    first, second = (choice.message.content for choice in both.choices)
    assert first != second
    assert chat(seed=7, temperature=0.9).choices[0].message.content == first
    said = ["", ""]
    for chunk in chat(n=2, seed=7, temperature=0.9, stream=True):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == [first, second], said


def stops():
    whole = chat(temperature=0, max_tokens=30).choices[0].message.content
    cut = whole[len(whole) // 2 : len(whole) // 2 + 3]
    before = whole[: whole.index(cut)]
    for stop in (cut, ["never said", cut]):
        [choice] = chat(temperature=0, max_tokens=30, stop=stop).choices
        assert (choice.message.content, choice.finish_reason) == (before, "stop"), (choice, whole)
    [choice] = chat(temperature=0, max_tokens=2, extra_body={"ignore_eos": True}).choices
    assert choice.finish_reason == "length", choice


def log_probabilities():
    answer = chat(temperature=0, logprobs=True, top_logprobs=3)
    [choice] = answer.choices
    tokens = choice.logprobs.content
    assert len(tokens) == answer.usage.completion_tokens, (len(tokens), answer.usage)
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == choice.message.content, choice
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3, token
        others = [other.logprob for other in token.top_logprobs]
        assert others == sorted(others, reverse=True), token
        # Greedy: what was chosen is the likeliest.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, others[0]), token
    assert chat(temperature=0).choices[0].logprobs is None
    texts = complete(temperature=0, logprobs=2).choices[0]
    assert "".join(texts.logprobs.tokens) == texts.text, texts
    assert len(texts.logprobs.token_logprobs) == len(texts.logprobs.tokens) == len(texts.logprobs.text_offset)


def biases():
    [token] = tokenize(content=" blue", add_special=False)
    forced = complete(temperature=0, max_tokens=3, logit_bias={str(token): 100})
    assert forced.choices[0].text == " blue blue blue", forced
    likely = complete(temperature=0, max_tokens=1).choices[0].text
    [token] = tokenize(content=likely, add_special=False)
    assert complete(temperature=0, max_tokens=1, logit_bias={str(token): -100}).choices[0].text != likely


def completions():
    whole = complete(temperature=0.9, seed=7)
    [choice] = whole.choices
    assert whole.object == "text_completion" and whole.usage.completion_tokens <= 8
    assert whole.usage.prompt_tokens == len(tokenize(prompt="The capital of France is"))
    stream = complete(temperature=0.9, seed=7, stream=True, stream_options={"include_usage": True})
    said, reason, usage = streamed(stream, lambda choice: choice.text)
    assert (said, reason, usage.total_tokens) == (choice.text, choice.finish_reason, whole.usage.total_tokens)
    assert complete(temperature=0.9, seed=7, echo=True).choices[0].text == "The capital of France is" + choice.text
    prompts = ["One, two,", "Red, green,", "The capital of France is"]
    alone = [complete(prompt=prompt, temperature=0).choices[0].text for prompt in prompts]
    together = complete(prompt=prompts, temperature=0)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    assert [choice.text for choice in together.choices] == alone, together
    ids = tokenize(prompt=prompts[0])
    assert complete(prompt=ids, temperature=0).choices[0].text == alone[0]


def errors():
    error = expect(openai.BadRequestError, lambda: chat(temperature=9), status_code=400, param="temperature")
    assert "temperature" in error.message, error
    expect(openai.BadRequestError, lambda: chat(extra_body={"colour": "red"}), status_code=400, param="colour")
    expect(openai.BadRequestError, lambda: chat(messages=[]), param="messages")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    expect(openai.BadRequestError, lambda: chat(tools=[tool]), param="tools")
    expect(openai.NotFoundError, lambda: chat(model="gpt-other"), status_code=404, param="model")
    stranger = client.with_options(api_key="a-wrong-key")
    expect(openai.AuthenticationError, lambda: stranger.models.list(), status_code=401, code="invalid_api_key")
    limit = expect(openai.RateLimitError, lambda: complete(n=16, max_tokens=64, extra_body={"ignore_eos": True}))
    assert limit.response.headers["retry-after"] == "1"


def wait_until(what, holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def idle():
    return metric("worker_running") + metric("worker_queue_depth") == 0


def cancelled():
    return metric('worker_requests_total{outcome="cancelled"}')


def aborts():
    wait_until("the choices of a refused request go on", idle)
    before = cancelled()
    # It would take half a minute.
    stream = chat(stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
    for _, chunk in zip(range(3), stream):
        assert chunk.choices
    assert metric("worker_running") == 1
    stream.close()
    wait_until("a job goes on after its client has gone", lambda: idle() and cancelled() > before)


checks = [models, chats, several_choices, stops, log_probabilities, biases, completions, errors, aborts]
for check in checks:
    start = time.monotonic()
    check()
    print(f"python: {check.__name__} ({time.monotonic() - start:.1f} s)")
