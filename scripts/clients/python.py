"""OpenAI's client for Python against the server at the URL given; run by scripts/check-clients.sh."""

import asyncio
import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
    assert chat(**sampled | {"seed": -9}).choices[0].message.content not in (choice.message.content, other)
    # The client's own way to put the pieces together.
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=12, **sampled) as events:
        pieces = [event.delta for event in events if event.type == "content.delta"]
    assert len(pieces) > 1 and "".join(pieces) == choice.message.content, pieces
    # An answer goes back as it came.
    turns = [*MESSAGES, choice.message, {"role": "user", "content": "And two more?"}]
    plain = [*MESSAGES, {"role": "assistant", "content": choice.message.content}, turns[-1]]
    assert chat(messages=turns, max_tokens=1).usage.prompt_tokens == len(tokenize(messages=plain))
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


def crowds():
    """Many at once are answered as each alone."""
    seeds = range(4)
    alone = [chat(seed=seed).choices[0].message.content for seed in seeds]

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", max_retries=0) as several:
            one = several.chat.completions.create
            return await asyncio.gather(
                *(one(model=MODEL, messages=MESSAGES, max_tokens=12, seed=seed) for seed in seeds)
            )

    together = [answer.choices[0].message.content for answer in asyncio.run(ask())]
    assert together == alone, (together, alone)
    assert len(set(alone)) > 1


def receipts():
    answer = chat(seed=7, n=2)
    for choice in answer.choices:
        told = choice.model_extra["receipt"]
        assert told["request"]["sampling"]["seed"] == 7 + choice.index, told
        assert told["request"]["prompt"]["tokens"] == answer.usage.prompt_tokens
    assert sum(choice.receipt["output"]["tokens"] for choice in answer.choices) == answer.usage.completion_tokens


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
    chunks = [chunk.choices[0].logprobs for chunk in chat(temperature=0, logprobs=True, top_logprobs=3, stream=True)]
    assert [token for told in chunks if told for token in told.content] == tokens
    for token in tokens:
        mass = sum(math.exp(other.logprob) for other in token.top_logprobs)
        assert 0.05 < mass < 1.0001, mass
        assert token.logprob <= 0 and len(token.top_logprobs) == 3, token
        others = [other.logprob for other in token.top_logprobs]
        assert others == sorted(others, reverse=True), token
        # Greedy: what was chosen is the likeliest.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, others[0]), token
    assert chat(temperature=0).choices[0].logprobs is None
    texts = complete(temperature=0, logprobs=2).choices[0]
    assert "".join(texts.logprobs.tokens) == texts.text, texts
    assert len(texts.logprobs.token_logprobs) == len(texts.logprobs.tokens) == len(texts.logprobs.text_offset)
    for token, offset in zip(texts.logprobs.tokens, texts.logprobs.text_offset):
        assert texts.text[offset:].startswith(token), texts
    # They are the model's, whatever a bias did to the choice.
    first = texts.logprobs.tokens[0]
    [token] = tokenize(content=first, add_special=False)
    other = complete(temperature=0, logprobs=2, logit_bias={str(token): -100}).choices[0].logprobs
    assert other.tokens[0] != first and other.top_logprobs[0][first] == texts.logprobs.token_logprobs[0], other


def biases():
    [token] = tokenize(content=" blue", add_special=False)
    forced = complete(temperature=0, max_tokens=3, logit_bias={str(token): 100})
    assert forced.choices[0].text == " blue blue blue", forced
    likely = complete(temperature=0, max_tokens=1).choices[0].text
    [token] = tokenize(content=likely, add_special=False)
    assert complete(temperature=0, max_tokens=1, logit_bias={str(token): -100}).choices[0].text != likely


def penalties():
    def text(**more):
        return complete(prompt="Yes, yes, yes, yes, yes, yes,", temperature=0, max_tokens=4, **more).choices[0].text

    assert text() == " yes, yes,", text()
    for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 1.8}}):
        assert text(**penalty) != text(), penalty


def narrow_choices():
    greedy = complete(temperature=0).choices[0].text
    hot = {"temperature": 2, "seed": 5}
    assert complete(**hot).choices[0].text != greedy
    for narrow in ({"top_p": 1e-6}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1}}):
        assert complete(**hot, **narrow).choices[0].text == greedy, narrow


def ends():
    [end] = tokenize(content="<|im_end|>", add_special=False)
    for more, tokens, reason in (({}, 0, "stop"), ({"min_tokens": 3}, 3, "stop"), ({"ignore_eos": True}, 8, "length")):
        answer = complete(temperature=0, logit_bias={str(end): 100}, extra_body=more)
        told = (answer.usage.completion_tokens, answer.choices[0].finish_reason)
        assert told == (tokens, reason), (more, told)
    answer = client.completions.create(model=MODEL, prompt="One", extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16, "OpenAI's default"


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
    said = [""] * 3
    for chunk in complete(prompt=prompts, temperature=0, stream=True, echo=True):
        for piece in chunk.choices:
            said[piece.index] += piece.text
    assert said == [prompt + text for prompt, text in zip(prompts, alone)], said
    twice = complete(prompt=prompts[:2], n=2, echo=True, max_tokens=3, seed=7, extra_body={"ignore_eos": True})
    assert [choice.index for choice in twice.choices] == [0, 1, 2, 3]
    assert all(choice.text.startswith(prompts[choice.index // 2]) for choice in twice.choices), twice
    assert twice.usage.prompt_tokens == sum(len(tokenize(prompt=prompt)) for prompt in prompts[:2])
    assert twice.usage.completion_tokens == 12
    ids = tokenize(prompt=prompts[0])
    assert complete(prompt=ids, temperature=0).choices[0].text == alone[0]


def errors():
    error = expect(openai.BadRequestError, lambda: chat(temperature=9), status_code=400, param="temperature")
    assert "temperature" in error.message, error
    expect(openai.BadRequestError, lambda: chat(extra_body={"colour": "red"}), status_code=400, param="colour")
    expect(openai.BadRequestError, lambda: chat(messages=[]), param="messages")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    expect(openai.BadRequestError, lambda: chat(tools=[tool], tool_choice="required"), param="tool_choice")
    expect(openai.NotFoundError, lambda: chat(model="gpt-other"), status_code=404, param="model")
    expect(openai.NotFoundError, lambda: complete(model="gpt-other", stream=True), code="model_not_found")
    expect(openai.BadRequestError, lambda: complete(prompt=[1] * 8192), code="context_length_exceeded")
    stranger = client.with_options(api_key="a-wrong-key")
    expect(openai.AuthenticationError, lambda: stranger.models.list(), status_code=401, code="invalid_api_key")
    # More than may ever wait.
    expect(openai.BadRequestError, lambda: complete(n=16), status_code=400, param="n")


def wait_until(what, holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def idle():
    return metric("worker_running") + metric("worker_queue_depth") == 0


def cancelled():
    return metric('worker_requests_total{outcome="cancelled"}')


def crowded():
    """A full queue refuses; the client tries again by itself, and is served when others have gone."""
    wait_until("the choices of a refused request go on", idle)
    endless = {"max_tokens": 1500, "stream": True, "extra_body": {"ignore_eos": True}}
    with ExitStack() as streams:
        begun = set()
        for chunk in streams.enter_context(complete(**endless, n=2)):
            begun |= {choice.index for choice in chunk.choices}
            if len(begun) == 2:
                break
        streams.enter_context(complete(**endless, n=8))
        assert (metric("worker_running"), metric("worker_queue_depth")) == (2, 8)
        limit = expect(openai.RateLimitError, complete, code="rate_limit_exceeded")
        assert limit.response.headers["retry-after"] == "1"
        patient = client.with_options(max_retries=5)
        asking = {"model": MODEL, "prompt": "One", "max_tokens": 2}
        raw = patient.completions.with_raw_response
        thread = ThreadPoolExecutor(1).submit(raw.create, **asking)
        refused = metric('worker_requests_total{outcome="queue_full"}')
        wait_until("no second try", lambda: metric('worker_requests_total{outcome="queue_full"}') > refused)
    answer = thread.result(timeout=30)
    assert answer.retries_taken >= 1 and answer.parse().usage.completion_tokens <= 2


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


checks = [
    models,
    chats,
    several_choices,
    crowds,
    receipts,
    stops,
    log_probabilities,
    biases,
    penalties,
    narrow_choices,
    ends,
    completions,
    errors,
    crowded,
    aborts,
]
for check in checks:
    start = time.monotonic()
    check()
    print(f"python: {check.__name__} ({time.monotonic() - start:.1f} s)")
