#!/usr/bin/env python3
"""Renders chat templates as the transformers library does, by its own function, for the tests in
runtime/tests/chat_template.rs. Needs the packages transformers (5.24.0) and jinja2 (3.1.6).

usage: chat-template-reference.py >tests/golden/chat-templates.json     the templates below
       chat-template-reference.py FOLDER >FOLDER/transformers.json       those in a folder, named *.jinja
       chat-template-reference.py FOLDER hashes >tests/golden/chat-template-hashes.json
                                                                       of these, the first digits of SHA-256 of each prompt
"""

import datetime
import hashlib
import json
import pathlib
import sys

from transformers.utils import chat_template_utils

NOW = datetime.datetime(2024, 7, 6, 8, 5, 9, tzinfo=datetime.timezone.utc)
SPECIAL = {"bos_token": "<BOS>", "eos_token": "<EOS>"}


class Clock(datetime.datetime):
    """For `strftime_now`."""

    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock


def render(template, messages, add_generation_prompt, tools):
    try:
        prompts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=template,
            add_generation_prompt=add_generation_prompt,
            **SPECIAL,
        )
        return {"prompt": prompts[0]}
    except Exception as error:
        return {"error": str(error)}


def user(content, **more):
    return {"role": "user", "content": content, **more}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


CONVERSATIONS = {
    "one": [user("One")],
    "four": [system(" Be brief. "), user('Hé "you" <b>&\'字'), assistant("Hi!\n\n"), user("  More\n\tplease\n")],
    "thought": [user("One"), assistant("<think>\nhm\n</think>\n\nAnswer"), user("Two")],
    "twice": [user("One"), user("Two")],
    "parts": [user([{"type": "text", "text": "A"}, {"type": "image"}, {"type": "text", "text": "B"}])],
    "odd": [{"role": "critic", "content": None, "name": "ann", "score": 1.5, "big": 12345678901234, "tiny": 0.00001,
             "ok": True, "list": [], "map": {}, "nested": {"b": [1, "é", None], "a": {"x": -0.0, "y": 1e22}}}],
    "none": [],
}  # fmt: skip

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a place, \"now\" or later: 5 < 6 & über.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "Town\nand country"},
                    "unit": {"type": "string", "enum": ["°C", "°F"], "default": "°C"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip


def call(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(id, name, content):
    return {"role": "tool", "tool_call_id": id, "name": name, "content": content}


ARGUMENTS = {"place": "Köln, \"NRW\"", "days": [1, 2], "unit": None, "exact": True, "wind": 1.5}
# Conversations with tools: of each, the messages and the tools.
WITH_TOOLS = {
    "asked": ([user("What is the weather?")], TOOLS),
    "asked with system": ([system("Be brief."), user("What is the weather?")], TOOLS),
    "called": (
        [user("Weather?"), assistant("", tool_calls=[call("call00001", "get_weather", ARGUMENTS)])],
        TOOLS,
    ),
    "answered": (
        [
            system("Be brief."),
            user("Weather?"),
            assistant(None, tool_calls=[call("call00001", "get_weather", ARGUMENTS)]),
            tool("call00001", "get_weather", '{"celsius": 21.5, "sky": "blau"}'),
        ],
        TOOLS,
    ),
    "answered twice": (
        [
            user("Weather and time?"),
            assistant("Let me see.", tool_calls=[call("call00001", "get_weather", ARGUMENTS), call("call00002", "now", {})]),
            tool("call00001", "get_weather", "21.5"),
            tool("call00002", "now", "noon"),
            assistant("It is 21.5 at noon."),
            user("Thanks"),
        ],
        TOOLS,
    ),
    "arguments in words": (
        [
            user("Weather?"),
            assistant(None, reasoning_content="Hm.", tool_calls=[call("call00001", "get_weather", '{"place": "Köln"}')]),
            tool("call00001", "get_weather", "21.5"),
        ],
        None,
    ),
}  # fmt: skip

TEMPLATES = {
    "turns": "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "trimmed blocks": """
{% for message in messages %}
    {% if message.role == 'user' %}
  User: {{ message.content | trim }}
    {%- elif message.role == "assistant" %}

Bot: {{- message.content -}}
    {%+ else %}
 [{{ message.role }}]
    {% endif %}
{% endfor %}
end

""",
    "first system message": "{% if messages and messages[0].role == 'system' %}{% set system = messages[0].content.strip() %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = 'Default.' %}{% set rest = messages %}{% endif %}"
    "<<{{ system }}>>{% for m in rest %}{{ loop.index0 }}/{{ loop.length }}{{ ' first' if loop.first }}"
    "{{ ' last' if loop.last }}{{ loop.revindex }}{{ m.content | string | trim }};{% endfor %}",
    "must alternate": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate, not ' + m.role) }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}",
    "thoughts are cut": "{% for m in messages %}{% set text = m.content %}{% if m.role == 'assistant' and '</think>' in text %}"
    "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ m.role ~ ':' ~ text }}|{% endfor %}",
    "namespace": "{% set ns = namespace(last=-1, count=0, text='') %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% set ns.count = ns.count + 1 %}{% set ns.text = ns.text ~ loop.index %}{% endif %}"
    "{% endfor %}{{ ns.last }} {{ ns.count }} {{ ns.text }}",
    "backwards": "{% for m in messages[::-1] %}{{ loop.index }}{{ m.role[0] }}{{ m.role[-2:] }}{{ m.role[1:3] | upper }}"
    "{% endfor %}{{ (messages | last).role if messages }}{{ messages[-1].role if messages | length > 0 }}",
    "break and continue": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }}"
    "{% if loop.index > 2 %}{% break %}{% endif %},{% else %}nobody{% endfor %}.",
    "parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% elif m.content is iterable %}"
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part['text'] }}{% else %}<{{ part.type }}>{% endif %}"
    "{% endfor %}{% elif m.content is none %}nothing{% endif %}{% endfor %}",
    "defined or not": "{{ tools is defined }} {{ tools is none }} {{ tools is iterable }} {{ documents is none }} {{ nowhere is defined }}"
    "{{ nowhere }} {{ nowhere is undefined }} {{ unk_token is defined }} {{ messages is sequence }} {{ messages is mapping }}"
    " {{ nowhere | default('d') }} {{ none or 'x' }} {{ not nowhere }} {{ '' is string }} {{ 1 is number }} {{ true is boolean }}"
    "{% if tools %}tools{% endif %}{% for m in messages %}{{ m.name is defined }}{{ 'content' in m }}{{ m.nothing is defined }}{% endfor %}",
    "json": "{% for m in messages %}{{ m | tojson }}\n{{ m | tojson(indent=2) }}\n{{ m | tojson(ensure_ascii=True, sort_keys=True) }}\n"
    "{{ m | tojson(separators=(',', ':')) }}\n{{ m | tojson(indent=0) }}{% endfor %}{{ '</a>&\\'\"\\\\ \\t\\x7f\\x01' | tojson }}",
    "python values": "{% for m in messages %}{{ m.score }} {{ m.big }} {{ m.ok }} {{ m.list }} {{ m.map }} {{ m.content }}{% endfor %}"
    "{{ [1, 'a', none, true, 1.0] }}{{ {'a': 1, 'b': ['c']} }}{{ (1, 2) }}{{ 7 // 2 }}{{ 7 / 2 }}{{ 7 % 3 }}{{ 2 ** 10 }}{{ -7 // 2 }}",
    "methods": "{% for m in messages if m.content is string %}{% set c = m.content %}{{ c.strip() }}|{{ c.lstrip() }}|{{ c.rstrip() }}|"
    "{{ c.upper() }}|{{ c.lower() }}|{{ c.title() }}|{{ c.capitalize() }}|{{ c.split() }}|{{ c.split('e') }}|{{ c.split('e', 1) }}|"
    "{{ c.startswith('O') }}|{{ c.endswith(('e', '\\n')) }}|{{ c.replace('e', 'E') }}|{{ c.find('e') }}|{{ c.count('e') }}|"
    "{{ c.splitlines() }}|{{ '-'.join(c.split('e')) }}|{{ c | replace('n', 'N') }}|{{ c | length }};\n{% endfor %}",
    "maps": "{% for m in messages %}{% for key, value in m.items() if key not in ['tiny', 'nested'] %}{{ key }}={{ value }},{% endfor %}{{ m.get('role') }}{{ m.get('x') }}"
    "{{ m.get('x', 'y') }}{{ m.keys() | list }}{% for k, v in m | dictsort %}{{ k }}{% endfor %}{% for k, v in m | items %}{{ k }}{% endfor %}"
    "{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} "
    "{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | list }} {{ [3, 1, 2] | sort | first }} {{ [1, 2] | sum }} "
    "{{ 'a b' | capitalize }} {{ '3' | int + 1 }} {{ [1, 2, 2] | unique | list }} {{ [1, 2, 3] | reverse | list }} {{ 'x' | indent }} "
    "{{ 1.55 | round(1) }} {{ -3 | abs }} {{ 'abc' | list }} {{ [[1, 2], [3]] | map('first') | list }} {{ [1, 2] | max }}",
    "macros": "{%- macro turn(role, text='(none)', end=eos_token) -%}<{{ role }}>{{ text }}{{ end }}{%- endmacro -%}"
    "{%- for m in messages %}{{ turn(m.role, m.content) }}{{ turn(role='x', end='') }}{% endfor %}"
    "{% macro wrap() %}({{ caller() }}){% endmacro %}{% call wrap() %}in{% endcall %}",
    "blocks": "{% set block %}[{% for m in messages %}{{ m.role }}{% endfor %}]{% endset %}{{ block }}{% set a, b = 1, 2 %}{{ a + b }}"
    "{% with x = 1 %}{{ x }}{% endwith %}{% filter upper %}up{% endfilter %}{# a {{ comment }} #}{% raw %}{{ raw }}{% endraw %}",
    "scopes": "{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}\n  {%- generation -%}\n  {{ m.content }}\n  {%- endgeneration %}\n"
    "{% else %}{% generation %}{{ m.role }}{% endgeneration %}{% endif %}{% endfor %}",
    "date": "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %y %I %p') }}"
    "{% if strftime_now is defined %} known{% endif %}",
    "escapes": "{{ '<&>\"' }}{{ messages[0].content if messages }}{{ '\\u00e9\\n' }}{{ \"it's\" }}{{ '{{' }}{{ 'a' 'b' }}",
    "recursion": "{% set tree = [[1, [2, []]], [3, []]] %}{% for v, below in tree recursive %}{{ v }}{{ loop.depth }}({{ loop(below | map('list') | list) if below and "
    "below[0] is iterable }}){% endfor %}",
    "not a method": "{{ messages.append(1) }}",
    "no such filter": "{{ messages | nosuch }}",
    "undefined member": "{{ nowhere.deeper }}",
    "text and none": "{% for m in messages %}{{ 'a' + m.content }}{% endfor %}",
}  # fmt: skip


def cases(templates, conversations):
    for name, template in templates:
        for conversation, (messages, tools) in conversations.items():
            for add_generation_prompt in (True, False) if "add_generation_prompt" in template else (True,):
                told = {"template": name, "conversation": conversation, "add_generation_prompt": add_generation_prompt}
                yield told | render(template, messages, add_generation_prompt, tools)


def digest(case):
    return hashlib.sha256(case["prompt"].encode()).hexdigest()[:16] if "prompt" in case else "error"


def hashes(cases):
    table = {}
    for case in cases:
        key = case["conversation"] + ("+" if case["add_generation_prompt"] else "")
        table.setdefault(case["template"], {})[key] = digest(case)
    return table


def main():
    if len(sys.argv) > 1:
        files = sorted(pathlib.Path(sys.argv[1]).glob("*.jinja"))
        templates = [(file.name, file.read_text()) for file in files]
        # Parts other than text are not for every model.
        conversations = {name: (CONVERSATIONS[name], None) for name in ("one", "four", "thought", "twice")} | WITH_TOOLS
    else:
        templates = list(TEMPLATES.items())
        conversations = {name: (messages, None) for name, messages in CONVERSATIONS.items()} | WITH_TOOLS
    document = {
        "now": int(NOW.timestamp()),
        "special": SPECIAL,
        "conversations": {name: messages for name, (messages, _) in conversations.items()},
        "tools": {name: tools for name, (_, tools) in conversations.items()},
        "templates": dict(templates),
        "cases": list(cases(templates, conversations)),
    }
    if sys.argv[2:] == ["hashes"]:
        document = hashes(document["cases"])
    json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
